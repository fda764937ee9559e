//! Disputes, with a referee: whoever lied is caught, and whoever only returned other bits of a NaN is not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lull_proto::v1::{self, JobState, RefusalReason, RunMode};
use lull_tests::fleet::{self, Device, Submitter};
use lull_tests::grid::wait_until;
use lull_tests::{Agent, Fleet, Grid};
use tokio_postgres::Client;
use tonic::Code;

/// For calls that should find no work.
const SHORT: Duration = Duration::from_millis(300);
/// Calls of all devices after which a job must be done.
const ROUNDS_MAX: u32 = 400;
/// Every NaN of a strict run.
const CANONICAL: u64 = 0x7ff8_0000_0000_0000;

/// A guest of which a unit's result is what `step` leaves as the answer.
fn module(step: &str) -> Result<Vec<u8>> {
    let text = format!(
        r#"(module (memory (export "memory") 1)
            (global $ptr (mut i32) (i32.const 0)) (global $len (mut i32) (i32.const 0))
            (global $heap (mut i32) (i32.const 1024))
            (func $answer (param i32 i32) (global.set $ptr (local.get 0)) (global.set $len (local.get 1)))
            (func (export "lull_abi_version") (result i32) i32.const 1)
            (func (export "lull_alloc") (param i32) (result i32)
                global.get $heap (global.set $heap (i32.add (global.get $heap) (local.get 0))))
            (func (export "lull_input") (param i32 i32 i32 i32))
            (func (export "lull_prepare") (result i32) i32.const 1)
            (func (export "lull_begin") (param i32 i32) (result i32)
                (call $answer (local.get 0) (local.get 1)) i32.const 0)
            (func (export "lull_step") (result i32) {step} i32.const 1)
            (func (export "lull_result_ptr") (result i32) global.get $ptr)
            (func (export "lull_result_len") (result i32) global.get $len))"#
    );
    Ok(wat::parse_str(text)?)
}

/// Returns its unit.
const PLAIN: &str = "";
/// Returns the sum of one and a NaN that carries a number: at full speed, that number.
const NAN: &str = "(i64.store (i32.const 0) (i64.const 0x7ff8000000000123))
    (f64.store (i32.const 8) (f64.add (f64.load (i32.const 0)) (f64.const 1)))
    (call $answer (i32.const 8) (i32.const 8))";

/// A grid with a job that buys confidence.
struct Scene {
    grid: Grid,
    fleet: Fleet,
    clinic: Submitter,
    client: Client,
    job: String,
}

impl Scene {
    async fn set(step: &str, units: u64, prepare: impl AsyncFnOnce(&Grid) -> Result<()>) -> Result<Self> {
        let grid = Grid::start(60)?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut clinic = fleet.submitter("clinic", "1000").await?;
        let module = clinic.upload("module", &module(step)?).await?;
        prepare(&grid).await?;
        let budget = "500".to_owned();
        let spec =
            v1::JobSpec { copies: 0, max_error: 1e-4, budget, ..Submitter::trivial_spec(&module, units) };
        let job = clinic.create(spec).await?.name;
        let (client, connection) =
            tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { grid, fleet, clinic, client, job })
    }

    async fn referee(&self, owner: &str) -> Result<Device> {
        let device = self.fleet.device(owner).await?;
        ensure!(self.fleet.set_referee(&device, true).await?.referee, "it says so");
        Ok(device)
    }

    /// Names of owners that this query gives, once each.
    async fn owners(&self, query: &str) -> Result<Vec<String>> {
        let select = format!("SELECT DISTINCT name FROM owner WHERE id IN ({query}) ORDER BY name");
        Ok(self.client.query(&select, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    async fn caught(&self) -> Result<Vec<String>> {
        self.owners("SELECT owner_id FROM catch").await
    }

    async fn paid(&self) -> Result<Vec<String>> {
        self.owners("SELECT attempt FROM transfer WHERE code = 3").await
    }

    /// As the job's submitter is told.
    async fn is_strict(&self) -> Result<bool> {
        let told = self.grid.lull_json(&self.grid.operator, &["jobs", &self.job])?;
        told["strict"].as_bool().context("a job says whether it is strict")
    }

    /// Plays these devices until the job ends; each says what `normal` and `strict` say of its number and a unit.
    async fn play(
        &mut self,
        devices: &mut [Device],
        normal: impl Fn(usize, u64) -> String,
        strict: impl Fn(u64) -> String,
    ) -> Result<Vec<v1::DecidedUnit>> {
        for _ in 0..ROUNDS_MAX {
            for (at, device) in devices.iter_mut().enumerate() {
                for lease in device.ask(0, Duration::ZERO).await? {
                    let normal = |index| normal(at, index).into_bytes();
                    let report = fleet::report_both(&lease, normal, |index| strict(index).into_bytes());
                    ensure!(device.report(report).await?.refusals.is_empty(), "a good report is refused");
                }
            }
            if self.clinic.job(&self.job).await?.state() != JobState::Running {
                return Ok(self.clinic.units(&self.job).await?);
            }
        }
        anyhow::bail!("the job does not end: {:?}", self.clinic.job(&self.job).await?)
    }

    /// The money adds up, for the coordinator and for the auditor.
    async fn check_end(mut self) -> Result<()> {
        let job = self.clinic.job(&self.job).await?;
        ensure!(job.state() == JobState::Complete, "{job:?}");
        self.grid.check_books()?;
        self.grid.audit()
    }
}

async fn lease(device: &mut Device) -> Result<v1::Lease> {
    device.ask(1, Duration::from_secs(30)).await?.pop().context("a lease")
}

/// Reports what the unit of a lease returned, which must be taken.
async fn says(device: &mut Device, lease: &v1::Lease, normal: &str, strict: &str) -> Result<()> {
    let (normal, strict) = (normal.as_bytes().to_vec(), strict.as_bytes().to_vec());
    let answer = device.report(fleet::report_both(lease, |_| normal.clone(), |_| strict.clone())).await?;
    assert_eq!(answer.refusals, [], "a good report was refused");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referee_settles_a_dispute() -> Result<()> {
    let scene = Scene::set(PLAIN, 1, async |_| Ok(())).await?;
    let [mut ada, mut bob] = [scene.fleet.device("ada").await?, scene.fleet.device("bob").await?];
    let mut carol = scene.fleet.device("carol").await?;
    let mut referee = scene.referee("rae").await?;
    let held = lease(&mut ada).await?;
    // It shows that it is there; the one unit is out.
    assert_eq!(referee.ask(1, SHORT).await?, []);
    says(&mut ada, &held, "right", "").await?;
    let held = lease(&mut bob).await?;
    assert_eq!(held.run_mode(), RunMode::Normal);
    says(&mut bob, &held, "wrong", "").await?;
    assert_eq!(carol.ask(1, SHORT).await?, [], "it waits for the referee");
    let held = lease(&mut referee).await?;
    assert_eq!(held.run_mode(), RunMode::Referee);
    says(&mut referee, &held, "right", "right").await?;
    assert_eq!(scene.caught().await?, ["bob"]);
    wait_until(&scene.client, "complete", "state = 2 FROM job").await?;
    assert_eq!(scene.paid().await?, ["ada", "rae"]);
    assert!(!scene.is_strict().await?);
    let kept = scene.client.query_one("SELECT fuel, by_referee FROM attempt WHERE mode = 3", &[]).await?;
    assert_eq!((kept.get::<_, Option<i64>>(0), kept.get::<_, Option<bool>>(1)), (Some(1_000), Some(true)));
    let told = scene.grid.lull(&["devices"])?;
    assert!(told.contains(&format!("device {}: a referee", referee.id)), "{told}");
    scene.check_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_of_nan_blame_nobody_and_the_rest_of_the_job_runs_strict() -> Result<()> {
    const UNITS: u64 = 12;
    let mut scene = Scene::set(NAN, UNITS, async |_| Ok(())).await?;
    let mut devices = vec![scene.fleet.device("ada").await?, scene.fleet.device("bob").await?];
    let says_normally = |at: usize, index: u64| format!("nan {at} {index}");
    let says_strictly = |index: u64| format!("canonical {index}");
    let disputes = "SELECT count(*) FROM wanted WHERE contested";
    while scene.client.query_one(disputes, &[]).await?.get::<_, i64>(0) == 0 {
        for (at, device) in devices.iter_mut().enumerate() {
            let held = lease(device).await?;
            says(device, &held, &says_normally(at, held.indices[0]), "").await?;
        }
    }
    let mut referee = scene.referee("rae").await?;
    let held = lease(&mut referee).await?;
    assert_eq!(held.run_mode(), RunMode::Referee);
    let index = held.indices[0];
    says(&mut referee, &held, &says_normally(0, index), &says_strictly(index)).await?;
    assert!(scene.is_strict().await?);
    assert_eq!(scene.caught().await?, [""; 0], "nobody is to blame");
    devices.push(referee);
    for owner in ["carol", "dan", "eve"] {
        devices.push(scene.fleet.device(owner).await?);
    }
    let units = scene.play(&mut devices, says_normally, says_strictly).await?;
    assert_eq!(scene.caught().await?, [""; 0], "nobody lied");
    assert_eq!(units.len() as u64, UNITS);
    for unit in &units {
        assert_eq!(String::from_utf8_lossy(&unit.result), format!("canonical {}", unit.index));
    }
    let modes =
        "SELECT count(*) FILTER (WHERE mode = 2 AND fuel IS NOT NULL), count(*) FILTER (WHERE mode = 2),
        count(*) FILTER (WHERE mode = 3 AND by_referee) FROM attempt";
    let counts = scene.client.query_one(modes, &[]).await?;
    let [with_fuel, strict, both] = [0, 1, 2].map(|at| counts.get::<_, i64>(at));
    assert!(strict as u64 >= UNITS && with_fuel == strict, "{with_fuel} of {strict}");
    assert!(both >= 1);
    let referees =
        "SELECT count(*) FROM transfer JOIN attempt ON attempt.idx = transfer.idx AND owner_id = attempt
        WHERE code = 3 AND mode = 3 AND strict_digest <> digest";
    assert_eq!(scene.client.query_one(referees, &[]).await?.get::<_, i64>(0), both, "its runs are paid");
    scene.check_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_does_not_fit_its_lease_is_refused_and_nothing_is_lost() -> Result<()> {
    let scene = Scene::set(PLAIN, 1, async |_| Ok(())).await?;
    let [mut ada, mut bob] = [scene.fleet.device("ada").await?, scene.fleet.device("bob").await?];
    let mut referee = scene.fleet.device("rae").await?;
    let refused = async |device: &mut Device, report: v1::LeaseReport| -> Result<()> {
        let answer = device.report(report).await?;
        let reasons: Vec<RefusalReason> = answer.refusals.iter().map(v1::Refusal::reason).collect();
        assert_eq!(reasons, [RefusalReason::WrongRun], "{answer:?}");
        assert!(answer.refusals[0].message.contains("update the agent"), "{answer:?}");
        Ok(())
    };
    let held = lease(&mut ada).await?;
    let mut claims = fleet::report(&held, |_| b"right".to_vec());
    let strict =
        v1::StrictRun { outcome: v1::Outcome::Result.into(), digest: claims.attempts[0].digest.clone() };
    claims.attempts[0].strict = Some(strict);
    refused(&mut ada, claims).await?;
    let held = lease(&mut ada).await?;
    says(&mut ada, &held, "right", "").await?;
    let held = lease(&mut bob).await?;
    says(&mut bob, &held, "wrong", "").await?;

    // An agent that knows nothing of referees.
    scene.fleet.set_referee(&referee, true).await?;
    let held = lease(&mut referee).await?;
    assert_eq!(held.run_mode(), RunMode::Referee);
    let mut old = fleet::report(&held, |_| b"right".to_vec());
    (old.attempts[0].strict, old.attempts[0].fuel) = (None, None);
    refused(&mut referee, old).await?;
    assert_eq!(scene.caught().await?, [""; 0]);
    let held = lease(&mut referee).await?;
    says(&mut referee, &held, "right", "right").await?;
    assert_eq!(scene.caught().await?, ["bob"]);
    wait_until(&scene.client, "complete", "state = 2 FROM job").await?;
    scene.check_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn referees_are_made_by_operators_and_unmade_at_once() -> Result<()> {
    let scene = Scene::set(PLAIN, 1, async |_| Ok(())).await?;
    let referee = scene.referee("rae").await?;
    let number = referee.id.to_string();
    let told = scene.grid.lull(&["admin", "referee", "remove", &number])?;
    assert!(told.ends_with("is no referee\n"), "{told}");
    let json = scene.grid.lull_json(&scene.grid.operator, &["admin", "referee", "add", &number])?;
    assert_eq!((&json["owner"], &json["referee"]), (&"owners/rae".into(), &true.into()));
    let owner = scene.grid.lull(&["admin", "create-token", "--role", "owner", "--subject", "rae"])?;
    let refused = scene.grid.lull_as(owner.trim(), &["admin", "referee", "add", &number])?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("only an operator"), "{refused:?}");
    let other = v1::SetRefereeRequest { name: "devices/999".to_owned(), referee: true };
    let error = scene.fleet.set_referee_of(other).await.expect_err("no such device");
    assert_eq!(error.code(), Code::NotFound);

    // Whoever is none any more does not hold a dispute up.
    let mut devices = [scene.fleet.device("ada").await?, scene.fleet.device("bob").await?];
    let mut rae = referee.clone();
    let held = lease(&mut devices[0]).await?;
    assert_eq!(rae.ask(1, SHORT).await?, []);
    scene.fleet.set_referee(&referee, false).await?;
    assert_eq!(rae.ask(1, SHORT).await?, []);
    says(&mut devices[0], &held, "one", "").await?;
    let held = lease(&mut devices[1]).await?;
    says(&mut devices[1], &held, "two", "").await?;
    let mut carol = scene.fleet.device("carol").await?;
    assert_eq!(lease(&mut carol).await?.run_mode(), RunMode::Referee, "it is run both ways all the same");
    Ok(())
}

/// A referee's agent that is enrolled and switched off, a unit that somebody answered so, then an agent of another
/// owner, until there is a dispute; then the referee.
async fn with_real_agents(step: &str, units: u64, said: &[u8]) -> Result<(Scene, Vec<Agent>)> {
    let mut at_rest = None;
    let scene = Scene::set(step, units, async |grid| {
        let rae = grid.agent("rae", "rae")?;
        let (client, connection) =
            tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        wait_until(&client, "enrolled", "count(*) = 1 FROM device").await?;
        grid.lull(&["admin", "referee", "add", "1"])?;
        at_rest = Some(rae.kill()?);
        Ok(())
    })
    .await?;
    let mut ada = scene.fleet.device("ada").await?;
    let held = lease(&mut ada).await?;
    let answer = ada.report(fleet::report(&held, |_| said.to_vec())).await?;
    assert_eq!(answer.refusals, []);
    let bob = scene.grid.agent("bob", "bob")?;
    wait_until(&scene.client, "in dispute", "count(*) = 1 FROM wanted WHERE contested").await?;
    let rae = at_rest.context("an agent")?.start()?;
    Ok((scene, vec![bob, rae]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_referee_catches_who_lied() -> Result<()> {
    let (scene, agents) = with_real_agents(PLAIN, 1, b"a lie").await?;
    let complete = wait_until(&scene.client, "complete", "state = 2 FROM job").await;
    complete.with_context(|| agents.iter().map(Agent::log).collect::<String>())?;
    assert_eq!(scene.caught().await?, ["ada"]);
    assert_eq!(scene.paid().await?, ["bob", "rae"]);
    assert!(!scene.is_strict().await?);
    let kept = "SELECT digest = strict_digest AND fuel > 0 FROM attempt WHERE mode = 3 AND by_referee";
    assert!(scene.client.query_one(kept, &[]).await?.get::<_, bool>(0));
    scene.check_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_referee_finds_bits_of_nan_and_the_rest_runs_strict() -> Result<()> {
    let other = 0x7ff8_0000_0000_0456_u64.to_le_bytes();
    let (mut scene, mut agents) = with_real_agents(NAN, 3, &other).await?;
    let strict = wait_until(&scene.client, "strict", "strict FROM job").await;
    strict.with_context(|| agents.iter().map(Agent::log).collect::<String>())?;
    for owner in ["carol", "dan", "eve"] {
        agents.push(scene.grid.agent(owner, owner)?);
    }
    wait_until(&scene.client, "complete", "state = 2 FROM job").await?;
    assert_eq!(scene.caught().await?, [""; 0], "nobody lied");
    let units = scene.clinic.units(&scene.job).await?;
    assert_eq!(units.len(), 3);
    for unit in units {
        assert_eq!(unit.result, CANONICAL.to_le_bytes(), "unit {}", unit.index);
    }
    let fuels = "SELECT count(DISTINCT fuel) FROM attempt WHERE mode = 2 OR (mode = 3 AND by_referee)";
    assert_eq!(scene.client.query_one(fuels, &[]).await?.get::<_, i64>(0), 1, "every PC counts the same");
    scene.check_end().await
}
