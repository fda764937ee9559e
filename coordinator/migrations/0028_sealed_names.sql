-- Who somebody is decides whose money an account is: submitters, owners and their devices are sealed too.
ALTER TABLE submitter ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE owner ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE device ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX submitter_xid ON submitter (xid);
CREATE INDEX owner_xid ON owner (xid);
CREATE INDEX device_xid ON device (xid);

-- A coordinator of before seals fewer kinds: it can make no seal any more.
ALTER TABLE seal DROP CONSTRAINT seal_kinds_check;
ALTER TABLE seal ADD CONSTRAINT seal_kinds_check CHECK (kinds >= 17) NOT VALID;

-- The program cannot change what is sealed: of rows with both, it may update the other columns only.
REVOKE UPDATE, DELETE ON submitter, owner, device FROM lull_app;
GRANT UPDATE (presence, last_seen_at, network, referee) ON device TO lull_app;
REVOKE UPDATE ON account, job FROM lull_app;
GRANT UPDATE (balance) ON account TO lull_app;
GRANT UPDATE (state, reason, items, stage, stage_units, frontier, stage_accepted, stage_failed, wanted, unit_micros, reserved,
    spent, accepted, failed, attempts, judged, cpu_micros, work_cpu_micros, work_attempts, items_accepted, answer_digest,
    answer_bytes, ended_at, checkpointed, wish_copies, strict, reviewed, doubtful, round, granted, refunded, settled)
    ON job TO lull_app;

-- Nor does it say when a row was written, or by which transaction: the database does.
REVOKE INSERT ON submitter, owner, device, deposit, transfer, verdict, held, release, catch, operator, payout_batch, payout,
    payout_line, reversal FROM lull_app;
GRANT INSERT (name) ON submitter, owner, operator TO lull_app;
GRANT INSERT (owner_id, public_key, display_name) ON device TO lull_app;
GRANT INSERT (submitter_id, request_id, amount, currency) ON deposit TO lull_app;
GRANT INSERT (debit, credit, amount, code, job_id, stage, idx, attempt) ON transfer TO lull_app;
GRANT INSERT (job_id, stage, idx, version, outcome, digest, size_bytes, agreeing, attempts) ON verdict TO lull_app;
GRANT INSERT (owner_id, seq, job_id, stage, idx, amount, until_seq, checked) ON held TO lull_app;
GRANT INSERT (owner_id, from_seq, to_seq, amount, currency) ON release TO lull_app;
GRANT INSERT (owner_id, device_id, job_id, stage, idx, from_seq, to_seq, reason, correct) ON catch TO lull_app;
GRANT INSERT (request_id, minimum, payer_name, payer_iban, payer_bic, proposed_by, currency, decimals) ON payout_batch TO lull_app;
GRANT INSERT (batch_id, owner_id, amount, payee_name, payee_iban, carried_in, carried_out, currency, decimals, remainder)
    ON payout TO lull_app;
GRANT INSERT (transfer_id, batch_id, owner_id) ON payout_line TO lull_app;
GRANT INSERT (code, job_id, stage, idx, attempt, reason, operator_id) ON reversal TO lull_app;
