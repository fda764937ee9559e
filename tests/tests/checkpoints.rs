//! Units that go from one PC to the next with their checkpoints, by devices that speak the wire themselves:
//! who is offered what, what is dropped, and who is blamed for a poisoned one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lull_job::Digest;
use lull_proto::v1::{self, JobState};
use lull_tests::fleet::{Device, Submitter, asking, report, work_off};
use lull_tests::{Fleet, Grid, guest};
use serde_json::Value;
use tonic::Code;

/// Longer than anything that should happen, and no longer than a call may be held.
const LONG: Duration = Duration::from_secs(30);

struct Scene {
    grid: Grid,
    fleet: Fleet,
    clinic: Submitter,
    job: String,
}

impl Scene {
    /// A grid with a job of one unit, and money for many attempts at it.
    async fn set(lease_ttl_secs: u64) -> Result<Self> {
        let grid = Grid::start(lease_ttl_secs)?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut clinic = fleet.submitter("clinic", "1").await?;
        let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
        let range = v1::split::Kind::Range(v1::IntegerRange { start: 0, end: 1 });
        let limits = v1::Limits { memory_bytes: 1024 * 1024, ..v1::Limits::default() };
        let spec = v1::JobSpec {
            module: Some(module),
            split: Some(v1::Split { kind: Some(range) }),
            reduce: v1::Reduce::None.into(),
            item_price: "0.001".to_owned(),
            budget: "0.01".to_owned(),
            limits: Some(limits),
            ..v1::JobSpec::default()
        };
        let job = clinic.create(spec).await?.name;
        Ok(Self { grid, fleet, clinic, job })
    }

    async fn devices<const N: usize>(&self, owners: [&str; N]) -> Result<[Device; N]> {
        let mut devices = Vec::new();
        for owner in owners {
            devices.push(self.fleet.device(owner).await?);
        }
        devices.try_into().map_err(|_| anyhow::anyhow!("as many devices as owners"))
    }

    /// The job is complete, and these owners were paid for it.
    async fn check_paid(&mut self, owners: &[&str]) -> Result<()> {
        let state = self.clinic.job(&self.job).await?;
        assert_eq!(state.state(), JobState::Complete, "{state:?}");
        let paid: Vec<String> = self.grid.paid(&self.job)?.into_iter().map(|(owner, ..)| owner).collect();
        assert_eq!(paid, owners.iter().map(|owner| format!("owners/{owner}")).collect::<Vec<_>>());
        self.grid.check_money(&self.job)
    }

    /// What `lull devices` says of a device.
    fn shown(&self, device: &Device) -> Result<Value> {
        let all: Value = serde_json::from_str(&self.grid.lull(&["devices", "--output", "json"])?)?;
        let name = format!("devices/{}", device.id);
        let found = all["devices"].as_array().into_iter().flatten().find(|one| one["name"] == name.as_str());
        found.cloned().context("the device in the list")
    }

    /// Rows of the tables that checkpoints are kept in.
    async fn rows(&self) -> Result<Vec<i64>> {
        let (client, connection) =
            tokio_postgres::connect(&self.grid.database_url(), tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let mut rows = Vec::new();
        for table in ["checkpoint", "offer", "upload"] {
            rows.push(client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0));
        }
        drop(client);
        connection.await??;
        Ok(rows)
    }
}

/// Asks for the one lease that must be there.
async fn lease(device: &mut Device) -> Result<v1::Lease> {
    let mut leases = device.ask(1, LONG).await?;
    assert_eq!(leases.len(), 1);
    leases.pop().context("a lease")
}

/// Uploads a state and hands the unit back with it.
async fn pass_on(device: &mut Device, lease: &v1::Lease, steps: u64, state: &[u8]) -> Result<()> {
    device.upload(state, Digest::of(state), lease.token).await?;
    let checkpoint = device.checkpoint(lease, 0, steps, state);
    Ok(device.hand_back(lease, vec![checkpoint]).await?)
}

/// What a lease offers of its unit: steps and state.
fn offered(lease: &v1::Lease) -> Option<(u64, &[u8])> {
    lease.checkpoints.first().map(|one| (one.steps, one.state_digest.as_slice()))
}

async fn taken(device: &mut Device, lease: &v1::Lease, result: &[u8], state: Option<&[u8]>) -> Result<()> {
    let mut report = report(lease, |_| result.to_vec());
    let told = lease.witnesses.iter().map(|asked| v1::WitnessedState {
        steps: asked.steps,
        state_digest: Digest::of(state.unwrap_or_default()).as_bytes().to_vec(),
    });
    report.attempts[0].witnessed = told.collect();
    report.attempts[0].resumed_from =
        lease.checkpoints.first().map(|one| one.state_digest.clone()).unwrap_or_default();
    assert_eq!(device.report(report).await?.refusals, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_checkpoint_is_caught_and_its_maker_blamed() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut ada, mut bob, mut cai, mut dan] = scene.devices(["ada", "bob", "cai", "dan"]).await?;
    let first = lease(&mut ada).await?;
    assert_eq!((offered(&first), &first.witnesses[..]), (None, &[][..]));
    pass_on(&mut ada, &first, 100, b"poisoned").await?;

    let resumed = lease(&mut bob).await?;
    assert_eq!(offered(&resumed), Some((100, &Digest::of(b"poisoned").as_bytes()[..])));
    assert_eq!(resumed.checkpoints[0].maker_device_id, ada.id);
    let blob = resumed.checkpoints[0].blob_digest.clone();
    assert_eq!(bob.read(blob.clone(), resumed.token).await?, b"poisoned");
    taken(&mut bob, &resumed, b"wrong", None).await?;

    // Neither whoever made it nor whoever went on from it could add a vote.
    for device in [&mut ada, &mut bob] {
        assert_eq!(device.ask(1, Duration::from_millis(300)).await?, []);
    }
    for device in [&mut cai, &mut dan] {
        let check = lease(device).await?;
        assert_eq!(offered(&check), None, "a check starts from the beginning");
        assert_eq!(check.witnesses, [v1::Witness { index: 0, steps: 100 }]);
        let read = device.read(blob.clone(), check.token).await;
        assert_eq!(read.expect_err("a state that was not offered").code(), Code::NotFound);
        taken(device, &check, b"right", Some(b"honest")).await?;
    }
    scene.check_paid(&["cai", "dan"]).await?;

    let blamed = scene.shown(&ada)?;
    assert_eq!(blamed["blames"], 1, "{blamed}");
    let blame = &blamed["recent_blames"][0];
    assert_eq!(
        (&blame["fault"], &blame["steps"], &blame["witnesses"]),
        (&"poisoned".into(), &100.into(), &2.into())
    );
    assert_eq!(blame["job"], scene.job.as_str());
    assert_eq!(blame["state_digest"], Digest::of(b"poisoned").to_string());
    assert_eq!(blame["witnessed_digest"], Digest::of(b"honest").to_string());
    for device in [&bob, &cai, &dan] {
        assert_eq!(scene.shown(device)?["blames"], 0);
    }
    assert_eq!(scene.rows().await?, [0, 0, 0], "what was kept for the unit goes with it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_checkpoint_is_accepted_with_a_check_and_a_wrong_resumer_is_blamed() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut ada, mut bob, mut cai, mut dan] = scene.devices(["ada", "bob", "cai", "dan"]).await?;
    let first = lease(&mut ada).await?;
    pass_on(&mut ada, &first, 100, b"honest").await?;
    let second = lease(&mut ada).await?;
    assert_eq!(offered(&second).map(|(steps, _)| steps), Some(100), "one goes on from one's own");
    pass_on(&mut ada, &second, 200, b"further").await?;
    let resumed = lease(&mut bob).await?;
    assert_eq!(offered(&resumed).map(|(steps, _)| steps), Some(200));
    taken(&mut bob, &resumed, b"wrong", None).await?;
    for device in [&mut cai, &mut dan] {
        let check = lease(device).await?;
        assert_eq!(check.witnesses, [v1::Witness { index: 0, steps: 200 }]);
        taken(device, &check, b"right", Some(b"further")).await?;
    }
    scene.check_paid(&["cai", "dan"]).await?;
    assert_eq!(scene.shown(&ada)?["blames"], 0);
    assert_eq!(scene.shown(&bob)?["recent_blames"][0]["fault"], "resumed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_goes_on_elsewhere_after_kills_of_the_coordinator() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut ada, mut bob, mut cai] = scene.devices(["ada", "bob", "cai"]).await?;
    let first = lease(&mut ada).await?;
    pass_on(&mut ada, &first, 100, b"honest").await?;
    scene.grid.kill_coordinator()?;
    scene.grid.restart_coordinator()?;

    let resumed = lease(&mut bob).await?;
    assert_eq!(offered(&resumed).map(|(steps, _)| steps), Some(100));
    scene.grid.kill_coordinator()?;
    scene.grid.restart_coordinator()?;
    // The lease is sent again as it was: bob has lost its answer.
    let again = lease(&mut bob).await?;
    assert_eq!((again.token, offered(&again)), (resumed.token, offered(&resumed)));
    taken(&mut bob, &again, b"right", None).await?;
    scene.grid.kill_coordinator()?;
    scene.grid.restart_coordinator()?;

    // What bob was offered is remembered: ada's own result would be no second vote.
    assert_eq!(ada.ask(1, Duration::from_millis(300)).await?, []);
    let check = lease(&mut cai).await?;
    assert_eq!((offered(&check), check.witnesses.len()), (None, 1));
    taken(&mut cai, &check, b"right", Some(b"honest")).await?;
    scene.check_paid(&["bob", "cai"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_checkpoint_is_dropped_and_the_hand_back_counts() -> Result<()> {
    let scene = Scene::set(60).await?;
    let [mut ada, mut bob, _cai] = scene.devices(["ada", "bob", "cai"]).await?;
    let state = b"state".as_slice();
    let stranger = bob.clone();
    let secret = b"what bob has uploaded".as_slice();
    {
        let held = lease(&mut bob).await?;
        bob.upload(secret, Digest::of(secret), held.token).await?;
        bob.hand_back(&held, Vec::new()).await?;
    }
    let large = vec![7; 3 * 1024 * 1024];
    for case in 0..8 {
        let held = lease(&mut ada).await?;
        assert_eq!(offered(&held), None, "before case {case}");
        ada.upload(state, Digest::of(state), held.token).await?;
        let good = ada.checkpoint(&held, 0, 10, state);
        let bad = match case {
            0 => v1::Checkpoint { steps: 11, ..good },
            1 => stranger.checkpoint(&held, 0, 10, state),
            2 => ada.checkpoint(&held, 0, 0, state),
            3 => ada.checkpoint(&held, 0, 10, b"never uploaded"),
            4 => ada.checkpoint(&held, 0, 10, secret),
            5 => ada.checkpoint(&held, 7, 10, state),
            6 => v1::Checkpoint { size_bytes: 1, ..good },
            _ => {
                let upload = ada.upload(&large, Digest::of(&large), held.token).await;
                // A result may be larger than this guest's memory, a state may not.
                upload.expect("as large as a result");
                ada.checkpoint(&held, 0, 10, &large)
            }
        };
        ada.hand_back(&held, vec![bad]).await?;
    }
    assert_eq!(scene.rows().await?[..2], [0, 0], "nothing of these is kept");

    // One that is good, handed back twice, and once more when the unit is elsewhere: once is enough.
    let held = lease(&mut ada).await?;
    pass_on(&mut ada, &held, 10, state).await?;
    ada.hand_back(&held, vec![ada.checkpoint(&held, 0, 10, state)]).await?;
    let next = lease(&mut bob).await?;
    assert_eq!(offered(&next).map(|(steps, _)| steps), Some(10));
    ada.hand_back(&held, vec![ada.checkpoint(&held, 0, 99, state)]).await?;
    // Handed back by somebody who never started it: it stays as it was. Not even the maker reads it without a lease.
    assert!(ada.read(Digest::of(state).as_bytes().to_vec(), held.token).await.is_err());
    bob.hand_back(&next, Vec::new()).await?;
    assert!(bob.read(Digest::of(state).as_bytes().to_vec(), next.token).await.is_err());
    let next = lease(&mut ada).await?;
    assert_eq!(offered(&next).map(|(steps, _)| steps), Some(10));

    // A worse one replaces nothing.
    pass_on(&mut ada, &next, 5, b"less").await?;
    let next = lease(&mut ada).await?;
    assert_eq!(offered(&next).map(|(steps, _)| steps), Some(10));
    ada.hand_back(&next, Vec::new()).await?;
    scene.grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lease_takes_no_checkpoint_with_it_and_brings_none() -> Result<()> {
    let scene = Scene::set(1).await?;
    let [mut ada, mut bob, _cai] = scene.devices(["ada", "bob", "cai"]).await?;
    let held = lease(&mut ada).await?;
    pass_on(&mut ada, &held, 10, b"state").await?;
    let lost = lease(&mut ada).await?;
    assert_eq!(offered(&lost).map(|(steps, _)| steps), Some(10));
    // It comes to bob when ada's lease has expired.
    let next = lease(&mut bob).await?;
    assert_eq!(offered(&next).map(|(steps, _)| steps), Some(10));
    pass_on(&mut ada, &lost, 20, b"too late").await?;
    let blob = next.checkpoints[0].blob_digest.clone();
    assert!(ada.read(blob, lost.token).await.is_err(), "an expired lease opens no state");
    let after = lease(&mut ada).await?;
    assert_eq!(offered(&after).map(|(steps, _)| steps), Some(10));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_keeps_nothing() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut ada, _bob, _cai] = scene.devices(["ada", "bob", "cai"]).await?;
    let held = lease(&mut ada).await?;
    pass_on(&mut ada, &held, 10, b"state").await?;
    let next = lease(&mut ada).await?;
    assert_eq!(scene.rows().await?, [1, 1, 1]);
    let job = scene.job.clone();
    scene.clinic.cancel(&job).await?;
    assert_eq!(scene.rows().await?, [0, 0, 0]);
    ada.hand_back(&next, vec![ada.checkpoint(&next, 0, 20, b"state")]).await?;
    assert_eq!(scene.rows().await?, [0, 0, 0]);
    scene.grid.check_money(&job)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_role_can_neither_take_blame_back_nor_change_evidence() -> Result<()> {
    let scene = Scene::set(60).await?;
    let (client, connection) =
        tokio_postgres::connect(&scene.grid.database_url(), tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute("SET ROLE lull_app").await?;
    for table in ["blame", "witness", "resumed"] {
        client.batch_execute(&format!("SELECT FROM {table}")).await?;
        for change in [format!("DELETE FROM {table}"), format!("UPDATE {table} SET idx = 1")] {
            let denied = client.batch_execute(&change).await.expect_err(&change);
            assert_eq!(denied.code().map(|code| code.code()), Some("42501"), "{change}: {denied}");
        }
    }
    drop(client);
    connection.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_witnessed_does_not_tell_whether_somebody_has_answered() -> Result<()> {
    let scene = Scene::set(60).await?;
    let [mut ada, mut bob] = scene.devices(["ada", "bob"]).await?;
    let first = lease(&mut ada).await?;
    pass_on(&mut ada, &first, 100, b"state").await?;
    let from_the_start = lease(&mut bob).await?;
    assert_eq!(offered(&from_the_start), None, "nobody would be left to check it");
    assert_eq!(from_the_start.witnesses, [v1::Witness { index: 0, steps: 100 }]);
    Ok(())
}

/// Calls of all devices after which a job must be done.
const ROUNDS_MAX: u32 = 1_000;
/// Units that the poisoner who is known hands back. Nearly half of what is made of them is checked: that none is happens
/// once in a hundred million times.
const POISONED: u32 = 32;
/// What a state is, whoever made it, in the job that buys confidence.
const POISON: &[u8] = b"poisoned";

/// Hands all units of a lease back with a poisoned state.
async fn poison(device: &mut Device, lease: &v1::Lease) -> Result<()> {
    device.upload(POISON, Digest::of(POISON), lease.token).await?;
    let states = lease.indices.iter().map(|index| device.checkpoint(lease, *index, 100, POISON)).collect();
    Ok(device.hand_back(lease, states).await?)
}

/// An honest report: what was made from a poisoned state is wrong.
fn honest(lease: &v1::Lease) -> v1::LeaseReport {
    let is_poisoned = |index: u64| {
        let mut states = lease.checkpoints.iter().filter(|one| one.index == index);
        states.any(|one| one.state_digest == Digest::of(POISON).as_bytes())
    };
    let text = |index| if is_poisoned(index) { "wrong" } else { "right" }.as_bytes().to_vec();
    let mut report = report(lease, text);
    for attempt in &mut report.attempts {
        let asked = lease.witnesses.iter().filter(|asked| asked.index == attempt.index);
        let state_digest = Digest::of(b"honest").as_bytes().to_vec();
        let told =
            asked.map(|asked| v1::WitnessedState { steps: asked.steps, state_digest: state_digest.clone() });
        attempt.witnessed = told.collect();
    }
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_job_buys_confidence_poisoned_states_leave_nothing_wrong() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut submitter = fleet.submitter("clinic", "1000").await?;
    let module = submitter.upload("module", &std::fs::read(guest("probe"))?).await?;
    let spec = |max_error, units| v1::JobSpec {
        copies: 0,
        max_error,
        budget: "400".to_owned(),
        ..Submitter::trivial_spec(&module, units)
    };
    let mut known = Vec::new();
    for owner in ["eve", "ada", "bob", "cai", "dan", "fay"] {
        known.push(fleet.device(owner).await?);
    }
    let first = submitter.create(spec(0.1, 300)).await?;
    work_off(&mut submitter, &first.name, &mut known).await?;
    let mut zoe = fleet.device("zoe").await?;
    let mut eve = known.remove(0);
    let (client, connection) = tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let trusted = "SELECT count(*) FROM standing WHERE correct >= 10 AND held_to - released_to >= 20";
    assert_eq!(client.query_one(trusted, &[]).await?.get::<_, i64>(0), 6, "all are known but zoe");

    let mut job = submitter.create(spec(4e-3, 60)).await?;
    // A stranger, who has one unit at a time.
    for lease in zoe.ask(5, Duration::ZERO).await? {
        poison(&mut zoe, &lease).await?;
    }
    assert_eq!(client.query_one("SELECT count(*) FROM checkpoint", &[]).await?.get::<_, i64>(0), 0);
    // She holds them all before she hands one back: she would be given it again.
    let mut leases: Vec<v1::Lease> = Vec::new();
    for _ in 0..2 {
        let held_leases = leases.iter().map(|lease| lease.token).collect();
        let many = v1::SyncRequest { free_slots: POISONED / 2, held_leases, ..asking(1, Duration::ZERO) };
        leases.extend(eve.sync(many).await?.leases);
    }
    assert_eq!(leases.iter().map(|lease| lease.indices.len()).sum::<usize>(), POISONED as usize);
    for lease in &leases {
        poison(&mut eve, lease).await?;
    }
    let mut resumed = 0;
    for _ in 0..ROUNDS_MAX {
        for device in &mut known {
            for lease in device.ask(5, Duration::ZERO).await? {
                assert!(lease.checkpoints.iter().all(|one| one.maker_device_id == eve.id), "{lease:?}");
                resumed += lease.checkpoints.len();
                device.report(honest(&lease)).await?;
            }
        }
        job = submitter.job(&job.name).await?;
        if job.state() != JobState::Running {
            break;
        }
    }
    ensure!(job.state() == JobState::Complete, "{job:?}");
    assert!(resumed > 0, "states of an owner that is known are passed on");
    for unit in submitter.units(&job.name).await? {
        assert_eq!(String::from_utf8_lossy(&unit.result), "right", "unit {}", unit.index);
    }
    let caught = "SELECT DISTINCT owner.name FROM catch JOIN owner ON owner.id = owner_id";
    let caught: Vec<String> = client.query(caught, &[]).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(caught, ["eve"], "and nobody who went on from what she made");
    let again = "SELECT count(*) FROM verdict AS first JOIN verdict AS later USING (job_id, stage, idx)
        JOIN resumed USING (job_id, stage, idx) JOIN attempt USING (job_id, stage, idx, owner_id)
        WHERE first.version = 1 AND later.version = 2 AND attempt.digest = first.digest AND first.digest <> later.digest";
    let again: i64 = client.query_one(again, &[]).await?.get(0);
    // How many were believed first is chance.
    println!("{again} units that had been accepted of it were run again");
    let lost = "SELECT count(*) FROM transfer JOIN owner ON debit = owner.id * 8 + 4
        WHERE code = 6 AND owner.name <> 'eve'";
    assert_eq!(client.query_one(lost, &[]).await?.get::<_, i64>(0), 0, "who was deceived keeps its pay");
    grid.audit()?;
    grid.check_books()
}
