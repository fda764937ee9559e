//! A year of work as rows: what a ledger has when nobody waits for PCs to earn it.

/// What a unit costs, and what of it is the owner's at a fee of 2.5 %.
pub const PRICE: &str = "1.234567890123";
/// The owner's part of it.
pub const REWARD: &str = "1.20370369287";
/// The platform's.
pub const FEE: &str = "0.030864197253";

/// One job a month; of each, every owner is paid one unit, at a time of its own in that month. As a database has it since migration 15.
pub const FILL: &str = "CREATE PROCEDURE fill(owners int, first date, price numeric, reward numeric, fee numeric)
LANGUAGE plpgsql AS $$
DECLARE job int; start timestamptz;
BEGIN
    INSERT INTO submitter (name) VALUES ('lab');
    INSERT INTO owner (name) SELECT 'owner-' || to_char(n, 'FM0000') FROM generate_series(1, owners) AS n;
    INSERT INTO account (id) VALUES (9);
    INSERT INTO account (id) SELECT n * 8 + kind FROM generate_series(1, owners) AS n, generate_series(3, 6) AS kind;
    INSERT INTO device (owner_id, public_key, display_name) SELECT n, sha256(int8send(n)), 'pc' FROM generate_series(1, owners) AS n;
    INSERT INTO deposit (submitter_id, request_id, amount, created_at) VALUES (1, 'first', 100000, first);
    INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt, created_at)
        VALUES (0, 9, 100000, 1, 0, 0, 0, 1, first::timestamp AT TIME ZONE 'UTC');
    COMMIT;
    FOR job IN 1..12 LOOP
        start := (first + (job - 1) * interval '1 month') AT TIME ZONE 'UTC';
        INSERT INTO job (submitter_id, request_id, spec, order_key, priority, item_price, service_price, budget, state,
                items, stage, stage_units, stage_accepted, frontier, spent, fee_millionths, refunded, settled, created_at)
            VALUES (1, job::text, '', decode(repeat('00', 32), 'hex'), 0, price, price, 2000, 2, owners, 1, owners, owners,
                owners, owners * price, 25000, 2000 - owners * price, true, start);
        INSERT INTO account (id) VALUES (job * 8 + 2);
        INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt, created_at)
            VALUES (9, job * 8 + 2, 2000, 2, job, 0, 0, 0, start);
        INSERT INTO attempt (job_id, stage, idx, owner_id, device_id, lease_token, outcome, digest, size_bytes, result,
                cpu_micros, created_at)
            SELECT job, 1, n - 1, n, n, 1, 1, sha256(int8send(n)), 8, int8send(n), 100, start + n * interval '40 minutes'
            FROM generate_series(1, owners) AS n;
        INSERT INTO verdict (job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts)
            SELECT job, 1, n - 1, 1, sha256(int8send(n)), 8, 1, 1 FROM generate_series(1, owners) AS n;
        INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt, created_at)
            SELECT job * 8 + 2, n * 8 + 3, reward, 3, job, 1, n - 1, n, start + n * interval '40 minutes'
            FROM generate_series(1, owners) AS n;
        INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt, created_at)
            SELECT job * 8 + 2, 16, fee, 10, job, 1, n - 1, n, start + n * interval '40 minutes'
            FROM generate_series(1, owners) AS n;
        INSERT INTO posting (device_id) SELECT n FROM generate_series(1, owners) AS n;
        INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt, created_at)
            VALUES (job * 8 + 2, 9, 2000 - owners * price, 4, job, 0, 0, 0, start + interval '28 days');
        COMMIT;
    END LOOP;
    UPDATE account SET balance = moved FROM (
        SELECT id, sum(change) AS moved FROM (
            SELECT credit AS id, amount AS change FROM transfer UNION ALL SELECT debit, -amount FROM transfer) AS posting
        GROUP BY id) AS posted
    WHERE account.id = posted.id;
    INSERT INTO device_earning (device_id, month, amount, units)
        SELECT attempt, date_trunc('month', created_at AT TIME ZONE 'UTC')::date, sum(amount), count(*)
        FROM transfer WHERE code = 3 GROUP BY 1, 2;
    INSERT INTO payee (owner_id, name, iban, operator_id)
        SELECT n, 'Owner ' || n, 'NO9386011117947', 0 FROM generate_series(1, owners) AS n;
END $$";
