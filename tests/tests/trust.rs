//! A job that buys confidence, on a real coordinator and database: liars are caught, what they got accepted is run
//! again, and their pay is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lull_proto::v1;
use lull_tests::fleet::{self, Submitter};
use lull_tests::{Fleet, Grid, guest};

/// Calls of all devices after which a job must be done.
const ROUNDS_MAX: u32 = 400;

/// Plays owners until the job ends; the first lies once it has returned `honest` units.
async fn play(
    grid: &Grid,
    owners: usize,
    max_error: f64,
    units: u64,
    honest: u64,
) -> Result<(v1::Job, Vec<v1::DecidedUnit>)> {
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut submitter = fleet.submitter("clinic", "1000").await?;
    let module = submitter.upload("module", &std::fs::read(guest("probe"))?).await?;
    let spec = v1::JobSpec {
        copies: 0,
        max_error,
        budget: "500".to_owned(),
        ..Submitter::trivial_spec(&module, units)
    };
    let mut job = submitter.create(spec).await?;
    let mut devices = Vec::new();
    for owner in 0..owners {
        devices.push(fleet.device(&format!("owner-{owner}")).await?);
    }
    let mut told = 0;
    for _ in 0..ROUNDS_MAX {
        for (at, device) in devices.iter_mut().enumerate() {
            for lease in device.ask(5, Duration::ZERO).await? {
                let mut lies = false;
                if at == 0 {
                    told += lease.indices.len() as u64;
                    lies = told > honest;
                }
                let text = move |index: u64| {
                    format!("{} {index}", if lies { "wrong" } else { "right" }).into_bytes()
                };
                device.report(fleet::report(&lease, text)).await?;
            }
        }
        job = submitter.job(&job.name).await?;
        if job.state() != v1::JobState::Running {
            let units = submitter.units(&job.name).await?;
            return Ok((job, units));
        }
    }
    anyhow::bail!("the job does not end: {job:?}")
}

async fn database(grid: &Grid) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Each unit has one result, and it is the right one.
fn check_results(units: &[v1::DecidedUnit], count: u64) {
    let indexes: Vec<u64> = units.iter().map(|unit| unit.index).collect();
    assert_eq!(indexes, (0..count).collect::<Vec<_>>(), "each unit once");
    for unit in units {
        assert_eq!(String::from_utf8_lossy(&unit.result), format!("right {}", unit.index));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_caught_and_nothing_wrong_is_accepted() -> Result<()> {
    let grid = Grid::start(60)?;
    let (job, units) = play(&grid, 8, 1e-3, 60, 0).await?;
    ensure!(job.state() == v1::JobState::Complete, "{job:?}");
    check_results(&units, 60);
    let confidence = job.confidence.context("it bought confidence")?;
    assert!(confidence.wrong_units <= 0.06 + 1e-9, "{confidence:?}");
    let client = database(&grid).await?;
    let caught =
        client.query("SELECT DISTINCT owner.name FROM catch JOIN owner ON owner.id = owner_id", &[]).await?;
    let caught: Vec<&str> = caught.iter().map(|row| row.get(0)).collect();
    assert_eq!(caught, ["owner-0"]);
    let told = grid.lull(&["devices"])?;
    let reasons: Vec<&str> = told.lines().filter(|line| line.starts_with("device ")).collect();
    assert_eq!(reasons.len(), 2, "the table's head, and one line below it: {told}");
    assert!(reasons[1].starts_with("device 1: its owner returned a wrong result"), "{told}");
    grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hands_everything_back_gets_one_unit_at_a_time_and_is_told_why() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut submitter = fleet.submitter("clinic", "1000").await?;
    let module = submitter.upload("module", &std::fs::read(guest("probe"))?).await?;
    let spec = v1::JobSpec { copies: 0, max_error: 0.1, ..Submitter::trivial_spec(&module, 1_000) };
    submitter.create(spec).await?;
    let mut device = fleet.device("picky").await?;
    for _ in 0..12 {
        for lease in device.ask(1, Duration::ZERO).await? {
            assert_eq!(lease.indices.len(), 1, "a stranger's");
            device.hand_back(&lease, Vec::new()).await?;
        }
    }
    let told = grid.lull(&["devices"])?;
    assert!(told.contains("device 1: its owner's devices hand back"), "{told}");
    grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trusted_owner_lied_about_is_run_again_and_its_pay_is_lost() -> Result<()> {
    let grid = Grid::start_with(60, &["--fee-percent", "5"])?;
    // Of some twenty lies each is noticed with one chance in three: that none is will not be seen.
    let (job, units) = play(&grid, 8, 1e-3, 400, 30).await?;
    ensure!(job.state() == v1::JobState::Complete, "{job:?}");
    check_results(&units, 400);
    let client = database(&grid).await?;
    let again = client.query_one("SELECT count(*) FROM verdict WHERE version > 1", &[]).await?;
    assert!(again.get::<_, i64>(0) > 0, "some of what it said had been accepted");
    let lost = "SELECT count(*), count(*) FILTER (WHERE owner.name <> 'owner-0') FROM transfer
        JOIN owner ON debit = owner.id * 8 + 4 WHERE code = 6";
    let row = client.query_one(lost, &[]).await?;
    assert!(row.get::<_, i64>(0) > 0, "what was held back for the liar is lost");
    assert_eq!(row.get::<_, i64>(1), 0, "and nothing of anybody else's");
    let back = "SELECT count(*) FILTER (WHERE code = 11), count(*) FILTER (WHERE code = 6 AND credit % 8 = 2) FROM transfer";
    let row = client.query_one(back, &[]).await?;
    assert!(row.get::<_, i64>(0) > 0, "the fee of what is paid again comes back");
    assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1), "for each reward that went back to the job");
    grid.audit()?;
    grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn submitting_again_gives_the_same_job_whoever_has_joined_since() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut submitter = fleet.submitter("clinic", "1000").await?;
    let module = submitter.upload("module", &std::fs::read(guest("probe"))?).await?;
    let spec = |budget: &str| v1::JobSpec {
        max_error: 1e-3,
        budget: budget.to_owned(),
        ..Submitter::trivial_spec(&module, 5_000)
    };
    let names = ["by default", "by name"].map(|name| (name, fleet::request_id()));
    let mut first = Vec::new();
    for ((_, id), budget) in names.iter().zip(["", "0.0055"]) {
        first.push(submitter.create_as(id.clone(), spec(budget)).await?);
    }
    for owner in 0..12 {
        fleet.device(&format!("owner-{owner}")).await?.ask(1, Duration::ZERO).await?;
    }
    for (((what, id), budget), first) in names.iter().zip(["", "0.0055"]).zip(&first) {
        let again = submitter.create_as(id.clone(), spec(budget)).await?;
        assert_eq!(
            (&again.name, &again.costs.context("costs")?.budget),
            (&first.name, &first.costs.clone().context("costs")?.budget),
            "a budget {what}"
        );
    }
    let (_, id) = &names[0];
    let other = submitter.create_as(id.clone(), v1::JobSpec { priority: 7, ..spec("") }).await;
    assert_eq!(other.expect_err("another job").code(), tonic::Code::AlreadyExists);
    Ok(())
}
