-- Of an owner: units that others had answered before, which it was handed and did not answer.
ALTER TABLE standing ADD COLUMN dropped bigint NOT NULL DEFAULT 0;
