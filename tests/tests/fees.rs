//! The platform's fee: told at submission, taken of each reward, and found in every book.

use anyhow::{Context as _, Result, ensure};
use lull_proto::v1;
use lull_tests::fleet::{self, Submitter, work_off};
use lull_tests::money::{field, parts};
use lull_tests::{Fleet, Grid, JobFile, guest};
use serde_json::Value;

/// A job of so many units at this price, worked off by two owners.
async fn work(clinic: &mut Submitter, fleet: &Fleet, module: &v1::Input, price: &str) -> Result<v1::Job> {
    let mut devices = vec![fleet.device("ada").await?, fleet.device("bob").await?];
    let spec = v1::JobSpec { copies: 2, item_price: price.to_owned(), ..Submitter::trivial_spec(module, 9) };
    let job = clinic.create(spec).await?.name;
    work_off(clinic, &job, &mut devices).await?;
    Ok(clinic.job(&job).await?)
}

/// The sum of balances of a kind, by `lull books`.
fn total(grid: &Grid, kind: &str) -> Result<i128> {
    let books: Value = serde_json::from_str(&grid.lull(&["books", "--output", "json"])?)?;
    let totals = books["totals"].as_array().context("totals")?;
    let one = totals.iter().find(|total| total["kind"] == kind).context("such a kind")?;
    Ok(field(one, "balance"))
}

fn audit_fails(grid: &Grid, with: &str) -> Result<()> {
    let problem = grid.audit().err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(problem.contains(with), "the auditor says `{problem}`");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fee_is_told_taken_and_found_in_every_book() -> Result<()> {
    let mut grid = Grid::start_with(60, &["--fee-percent", "2.5"])?;
    let token = grid.submitter("school", "10")?;
    let file = JobFile::probe_lines(grid.dir(), "told", &["echo a"])?.write(grid.dir(), "told")?;
    let told = grid.lull_as(&token, &["submit", file.to_str().context("UTF-8")?, "--validate-only"])?;
    let told = String::from_utf8_lossy(&told.stderr).into_owned() + &String::from_utf8_lossy(&told.stdout);
    assert!(told.contains("with the platform's 2.5 %"), "{told}");

    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "1000").await?;
    let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
    let job = work(&mut clinic, &fleet, &module, "0.012345678901").await?;
    let costs = job.costs.clone().context("costs")?;
    assert_eq!(costs.fee_percent, "2.5");
    // By hand: 2.5 % of 0.012345678901 is 0.000308641972525, and what is beyond the twelfth place is the owner's.
    let (spent, rewards) = (parts(&costs.spent), 18);
    assert_eq!(spent, parts("0.012345678901") * rewards);
    assert_eq!(total(&grid, "fees")?, parts("0.000308641972") * rewards);
    let earned: i128 = grid.paid(&job.name)?.iter().map(|(_, amount, _)| amount).sum();
    assert_eq!(earned, parts("0.012037036929") * rewards);
    let all = ["submitter", "escrow", "available", "pending", "losses", "fees", "payout", "paid"];
    let owned: i128 = all.iter().map(|kind| total(&grid, kind)).sum::<Result<i128>>()?;
    assert_eq!(owned, parts("1010"), "deposits are in these accounts, and nowhere else");
    assert_eq!(owned, -total(&grid, "bank")?);
    grid.check_books()?;
    grid.audit()?;

    // The same request gives the same job, with the fee that it was told, whatever is set since.
    let spec = v1::JobSpec { copies: 2, ..Submitter::trivial_spec(&module, 3) };
    let id = fleet::request_id();
    let before = clinic.create_as(id.clone(), spec.clone()).await?;
    grid.kill_coordinator()?;
    grid.set_options(&["--fee-percent", "0"]);
    grid.restart_coordinator()?;
    let again = clinic.create_as(id, spec).await?;
    assert_eq!((&again.name, again.costs.context("costs")?.fee_percent), (&before.name, "2.5".to_owned()));
    let fees = total(&grid, "fees")?;
    let mut devices = vec![fleet.device("ada").await?, fleet.device("bob").await?];
    work_off(&mut clinic, &before.name, &mut devices).await?;
    let with = total(&grid, "fees")?;
    assert!(with > fees, "it was told a fee");
    let free = work(&mut clinic, &fleet, &module, "0.01").await?;
    assert_eq!(free.costs.context("costs")?.fee_percent, "0");
    assert_eq!(total(&grid, "fees")?, with);
    grid.audit()?;

    // Somebody changes what is due, or takes a fee twice as large and hides it in the balances.
    let database = grid.database().await?;
    database.execute("UPDATE job SET fee_millionths = 30000 WHERE fee_millionths > 0", &[]).await?;
    audit_fails(&grid, "are due")?;
    let books = grid.lull_as(&grid.operator, &["books"])?;
    assert!(String::from_utf8_lossy(&books.stdout).contains("a fee is not its job's share"), "{books:?}");
    database.execute("UPDATE job SET fee_millionths = 25000 WHERE fee_millionths > 0", &[]).await?;
    grid.audit()?;
    database.execute("DELETE FROM transfer WHERE code = 10 AND idx = 0", &[]).await?;
    assert!(grid.audit().is_err() && grid.check_books().is_err());
    Ok(())
}
