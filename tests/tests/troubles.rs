//! A PC that is broken, on a real coordinator and database: it gets less, is told why, and recovers; its owner's other PCs
//! notice nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lull_proto::v1;
use lull_tests::fleet::{self, Device, Submitter};
use lull_tests::grid::wait_until;
use lull_tests::{Fleet, Grid, guest};
use tokio_postgres::Client;

/// For calls that should find no work.
const SHORT: Duration = Duration::from_millis(300);
/// For calls that should find some.
const LONG: Duration = Duration::from_secs(30);

/// Makes a unit end in a limit of its PC.
fn limited(mut report: v1::LeaseReport) -> v1::LeaseReport {
    for attempt in &mut report.attempts {
        attempt.outcome = v1::Outcome::Limit.into();
    }
    report
}

async fn answer(device: &mut Device, lease: &v1::Lease, works: bool) -> Result<()> {
    let report = fleet::report(lease, |index| index.to_le_bytes().to_vec());
    let refusals = device.report(if works { report } else { limited(report) }).await?.refusals;
    ensure!(refusals.is_empty(), "{refusals:?}");
    Ok(())
}

/// These do whatever there is for them.
async fn work(devices: &mut [Device]) -> Result<()> {
    let mut found = true;
    while std::mem::take(&mut found) {
        for device in &mut *devices {
            for lease in device.ask(1, Duration::ZERO).await? {
                found = true;
                answer(device, &lease, true).await?;
            }
        }
    }
    Ok(())
}

async fn reason(grid: &Grid, device: &Device) -> Result<String> {
    let told = grid.lull_json(&grid.operator, &["devices"])?;
    let name = format!("devices/{}", device.id);
    let devices = told["devices"].as_array().context("a list")?;
    let device = devices.iter().find(|one| one["name"] == name.as_str()).context("the device")?;
    Ok(device["limited_reason"].as_str().unwrap_or_default().to_owned())
}

/// A grid with a broken PC, another one of the same owner, and two of others.
struct Scene {
    grid: Grid,
    clinic: Submitter,
    client: Client,
    module: v1::Input,
    broken: Device,
    sound: Device,
    others: [Device; 2],
}

impl Scene {
    async fn set() -> Result<Self> {
        let grid = Grid::start(60)?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut clinic = fleet.submitter("clinic", "1000").await?;
        let module = clinic.upload("module", &std::fs::read(guest("probe"))?).await?;
        let [broken, sound] = [fleet.device("ada").await?, fleet.device("ada").await?];
        let others = [fleet.device("bob").await?, fleet.device("carol").await?];
        let (client, connection) =
            tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { grid, clinic, client, module, broken, sound, others })
    }

    async fn submit(&mut self, units: u64) -> Result<String> {
        Ok(self.clinic.create(Submitter::trivial_spec(&self.module, units)).await?.name)
    }

    /// The broken PC takes part in a job of one unit.
    async fn play(&mut self, works: bool) -> Result<()> {
        self.submit(1).await?;
        let lease = self.broken.ask(1, LONG).await?.pop().context("a lease")?;
        answer(&mut self.broken, &lease, works).await?;
        work(&mut self.others).await
    }

    async fn fails(&self) -> Result<i64> {
        let row = self.client.query_one("SELECT coalesce(sum(fails), 0)::bigint FROM trouble", &[]).await?;
        Ok(row.get(0))
    }

    /// The broken PC fails until it is counted: what it fails within a minute counts once.
    async fn fail(&mut self) -> Result<()> {
        let before = self.fails().await?;
        for _ in 0..ROUNDS_MAX {
            self.play(false).await?;
            if self.fails().await? > before {
                return Ok(());
            }
        }
        anyhow::bail!("its failures are not counted")
    }

    /// Two minutes go by; the coordinator notices within seconds.
    async fn let_time_pass(&self) -> Result<()> {
        let update = "UPDATE trouble SET failed_at = failed_at - interval '2 minutes'";
        self.client.execute(update, &[]).await?;
        Ok(())
    }
}

/// Jobs that a PC fails in until one counts.
const ROUNDS_MAX: u32 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_pc_gets_less_until_it_succeeds() -> Result<()> {
    let mut scene = Scene::set().await?;
    scene.fail().await?;
    assert_eq!(reason(&scene.grid, &scene.broken).await?, "", "once is nothing");
    scene.let_time_pass().await?;
    scene.fail().await?;
    let told = reason(&scene.grid, &scene.broken).await?;
    assert!(told.contains("2 times in a row") && told.contains("one unit at a time"), "{told}");
    let job = scene.submit(400).await?;
    let lease = scene.others[0].ask(0, LONG).await?.pop().context("a lease")?;
    answer(&mut scene.others[0], &lease, true).await?;
    let leases = [scene.broken.ask(0, LONG).await?, scene.sound.ask(0, LONG).await?];
    let [broken, sound] = leases.map(|leases| leases.first().map_or(0, |lease| lease.indices.len()));
    assert_eq!(broken, 1);
    assert!(sound > 1, "{sound} units for another PC of its owner");
    scene.clinic.cancel(&job).await?;

    for _ in 0..2 {
        scene.let_time_pass().await?;
        scene.fail().await?;
    }
    let told = reason(&scene.grid, &scene.broken).await?;
    assert!(told.contains("4 times in a row") && told.contains("no units for 1 minutes more"), "{told}");
    let told = scene.grid.lull(&["devices"])?;
    assert!(told.contains("a limit where others had a result"), "{told}");
    assert_eq!(reason(&scene.grid, &scene.sound).await?, "", "it is one PC of its owner");
    let job = scene.submit(1).await?;
    assert_eq!(scene.broken.ask(1, SHORT).await?, [], "it rests");
    scene.clinic.cancel(&job).await?;

    scene.let_time_pass().await?;
    scene.play(true).await?;
    assert_eq!(scene.fails().await?, 0);
    assert_eq!(reason(&scene.grid, &scene.broken).await?, "", "it succeeded");
    scene.grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pc_that_lets_its_leases_expire_is_told_so() -> Result<()> {
    let scene = Scene::set().await?;
    let mut clinic = scene.clinic.clone();
    clinic.create(Submitter::trivial_spec(&scene.module, 5)).await?;
    let mut broken = scene.broken.clone();
    for fails in 1..=2 {
        ensure!(!broken.ask(1, LONG).await?.is_empty(), "a lease");
        scene.client.execute("UPDATE lease SET deadline = 'epoch' WHERE NOT expired", &[]).await?;
        wait_until(&scene.client, "expired", "bool_and(expired) FROM lease").await?;
        wait_until(&scene.client, "counted", &format!("sum(fails) = {fails} FROM trouble")).await?;
        scene.let_time_pass().await?;
    }
    let told = reason(&scene.grid, &scene.broken).await?;
    assert!(told.contains("2 times in a row") && told.contains("it let a lease expire"), "{told}");
    scene.grid.check_books()
}
