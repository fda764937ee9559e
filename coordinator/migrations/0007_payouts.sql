-- Accounts: kind 5 is what an owner is being paid out, kind 6 what it was paid out. Codes of transfers: 7 payout,
-- 8 paid, 9 reversal.
INSERT INTO account (id) SELECT id * 8 + kind FROM owner CROSS JOIN (VALUES (5), (6)) AS kinds (kind);

-- Statements read a month: transfers lie nearly in the order of their times, so that this costs writing nothing.
CREATE INDEX transfer_time ON transfer USING brin (created_at) WITH (pages_per_range = 32);

-- Operators with a name. Tokens of subject 0 belong to whoever holds the state directory.
CREATE TABLE operator (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Who pays: the grid's own account at its bank. operator_id is 0 where no named operator set it.
CREATE TABLE payer (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    name text NOT NULL,
    iban text NOT NULL,
    bic text NOT NULL,
    operator_id bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Who is paid for an owner.
CREATE TABLE payee (
    owner_id bigint PRIMARY KEY REFERENCES owner,
    name text NOT NULL,
    iban text NOT NULL,
    operator_id bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- state: 1 proposed, 2 approved, 3 exported, 4 rejected.
CREATE TABLE payout_batch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id text NOT NULL UNIQUE,
    state smallint NOT NULL DEFAULT 1 CHECK (state BETWEEN 1 AND 4),
    minimum numeric(28, 12) NOT NULL CHECK (minimum > 0),
    -- As they were at the proposal: what is approved is what is exported.
    payer_name text NOT NULL,
    payer_iban text NOT NULL,
    payer_bic text NOT NULL,
    proposed_by bigint NOT NULL REFERENCES operator,
    proposed_at timestamptz NOT NULL DEFAULT now(),
    approved_by bigint REFERENCES operator CHECK (approved_by <> proposed_by),
    approved_at timestamptz,
    exported_by bigint REFERENCES operator,
    exported_at timestamptz,
    CHECK (state NOT IN (2, 3) OR approved_by IS NOT NULL AND approved_at IS NOT NULL),
    CHECK (state <> 3 OR exported_by IS NOT NULL AND exported_at IS NOT NULL)
);

-- state: 1 open, 2 paid, 3 returned, or rejected with its batch.
CREATE TABLE payout (
    batch_id bigint NOT NULL REFERENCES payout_batch,
    owner_id bigint NOT NULL REFERENCES owner,
    state smallint NOT NULL DEFAULT 1 CHECK (state BETWEEN 1 AND 3),
    amount numeric(28, 12) NOT NULL CHECK (amount > 0 AND amount = round(amount, 2)),
    payee_name text NOT NULL,
    payee_iban text NOT NULL,
    -- Less than a cent, mostly: what the payout before left, and what this one leaves.
    carried_in numeric(28, 12) NOT NULL CHECK (carried_in >= 0),
    carried_out numeric(28, 12) NOT NULL CHECK (carried_out >= 0),
    PRIMARY KEY (batch_id, owner_id)
);

CREATE INDEX payout_owner ON payout (owner_id, batch_id);

-- What a payout pays: each transfer on an owner's available account is in one payout at most.
CREATE TABLE payout_line (
    transfer_id bigint PRIMARY KEY,
    batch_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    FOREIGN KEY (batch_id, owner_id) REFERENCES payout
);

CREATE INDEX payout_line_payout ON payout_line (batch_id, owner_id);

-- The only corrections: which transfer was undone, by its natural key, and why. The transfer that does it has this
-- number as its key. Nothing is undone twice.
CREATE TABLE reversal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code smallint NOT NULL,
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    attempt bigint NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    operator_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (code, job_id, stage, idx, attempt)
);

GRANT SELECT, INSERT ON operator, payout_batch, payout, payout_line, reversal TO lull_app;
GRANT SELECT, INSERT, UPDATE ON payer, payee TO lull_app;
GRANT UPDATE (state, approved_by, approved_at, exported_by, exported_at) ON payout_batch TO lull_app;
GRANT UPDATE (state) ON payout TO lull_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO lull_app;
