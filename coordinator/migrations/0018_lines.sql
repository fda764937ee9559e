-- Lines of payouts are collected before their accounts are locked, and payouts are written after it.
ALTER TABLE payout_line DROP CONSTRAINT payout_line_batch_id_owner_id_fkey;
ALTER TABLE payout_line ADD FOREIGN KEY (batch_id) REFERENCES payout_batch;

-- How many kinds of rows a seal covers: a coordinator of before there were as many does not say, and can make none.
ALTER TABLE seal ADD COLUMN kinds smallint NOT NULL DEFAULT 7;
ALTER TABLE seal ALTER COLUMN kinds DROP DEFAULT;
