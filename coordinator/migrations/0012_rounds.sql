-- How often a job was begun again from the end of its work, as owners that took part were found to lie. What is made
-- from the work has other stage numbers each time: by 256 more.
ALTER TABLE job ADD COLUMN round smallint NOT NULL DEFAULT 0 CHECK (round >= 0);
-- What came from losses for that and has not gone back, and what has gone back to the submitter.
-- Codes of transfers: 12 grant, 13 unspent grant.
ALTER TABLE job ADD COLUMN granted numeric(28, 12) NOT NULL DEFAULT 0 CHECK (granted >= 0);
ALTER TABLE job ADD COLUMN refunded numeric(28, 12) NOT NULL DEFAULT 0 CHECK (refunded >= 0);
-- Whether all pay for it is its owners' for good.
ALTER TABLE job ADD COLUMN settled boolean NOT NULL DEFAULT false;
UPDATE job SET settled = true WHERE state <> 1;
-- Where an owner that is caught took part.
CREATE INDEX job_owner_owner ON job_owner (owner_id, job_id);
CREATE INDEX job_unsettled ON job (id) WHERE state = 2 AND NOT settled;
UPDATE job SET refunded = budget - spent WHERE state <> 1;
ALTER TABLE job DROP CONSTRAINT job_check;
ALTER TABLE job ADD CHECK (spent + reserved + refunded <= budget + granted);
