-- What finance signs. A seal covers the rows of all transactions with numbers in a range, once none of them is open
-- any more: nothing can come in before it later. docs/LEDGER.md says what is hashed, byte by byte.

-- The transaction that wrote a row. Rows that are there already count as written by this one.
ALTER TABLE job ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE deposit ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE transfer ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE verdict ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE held ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE release ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE catch ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();

-- Rows of one transaction share an entry's key, so that the indexes stay small and grow at their right end only.
CREATE INDEX job_xid ON job (xid);
CREATE INDEX deposit_xid ON deposit (xid);
CREATE INDEX transfer_xid ON transfer (xid);
CREATE INDEX verdict_xid ON verdict (xid);
CREATE INDEX held_xid ON held (xid);
CREATE INDEX release_xid ON release (xid);
CREATE INDEX catch_xid ON catch (xid);

CREATE TABLE seal (
    number bigint PRIMARY KEY CHECK (number > 0),
    -- Transactions: from_xid <= xid < to_xid. A seal begins where the one before it ends.
    from_xid xid8 NOT NULL,
    to_xid xid8 NOT NULL,
    created_at timestamptz NOT NULL,
    head bytea NOT NULL CHECK (length(head) = 32),
    public_key bytea NOT NULL CHECK (length(public_key) = 32),
    signature bytea NOT NULL CHECK (length(signature) = 64),
    CHECK (from_xid < to_xid)
);

-- The rows of one table in a seal; there is none where it has none.
CREATE TABLE seal_part (
    seal_number bigint NOT NULL,
    -- 1 job, 2 deposit, 3 transfer, 4 verdict, 5 held, 6 release, 7 catch.
    kind smallint NOT NULL,
    rows bigint NOT NULL CHECK (rows > 0),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    -- Four bytes of each row's own digest: they tell which row was changed.
    marks bytea NOT NULL CHECK (length(marks) = 4 * rows),
    PRIMARY KEY (seal_number, kind)
);
-- Digests do not compress.
ALTER TABLE seal_part ALTER COLUMN marks SET STORAGE EXTERNAL;

-- Chores that one coordinator at a time does.
CREATE TABLE chore (
    name text PRIMARY KEY,
    holder text NOT NULL,
    held_until timestamptz NOT NULL
);

GRANT SELECT, INSERT ON seal, seal_part TO lull_app;
GRANT SELECT, INSERT, UPDATE ON chore TO lull_app;
