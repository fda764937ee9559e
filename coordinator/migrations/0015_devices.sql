-- The network that a device last called from, by the first bits of its address; NULL where that says nothing. Since when a
-- unit is wanted: it waits for a checker from another network for a while.
ALTER TABLE device ADD COLUMN network bigint;
ALTER TABLE wanted ADD COLUMN wanted_at timestamptz NOT NULL DEFAULT now();

-- Devices that failed when they were last heard of; one that succeeds has no row. last: 1 a limit where others had a result,
-- 2 another result than was accepted, 3 a lease that expired.
CREATE TABLE trouble (
    device_id bigint PRIMARY KEY,
    fails integer NOT NULL CHECK (fails > 0),
    last smallint NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT, INSERT, UPDATE, DELETE ON trouble TO lull_app;
