//! An audit of a ledger of ten million transfers: rows as a grid writes them, sealed by a real coordinator.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lull_tests::{Grid, binary, procfs};
use rustix::process::Pid;
use tokio_postgres::Client;

use crate::Figure;

const JOBS: u32 = 10;
/// Each is paid to two owners.
const UNITS_PER_JOB: u32 = 500_000;
/// Units that one transaction decides.
const UNITS_PER_BATCH: u32 = 500;
const REWARDS: u64 = 2 * JOBS as u64 * UNITS_PER_JOB as u64;
/// The ledger is sealed in this time, or something is wrong.
const SEALED_WITHIN: Duration = Duration::from_secs(1_800);

/// Two attempts, a verdict and two rewards for each unit, in the order in which units go out. The jobs say only that a unit has
/// one item.
const FILL: &str = "CREATE PROCEDURE fill(jobs int, units int, batch int) LANGUAGE plpgsql AS $$
DECLARE step int; job int;
BEGIN
    INSERT INTO submitter (name) VALUES ('lab');
    INSERT INTO owner (name) SELECT 'owner-' || n FROM generate_series(1, 20) AS n;
    INSERT INTO device (owner_id, public_key, display_name) SELECT n, sha256(int8send(n)), 'pc' FROM generate_series(1, 20) AS n;
    INSERT INTO account (id) VALUES (9);
    INSERT INTO account (id) SELECT n * 8 + kind FROM generate_series(1, 20) AS n, unnest(ARRAY[3, 4]) AS kind;
    INSERT INTO deposit (submitter_id, request_id, amount) VALUES (1, 'first', 1000);
    INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt) VALUES (0, 9, 1000, 1, 0, 0, 0, 1);
    FOR job IN 1..jobs LOOP
        INSERT INTO job (submitter_id, request_id, spec, order_key, priority, item_price, service_price, budget, state,
                items, stage, stage_units, stage_accepted, frontier, spent, refunded, settled)
            VALUES (1, job::text, '\x2801', decode(repeat('00', 32), 'hex'), 0, 0.000001, 0.000001, 10, 2, units, 1, units,
                units, units, units * 0.000002, 10 - units * 0.000002, true);
        INSERT INTO account (id) VALUES (job * 8 + 2);
        INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
            VALUES (9, job * 8 + 2, 10, 2, job, 0, 0, 0);
        COMMIT;
        FOR step IN 0..units / batch - 1 LOOP
            INSERT INTO attempt (job_id, stage, idx, owner_id, device_id, lease_token, outcome, digest, size_bytes, result,
                    cpu_micros)
                SELECT job, 1, idx, owner, owner, step, 1, sha256(int8send(idx)), 8,
                    CASE WHEN place = 0 THEN int8send(idx) END, 100
                FROM generate_series(step * batch, (step + 1) * batch - 1) AS n, generate_series(0, 1) AS place,
                    LATERAL (SELECT n::bigint * 7919 % units AS idx, (n + place * 7) % 20 + 1 AS owner) AS unit;
            INSERT INTO verdict (job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts)
                SELECT job, 1, n::bigint * 7919 % units, 1, sha256(int8send(n::bigint * 7919 % units)), 8, 2, 2
                FROM generate_series(step * batch, (step + 1) * batch - 1) AS n;
            INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
                SELECT job * 8 + 2, owner * 8 + 3, 0.000001, 3, job, 1, n::bigint * 7919 % units, owner
                FROM generate_series(step * batch, (step + 1) * batch - 1) AS n, generate_series(0, 1) AS place,
                    LATERAL (SELECT (n + place * 7) % 20 + 1 AS owner) AS unit;
            COMMIT;
        END LOOP;
        INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
            VALUES (job * 8 + 2, 9, 10 - units * 0.000002, 4, job, 0, 0, 0);
    END LOOP;
    UPDATE account SET balance = moved FROM (
        SELECT id, sum(change) AS moved FROM (
            SELECT credit AS id, amount AS change FROM transfer UNION ALL SELECT debit, -amount FROM transfer) AS posting
        GROUP BY id) AS posted
    WHERE account.id = posted.id;
    INSERT INTO device_earning (device_id, month, amount, units)
        SELECT attempt, date_trunc('month', created_at AT TIME ZONE 'UTC')::date, sum(amount), count(*)
        FROM transfer WHERE code = 3 GROUP BY 1, 2;
END $$";

pub(crate) fn ten_million() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let grid = Grid::start(60)?;
    let rows_per_second = runtime.block_on(fill(&grid))?;
    let (seconds, peak_mib) = audit(&grid)?;
    Ok(vec![
        Figure { name: "audit_10m_transfers_seconds", value: seconds, unit: "s" },
        Figure { name: "audit_peak_mib", value: peak_mib, unit: "MiB" },
        Figure { name: "sealed_rows_per_second", value: rows_per_second, unit: "rows/s" },
    ])
}

/// Fills the ledger, and returns how many rows a second the coordinator sealed then.
async fn fill(grid: &Grid) -> Result<f64> {
    let (client, connection) = tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    // Nothing is sealed before all is there.
    let hold = "INSERT INTO chore VALUES ('seal', 'bench', 'infinity')
        ON CONFLICT (name) DO UPDATE SET holder = 'bench', held_until = 'infinity'";
    client.execute(hold, &[]).await?;
    client.batch_execute(FILL).await?;
    client.batch_execute(&format!("CALL fill({JOBS}, {UNITS_PER_JOB}, {UNITS_PER_BATCH})")).await?;
    // As autovacuum does in time.
    client.batch_execute("VACUUM (ANALYZE)").await?;
    let begun = Instant::now();
    client.execute("UPDATE chore SET held_until = 'epoch'", &[]).await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while is_open(&client).await? {
        ticks.tick().await;
        ensure!(begun.elapsed() < SEALED_WITHIN, "the ledger is not sealed in time");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rows = client.query_one("SELECT sum(rows)::bigint FROM seal_part", &[]).await?.get::<_, i64>(0);
    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measurement")]
    Ok(rows as f64 / seconds)
}

async fn is_open(client: &Client) -> Result<bool> {
    let select = "SELECT coalesce((SELECT xid FROM transfer ORDER BY xid DESC LIMIT 1)
        >= (SELECT to_xid FROM seal ORDER BY number DESC LIMIT 1), true)";
    Ok(client.query_one(select, &[]).await?.get(0))
}

/// Seconds that an audit takes, and the MiB that it had at most.
fn audit(grid: &Grid) -> Result<(f64, f64)> {
    let begun = Instant::now();
    let mut child = Command::new(binary("lull-audit"))
        .arg("--state-dir")
        .arg(grid.dir().join("state"))
        .args(["--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .context("starting lull-audit")?;
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        peak = procfs::peak_bytes(Pid::from_child(&child)).unwrap_or(0).max(peak);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let output = child.wait_with_output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.success(), "the ledger is not right: {report}");
    ensure!(report["rewards"].as_u64() == Some(REWARDS), "another ledger was audited: {report}");
    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measurement")]
    Ok((seconds, peak as f64 / f64::from(1 << 20)))
}
