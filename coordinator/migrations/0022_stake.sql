-- What an owner would lose by a lie counts by its worth, not by how many results it is for: pay is released once its owner
-- has earned so many times as much after it, in the same currency, as `until_seq - seq` says.
CREATE TABLE stake (
    owner_id bigint NOT NULL REFERENCES owner,
    currency smallint NOT NULL REFERENCES currency,
    -- What a release leaves held back. It rises at once to what the dearest result takes; a quarter of it goes in an hour,
    -- and only where nothing else holds pay back.
    level numeric NOT NULL CHECK (level >= 0),
    -- When it rose or fell last.
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, currency)
) WITH (fillfactor = 50);
INSERT INTO stake (owner_id, currency, level)
    SELECT owner_id, job.currency, least(max(held.amount * (held.until_seq - held.seq)), 9999999999999999)
    FROM standing JOIN held USING (owner_id) JOIN job ON job.id = held.job_id
    WHERE held.seq > standing.released_to GROUP BY 1, 2;

GRANT SELECT, INSERT, UPDATE ON stake TO lull_app;
