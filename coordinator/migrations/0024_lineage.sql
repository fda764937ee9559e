-- Owners whose work an attempt went on from took part in its job, too: when one of them is caught, it is looked over.
INSERT INTO job_owner (job_id, owner_id)
    SELECT DISTINCT job_id, unnest(lineage) FROM resumed WHERE origin IS NOT NULL
    ON CONFLICT DO NOTHING;
