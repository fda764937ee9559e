-- Rows that are wanted stand in an order that nobody knows, and no longer by the number of the owner who was first.
-- The same arithmetic as `Job::place_of`.
ALTER TABLE wanted RENAME first_excluded TO place;
UPDATE wanted SET place = mod(mod((excluded[1]::numeric + ('x' || encode(substr(order_key, 1, 8), 'hex'))::bit(64)::bigint)
        * 2850178704830799873, 4611686018427387904) + 4611686018427387904, 4611686018427387904)::bigint
    FROM job WHERE job.id = wanted.job_id AND excluded <> '{}';
-- Disputes come first.
UPDATE wanted SET place = place - 9223372036854775807 WHERE contested;

-- Owners that must agree on what is made from the work: more than two where a job buys the chance that its answer is wrong.
ALTER TABLE job ADD COLUMN service_owners integer NOT NULL DEFAULT 2 CHECK (service_owners >= 2);
