//! A database that an earlier version filled goes on with this one.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use lull_tests::history::{FEE, FILL, PRICE, REWARD};
use lull_tests::money::{audit, field, parts};
use lull_tests::{Grid, wait_until};
use tokio_postgres::{Client, NoTls};

const OWNERS: i64 = 3;
/// The last migration of each version that is looked at: before there were currencies, before payouts were sealed, before
/// names were.
const VERSIONS: [i32; 4] = [15, 18, 19, 26];
/// What the first owner was paid out then, of twelve rewards.
const PAID: &str = "14.44";

/// The first owner's pay in a batch that is paid; the second one's is proposed.
const PAY_OUT: &str = "
    INSERT INTO operator (name) VALUES ('alice'), ('bob');
    INSERT INTO payout_batch (request_id, minimum, payer_name, payer_iban, payer_bic, proposed_by)
        SELECT n::text, 1, 'The Grid', 'DE89370400440532013000', '', 1 FROM generate_series(1, 2) AS n;
    INSERT INTO payout (batch_id, owner_id, amount, payee_name, payee_iban, carried_in, carried_out)
        SELECT n, n, 14.44, 'Owner ' || n, 'NO9386011117947', 0, sum(amount) - 14.44
        FROM generate_series(1, 2) AS n JOIN transfer ON credit = n * 8 + 3 GROUP BY n;
    INSERT INTO payout_line SELECT transfer.id, n, n
        FROM generate_series(1, 2) AS n JOIN transfer ON credit = n * 8 + 3;
    INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
        SELECT n * 8 + 3, n * 8 + 5, 14.44, 7, 0, 0, n, n FROM generate_series(1, 2) AS n;
    UPDATE payout_batch SET state = 2, approved_by = 2, approved_at = now() WHERE id = 1;
    UPDATE payout_batch SET state = 3, exported_by = 2, exported_at = now() WHERE id = 1;
    UPDATE payout SET state = 2 WHERE batch_id = 1;
    INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt) VALUES (13, 14, 14.44, 8, 0, 0, 1, 1);
    UPDATE account SET balance = moved FROM (
        SELECT id, sum(change) AS moved FROM (
            SELECT credit AS id, amount AS change FROM transfer UNION ALL SELECT debit, -amount FROM transfer) AS posting
        GROUP BY id) AS posted WHERE account.id = posted.id";

/// A database as it was after this migration, with a year of work in it.
async fn filled(grid: &Grid, through: i32) -> Result<(String, Client)> {
    let name = format!("version_{through}");
    grid.database().await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    let url = format!("{}{name}", grid.database_url().trim_end_matches("lull"));
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TABLE migration (number integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coordinator/migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort();
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).context("a name")?;
        let (number, name) = name.split_once('_').context("a number")?;
        let number: i32 = number.parse()?;
        if number <= through {
            let sql = std::fs::read_to_string(&file)?;
            client.batch_execute(&sql).await.with_context(|| name.to_owned())?;
            let digest = blake3::hash(sql.as_bytes()).to_string();
            let insert = "INSERT INTO migration (number, name, digest) VALUES ($1, $2, $3)";
            client.execute(insert, &[&number, &name, &digest]).await?;
        }
    }
    client.execute("INSERT INTO grid (grid_id) VALUES ('of before')", &[]).await?;
    client.batch_execute(FILL).await?;
    client.batch_execute(&format!("CALL fill({OWNERS}, '2025-01-01', {PRICE}, {REWARD}, {FEE})")).await?;
    client.batch_execute(&format!("DROP PROCEDURE fill; {PAY_OUT}")).await?;
    Ok((url, client))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_booked_is_audited_stated_and_paid_out() -> Result<()> {
    let server = Grid::start(60)?;
    for version in VERSIONS {
        let (url, client) = filled(&server, version).await?;
        let early = audit(&url).expect_err("a database of before").to_string();
        ensure!(early.contains(&format!("with {version} as its last migration")), "{early}");
        let grid = Grid::start_on(&url)?;
        grid.check_books().with_context(|| format!("from {version}"))?;
        audit(&url).with_context(|| format!("from {version}"))?;
        let balance = grid.lull_json(&grid.operator, &["balance", "owners/owner-0001"])?;
        assert_eq!((field(&balance, "paid"), field(&balance, "payout")), (parts(PAID), 0), "{balance}");
        let month = ["statement", "--owner", "owner-0001", "--month", "2025-12", "--format", "csv"];
        let statement = grid.lull(&month)?;
        assert!(statement.contains(&format!(",{REWARD}")), "{statement}");

        // Two new operators finish what was proposed, and pay what is left and what is new.
        let operator =
            |name| Ok::<_, anyhow::Error>(grid.lull(&["admin", "operator", "add", name])?.trim().to_owned());
        let (carol, dave) = (operator("carol")?, operator("dave")?);
        grid.lull_with(
            &carol,
            &["admin", "payer", "set", "--name", "The Grid", "--iban", "DE89370400440532013000"],
        )?;
        for (by, step) in [
            (&dave, "approve 2"),
            (&carol, "export 2"),
            (&dave, "mark-returned 2 --owner owner-0002 --reason AC04"),
            (&carol, "propose --minimum 1"),
            (&dave, "approve 3"),
            (&carol, "export 3"),
            (&dave, "mark-paid 3"),
        ] {
            let arguments: Vec<&str> = ["admin", "payout"].into_iter().chain(step.split(' ')).collect();
            grid.lull_with(by, &arguments).with_context(|| format!("{step}, from {version}"))?;
        }
        // What was left then is still the owner's.
        let owed = parts(REWARD) * 12;
        for owner in ["owner-0002", "owner-0003"] {
            let balance = grid.lull_json(&grid.operator, &["balance", &format!("owners/{owner}")])?;
            let [paid, available, remainder] =
                ["paid", "available", "remainder"].map(|part| field(&balance, part));
            assert_eq!((paid, available, remainder), (parts(PAID), 0, owed - parts(PAID)), "{balance}");
        }
        grid.check_books()?;
        audit(&url)?;
        let sealed = "EXISTS (SELECT FROM seal_part WHERE kind = 17) AND NOT EXISTS (SELECT FROM transfer
            WHERE xid >= (SELECT to_xid FROM seal ORDER BY number DESC LIMIT 1))";
        wait_until(&client, "sealed", sealed).await?;
        let report = audit(&url)?;
        ensure!(report["sealed_rows"].as_u64() > Some(100), "from {version}: {report}");
    }
    Ok(())
}
