//! Pay that has been held back for nearly thirty days: what nobody checked is checked first, on a real coordinator and
//! database.

use std::time::Duration;

use anyhow::{Result, ensure};
use lull_proto::v1;
use lull_tests::fleet::{self, Device, Submitter};
use lull_tests::grid::wait_until;
use lull_tests::{Fleet, Grid, guest};
use tokio_postgres::Client;

/// Calls of all devices after which something must have happened.
const ROUNDS_MAX: u32 = 400;
/// Units that one owner alone has answered.
const UNCHECKED: &str = "SELECT idx FROM standing_verdict WHERE stage = 1 AND agreeing = 1";

/// Plays these devices, a lease each, until a condition holds.
async fn play_until(client: &Client, devices: &mut [Device], condition: &str) -> Result<()> {
    for _ in 0..ROUNDS_MAX {
        for device in &mut *devices {
            for lease in device.ask(0, Duration::ZERO).await? {
                device.report(fleet::report(&lease, |index| index.to_le_bytes().to_vec())).await?;
            }
            if client.query_one(&format!("SELECT {condition}"), &[]).await?.get::<_, bool>(0) {
                return Ok(());
            }
        }
    }
    anyhow::bail!("not {condition} in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_checked_in_a_month_is_checked_before_it_is_paid_out() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "1000").await?;
    let module = clinic.upload("module", &std::fs::read(guest("probe"))?).await?;
    let spec = v1::JobSpec {
        copies: 0,
        max_error: 0.3,
        budget: "1".to_owned(),
        ..Submitter::trivial_spec(&module, 20_000)
    };
    clinic.create(spec).await?;
    let mut devices = Vec::new();
    for owner in ["ada", "bob", "carol"] {
        devices.push(fleet.device(owner).await?);
    }
    let (client, connection) = tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    play_until(&client, &mut devices, &format!("count(*) > 3 FROM ({UNCHECKED}) AS one")).await?;

    let age = "UPDATE held SET created_at = now() - interval '29 days 12 hours'";
    ensure!(client.execute(age, &[]).await? > 0, "pay is held back");
    wait_until(&client, "wanted once more", "count(*) > 3 FROM reopened").await?;
    client.execute("UPDATE held SET created_at = now() - interval '31 days'", &[]).await?;
    // Units that wait for their check hold their pay back.
    let held_up = "bool_or(held.seq > released_to) FROM reopened JOIN held USING (job_id, stage, idx) JOIN standing USING (owner_id)";
    wait_until(&client, "held back yet", held_up).await?;
    play_until(&client, &mut devices, "NOT EXISTS (SELECT FROM reopened)").await?;
    let checked = "count(*) > 3 AND bool_and(agreeing > 1) FROM verdict WHERE version > 1";
    wait_until(&client, "checked", checked).await?;
    wait_until(&client, "released", "bool_and(released_to > 0) FROM standing").await?;
    // No audit: the ages of sealed rows were changed by hand.
    grid.check_books()
}
