-- Which transactions paid a device: a row a device and batch, so that its receipts are found. What they say is
-- computed from the transfers.
CREATE TABLE posting (
    device_id bigint NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (device_id, xid)
);

INSERT INTO posting (device_id, xid)
SELECT DISTINCT attempt.device_id, transfer.xid
FROM transfer JOIN attempt ON attempt.job_id = transfer.job_id AND attempt.stage = transfer.stage
    AND attempt.idx = transfer.idx AND attempt.owner_id = transfer.attempt
WHERE transfer.code = 3;

-- Public keys of coordinators that have worked on this database: devices learn them when they enrol.
CREATE TABLE coordinator_key (
    public_key bytea PRIMARY KEY CHECK (length(public_key) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT, INSERT ON posting, coordinator_key TO lull_app;
