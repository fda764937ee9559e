//! A PC that holds its last unit for ever, on a real coordinator and database: another one does it too, and the job ends.

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
/// CPU time of a unit.
const UNIT_MICROS: u64 = 100_000;

struct Scene {
    grid: Grid,
    fleet: Fleet,
    clinic: Submitter,
    client: Client,
    job: String,
}

impl Scene {
    async fn set(spec: impl FnOnce(v1::JobSpec) -> v1::JobSpec, units: u64) -> Result<Self> {
        let grid = Grid::start(60)?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut clinic = fleet.submitter("clinic", "1000").await?;
        let module = clinic.upload("module", &std::fs::read(guest("probe"))?).await?;
        let job = clinic.create(spec(Submitter::trivial_spec(&module, units))).await?.name;
        let (client, connection) =
            tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { grid, fleet, clinic, client, job })
    }

    /// The open lease has been out for an hour.
    async fn let_time_pass(&self) -> Result<()> {
        let update = "UPDATE lease SET looked_at = now() - interval '1 hour'";
        ensure!(self.client.execute(update, &[]).await? == 1, "one lease is out");
        Ok(())
    }

    async fn check_end(mut self) -> Result<()> {
        let job = self.clinic.job(&self.job).await?;
        ensure!(job.state() == v1::JobState::Complete, "{job:?}");
        self.grid.check_books()?;
        self.grid.audit()
    }
}

/// Takes a lease, and says what its units should take.
async fn take(device: &mut Device) -> Result<v1::Lease> {
    device.ask(1, LONG).await?.pop().context("a lease")
}

async fn answer(device: &mut Device, lease: &v1::Lease) -> Result<()> {
    let mut report = fleet::report(lease, |index| index.to_le_bytes().to_vec());
    for attempt in &mut report.attempts {
        attempt.cpu_micros = UNIT_MICROS;
    }
    let refusals = device.report(report).await?.refusals;
    ensure!(refusals.is_empty(), "{refusals:?}");
    Ok(())
}

/// Renews a lease, and asks for nothing.
async fn renew(device: &mut Device, lease: &v1::Lease) -> Result<v1::SyncResponse> {
    let request = v1::SyncRequest {
        held_leases: vec![lease.token],
        presence: v1::Presence::Active.into(),
        ..v1::SyncRequest::default()
    };
    Ok(device.sync(request).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pc_that_holds_the_last_unit_holds_nobody_up() -> Result<()> {
    let scene = Scene::set(|spec| v1::JobSpec { copies: 1, ..spec }, 3).await?;
    let [mut laptop, mut desktop] = [scene.fleet.device("ada").await?, scene.fleet.device("bob").await?];
    let mut same_owner = scene.fleet.device("ada").await?;
    for _ in 0..2 {
        let lease = take(&mut desktop).await?;
        answer(&mut desktop, &lease).await?;
    }
    let held = take(&mut laptop).await?;
    assert_eq!(held.indices.len(), 1);
    assert_eq!(desktop.ask(1, SHORT).await?, [], "all units are out");
    scene.let_time_pass().await?;

    // Its owner's other PCs wait for nothing; whoever else waits gets it, while its lease is renewed.
    assert_eq!(same_owner.ask(1, SHORT).await?, []);
    assert_eq!(renew(&mut laptop, &held).await?.lost_leases, [0; 0]);
    let copy = take(&mut desktop).await?;
    assert_eq!(copy.indices, held.indices);
    assert_eq!(same_owner.ask(1, SHORT).await?, [], "no third copy");
    answer(&mut desktop, &copy).await?;

    wait_until(&scene.client, "complete", "state = 2 FROM job").await?;
    assert_eq!(renew(&mut laptop, &held).await?.lost_leases, [held.token], "nobody needs it any more");
    scene.check_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_copies_are_paid_while_the_job_goes_on() -> Result<()> {
    let spec = |spec| v1::JobSpec { copies: 1, reduce: v1::Reduce::Tree.into(), ..spec };
    let scene = Scene::set(spec, 4).await?;
    let [mut laptop, mut desktop] = [scene.fleet.device("ada").await?, scene.fleet.device("bob").await?];
    for _ in 0..3 {
        let lease = take(&mut desktop).await?;
        answer(&mut desktop, &lease).await?;
    }
    let held = take(&mut laptop).await?;
    scene.let_time_pass().await?;
    let copy = take(&mut desktop).await?;
    assert_eq!(copy.indices, held.indices);
    answer(&mut desktop, &copy).await?;
    // The work is done, and the answer is not there yet.
    answer(&mut laptop, &held).await?;
    let paid = "count(*) = 5 FROM transfer WHERE code = 3";
    wait_until(&scene.client, "four units and a copy are paid", paid).await?;
    for _ in ["merge", "finish"] {
        for device in [&mut laptop, &mut desktop] {
            let lease = take(device).await?;
            answer(device, &lease).await?;
        }
    }
    wait_until(&scene.client, "complete", "state = 2 FROM job").await?;
    scene.check_end().await
}
