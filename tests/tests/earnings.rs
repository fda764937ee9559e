//! What a device is told that it earned, against the ledger.

use std::time::Duration;

use anyhow::{Context, Result};
use lull_proto::v1;
use lull_tests::fleet::{Device, report};
use lull_tests::money::parts;
use lull_tests::{Fleet, Grid, guest};
use tonic::Code;

/// Longer than anything that should happen, and no longer than a call may be held.
const LONG: Duration = Duration::from_secs(30);

async fn work(device: &mut Device, result: &[u8]) -> Result<()> {
    let lease = device.ask(1, LONG).await?.pop().context("a lease")?;
    assert_eq!(device.report(report(&lease, |_| result.to_vec())).await?.refusals, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_told_what_its_own_verified_attempts_were_paid() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "1").await?;
    let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
    let [mut first, mut second] = [fleet.device("ada").await?, fleet.device("ada").await?];
    let [mut wrong, mut grace] = [fleet.device("mary").await?, fleet.device("grace").await?];
    let none = first.earnings().await?;
    assert_eq!((parts(&none.total_amount), none.total_units, none.month_units), (0, 0, 0));

    // Ada's two devices take a unit each; what mary says is wrong each time.
    for ada in [&mut first, &mut second] {
        let range = v1::split::Kind::Range(v1::IntegerRange { start: 0, end: 1 });
        let spec = v1::JobSpec {
            module: Some(module.clone()),
            split: Some(v1::Split { kind: Some(range) }),
            reduce: v1::Reduce::None.into(),
            item_price: "0.001".to_owned(),
            budget: "0.01".to_owned(),
            ..v1::JobSpec::default()
        };
        let job = clinic.create(spec).await?.name;
        work(ada, b"one").await?;
        assert_eq!(ada.earnings().await?.total_units, 0, "undecided units are not paid yet");
        work(&mut wrong, b"two").await?;
        work(&mut grace, b"one").await?;
        grid.check_money(&job)?;
    }

    for (device, units) in [(&mut first, 1_u32), (&mut second, 1), (&mut grace, 2), (&mut wrong, 0)] {
        let earned = device.earnings().await?;
        let amount = parts("0.001") * i128::from(units);
        assert_eq!((parts(&earned.total_amount), earned.total_units), (amount, u64::from(units)));
        assert_eq!((parts(&earned.month_amount), earned.month_units), (amount, u64::from(units)));
        assert_eq!(earned.month.len(), "2026-11".len(), "{}", earned.month);
    }
    let stranger = grace.with_credentials("Bearer nonsense")?.earnings().await;
    assert_eq!(stranger.expect_err("no device").code(), Code::Unauthenticated);
    assert_eq!(fleet.books().await?.faults, Vec::<String>::new());
    Ok(())
}
