//! What no honest agent does: wrong credentials, wrong reports, other people's leases and blobs.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use ed25519_dalek::SigningKey;
use lull_job::Digest;
use lull_proto::v1::{self, JobState, RefusalReason};
use lull_tests::fleet::{Device, Submitter, asking, assertion, report};
use lull_tests::{Fleet, Grid, guest};
use tonic::{Code, Status};

/// Longer than anything that should happen, and no longer than a call may be held.
const LONG: Duration = Duration::from_secs(30);
/// For calls that should find no work.
const SHORT: Duration = Duration::from_millis(300);

/// A grid with a submitter, whose module nobody here runs.
struct Scene {
    grid: Grid,
    fleet: Fleet,
    clinic: Submitter,
    module: v1::Input,
}

impl Scene {
    async fn set(lease_ttl_secs: u64) -> Result<Self> {
        let grid = Grid::start(lease_ttl_secs)?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut clinic = fleet.submitter("clinic", "1").await?;
        let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
        Ok(Self { grid, fleet, clinic, module })
    }

    /// A job of one integer, not merged, with money for a dispute.
    async fn job(&mut self) -> Result<String> {
        let range = v1::split::Kind::Range(v1::IntegerRange { start: 0, end: 1 });
        let spec = v1::JobSpec {
            module: Some(self.module.clone()),
            split: Some(v1::Split { kind: Some(range) }),
            reduce: v1::Reduce::None.into(),
            item_price: "0.001".to_owned(),
            budget: "0.01".to_owned(),
            ..v1::JobSpec::default()
        };
        Ok(self.clinic.create(spec).await?.name)
    }

    /// Checks that the job is complete, and that just these owners were paid for it.
    async fn check_paid(&mut self, job: &str, owners: &[&str]) -> Result<()> {
        let state = self.clinic.job(job).await?;
        assert_eq!(state.state(), JobState::Complete, "{state:?}");
        let paid: Vec<String> = self.grid.paid(job)?.into_iter().map(|(owner, _, _)| owner).collect();
        let expected: Vec<String> = owners.iter().map(|owner| format!("owners/{owner}")).collect();
        assert_eq!(paid, expected);
        self.grid.check_money(job)
    }
}

/// Asks for the one lease that must be there.
async fn lease(device: &mut Device, max_units: u32) -> Result<v1::Lease> {
    let mut leases = device.ask(max_units, LONG).await?;
    assert_eq!(leases.len(), 1);
    leases.pop().context("a lease")
}

/// Reports every unit of a lease, which must be taken.
async fn taken(device: &mut Device, lease: &v1::Lease, result: &[u8]) -> Result<()> {
    let answer = device.report(report(lease, |_| result.to_vec())).await?;
    assert_eq!(answer.refusals, [], "a good report was refused");
    Ok(())
}

/// A report is refused for this reason.
async fn refused(device: &mut Device, wrong: v1::LeaseReport, reason: RefusalReason) -> Result<()> {
    let answer = device.report(wrong).await?;
    let reasons: Vec<RefusalReason> = answer.refusals.iter().map(v1::Refusal::reason).collect();
    assert_eq!(reasons, [reason], "{answer:?}");
    assert!(!answer.refusals[0].message.is_empty(), "a refusal says what to do");
    Ok(())
}

/// A call fails with this code, and says this.
fn failed<T: Debug>(result: Result<T, Status>, code: Code, says: &str) {
    let status = result.expect_err(says);
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(says), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolment() -> Result<()> {
    let scene = Scene::set(60).await?;
    let keys: [SigningKey; 2] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    scene.fleet.device("ada").await?;
    let token = scene.fleet.enrolment_token("ada", 1).await?;
    let check = |result: Result<Device>, code: Code, says: &str| {
        let error = result.err().unwrap_or_else(|| panic!("enrolled, not: {says}"));
        let status = error.downcast_ref::<Status>().expect("a status");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(says), "{status}");
    };

    check(scene.fleet.enrol("nonsense", &keys[0]).await, Code::PermissionDenied, "enrolment token");
    let wrong = scene.fleet.enrol_with_proof(&token, &keys[0], &[7; 64]).await;
    check(wrong, Code::InvalidArgument, "proof: is not the key's signature");
    check(scene.fleet.enrol_with_proof(&token, &keys[0], b"").await, Code::InvalidArgument, "proof");
    // None of these used the token up.
    scene.fleet.enrol(&token, &keys[0]).await?;
    check(scene.fleet.enrol(&token, &keys[1]).await, Code::PermissionDenied, "used");
    scene.grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials() -> Result<()> {
    let scene = Scene::set(60).await?;
    let token = {
        scene.fleet.device("ada").await?;
        scene.fleet.enrolment_token("ada", 2).await?
    };
    let keys: [SigningKey; 2] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let device = scene.fleet.enrol(&token, &keys[0]).await?;
    let other = scene.fleet.enrol(&token, &keys[1]).await?;
    let good = assertion(&keys[0], device.id, &device.grid_id);
    let sync = async |credentials: &str| {
        let mut device = device.with_credentials(credentials).expect("a header");
        device.sync(asking(1, Duration::ZERO)).await
    };

    assert!(sync(&good).await.is_ok());
    failed(sync("").await, Code::Unauthenticated, "no credentials");
    failed(sync("Lull-Device 1").await, Code::Unauthenticated, "malformed");
    let not_signed = "not signed by the device's key for this grid";
    failed(sync(&assertion(&keys[0], other.id, &device.grid_id)).await, Code::Unauthenticated, not_signed);
    failed(sync(&assertion(&keys[0], device.id, "another grid")).await, Code::Unauthenticated, not_signed);
    failed(
        sync(&assertion(&keys[0], 999, &device.grid_id)).await,
        Code::Unauthenticated,
        "not enrolled here",
    );
    // A wrong clock is no wrong device: an agent goes on trying.
    let expiry = good.split('.').nth(1).context("an expiry")?;
    for other_time in ["1000000000", "9000000000"] {
        let expired = good.replacen(expiry, other_time, 1);
        failed(sync(&expired).await, Code::FailedPrecondition, "set the clock of the PC");
    }
    failed(sync(&format!("Bearer {}", scene.grid.operator)).await, Code::Unauthenticated, "no credentials");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_reports_lose_nothing() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut ada, mut grace] = [scene.fleet.device("ada").await?, scene.fleet.device("grace").await?];
    let job = scene.job().await?;

    // A unit whose result cannot be used is free again, so each is leased anew.
    let held = lease(&mut ada, 1).await?;
    let mut wrong = report(&held, |_| b"one".to_vec());
    wrong.attempts[0].digest = Digest::of(b"two").as_bytes().to_vec();
    refused(&mut ada, wrong, RefusalReason::WrongDigest).await?;
    let held = lease(&mut ada, 1).await?;
    refused(&mut ada, report(&held, |_| vec![0; 4097]), RefusalReason::TooLarge).await?;
    let held = lease(&mut ada, 1).await?;
    let mut absent = report(&held, |_| Vec::new());
    (absent.attempts[0].size_bytes, absent.attempts[0].digest) =
        (5000, Digest::of(b"absent").as_bytes().to_vec());
    refused(&mut ada, absent, RefusalReason::WrongDigest).await?;

    let held = lease(&mut ada, 1).await?;
    refused(&mut grace, report(&held, |_| b"one".to_vec()), RefusalReason::NotYours).await?;
    let mut elsewhere = report(&held, |_| b"one".to_vec());
    elsewhere.attempts[0].index = 7;
    refused(&mut ada, elsewhere, RefusalReason::NotLeased).await?;
    let mut unknown = report(&held, |_| b"one".to_vec());
    unknown.lease_token += 1000;
    refused(&mut ada, unknown, RefusalReason::StaleLease).await?;

    taken(&mut ada, &held, b"one").await?;
    let again = lease(&mut grace, 1).await?;
    taken(&mut grace, &again, b"one").await?;
    scene.check_paid(&job, &["ada", "grace"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_report_changes_nothing() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut ada, mut grace] = [scene.fleet.device("ada").await?, scene.fleet.device("grace").await?];
    let job = scene.job().await?;
    let first = lease(&mut ada, 1).await?;
    taken(&mut ada, &first, b"one").await?;
    taken(&mut ada, &first, b"one").await?;
    refused(&mut ada, report(&first, |_| b"two".to_vec()), RefusalReason::StaleLease).await?;
    assert_eq!(scene.clinic.job(&job).await?.progress.unwrap_or_default().attempts, 1);

    let second = lease(&mut grace, 1).await?;
    taken(&mut grace, &second, b"one").await?;
    taken(&mut grace, &second, b"one").await?;
    scene.check_paid(&job, &["ada", "grace"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_result_is_evidence_until_the_verdict() -> Result<()> {
    let mut scene = Scene::set(1).await?;
    let [mut ada, mut grace] = [scene.fleet.device("ada").await?, scene.fleet.device("grace").await?];
    let mut mary = scene.fleet.device("mary").await?;

    let job = scene.job().await?;
    let late = lease(&mut ada, 1).await?;
    // The unit comes back when ada's lease has expired.
    let second = lease(&mut grace, 1).await?;
    refused(&mut ada, report(&late, |_| b"one".to_vec()), RefusalReason::StaleLease).await?;
    taken(&mut grace, &second, b"one").await?;
    scene.check_paid(&job, &["ada", "grace"]).await?;

    let job = scene.job().await?;
    let late = lease(&mut ada, 1).await?;
    let second = lease(&mut grace, 1).await?;
    taken(&mut grace, &second, b"one").await?;
    let third = lease(&mut mary, 1).await?;
    taken(&mut mary, &third, b"one").await?;
    refused(&mut ada, report(&late, |_| b"two".to_vec()), RefusalReason::StaleLease).await?;
    scene.check_paid(&job, &["grace", "mary"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_of_one_owner_never_decide_a_unit() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut one, mut two] = [scene.fleet.device("ada").await?, scene.fleet.device("ada").await?];
    let mut grace = scene.fleet.device("grace").await?;
    let job = scene.job().await?;
    let first = lease(&mut one, 1).await?;
    taken(&mut one, &first, b"one").await?;

    assert_eq!(two.ask(1, SHORT).await?, []);
    assert_eq!(one.ask(1, SHORT).await?, []);
    let state = scene.clinic.job(&job).await?;
    assert!(state.reason.contains("wait for a device of an owner"), "{}", state.reason);

    let second = lease(&mut grace, 1).await?;
    taken(&mut grace, &second, b"one").await?;
    scene.check_paid(&job, &["ada", "grace"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disagreement_brings_a_third_and_pays_those_who_agree() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let job = scene.job().await?;
    for (owner, result) in [("ada", b"one"), ("grace", b"two"), ("mary", b"one")] {
        let mut device = scene.fleet.device(owner).await?;
        let held = lease(&mut device, 1).await?;
        taken(&mut device, &held, result).await?;
    }
    scene.check_paid(&job, &["ada", "mary"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_read_only_what_their_lease_names() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut ada, mut grace] = [scene.fleet.device("ada").await?, scene.fleet.device("grace").await?];
    let module = scene.module.digest.clone();
    let secret = scene.clinic.upload("secret", b"of another job").await?;
    scene.job().await?;
    let held = lease(&mut ada, 1).await?;

    assert_eq!(Digest::of(&ada.read(module.clone(), held.token).await?).as_bytes(), &module[..]);
    failed(ada.read(secret.digest, held.token).await, Code::NotFound, "no blob");
    failed(ada.read(module.clone(), 0).await, Code::NotFound, "no lease");
    failed(grace.read(module, held.token).await, Code::NotFound, "no lease");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_what_it_says_it_is() -> Result<()> {
    let mut scene = Scene::set(60).await?;
    let [mut ada, mut grace] = [scene.fleet.device("ada").await?, scene.fleet.device("grace").await?];
    scene.job().await?;
    let held = lease(&mut ada, 1).await?;
    let (content, digest) = (vec![1; 5000], Digest::of(&[1; 5000]));

    failed(ada.upload(&content, Digest::of(b"other"), held.token).await, Code::InvalidArgument, "content");
    failed(ada.upload(&content, digest, 0).await, Code::NotFound, "no lease");
    failed(grace.upload(&content, digest, held.token).await, Code::NotFound, "no lease");
    ada.upload(&content, digest, held.token).await?;
    let mut whole = report(&held, |_| Vec::new());
    (whole.attempts[0].size_bytes, whole.attempts[0].digest) = (5000, digest.as_bytes().to_vec());
    let answer = ada.report(whole).await?;
    assert_eq!(answer.refusals, []);
    Ok(())
}
