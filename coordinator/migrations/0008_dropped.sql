-- Of an owner: units of jobs that buy confidence which it was handed and did not answer; when half of them were
-- forgotten last.
ALTER TABLE standing ADD COLUMN dropped bigint NOT NULL DEFAULT 0;
ALTER TABLE standing ADD COLUMN forgiven_at timestamptz NOT NULL DEFAULT now();
-- Checked results of the owner that were right, when it was caught.
ALTER TABLE catch ADD COLUMN correct bigint NOT NULL DEFAULT 0;

-- Units that nobody has answered come last.
UPDATE wanted SET first_excluded = 9223372036854775807 WHERE excluded = '{}';
