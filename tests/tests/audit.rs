//! The ledger is sealed while a grid works, and an audit from outside finds whatever is changed by hand.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lull_coordinator::store::{Store, fault_names};
use lull_proto::v1;
use lull_tests::fleet::{self, Submitter};
use lull_tests::{DEADLINE, Fleet, Grid, binary, guest, wait_until};
use serde_json::Value;
use tokio_postgres::Client;

/// Calls of all devices after which a job must be done.
const ROUNDS_MAX: u32 = 400;
/// Units that the liar returns rightly, so that it has pay to lose; the rest are many enough for it to be caught.
const HONEST: usize = 15;
/// Whoever holds the lease of the sealer in a test, so that nothing is sealed meanwhile.
const HOLD: &str = "INSERT INTO chore VALUES ('seal', 'test', 'infinity')
    ON CONFLICT (name) DO UPDATE SET holder = 'test', held_until = 'infinity'";
const LET_GO: &str = "UPDATE chore SET held_until = 'epoch' WHERE name = 'seal'";

async fn database(grid: &Grid) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn run_audit(grid: &Grid, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("lull-audit"));
    command.arg("--state-dir").arg(grid.dir().join("state")).args(["--output", "json"]).args(arguments);
    Ok(command.output()?)
}

/// What an audit says that finds nothing.
fn audit(grid: &Grid, arguments: &[&str]) -> Result<Value> {
    let output = run_audit(grid, arguments)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(&text)?)
}

/// What an audit says that finds a broken row.
fn fault(grid: &Grid, arguments: &[&str]) -> Result<Value> {
    let output = run_audit(grid, arguments)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(1),
        "{}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_str(&text)?;
    Ok(report["fault"].clone())
}

/// Waits until everything is sealed; then an audit must find nothing.
fn wait_sealed(grid: &Grid) -> Result<Value> {
    let begun = std::time::Instant::now();
    loop {
        let report = audit(grid, &[])?;
        if report["unsealed_rows"] == 0 {
            return Ok(report);
        }
        ensure!(begun.elapsed() < DEADLINE, "not sealed in time: {report}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// Plays eight owners until a job that buys confidence ends; the first lies once it has returned some units.
async fn play(fleet: &Fleet, submitter: &str, units: u64) -> Result<()> {
    let mut submitter = fleet.submitter(submitter, "1000").await?;
    let module = submitter.upload("module", &std::fs::read(guest("probe"))?).await?;
    let spec = v1::JobSpec {
        copies: 0,
        max_error: 1e-2,
        budget: "500".to_owned(),
        item_price: "0.0010001".to_owned(),
        ..Submitter::trivial_spec(&module, units)
    };
    let job = submitter.create(spec).await?;
    let mut devices = Vec::new();
    for owner in 0..8 {
        devices.push(fleet.device(&format!("owner-{owner}")).await?);
    }
    let mut told = 0;
    for _ in 0..ROUNDS_MAX {
        for (at, device) in devices.iter_mut().enumerate() {
            for lease in device.ask(5, Duration::ZERO).await? {
                told += if at == 0 { lease.indices.len() } else { 0 };
                let word = if at == 0 && told > HONEST { "wrong" } else { "right" };
                device.report(fleet::report(&lease, |index| format!("{word} {index}").into_bytes())).await?;
            }
        }
        let job = submitter.job(&job.name).await?;
        if job.state() != v1::JobState::Running {
            ensure!(job.state() == v1::JobState::Complete, "{job:?}");
            return Ok(());
        }
    }
    anyhow::bail!("the job does not end")
}

/// Two batches of payouts: one that is exported, with a payout that is paid, one that came back and one that is open; and one
/// that is approved.
fn pay_out(grid: &Grid) -> Result<()> {
    let operator =
        |name| Ok::<_, anyhow::Error>(grid.lull(&["admin", "operator", "add", name])?.trim().to_owned());
    let (alice, bob) = (operator("alice")?, operator("bob")?);
    let iban = "DE89370400440532013000";
    grid.lull_with(&alice, &["admin", "payer", "set", "--name", "The Grid", "--iban", iban])?;
    for owner in ["owner-1", "owner-2", "owner-3"] {
        grid.lull_with(&alice, &["admin", "payee", "set", owner, "--name", "Dr", "--iban", iban])?;
    }
    for (by, step) in [
        (&alice, "propose --minimum 0.01"),
        (&bob, "approve 1"),
        (&bob, "export 1 --format csv"),
        (&bob, "mark-paid 1 --owner owner-1"),
        (&bob, "mark-paid 1 --owner owner-2"),
        (&bob, "mark-returned 1 --owner owner-2 --reason AC04"),
        (&alice, "propose --minimum 0.01"),
        (&bob, "approve 2"),
    ] {
        let arguments: Vec<&str> = ["admin", "payout"].into_iter().chain(step.split(' ')).collect();
        grid.lull_with(by, &arguments).with_context(|| step.to_owned())?;
    }
    Ok(())
}

/// A grid with rows of every kind, all sealed.
async fn sealed_grid() -> Result<(Grid, Client)> {
    let (grid, client) = paid_grid().await?;
    client.execute(LET_GO, &[]).await?;
    wait_sealed(&grid)?;
    client.execute(HOLD, &[]).await?;
    for (table, ..) in SEALED {
        let rows = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?;
        ensure!(rows.get::<_, i64>(0) > 0, "the test has no row of {table}");
    }
    Ok((grid, client))
}

/// A grid on which somebody lied, pay was released and paid out, and nothing of it is sealed.
async fn paid_grid() -> Result<(Grid, Client)> {
    let grid = Grid::start(60)?;
    let client = database(&grid).await?;
    client.execute(HOLD, &[]).await?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    play(&fleet, "clinic", 400).await?;
    // What is held for long is released: here, as if a month had gone by.
    client.execute("UPDATE held SET created_at = created_at - interval '31 days'", &[]).await?;
    wait_until(&client, "released", "NOT EXISTS (SELECT FROM standing WHERE released_to < held_to)").await?;
    wait_until(&client, "looked through", "NOT EXISTS (SELECT FROM recheck)").await?;
    wait_until(&client, "settled", "NOT EXISTS (SELECT FROM job WHERE NOT settled)").await?;
    pay_out(&grid)?;
    Ok((grid, client))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_ledger_is_right_and_pinned_by_key_and_head() -> Result<()> {
    let (grid, client) = sealed_grid().await?;
    let report = audit(&grid, &[])?;
    assert!(report["seals"].as_u64() >= Some(1), "{report}");
    assert!(report["rewards"].as_u64() > Some(300), "{report}");
    let counts = SEALED
        .iter()
        .filter(|(table, ..)| !table.starts_with("seal"))
        .map(|(table, ..)| format!("(SELECT count(*) FROM {table})"));
    let sum = format!("SELECT {}", counts.collect::<Vec<_>>().join(" + "));
    let rows = client.query_one(&sum, &[]).await?;
    assert_eq!(report["sealed_rows"].as_i64(), Some(rows.get(0)), "every row is sealed");

    let key = report["keys"][0].as_str().context("a key")?;
    let head = report["head"].as_str().context("a head")?;
    audit(&grid, &["--key", key, "--head", head])?;
    let file = grid.dir().join("state/seal.pub");
    audit(&grid, &["--key", file.to_str().context("a path")?])?;
    let other = "11".repeat(32);
    assert_eq!(fault(&grid, &["--key", &other])?["row"], "seal 1");
    assert_eq!(fault(&grid, &["--head", &other])?["check"], "chain");
    let unreachable =
        Command::new(binary("lull-audit")).args(["--database", "postgresql://%2Fnowhere/x"]).output()?;
    assert_eq!(unreachable.status.code(), Some(2));

    // The program itself may add to the chain, and may not change it.
    for table in ["seal", "seal_part"] {
        for change in [format!("DELETE FROM {table}"), format!("UPDATE {table} SET digest = digest")] {
            let change = change.replace("seal SET digest = digest", "seal SET head = head");
            let denied =
                client.batch_execute(&format!("SET ROLE lull_app; {change}")).await.expect_err("denied");
            assert_eq!(
                denied.code(),
                Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE),
                "{change}"
            );
            client.batch_execute("RESET ROLE").await?;
        }
    }
    grid.check_books()
}

/// Puts another value of its type into a column.
fn another(column: &str, data_type: &str) -> String {
    match data_type {
        "bigint" | "integer" | "smallint" => format!("{column} + 1"),
        "numeric" => format!("{column} + 0.000000000001"),
        "bytea" => format!("set_byte({column}, 0, get_byte({column}, 0) # 1)"),
        "text" => format!("{column} || 'x'"),
        "boolean" => format!("NOT {column}"),
        "timestamp with time zone" => format!("{column} + interval '1 microsecond'"),
        "xid8" => format!("({column}::text::bigint + 1)::text::xid8"),
        other => panic!("a column of type {other}"),
    }
}

/// Sealed tables, with what names a row of them, and the columns that are sealed.
const SEALED: [(&str, &str, &str); 19] = [
    (
        "job",
        "id",
        "xid id submitter_id request_id spec order_key priority item_price service_price budget max_error \
         max_answer_error created_at",
    ),
    ("deposit", "id", "xid id submitter_id request_id amount created_at"),
    (
        "transfer",
        "code job_id stage idx attempt",
        "xid id debit credit amount code job_id stage idx attempt created_at",
    ),
    (
        "verdict",
        "job_id stage idx version",
        "xid job_id stage idx version outcome digest size_bytes agreeing attempts created_at",
    ),
    ("held", "owner_id seq", "xid owner_id seq job_id stage idx amount until_seq checked created_at"),
    ("release", "id", "xid id owner_id from_seq to_seq amount created_at"),
    ("catch", "id", "xid id owner_id device_id job_id stage idx from_seq to_seq reason correct created_at"),
    ("currency", "number", "xid number code decimals created_at"),
    ("operator", "id", "xid id name created_at"),
    (
        "payout_batch",
        "id",
        "xid id request_id minimum payer_name payer_iban payer_bic proposed_by proposed_at currency decimals",
    ),
    (
        "payout",
        "batch_id owner_id",
        "xid batch_id owner_id amount payee_name payee_iban carried_in carried_out currency decimals remainder",
    ),
    ("payout_line", "transfer_id", "xid transfer_id batch_id owner_id"),
    ("payout_step", "batch_id step", "xid batch_id step operator_id created_at"),
    ("reversal", "id", "xid id code job_id stage idx attempt reason operator_id created_at"),
    ("submitter", "id", "xid id name created_at"),
    ("owner", "id", "xid id name created_at"),
    ("device", "id", "xid id owner_id public_key enrolled_at"),
    ("seal", "number", "number from_xid to_xid created_at head public_key signature"),
    ("seal_part", "seal_number kind", "seal_number kind rows digest marks"),
];

/// Tables that can be changed at will and put back as they were.
async fn open_up(client: &Client) -> Result<()> {
    client.batch_execute("SET session_replication_role = replica").await?;
    let checks = "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'p', 'u')
        ORDER BY contype <> 'f', contype = 'p'";
    for row in client.query(checks, &[]).await? {
        client.batch_execute(row.get(0)).await?;
    }
    let identities =
        "SELECT format('ALTER TABLE %I ALTER %I SET GENERATED BY DEFAULT', table_name, column_name)
        FROM information_schema.columns WHERE table_schema = 'public' AND identity_generation = 'ALWAYS'";
    for row in client.query(identities, &[]).await? {
        client.batch_execute(row.get(0)).await?;
    }
    client.batch_execute("ALTER TABLE account ALTER COLUMN currency DROP EXPRESSION").await?;
    for (table, ..) in SEALED {
        client.batch_execute(&format!("CREATE TABLE saved_{table} AS TABLE {table}")).await?;
    }
    Ok(())
}

async fn put_back(client: &Client, table: &str) -> Result<()> {
    let sql = format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM saved_{table}");
    Ok(client.batch_execute(&sql).await?)
}

/// The name that an audit gives to the row that was marked.
async fn name(client: &Client, table: &str, key: &str, ctid: &str) -> Result<String> {
    let columns: Vec<&str> = key.split(' ').collect();
    let texts: Vec<String> = columns.iter().map(|column| format!("{column}::text")).collect();
    let select = format!("SELECT {} FROM {table} WHERE ctid = '{ctid}'", texts.join(", "));
    let row = client.query_one(&select, &[]).await?;
    let parts: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{column} {}", row.get::<_, String>(at)))
        .collect();
    Ok(if table == "seal" {
        parts[0].replace("number", "seal")
    } else {
        format!("{table} ({})", parts.join(", "))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_is_found_and_named() -> Result<()> {
    let (grid, client) = sealed_grid().await?;
    open_up(&client).await?;
    for (table, key, columns) in SEALED {
        for column in columns.split(' ') {
            let select =
                "SELECT data_type FROM information_schema.columns WHERE table_name = $1 AND column_name = $2";
            let data_type: String = client.query_one(select, &[&table, &column]).await?.get(0);
            let value = another(column, &data_type);
            let update = format!(
                "UPDATE {table} SET {column} = {value} WHERE ctid = (SELECT max(ctid) FROM {table}) RETURNING ctid::text"
            );
            let ctid: String = client.query_one(&update, &[]).await?.get(0);
            let fault = fault(&grid, &[]).with_context(|| format!("{table}.{column}"))?;
            let row = fault["row"].as_str().context("a row")?;
            let expected = name(&client, table, key, &ctid).await?;
            // A row that was put into another transaction is gone from the one where it was sealed.
            let is_named = row == expected
                || (column == "xid"
                    && row.starts_with(table)
                    && fault["problem"].to_string().contains("missing"))
                || (table.starts_with("seal") && row.starts_with("seal"));
            assert!(is_named, "{table}.{column} of {expected}: {fault}");
            put_back(&client, table).await?;
        }
        audit(&grid, &[])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_missing_or_come_late_are_found() -> Result<()> {
    let (grid, client) = sealed_grid().await?;
    let kept = audit(&grid, &[])?;
    let head = kept["head"].as_str().context("a head")?;
    open_up(&client).await?;
    for (table, ..) in SEALED {
        for row in ["min", "max"] {
            let delete = format!("DELETE FROM {table} WHERE ctid = (SELECT {row}(ctid) FROM {table})");
            client.execute(&delete, &[]).await?;
            if (table, row) == ("seal", "max") {
                // Without its last seal and the parts of it the chain is one that ended earlier; a head tells.
                client
                    .execute("DELETE FROM seal_part WHERE seal_number NOT IN (SELECT number FROM seal)", &[])
                    .await?;
                assert!(audit(&grid, &[])?["unsealed_rows"].as_u64() > Some(0));
                assert_eq!(fault(&grid, &["--head", head])?["check"], "chain");
                put_back(&client, "seal_part").await?;
            } else {
                let fault = fault(&grid, &[]).with_context(|| format!("{row} of {table}"))?;
                assert!(
                    fault["row"]
                        .as_str()
                        .is_some_and(|name| name.starts_with(table.trim_end_matches("_part"))),
                    "{table}: {fault}"
                );
            }
            put_back(&client, table).await?;
        }
    }
    // Into the past: a deposit with its transfer, so that all sums are right.
    client
        .batch_execute(
            "INSERT INTO deposit (id, submitter_id, request_id, amount, xid)
                 SELECT 99, submitter_id, 'late', 5, xid FROM deposit LIMIT 1;
             INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt, xid)
                 SELECT debit, credit, 5, 1, 0, 0, 0, 99, xid FROM transfer WHERE code = 1 LIMIT 1;
             UPDATE account SET balance = balance - 5 WHERE id = 0;
             UPDATE account SET balance = balance + 5 WHERE id = (SELECT credit FROM transfer WHERE code = 1 LIMIT 1)",
        )
        .await?;
    let late = fault(&grid, &[])?;
    assert_eq!(late["row"], "deposit (id 99)", "{late}");
    assert!(late["problem"].to_string().contains("later"), "{late}");
    // The same in a transaction of its own is what a deposit is.
    client
        .batch_execute(
            "UPDATE deposit SET xid = pg_current_xact_id() WHERE id = 99;
             UPDATE transfer SET xid = pg_current_xact_id() WHERE code = 1 AND attempt = 99",
        )
        .await?;
    assert_eq!(audit(&grid, &[])?["unsealed_rows"], 2);
    // Into the future: the sealer would never come there.
    client.batch_execute("UPDATE deposit SET xid = '99999999999999' WHERE id = 99").await?;
    let never = fault(&grid, &[])?;
    assert_eq!((&never["check"], &never["row"]), (&"chain".into(), &"deposit (id 99)".into()), "{never}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_add_up_is_found() -> Result<()> {
    let (grid, client) = sealed_grid().await?;
    open_up(&client).await?;
    let paid = "(SELECT attempt.ctid FROM attempt JOIN transfer ON code = 3 AND transfer.job_id = attempt.job_id
        AND transfer.stage = attempt.stage AND transfer.idx = attempt.idx AND transfer.attempt = attempt.owner_id LIMIT 1)";
    let now = "xid = pg_current_xact_id()";
    for (table, change, check) in [
        ("account", "UPDATE account SET balance = balance + 1 WHERE id = 8".to_owned(), "balances"),
        ("account", "DELETE FROM account WHERE id = 0".to_owned(), "balances"),
        ("account", "INSERT INTO account (id, balance, currency) VALUES (8008, 1, 0)".to_owned(), "balances"),
        ("job", "UPDATE job SET spent = spent + 0.000001".to_owned(), "escrow"),
        ("job", "UPDATE job SET state = 1".to_owned(), "escrow"),
        ("job", "UPDATE job SET currency = 1".to_owned(), "currencies"),
        ("job", "UPDATE job SET items = items - 1".to_owned(), "rewards"),
        ("deposit", "UPDATE deposit SET currency = 1".to_owned(), "transfers"),
        ("release", "UPDATE release SET currency = 1".to_owned(), "transfers"),
        ("device_earning", "UPDATE device_earning SET currency = 1".to_owned(), "earnings"),
        (
            "account",
            "INSERT INTO account (id, balance, currency) VALUES ((1::bigint << 48) + 8, 0, 1)".to_owned(),
            "currencies",
        ),
        (
            "transfer",
            "INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
                SELECT debit, credit + (1::bigint << 48), amount, 1, 0, 0, 0, 1000 FROM transfer WHERE code = 1 LIMIT 1"
                .to_owned(),
            "currencies",
        ),
        ("attempt", format!("DELETE FROM attempt WHERE ctid = {paid}"), "verdicts rewards"),
        ("attempt", format!("UPDATE attempt SET outcome = 2 WHERE ctid = {paid}"), "verdicts rewards"),
        ("attempt", "INSERT INTO attempt SELECT * FROM attempt LIMIT 1".to_owned(), "uniqueness"),
        ("device_earning", "UPDATE device_earning SET units = units + 1".to_owned(), "earnings"),
        ("device_earning", "DELETE FROM device_earning".to_owned(), "earnings"),
        ("standing", "UPDATE standing SET held_to = held_to + 1".to_owned(), "pending pay"),
        ("recheck", "INSERT INTO recheck SELECT id, job_id, owner_id FROM catch".to_owned(), "pending pay"),
        ("payout", "UPDATE payout SET state = 3 WHERE state = 1 AND batch_id = 1".to_owned(), "payouts"),
        ("payout", "UPDATE payout SET state = 1 WHERE state = 3".to_owned(), "payouts"),
        ("payout_batch", "UPDATE payout_batch SET state = 3 WHERE state = 2".to_owned(), "payouts"),
        ("payout_batch", "UPDATE payout_batch SET state = 4 WHERE state = 2".to_owned(), "payouts"),
        ("payout_batch", "UPDATE payout_batch SET state = 2 WHERE state = 3".to_owned(), "payouts"),
        ("payout_batch", "UPDATE payout_batch SET approved_by = proposed_by".to_owned(), "payouts"),
        (
            "payout_batch",
            "UPDATE payout_batch SET exported_at = exported_at + interval '1 day' WHERE state = 3".to_owned(),
            "payouts",
        ),
        (
            "payout_batch",
            "UPDATE payout_batch SET state = 1, approved_by = NULL, approved_at = NULL WHERE state = 2".to_owned(),
            "payouts",
        ),
        ("payout_step", "INSERT INTO payout_step VALUES (2, 3, 2)".to_owned(), "payouts"),
        ("payout_step", "INSERT INTO payout_step VALUES (99, 2, 2)".to_owned(), "payouts"),
        (
            "payout_line",
            "INSERT INTO payout_line SELECT id, 1, attempt FROM transfer WHERE code = 7 LIMIT 1".to_owned(),
            "payouts",
        ),
        (
            "payout_line",
            "INSERT INTO payout_line SELECT transfer_id, batch_id, owner_id FROM payout_line LIMIT 1".to_owned(),
            "uniqueness",
        ),
        // Rows that come after the last seal are not believed either.
        (
            "transfer",
            format!("INSERT INTO transfer SELECT (t).* FROM (SELECT t FROM transfer t WHERE code = 3 LIMIT 1) AS one;
                UPDATE transfer SET {now} WHERE xmin = pg_current_xact_id()::xid"),
            "balances uniqueness",
        ),
        (
            "transfer",
            "INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
                SELECT debit, credit, amount, 3, job_id, stage, 10000, attempt FROM transfer WHERE code = 3 LIMIT 1"
                .to_owned(),
            "balances rewards",
        ),
        (
            "verdict",
            "INSERT INTO verdict (job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts, version)
                SELECT job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts, version + 2 FROM verdict
                WHERE version = 1 AND NOT EXISTS (
                    SELECT FROM verdict AS later WHERE later.job_id = verdict.job_id AND later.stage = verdict.stage
                      AND later.idx = verdict.idx AND later.version > 1)
                LIMIT 1"
                .to_owned(),
            "verdicts",
        ),
        (
            "release",
            "INSERT INTO release (owner_id, from_seq, to_seq, amount) SELECT owner_id, to_seq, to_seq + 1, 1 FROM release
                ORDER BY id DESC LIMIT 1"
                .to_owned(),
            "transfers",
        ),
    ] {
        client.batch_execute(&format!("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS TABLE {table}")).await?;
        client.batch_execute(&change).await?;
        let fault = fault(&grid, &[]).with_context(|| change.clone())?;
        let found = fault["check"].as_str().context("a check")?;
        assert!(check.contains(found), "{change}: {fault}");
        client.batch_execute(&format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept")).await?;
    }
    audit(&grid, &[]).map(drop)
}

/// The sums of transfers, as balances.
const POSTED: &str = "UPDATE account SET balance = moved FROM (
        SELECT id, sum(change) AS moved FROM (
            SELECT credit AS id, amount AS change FROM transfer UNION ALL SELECT debit, -amount FROM transfer) AS posting
        GROUP BY id) AS posted WHERE account.id = posted.id";

/// Undoes a transfer of this code, with everything that is summed.
fn undone(code: i64, of: &str) -> String {
    format!(
        "INSERT INTO reversal (code, job_id, stage, idx, attempt, reason, operator_id)
             SELECT code, job_id, stage, idx, attempt, 'forged', 1 FROM transfer WHERE code = {code} AND {of} LIMIT 1;
         INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
             SELECT credit, debit, amount, 9, 0, 0, 0, reversal.id FROM reversal
             JOIN transfer USING (code, job_id, stage, idx, attempt) WHERE reason = 'forged';
         {POSTED}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sealed_yet_is_held_against_everything_else() -> Result<()> {
    let (grid, client) = paid_grid().await?;
    open_up(&client).await?;
    for table in ["account", "attempt"] {
        client.batch_execute(&format!("CREATE TABLE saved_{table} AS TABLE {table}")).await?;
    }
    audit(&grid, &[])?;
    for (tables, change, check, problem) in [
        (
            "device",
            "UPDATE device SET owner_id = CASE owner_id WHEN 2 THEN 3 WHEN 3 THEN 2 ELSE owner_id END".to_owned(),
            "earnings",
            "and its attempts were paid to owner",
        ),
        (
            "attempt",
            "UPDATE attempt SET device_id = 3 WHERE owner_id = 2 AND idx = (SELECT min(transfer.idx) FROM transfer
                JOIN attempt AS paid USING (job_id, stage, idx)
                WHERE transfer.code = 3 AND transfer.attempt = 2 AND paid.owner_id = 2 AND transfer.stage = 1)"
                .to_owned(),
            "rewards",
            "whose pay is owner",
        ),
        ("job", "UPDATE job SET item_price = 2 * item_price".to_owned(), "rewards", "was submitted with an item price"),
        ("job", "UPDATE job SET service_price = 2 * service_price".to_owned(), "rewards", "a service price of"),
        (
            "job",
            "UPDATE job SET spec = decode(replace(encode(spec, 'hex'), encode('EUR', 'hex'), encode('JPY', 'hex')), 'hex')"
                .to_owned(),
            "rewards",
            "was submitted in JPY, and is in EUR",
        ),
        ("owner", "UPDATE owner SET name = 'owner-1' WHERE name = 'owner-2'".to_owned(), "uniqueness", "has the name of another"),
        ("payout_batch", "UPDATE payout_batch SET minimum = 500".to_owned(), "payouts", "less than the minimum of 500"),
        ("payout", "UPDATE payout SET decimals = 3".to_owned(), "payouts", "other decimals"),
        (
            "payout_batch payout_step",
            "UPDATE payout_step SET operator_id = 99 WHERE step = 2; UPDATE payout_batch SET approved_by = 99".to_owned(),
            "payouts",
            "is by operator 99, whom there is not",
        ),
        // Of somebody who still has it: owners with a payee have been paid out.
        ("reversal transfer account", undone(5, "credit > 40"), "payouts", "code 5, which is never undone"),
        (
            "reversal transfer account",
            undone(8, "NOT EXISTS (SELECT FROM reversal WHERE code = 7 AND idx = transfer.idx AND attempt = transfer.attempt)"),
            "payouts",
            "undoes that a payout was paid, and not the payout",
        ),
    ] {
        client.batch_execute(&change).await.with_context(|| change.clone())?;
        let fault = fault(&grid, &[]).with_context(|| change.clone())?;
        let is_found = fault["check"] == check && fault["problem"].to_string().contains(problem);
        assert!(is_found, "{change}: {fault}");
        for table in tables.split(' ') {
            put_back(&client, table).await?;
        }
    }
    audit(&grid, &[]).map(drop)
}

/// Every price of work twice as high, and everything that is summed with it.
const TWICE: &str = "
    UPDATE transfer SET amount = amount - (SELECT sum(amount) FROM transfer AS paid
        WHERE paid.code = 3 AND paid.job_id = transfer.job_id) WHERE code = 4;
    UPDATE transfer SET amount = amount * 2 WHERE code = 3;
    UPDATE job SET refunded = refunded - spent, spent = spent * 2;
    UPDATE device_earning SET amount = amount * 2";

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_paid_for_its_items_and_not_for_twice_as_many() -> Result<()> {
    let grid = Grid::start(60)?;
    let client = database(&grid).await?;
    client.execute(HOLD, &[]).await?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "1000").await?;
    let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
    let mut devices = [fleet.device("ada").await?, fleet.device("grace").await?];
    // The last unit is shorter than the others; and a pilot.
    for (items_per_unit, pilot_units) in [(3, 0), (4, 2)] {
        let spec = v1::JobSpec {
            items_per_unit,
            pilot_units,
            budget: "1".to_owned(),
            ..Submitter::trivial_spec(&module, 10)
        };
        let job = clinic.create(spec).await?.name;
        fleet::work_off(&mut clinic, &job, &mut devices).await?;
    }
    // Nothing of this is sealed: the chain says nothing of it.
    assert!(audit(&grid, &[])?["unsealed_rows"].as_u64() > Some(20));
    client.batch_execute(&format!("{TWICE}; {POSTED}")).await?;
    grid.check_books()?;
    let fault = fault(&grid, &[])?;
    assert_eq!(fault["check"], "rewards", "{fault}");
    assert!(fault["problem"].to_string().contains("price of that unit is 0.000003"), "{fault}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dump_is_audited_like_the_original() -> Result<()> {
    let (grid, client) = sealed_grid().await?;
    let head = audit(&grid, &[])?["head"].clone();
    client.batch_execute("CREATE DATABASE copy").await?;
    let (url, file) = (grid.database_url(), grid.dir().join("dump"));
    let copy = format!("{}copy", url.trim_end_matches("lull"));
    for (program, options, url) in [("pg_dump", ["-f"], &url), ("psql", ["-qf"], &copy)] {
        let output = Command::new(program).args(options).arg(&file).arg(url).output().context(program)?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output =
        Command::new(binary("lull-audit")).args(["--database", &copy, "--output", "json"]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((&report["ok"], &report["head"]), (&Value::Bool(true), &head), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_in_the_middle_of_the_work_finds_nothing() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let work = tokio::spawn(async move { play(&fleet, "clinic", 400).await });
    let mut audits = 0;
    while !work.is_finished() {
        audit(&grid, &[])?;
        audits += 1;
    }
    work.await??;
    let report = wait_sealed(&grid)?;
    ensure!(audits > 1, "the work was done before the second audit");
    assert!(report["seals"].as_u64() > Some(1), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_in_the_middle_of_a_seal_leaves_nothing_of_it() -> Result<()> {
    let mut grid = Grid::start(60)?;
    let client = database(&grid).await?;
    client.batch_execute("BEGIN; LOCK TABLE seal_part IN SHARE MODE").await?;
    grid.submitter("clinic", "100")?;
    let watch = database(&grid).await?;
    let waits = "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO seal_part%')";
    wait_until(&watch, "sealing", waits).await?;
    grid.kill_coordinator()?;
    drop((client, watch));

    grid.restart_coordinator()?;
    let report = wait_sealed(&grid)?;
    assert_eq!(report["transfers"], 1, "{report}");
    assert!(report["seals"].as_u64() >= Some(1), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_coordinators_make_one_chain() -> Result<()> {
    let grid = Grid::start(60)?;
    let client = database(&grid).await?;
    let others: Vec<Grid> = (0..2).map(|_| Grid::start_on(&grid.database_url())).collect::<Result<_>>()?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let begun = std::time::Instant::now();
    // The place goes from hand to hand until each has sealed.
    let mut round = 0;
    while client.query_one("SELECT count(DISTINCT public_key) < 3 FROM seal", &[]).await?.get(0) {
        ensure!(begun.elapsed() < DEADLINE, "not everybody sealed");
        fleet.submitter(&format!("lab-{round}"), "1").await?;
        client.execute(LET_GO, &[]).await?;
        round += 1;
    }
    let report = wait_sealed(&grid)?;
    assert_eq!(report["keys"].as_array().map(Vec::len), Some(others.len() + 1), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_transactions_start_again_is_refused() -> Result<()> {
    let mut grid = Grid::start(60)?;
    grid.submitter("clinic", "100")?;
    wait_sealed(&grid)?;
    let client = database(&grid).await?;
    // As after a restore from a dump: the last seal is of transactions that are still to come.
    client
        .batch_execute(
            "ALTER TABLE seal ADD kept xid8; UPDATE seal SET kept = to_xid, to_xid = '99999999999'",
        )
        .await?;
    grid.kill_coordinator()?;
    let refusal = grid.restart_coordinator().expect_err("refused").to_string();
    assert!(refusal.contains("pg_resetwal --epoch=24"), "{refusal}");
    Ok(())
}

/// What breaks the books in each way: the name of the fault, a table, and a change of it.
const BROKEN: [(&str, &str, &str); 21] = [
    (
        "money moved between two currencies",
        "transfer",
        "UPDATE transfer SET credit = credit + (1::bigint << 48) WHERE code = 1",
    ),
    ("a row is in another currency than its transfer", "job", "UPDATE job SET currency = 1"),
    ("a row is in another currency than its transfer", "deposit", "UPDATE deposit SET currency = 1"),
    ("a row is in another currency than its transfer", "release", "UPDATE release SET currency = 1"),
    (
        "the remainders are not what the last payouts left",
        "payout",
        "UPDATE payout SET remainder = 0 WHERE batch_id = 2",
    ),
    ("the remainders are not what the last payouts left", "transfer", "DELETE FROM transfer WHERE code = 15"),
    (
        "balance is not the sum of its transfers",
        "account",
        "UPDATE account SET balance = balance + 1 WHERE id = 8",
    ),
    ("balance is not the sum of its transfers", "account", "DELETE FROM account WHERE id = 0"),
    ("a job's spending is not what its escrow paid", "job", "UPDATE job SET spent = spent + 1"),
    ("a fee is not its job's share of a reward", "job", "UPDATE job SET fee_millionths = 25000"),
    ("an escrow is not what its job has left", "job", "UPDATE job SET budget = budget + 1"),
    (
        "pay that is held back is not in its owner's queue",
        "held",
        "DELETE FROM held WHERE ctid = (SELECT max(ctid) FROM held)",
    ),
    (
        "a reward has no attempt that agrees with an unfailing verdict",
        "verdict",
        "UPDATE verdict SET outcome = 3",
    ),
    (
        "a device's earnings are not the rewards of its attempts",
        "device_earning",
        "UPDATE device_earning SET units = units + 1",
    ),
    ("a device's postings are not those of its rewards", "posting", "DELETE FROM posting"),
    (
        "an agreeing attempt is unpaid",
        "transfer",
        "DELETE FROM transfer WHERE code = 3 AND NOT EXISTS (SELECT FROM catch WHERE owner_id = attempt)",
    ),
    ("a payout is not what its lines make", "payout_line", "DELETE FROM payout_line WHERE batch_id = 2"),
    ("a payout is not where its state says", "payout", "UPDATE payout SET state = 3 WHERE state = 1"),
    ("a payout is not where its state says", "payout", "DELETE FROM payout WHERE batch_id = 2"),
    ("a payout is not where its state says", "reversal", "DELETE FROM reversal"),
    (
        "a reversal is not the opposite of its transfer",
        "transfer",
        "UPDATE transfer SET amount = 2 * amount WHERE code = 9",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_the_books_is_told_by_its_name() -> Result<()> {
    let (grid, client) = sealed_grid().await?;
    open_up(&client).await?;
    let store = Store::open(&grid.database_url())?;
    assert_eq!(store.check_books().await?.faults, Vec::<String>::new());
    for name in fault_names() {
        assert!(
            BROKEN.iter().any(|(broken, ..)| *broken == name),
            "nothing shows that this is found: {name}"
        );
    }
    for (name, table, change) in BROKEN {
        let keep = format!("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS TABLE {table}");
        client.batch_execute(&keep).await?;
        assert!(client.execute(change, &[]).await? > 0, "{change}");
        let faults = store.check_books().await?.faults;
        assert!(faults.iter().any(|fault| fault.starts_with(&format!("{name}: "))), "{change}: {faults:?}");
        client.batch_execute(&format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept")).await?;
    }
    assert_eq!(store.check_books().await?.faults, Vec::<String>::new());
    Ok(())
}

/// Tables with what is written once, and the columns that no two rows have alike.
const ONCE: [(&str, &str); 16] = [
    ("job", "submitter_id, request_id"),
    ("deposit", "submitter_id, request_id"),
    ("transfer", "code, job_id, stage, idx, attempt"),
    ("verdict", "job_id, stage, idx, version"),
    ("attempt", "job_id, stage, idx, owner_id"),
    ("held", "owner_id, seq"),
    ("release", "owner_id, to_seq, currency"),
    ("payout_batch", "request_id"),
    ("payout", "batch_id, owner_id"),
    ("payout_line", "transfer_id"),
    ("payout_step", "batch_id, step"),
    ("reversal", "code, job_id, stage, idx, attempt"),
    ("operator", "name"),
    ("submitter", "name"),
    ("owner", "name"),
    ("device", "public_key"),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_booked_twice_and_nothing_is_booked_over() -> Result<()> {
    use tokio_postgres::error::SqlState;
    let (grid, client) = sealed_grid().await?;
    for (table, key) in ONCE {
        // The same row, but for a number that the database gives it.
        let columns = "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
            WHERE table_name = $1 AND is_identity = 'NO' AND is_generated = 'NEVER'";
        let columns: String = client.query_one(columns, &[&table]).await?.get(0);
        let again = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} LIMIT 1");
        let refused = client.batch_execute(&again).await.expect_err(table);
        let refused = refused.as_db_error().context("an error of the database")?;
        assert_eq!(refused.code(), &SqlState::UNIQUE_VIOLATION, "{table}: {refused}");
        let detail = refused.detail().unwrap_or_default();
        assert!(detail.starts_with(&format!("Key ({key})=")), "{table}: {detail}");
    }
    client.batch_execute("SET ROLE lull_app").await?;
    for table in ["deposit", "transfer", "held", "release", "catch", "attempt", "verdict", "reversal"]
        .into_iter()
        .chain(["currency", "operator", "payout_line", "payout_step", "submitter", "owner"])
    {
        let column = if table == "currency" { "number" } else { "xid" };
        let column = if table == "attempt" { "owner_id" } else { column };
        for change in [format!("UPDATE {table} SET {column} = {column}"), format!("DELETE FROM {table}")] {
            let denied = client.batch_execute(&change).await.expect_err(&change);
            assert_eq!(denied.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{change}: {denied}");
        }
    }
    for change in [
        "UPDATE payout SET payee_iban = payee_iban",
        "UPDATE payout SET amount = amount",
        "UPDATE payout_batch SET payer_iban = payer_iban",
        "DELETE FROM payout",
        "DELETE FROM payout_batch",
        "DELETE FROM account",
        "DELETE FROM job",
        "DELETE FROM device",
        "UPDATE device SET owner_id = owner_id",
        "UPDATE job SET item_price = item_price",
        "UPDATE job SET spec = spec",
        "UPDATE account SET id = id",
        // When a row was written, and by which transaction, the database says.
        "INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt, created_at)
            VALUES (0, 9, 1, 1, 0, 0, 0, 99, now())",
        "INSERT INTO deposit (submitter_id, request_id, amount, xid) VALUES (1, 'late', 1, '7')",
    ] {
        let denied = client.batch_execute(change).await.expect_err(change);
        assert_eq!(denied.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{change}: {denied}");
    }
    client.batch_execute("RESET ROLE").await?;
    grid.check_books()
}
