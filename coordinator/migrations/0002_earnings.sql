-- What the verified attempts of a device were paid, by month of UTC: once a device and batch, in the
-- transaction that pays. The transfers remain the books; this sum is checked against them.
CREATE TABLE device_earning (
    device_id bigint NOT NULL,
    -- First day of the month.
    month date NOT NULL,
    amount numeric(28, 12) NOT NULL CHECK (amount > 0),
    units bigint NOT NULL CHECK (units > 0),
    PRIMARY KEY (device_id, month)
) WITH (fillfactor = 50);

INSERT INTO device_earning (device_id, month, amount, units)
SELECT attempt.device_id, date_trunc('month', transfer.created_at AT TIME ZONE 'UTC')::date, sum(amount), count(*)
FROM transfer JOIN attempt ON attempt.job_id = transfer.job_id AND attempt.stage = transfer.stage
    AND attempt.idx = transfer.idx AND attempt.owner_id = transfer.attempt
WHERE transfer.code = 3 GROUP BY 1, 2;

GRANT SELECT, INSERT, UPDATE ON device_earning TO lull_app;
