-- Points between two steps of a unit that another device can go on from. Nothing here is read or written for
-- jobs that have none: this column, which travels with the job's row, says so.
ALTER TABLE job ADD COLUMN checkpointed boolean NOT NULL DEFAULT false;

-- Which device has uploaded a blob for a job: a checkpoint may name only what its maker holds itself, or naming
-- somebody else's digest would open that blob to whoever is offered the checkpoint.
CREATE TABLE upload (
    job_id bigint NOT NULL,
    device_id bigint NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (job_id, device_id, digest)
);

-- Kept until their unit is decided.
CREATE TABLE checkpoint (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    -- The lease that was handed back with it: a unit leaves a lease once.
    made_under bigint NOT NULL,
    steps bigint NOT NULL CHECK (steps > 0),
    state_digest bytea NOT NULL,
    blob_digest bytea NOT NULL,
    size_bytes bigint NOT NULL,
    device_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    signature bytea NOT NULL,
    -- The checkpoint that it went on from.
    parent bigint,
    -- Owners whose work is in it; sorted.
    lineage bigint[] NOT NULL,
    PRIMARY KEY (job_id, stage, idx, made_under)
);

-- Whose work an owner was offered with a lease of a unit. It stays when the lease is gone: whoever has seen a
-- state may still have it. Kept until the unit is decided.
CREATE TABLE offer (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    owner_id bigint NOT NULL,
    lease_token bigint NOT NULL,
    -- The checkpoint; none where only earlier offers count.
    origin bigint,
    lineage bigint[] NOT NULL,
    PRIMARY KEY (job_id, stage, idx, owner_id, lease_token)
);

CREATE INDEX offer_lease ON offer (lease_token);

-- Of attempts that were offered a checkpoint. A table of its own keeps the rows of all others narrow.
CREATE TABLE resumed (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    owner_id bigint NOT NULL,
    origin bigint,
    lineage bigint[] NOT NULL,
    PRIMARY KEY (job_id, stage, idx, owner_id)
);

-- What an attempt from the start says that the state was after the steps of a checkpoint.
CREATE TABLE witness (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    owner_id bigint NOT NULL,
    steps bigint NOT NULL,
    state_digest bytea NOT NULL,
    PRIMARY KEY (job_id, stage, idx, owner_id, steps)
);

-- Who was wrong, as a verdict showed it. why: 1 made a checkpoint that is not the state after its steps,
-- 2 went on from a right checkpoint to a wrong result.
CREATE TABLE blame (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    device_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    why smallint NOT NULL,
    -- Of the checkpoint: what its maker signed, and what was witnessed, by so many attempts.
    steps bigint NOT NULL,
    state_digest bytea NOT NULL,
    blob_digest bytea NOT NULL,
    signature bytea NOT NULL,
    witnessed bytea NOT NULL,
    witnesses integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, stage, idx, device_id)
);

CREATE INDEX blame_device ON blame (device_id);

GRANT SELECT, INSERT, DELETE ON upload, checkpoint, offer TO lull_app;
GRANT SELECT, INSERT ON resumed, witness, blame TO lull_app;
