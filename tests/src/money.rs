//! Sums that tests check for themselves: exact, in the smallest part of an amount.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Grid;

/// Decimal places of an amount.
const PLACES: usize = 12;

/// An exact decimal as a number of its smallest parts.
///
/// # Panics
/// When it is no amount.
#[must_use]
pub fn parts(amount: &str) -> i128 {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    assert!(fraction.len() <= PLACES, "{amount} has more than {PLACES} places");
    let digits = format!("{whole}{fraction:0<PLACES$}");
    digits.parse().unwrap_or_else(|_| panic!("{amount} is no amount"))
}

/// The amount in a field of a JSON object.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn field(object: &Value, name: &str) -> i128 {
    parts(object[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {object}")))
}

/// Runs somebody else's program on a file with this content; returns what it said.
///
/// # Errors
/// When it is not installed, or ends badly.
pub fn accepted_by(program: &str, arguments: &[&str], content: &str) -> Result<String> {
    let mut file = tempfile::NamedTempFile::new()?;
    std::io::Write::write_all(&mut file, content.as_bytes())?;
    let output = std::process::Command::new(program)
        .args(arguments)
        .arg(file.path())
        .output()
        .with_context(|| format!("{program}: `deploy/setup test` installs it"))?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(said)
}

/// What an audit of a database says that finds nothing.
///
/// # Errors
/// What the auditor finds.
pub fn audit(database_url: &str) -> Result<Value> {
    let mut command = std::process::Command::new(crate::binary("lull-audit"));
    let output = command.args(["--output", "json", "--database", database_url]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(&said)?)
}

impl Grid {
    /// The database, as its owner.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn database(&self) -> Result<tokio_postgres::Client> {
        let (client, connection) =
            tokio_postgres::connect(&self.database_url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// What this job paid, by owner: (owner, amount, paid attempts).
    ///
    /// # Errors
    /// When the coordinator does not say.
    pub fn paid(&self, job: &str) -> Result<Vec<(String, i128, u64)>> {
        let earnings: Value = serde_json::from_str(&self.lull(&["earnings", "--output", "json"])?)?;
        let mut paid = Vec::new();
        for owner in earnings["owners"].as_array().context("owners")? {
            for line in owner["by_job"].as_array().context("by_job")?.iter().filter(|line| line["key"] == job)
            {
                let name = owner["owner"].as_str().context("an owner's name")?.to_owned();
                paid.push((name, field(line, "amount"), line["attempts"].as_u64().context("attempts")?));
            }
        }
        Ok(paid)
    }

    /// Checks that a job which has ended paid what it says, to nobody twice, and gave the rest back.
    ///
    /// # Errors
    /// When the sums differ, or the books do not balance.
    pub fn check_money(&self, job: &str) -> Result<()> {
        let state = self.job(job)?;
        let (costs, progress) = (&state["costs"], &state["progress"]);
        let spent = field(costs, "spent");
        let paid = self.paid(job)?;
        let sum: i128 = paid.iter().map(|(_, amount, _)| amount).sum();
        ensure!(sum == spent, "{job} spent {spent}, but its owners earned {sum}: {paid:?}");
        ensure!(field(costs, "reserved") == 0, "money is still held: {state}");
        ensure!(
            spent + field(costs, "refunded") == field(costs, "budget"),
            "the rest did not come back: {state}"
        );
        let units =
            progress["units_accepted"].as_u64().unwrap_or(0) + progress["units_failed"].as_u64().unwrap_or(0);
        for (owner, _, attempts) in &paid {
            ensure!(*attempts <= units, "{owner} was paid {attempts} attempts of {units} units: {state}");
        }
        self.check_books()
    }
}
