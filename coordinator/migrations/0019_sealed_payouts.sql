-- Payouts and reversals are sealed too: operators, batches, payouts, their lines, steps of batches, reversals.

-- Who approved and who exported a batch, as rows that are written once. step: the state that the batch came to, 2 or 3.
CREATE TABLE payout_step (
    batch_id bigint NOT NULL REFERENCES payout_batch,
    step smallint NOT NULL CHECK (step IN (2, 3)),
    operator_id bigint NOT NULL REFERENCES operator,
    created_at timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (batch_id, step)
);
INSERT INTO payout_step (batch_id, step, operator_id, created_at)
    SELECT id, 2, approved_by, approved_at FROM payout_batch WHERE approved_by IS NOT NULL
    UNION ALL SELECT id, 3, exported_by, exported_at FROM payout_batch WHERE exported_by IS NOT NULL;

-- The database writes them itself: a program of before that still runs must leave none out.
CREATE FUNCTION note_payout_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.approved_by IS NULL AND NEW.approved_by IS NOT NULL THEN
        INSERT INTO payout_step (batch_id, step, operator_id, created_at) VALUES (NEW.id, 2, NEW.approved_by, NEW.approved_at);
    END IF;
    IF OLD.exported_by IS NULL AND NEW.exported_by IS NOT NULL THEN
        INSERT INTO payout_step (batch_id, step, operator_id, created_at) VALUES (NEW.id, 3, NEW.exported_by, NEW.exported_at);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER payout_batch_step AFTER UPDATE ON payout_batch FOR EACH ROW EXECUTE FUNCTION note_payout_step();

-- The transaction that wrote a row. Rows that are there already count as written by this one.
ALTER TABLE operator ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE payout_batch ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE payout ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE payout_line ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE reversal ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();

CREATE INDEX operator_xid ON operator (xid);
CREATE INDEX payout_batch_xid ON payout_batch (xid);
CREATE INDEX payout_xid ON payout (xid);
CREATE INDEX payout_line_xid ON payout_line (xid);
CREATE INDEX payout_step_xid ON payout_step (xid);
CREATE INDEX reversal_xid ON reversal (xid);

-- A coordinator of before seals fewer kinds: it can make no seal any more, which would leave these rows out for good.
ALTER TABLE seal ADD CONSTRAINT seal_kinds_check CHECK (kinds >= 14) NOT VALID;

GRANT SELECT, INSERT ON payout_step TO lull_app;
