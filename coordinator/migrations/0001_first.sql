-- Numbered migrations are frozen once released: change the schema with a new one.
-- Stages are numbered as in lull-abi: 0 split, 1 work, 1 + level merge, 255 finish.
-- Money is numeric(28, 12): exact, sixteen digits before the point.

CREATE TABLE grid (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    grid_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE submitter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE owner (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Tokens are random and long: a plain hash keeps them.
CREATE TABLE api_token (
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),
    role smallint NOT NULL,
    subject bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE enrolment_token (
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),
    owner_id bigint NOT NULL REFERENCES owner,
    uses_left integer NOT NULL CHECK (uses_left >= 0),
    expires_at timestamptz NOT NULL
);

CREATE TABLE device (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id bigint NOT NULL REFERENCES owner,
    public_key bytea NOT NULL UNIQUE CHECK (length(public_key) = 32),
    display_name text NOT NULL,
    presence smallint NOT NULL DEFAULT 0,
    enrolled_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now()
);

-- Content lies in the blob store; a row here says that it is durable there.
CREATE TABLE blob (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Which submitter has uploaded a blob, and so may use it in a job.
CREATE TABLE blob_grant (
    submitter_id bigint NOT NULL REFERENCES submitter,
    digest bytea NOT NULL REFERENCES blob,
    PRIMARY KEY (submitter_id, digest)
);

CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submitter_id bigint NOT NULL REFERENCES submitter,
    request_id text NOT NULL,
    spec bytea NOT NULL,
    order_key bytea NOT NULL CHECK (length(order_key) = 32),
    priority integer NOT NULL,
    item_price numeric(28, 12) NOT NULL CHECK (item_price >= 0),
    service_price numeric(28, 12) NOT NULL CHECK (service_price >= 0),
    budget numeric(28, 12) NOT NULL CHECK (budget > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Changed while it runs:
    state smallint NOT NULL,
    reason text NOT NULL DEFAULT '',
    items bigint NOT NULL,
    stage smallint NOT NULL,
    stage_units bigint NOT NULL,
    frontier bigint NOT NULL DEFAULT 0,
    stage_accepted bigint NOT NULL DEFAULT 0,
    stage_failed bigint NOT NULL DEFAULT 0,
    wanted bigint NOT NULL DEFAULT 0 CHECK (wanted >= 0),
    unit_micros bigint NOT NULL DEFAULT 0,
    reserved numeric(28, 12) NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    spent numeric(28, 12) NOT NULL DEFAULT 0 CHECK (spent >= 0),
    accepted bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,
    judged bigint NOT NULL DEFAULT 0,
    cpu_micros bigint NOT NULL DEFAULT 0,
    work_cpu_micros bigint NOT NULL DEFAULT 0,
    work_attempts bigint NOT NULL DEFAULT 0,
    items_accepted bigint NOT NULL DEFAULT 0,
    answer_digest bytea,
    answer_bytes bigint,
    ended_at timestamptz,
    UNIQUE (submitter_id, request_id),
    CHECK (spent + reserved <= budget),
    CHECK (frontier <= stage_units AND stage_accepted + stage_failed <= stage_units)
) WITH (fillfactor = 50);

CREATE INDEX job_running ON job (submitter_id, priority DESC, id) WHERE state = 1;

-- Owners that took part in a job.
CREATE TABLE job_owner (
    job_id bigint NOT NULL REFERENCES job,
    owner_id bigint NOT NULL REFERENCES owner,
    PRIMARY KEY (job_id, owner_id)
);

-- The hot tables carry no foreign keys: every row is written under the lock of its job's row.
CREATE SEQUENCE lease_token AS bigint INCREMENT BY 1000;

CREATE TABLE lease (
    token bigint PRIMARY KEY,
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    device_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    -- Indexes not reported or handed back yet.
    open bigint[] NOT NULL,
    expired boolean NOT NULL DEFAULT false,
    deadline timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

CREATE INDEX lease_device ON lease (device_id);
-- No index on deadline: renewing a lease then rewrites no index. The few rows are scanned for expired ones.

-- Units behind the frontier that need an attempt. The first owner that has one already is part of the key,
-- so that an owner's own units are skipped as a range.
CREATE TABLE wanted (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    first_excluded bigint NOT NULL,
    idx bigint NOT NULL,
    excluded bigint[] NOT NULL,
    PRIMARY KEY (job_id, stage, first_excluded, idx)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

CREATE TABLE attempt (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    owner_id bigint NOT NULL,
    device_id bigint NOT NULL,
    lease_token bigint NOT NULL,
    outcome smallint NOT NULL,
    digest bytea NOT NULL,
    size_bytes bigint NOT NULL,
    -- Up to 4 KiB, held by the first attempt that returned it.
    result bytea,
    cpu_micros bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, stage, idx, owner_id)
);

CREATE TABLE verdict (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    -- 1 accepted; 2 the guest failed, 3 a limit, 4 undecidable.
    outcome smallint NOT NULL,
    digest bytea NOT NULL,
    size_bytes bigint NOT NULL,
    agreeing integer NOT NULL,
    attempts integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, stage, idx)
);

CREATE INDEX verdict_failed ON verdict (job_id, stage, idx) WHERE outcome <> 1;

-- The number of an account is its holder's times eight and its kind: 0 bank, 1 submitter, 2 escrow, 3 available.
CREATE TABLE account (
    id bigint PRIMARY KEY,
    -- Credits less debits. Only the bank, the world outside, may be negative.
    balance numeric(28, 12) NOT NULL DEFAULT 0,
    CHECK (balance >= 0 OR id = 0)
) WITH (fillfactor = 50);

-- Append-only: the program's role may not update or delete.
-- code: 1 deposit, 2 escrow, 3 reward, 4 refund. The natural key makes paying twice impossible.
CREATE TABLE transfer (
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 100),
    debit bigint NOT NULL,
    credit bigint NOT NULL,
    amount numeric(28, 12) NOT NULL CHECK (amount > 0),
    code smallint NOT NULL,
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    attempt bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (debit <> credit),
    PRIMARY KEY (code, job_id, stage, idx, attempt)
);

CREATE TABLE deposit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submitter_id bigint NOT NULL REFERENCES submitter,
    request_id text NOT NULL,
    amount numeric(28, 12) NOT NULL CHECK (amount > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (submitter_id, request_id)
);

INSERT INTO account (id) VALUES (0);

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO lull_app;
REVOKE UPDATE, DELETE ON transfer, deposit, verdict, attempt FROM lull_app;
REVOKE DELETE ON account, job FROM lull_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO lull_app;
