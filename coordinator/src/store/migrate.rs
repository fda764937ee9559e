//! Numbered, frozen migrations. They run as the owner of the database; the program itself runs as `lull_app`,
//! which cannot change the books.

use lull_ledger::Currency;
use tokio_postgres::{NoTls, Transaction};

use super::Error;
use super::error::precondition;

const MIGRATIONS: [(i32, &str, &str); 23] = [
    (1, "first", include_str!("../../migrations/0001_first.sql")),
    (2, "earnings", include_str!("../../migrations/0002_earnings.sql")),
    (3, "checkpoints", include_str!("../../migrations/0003_checkpoints.sql")),
    (4, "accounts", include_str!("../../migrations/0004_accounts.sql")),
    (5, "trust", include_str!("../../migrations/0005_trust.sql")),
    (6, "seal", include_str!("../../migrations/0006_seal.sql")),
    (7, "payouts", include_str!("../../migrations/0007_payouts.sql")),
    (8, "dropped", include_str!("../../migrations/0008_dropped.sql")),
    (9, "referees", include_str!("../../migrations/0009_referees.sql")),
    (10, "receipts", include_str!("../../migrations/0010_receipts.sql")),
    (11, "fees", include_str!("../../migrations/0011_fees.sql")),
    (12, "rounds", include_str!("../../migrations/0012_rounds.sql")),
    (13, "edges", include_str!("../../migrations/0013_edges.sql")),
    (14, "stragglers", include_str!("../../migrations/0014_stragglers.sql")),
    (15, "devices", include_str!("../../migrations/0015_devices.sql")),
    (17, "currencies", include_str!("../../migrations/0017_currencies.sql")),
    (18, "lines", include_str!("../../migrations/0018_lines.sql")),
    (19, "sealed payouts", include_str!("../../migrations/0019_sealed_payouts.sql")),
    (22, "stake", include_str!("../../migrations/0022_stake.sql")),
    (24, "lineage", include_str!("../../migrations/0024_lineage.sql")),
    (26, "places", include_str!("../../migrations/0026_places.sql")),
    (28, "sealed names", include_str!("../../migrations/0028_sealed_names.sql")),
    (29, "own escrow", include_str!("../../migrations/0029_own_escrow.sql")),
];

/// Brings the schema up to date. A database that is made now gets this default currency, the euro if none is named.
///
/// # Errors
/// When the database cannot be reached, a migration that ran there is not the one of this program, or the database was
/// made with another default currency than the one that is named.
pub async fn migrate(owner_url: &str, default: Option<Currency>) -> Result<(), Error> {
    let (mut client, connection) = tokio_postgres::connect(owner_url, NoTls).await?;
    let connection = tokio::spawn(connection);
    let result = run(&mut client, default).await;
    drop(client);
    // The connection ends with its client; what it has to say has been said by the statements.
    let _ = connection.await;
    result
}

async fn run(client: &mut tokio_postgres::Client, default: Option<Currency>) -> Result<(), Error> {
    let tx = client.transaction().await?;
    tx.batch_execute(
        "CREATE TABLE IF NOT EXISTS migration (
             number integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now());
         LOCK TABLE migration IN EXCLUSIVE MODE;
         DO $$ BEGIN
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lull_app') THEN CREATE ROLE lull_app LOGIN; END IF;
         END $$;",
    )
    .await?;
    let is_new = tx.query_opt("SELECT FROM migration LIMIT 1", &[]).await?.is_none();
    for (number, name, sql) in MIGRATIONS {
        let digest = blake3::hash(sql.as_bytes()).to_string();
        let known = tx.query_opt("SELECT digest FROM migration WHERE number = $1", &[&number]).await?;
        if let Some(row) = known {
            let applied: String = row.try_get(0)?;
            if applied != digest {
                let problem = format!("migration {number} ({name}) differs from the one that ran here");
                return Err(Error::Inconsistent { table: "migration", column: "digest", problem });
            }
            continue;
        }
        tx.batch_execute(sql).await?;
        let insert = "INSERT INTO migration (number, name, digest) VALUES ($1, $2, $3)";
        tx.execute(insert, &[&number, &name, &digest]).await?;
        tracing::info!(number, name, "migrated");
    }
    let newest = MIGRATIONS.last().map_or(0, |(number, ..)| *number);
    let ahead: i64 =
        tx.query_one("SELECT count(*) FROM migration WHERE number > $1", &[&newest]).await?.try_get(0)?;
    if ahead > 0 {
        let problem = "the database was migrated by a newer version of this program: run that one".to_owned();
        return Err(Error::Inconsistent { table: "migration", column: "number", problem });
    }
    if let Some(currency) = default {
        keep_default(&tx, currency, is_new).await?;
    }
    tx.batch_execute("GRANT SELECT ON migration TO lull_app; GRANT lull_app TO CURRENT_USER").await?;
    tx.commit().await?;
    Ok(())
}

/// The default currency is said once, when the database is made: what was booked in it since would be something else.
async fn keep_default(tx: &Transaction<'_>, named: Currency, is_new: bool) -> Result<(), Error> {
    let decimals = i16::try_from(named.decimals()).unwrap_or(i16::MAX);
    if is_new {
        let update = "UPDATE currency SET code = $1, decimals = $2 WHERE number = 0";
        tx.execute(update, &[&named.code(), &decimals]).await?;
        return Ok(());
    }
    let row = tx.query_one("SELECT code, decimals FROM currency WHERE number = 0", &[]).await?;
    let (code, known): (String, i16) = (row.try_get(0)?, row.try_get(1)?);
    if (code.as_str(), known) == (named.code(), decimals) {
        return Ok(());
    }
    let message = format!(
        "the default currency of this grid is {code} with {known} decimals, and stays so: start it with that, or without \
         --currency. `lull admin currency add` adds others"
    );
    Err(precondition("DEFAULT_CURRENCY", message))
}
