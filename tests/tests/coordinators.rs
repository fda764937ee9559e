//! Several coordinators on one database pay the same owners at once: nothing is paid twice, nothing is lost.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lull_proto::v1;
use lull_tests::fleet::{self, Submitter};
use lull_tests::{Device, Fleet, Grid, guest, wait_until};
use tokio::sync::watch;

/// Owners, each with a device at either coordinator: both pay the same accounts.
const OWNERS: [&str; 4] = ["ada", "bob", "cyd", "dan"];
const UNITS: u64 = 400;
/// Leases after which the second coordinator is killed, somewhere in the middle.
const LEASES_BEFORE_THE_KILL: usize = 60;

/// A device that is known to two coordinators, whose answers it does not wait for in any order.
struct Roamer {
    /// The same device at each of them.
    at: [Device; 2],
    round: usize,
}

impl Roamer {
    /// A lease of the one whose turn it is, worked off and reported at both: at once, or one after the other. The
    /// second hears what has been paid already. Whether there was work.
    async fn work(&mut self) -> bool {
        self.round += 1;
        let [first, second] = &mut self.at;
        let (here, there) = if self.round.is_multiple_of(2) { (first, second) } else { (second, first) };
        // A coordinator that is gone answers nothing: the other has the same database.
        let Ok(leases) = here.ask(10, Duration::ZERO).await else { return false };
        for lease in &leases {
            let report = fleet::report(lease, |index| index.to_le_bytes().to_vec());
            if self.round.is_multiple_of(3) {
                let _ = tokio::join!(here.report(report.clone()), there.report(report));
            } else {
                let _ = here.report(report.clone()).await;
                let _ = there.report(report).await;
            }
        }
        !leases.is_empty()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_that_pay_at_once_pay_each_attempt_once() -> Result<()> {
    let grid = Grid::start_with(60, &["--fee-percent", "2.5"])?;
    let mut other = Grid::start_on(&grid.database_url())?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut submitter = fleet.submitter("clinic", "100").await?;
    let module = submitter.upload("module", &std::fs::read(guest("hello"))?).await?;
    let copies = v1::JobSpec { copies: 2, ..Submitter::trivial_spec(&module, UNITS) };
    let sure = v1::JobSpec { copies: 0, max_error: 1e-2, budget: "10".to_owned(), ..copies.clone() };
    for spec in [copies.clone(), copies, sure] {
        submitter.create(spec).await?;
    }

    let (stop, stopped) = watch::channel(false);
    let (worked, mut works) = tokio::sync::mpsc::unbounded_channel();
    let mut devices = tokio::task::JoinSet::new();
    for (number, owner) in OWNERS.iter().chain(&OWNERS).enumerate() {
        let device = fleet.device(owner).await?;
        let mut roamer = Roamer { at: [device.clone(), device.at(&other.url)?], round: number };
        let (worked, stopped) = (worked.clone(), stopped.clone());
        devices.spawn(async move {
            while !*stopped.borrow() {
                if roamer.work().await {
                    let _ = worked.send(());
                }
            }
        });
    }
    for _ in 0..LEASES_BEFORE_THE_KILL {
        works.recv().await.context("the devices ended")?;
    }
    other.kill_coordinator()?;
    other.restart_coordinator()?;
    let database = grid.database().await?;
    wait_until(&database, "ended", "NOT EXISTS (SELECT FROM job WHERE state = 1)").await?;
    stop.send(true)?;
    devices.join_all().await;

    // Everybody said the same, so that every attempt is paid: once, whoever heard of it how often.
    let counts = "SELECT (SELECT count(*) FROM attempt) AS attempts,
        (SELECT count(*) FROM transfer WHERE code = 3) AS rewards,
        (SELECT count(*) FROM transfer WHERE code = 10) AS fees,
        (SELECT count(*) FROM verdict) AS verdicts,
        (SELECT count(*) FROM job WHERE state = 2) AS complete";
    let row = database.query_one(counts, &[]).await?;
    let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    assert_eq!((count("complete"), count("verdicts")), (3, 3 * UNITS));
    assert!(count("attempts") >= 2 * 2 * UNITS + UNITS, "{}", count("attempts"));
    assert_eq!((count("rewards"), count("fees")), (count("attempts"), count("attempts")));
    grid.check_books()?;
    grid.audit()
}
