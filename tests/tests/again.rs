//! Owners are caught when jobs that they worked for are complete: what rests on them alone is run again, what was made
//! from it is made again, and what they lost pays for it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lull_job::{Digest, Stage, stage_from_proto};
use lull_proto::v1;
use lull_tests::fleet::{self, Device, Submitter};
use lull_tests::{Fleet, Grid, guest, wait_until};
use tokio_postgres::Client;

/// Calls of all devices after which a job must have ended.
const ROUNDS_MAX: u32 = 400;
const OWNERS: usize = 8;
const UNITS: u64 = 150;

/// What devices say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// All of them what is right.
    Right,
    /// The first what is wrong, and the others what was said first: nobody differs.
    Together,
    /// The first what is wrong.
    Against,
}

struct Scene {
    grid: Grid,
    lab: Submitter,
    module: v1::Input,
    devices: Vec<Device>,
    /// Of the job that is played together: what was said first of each unit, and whether by the first device alone.
    said: BTreeMap<u64, (&'static str, bool)>,
}

impl Scene {
    async fn start() -> Result<Self> {
        let grid = Grid::start(60)?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut lab = fleet.submitter("lab", "1000").await?;
        let module = lab.upload("module", &std::fs::read(guest("probe"))?).await?;
        let mut devices = Vec::new();
        for owner in 0..OWNERS {
            devices.push(fleet.device(&format!("owner-{owner}")).await?);
        }
        Ok(Self { grid, lab, module, devices, said: BTreeMap::new() })
    }

    async fn submit(&mut self, reduce: v1::Reduce, units: u64, max_error: f64) -> Result<String> {
        let spec = v1::JobSpec {
            max_error,
            budget: "10".to_owned(),
            item_price: "0.001".to_owned(),
            service_price: "0.0001".to_owned(),
            reduce: reduce.into(),
            ..Submitter::trivial_spec(&self.module, units)
        };
        Ok(self.lab.create(spec).await?.name)
    }

    /// Plays the devices from `first` on until the job ends.
    async fn play(&mut self, job: &str, first: usize, says: Says) -> Result<v1::Job> {
        for _ in 0..ROUNDS_MAX {
            for at in first..OWNERS {
                self.turn(job, at, says).await?;
            }
            let state = self.lab.job(job).await?;
            if state.state() != v1::JobState::Running {
                ensure!(state.state() == v1::JobState::Complete, "{state:?}");
                return Ok(state);
            }
        }
        let progress = self.lab.job(job).await?.progress;
        anyhow::bail!("{job} does not end: {progress:?}\n{}", self.grid.lull(&["devices"])?)
    }

    /// One call of a device for work, and what it says.
    async fn turn(&mut self, job: &str, at: usize, says: Says) -> Result<()> {
        let device = &mut self.devices[at];
        for lease in device.ask(5, Duration::ZERO).await? {
            let is_work = stage_from_proto(lease.stage.as_ref()) == Some(Stage::Work);
            // Others that are made again at the same time are done honestly.
            let is_its = lease.job.as_ref().is_some_and(|of| format!("jobs/{}", of.job_id) == job);
            let says = if is_its { says } else { Says::Right };
            let word = if at == 0 && says != Says::Right { "wrong" } else { "right" };
            if is_work && says == Says::Together {
                for index in &lease.indices {
                    let (_, is_alone) = self.said.entry(*index).or_insert((word, true));
                    *is_alone &= at == 0;
                }
            }
            let together = |index: &u64| self.said.get(index).filter(|_| says == Says::Together);
            let result = |index: u64| match is_work {
                true => line(together(&index).map_or(word, |(said, _)| said), index),
                false => merged(&lease, index),
            };
            device.report(fleet::report(&lease, result)).await?;
        }
        Ok(())
    }

    /// The first device lies in a job of its own until it is caught. Nobody asks for work after that: the study is about
    /// to be made again.
    async fn lie_until_caught(&mut self, client: &Client) -> Result<()> {
        let job = self.submit(v1::Reduce::None, UNITS, 1e-5).await?;
        for _ in 0..ROUNDS_MAX {
            for at in 0..OWNERS {
                self.turn(&job, at, Says::Against).await?;
                if client.query_one("SELECT EXISTS (SELECT FROM catch)", &[]).await?.get(0) {
                    return Ok(());
                }
            }
        }
        anyhow::bail!("it is not caught")
    }

    async fn results(&mut self, job: &str) -> Result<Vec<Vec<u8>>> {
        Ok(self.lab.units(job).await?.into_iter().map(|unit| unit.result).collect())
    }
}

fn line(word: &str, index: u64) -> Vec<u8> {
    format!("{word} {index}\n").into_bytes()
}

/// The parts of a merge or finish unit, one after another.
fn merged(lease: &v1::Lease, index: u64) -> Vec<u8> {
    let at = lease.indices.iter().position(|one| *one == index).unwrap_or_default();
    let parts = lease.parts.get(at).map_or(&[][..], |unit| &unit.parts);
    parts.iter().flat_map(|part| part.content.clone().unwrap_or_default()).collect()
}

fn digest(answer: Option<&v1::Input>) -> Result<Vec<u8>> {
    Ok(answer.context("an answer")?.digest.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_rests_on_lies_is_made_again_from_what_is_right() -> Result<()> {
    let mut scene = Scene::start().await?;
    let client = scene.grid.database().await?;
    // Everybody becomes known, and then believed.
    let first = scene.submit(v1::Reduce::None, UNITS, 1e-2).await?;
    scene.play(&first, 0, Says::Right).await?;
    let study = scene.submit(v1::Reduce::Tree, UNITS, 1e-2).await?;
    let before = scene.play(&study, 0, Says::Together).await?;
    let old = scene.results(&study).await?;
    ensure!(digest(before.answer.as_ref())? == Digest::of(&old.concat()).as_bytes().to_vec());
    ensure!(!before.settled && before.revision == 0, "{before:?}");
    let kept = before.costs.clone().context("costs")?.kept;
    ensure!(kept.parse::<lull_ledger::Amount>()?.is_positive(), "what making it again costs stays in escrow");

    // It lies on, until it is caught: at once, as nearly all of this is checked. Its pay for the study is still held back.
    scene.lie_until_caught(&client).await?;
    wait_until(&client, "looked through", "NOT EXISTS (SELECT FROM recheck)").await?;
    let now = scene.lab.job(&study).await?;
    ensure!(now.state() == v1::JobState::Running && now.revision == 1, "{now:?}");
    ensure!(now.answer.is_none() && now.reason.contains("run again"), "{now:?}");
    // All that it needs to go on is in its rows.
    scene.grid.kill_coordinator()?;
    scene.grid.restart_coordinator()?;
    let client = scene.grid.database().await?;
    // The first call on each connection may find that it is gone.
    drop(scene.lab.job(&study).await);
    for device in &mut scene.devices {
        drop(device.earnings().await);
    }

    // What the liar alone had said is said right, and the rest is as it was.
    scene.said.retain(|_, (_, is_alone)| !*is_alone);
    let after = scene.play(&study, 1, Says::Together).await?;
    let new = scene.results(&study).await?;
    ensure!(digest(after.answer.as_ref())? == Digest::of(&new.concat()).as_bytes().to_vec());
    ensure!(new != old, "the answer is another one");
    ensure!(after.reason.contains("made again"), "{after:?}");
    let job: i64 = study.trim_start_matches("jobs/").parse()?;
    let alone =
        "SELECT count(*) FROM standing_verdict AS verdict WHERE job_id = $1 AND stage = 1 AND NOT EXISTS (
        SELECT FROM attempt JOIN owner ON owner.id = owner_id WHERE attempt.job_id = verdict.job_id
          AND attempt.stage = verdict.stage AND attempt.idx = verdict.idx AND attempt.digest = verdict.digest
          AND owner.name <> 'owner-0')";
    let alone: i64 = client.query_one(alone, &[&job]).await?.get(0);
    assert_eq!(alone, 0, "units that rest on the liar alone");
    let told = scene.grid.lull(&["jobs", &study])?;
    assert!(told.contains("it was made again, as owners that took part were found to lie"), "{told}");

    ensure!(told.contains("until it is settled"), "{told}");

    // The liar's part of the other jobs is done again too.
    for number in 1..=job + 1 {
        scene.play(&format!("jobs/{number}"), 1, Says::Right).await?;
    }
    scene.grid.audit()?;
    // Once no pay for it can be lost, the rest of its budget comes back: here, as if a month had gone by.
    client.execute("UPDATE held SET created_at = created_at - interval '31 days'", &[]).await?;
    wait_until(&client, "settled", "NOT EXISTS (SELECT FROM job WHERE NOT settled)").await?;
    let settled = scene.lab.job(&study).await?;
    ensure!(settled.settled, "{settled:?}");
    assert_eq!(settled.costs.context("costs")?.kept, "0");
    scene.grid.check_books()
}
