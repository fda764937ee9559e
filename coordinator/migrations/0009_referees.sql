-- Whether the operator trusts a device to settle disputes.
ALTER TABLE device ADD COLUMN referee boolean NOT NULL DEFAULT false;

-- Fuel of an attempt's strict run, as its device reports it; NULL where there was none, or a limit cut it off.
ALTER TABLE attempt ADD COLUMN fuel bigint;

-- What a referee looks for: few rows, if any.
CREATE INDEX wanted_contested ON wanted (job_id, stage, idx) WHERE contested;
