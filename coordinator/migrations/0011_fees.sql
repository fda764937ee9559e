-- The grid's account 16 is what the platform took of rewards. Codes of transfers: 10 fee, 11 fee given back, of pay
-- that was forfeited to its job.
INSERT INTO account (id) VALUES (16);
-- Of each reward of the job, as it was when it was submitted.
ALTER TABLE job ADD COLUMN fee_millionths integer NOT NULL DEFAULT 0
    CHECK (fee_millionths >= 0 AND fee_millionths < 1000000);
