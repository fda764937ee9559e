-- What a job was promised: the share of accepted work units that may be wrong, in parts of 10^12 (0: it names
-- copies instead); copies that a work unit takes on average, in parts of 2^32; whether all runs are strict;
-- whether the work stage was looked over when it was done; accepted units of owners that were caught after that.
ALTER TABLE job ADD COLUMN max_error bigint NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN max_answer_error bigint NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN wish_copies bigint NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN strict boolean NOT NULL DEFAULT false;
ALTER TABLE job ADD COLUMN reviewed boolean NOT NULL DEFAULT false;
ALTER TABLE job ADD COLUMN doubtful bigint NOT NULL DEFAULT 0;

-- A unit can be decided again: the verdict of the highest version counts.
ALTER TABLE verdict ADD COLUMN version smallint NOT NULL DEFAULT 1;
ALTER TABLE verdict DROP CONSTRAINT verdict_pkey;
ALTER TABLE verdict ADD PRIMARY KEY (job_id, stage, idx, version);

-- Units of which the verdict no longer stands and that wait for another. A row is deleted when they have it.
CREATE TABLE reopened (
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    -- Owners whose attempts were there then: their pay was decided.
    known bigint[] NOT NULL,
    PRIMARY KEY (job_id, stage, idx)
);

-- Verdicts that stand: results are read from here, and from nowhere else.
CREATE VIEW standing_verdict AS SELECT * FROM verdict
    WHERE NOT EXISTS (
        SELECT FROM verdict AS later WHERE later.job_id = verdict.job_id AND later.stage = verdict.stage
          AND later.idx = verdict.idx AND later.version > verdict.version)
      AND NOT EXISTS (
        SELECT FROM reopened WHERE reopened.job_id = verdict.job_id AND reopened.stage = verdict.stage
          AND reopened.idx = verdict.idx);

-- Of attempts, where it is not what it mostly is. late: another attempt of the unit was out meanwhile, so that the
-- two may have known of each other. mode: 2 strict, 3 both ways, with how the strict run ended.
ALTER TABLE attempt ADD COLUMN late boolean;
ALTER TABLE attempt ADD COLUMN mode smallint;
ALTER TABLE attempt ADD COLUMN by_referee boolean;
ALTER TABLE attempt ADD COLUMN strict_outcome smallint;
ALTER TABLE attempt ADD COLUMN strict_digest bytea;

ALTER TABLE wanted ADD COLUMN contested boolean NOT NULL DEFAULT false;

-- What an owner's results are worth. The row of an owner without one is all zeros.
CREATE TABLE standing (
    owner_id bigint PRIMARY KEY REFERENCES owner,
    -- Checked results that were right, since the last wrong one.
    correct bigint NOT NULL DEFAULT 0,
    -- Results whose pay was held back, ever: the sequence of `held`.
    held_to bigint NOT NULL DEFAULT 0,
    -- Those of them whose pay was released or forfeited.
    released_to bigint NOT NULL DEFAULT 0 CHECK (released_to <= held_to),
    catches integer NOT NULL DEFAULT 0,
    -- Attempts before this count no more.
    caught_at timestamptz
) WITH (fillfactor = 50);

-- Pay that was held back, in the order in which it was earned.
CREATE TABLE held (
    owner_id bigint NOT NULL,
    seq bigint NOT NULL,
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    amount numeric(28, 12) NOT NULL CHECK (amount > 0),
    -- Released when the owner has so many.
    until_seq bigint NOT NULL,
    checked boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, seq)
);

-- A release of pay: all that was held in a range of the sequence. Its transfer has this number as its key.
CREATE TABLE release (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id bigint NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    amount numeric(28, 12) NOT NULL CHECK (amount > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner_id, to_seq)
);

-- Of an owner: a wrong result was found. Everything that was held then is forfeited: `seq > from_seq AND seq <= to_seq`.
CREATE TABLE catch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id bigint NOT NULL,
    device_id bigint NOT NULL,
    job_id bigint NOT NULL,
    stage smallint NOT NULL,
    idx bigint NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    -- In words, for people.
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX catch_owner ON catch (owner_id);

-- Jobs in which an owner that was caught took part and that have not been looked through yet.
CREATE TABLE recheck (
    catch_id bigint NOT NULL,
    job_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    PRIMARY KEY (job_id, catch_id)
);

GRANT SELECT, INSERT, UPDATE ON standing TO lull_app;
GRANT SELECT ON standing_verdict TO lull_app;
GRANT SELECT, INSERT ON held, release, catch TO lull_app;
GRANT SELECT, INSERT, DELETE ON reopened, recheck TO lull_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO lull_app;

-- 1 normal, 2 strict, 3 both ways.
ALTER TABLE lease ADD COLUMN mode smallint NOT NULL DEFAULT 1;
