-- What was left of a job's own when it was last begun again: of what it was granted nothing goes to its submitter.
ALTER TABLE job ADD COLUMN own numeric(28, 12) NOT NULL DEFAULT 0 CHECK (own >= 0);
-- Of those that are being made again now, what was granted was spent last until now.
UPDATE job SET own = CASE state WHEN 1 THEN greatest(budget - refunded - spent, 0) ELSE budget + granted - refunded - spent END
    WHERE round > 0;
GRANT UPDATE (own) ON job TO lull_app;
