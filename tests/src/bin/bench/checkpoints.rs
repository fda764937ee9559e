//! What checkpoints cost a guest that has written all of its 64 MiB since the last one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use lull_job::{Digest, Stage};
use lull_sandbox::checkpoint::Progress;
use lull_sandbox::{
    FUEL_MAX, Flavour, Freezer, Limits, Outcome, Program, RunOn, Runner, RunnerConfig, WallPolicy,
};
use lull_tests::procfs::cpu_nanos;
use lull_worker::args::CHECKPOINT_SECS_DEFAULT;
use lull_worker::checkpoints::{CHECKPOINTS_BYTES_MAX, Facts, Store};
use lull_worker::core::UnitName;
use lull_worker::identity::{Enrolment, Identity};

use crate::{Figure, percentile_ms};

/// Pages that the guest writes between two steps: 64 MiB.
const PAGES: u32 = 1024;
/// Steps of its unit: all but the last are followed by a checkpoint.
const STEPS: u32 = 9;
/// Times that its unit is run in each way, by turns.
const ROUNDS: usize = 7;

/// A guest whose every step fills 64 MiB with the next numbers of Marsaglia's xorshift64 (J. Stat. Softw. 8(14),
/// 2003): no page stays as it was, and none can be compressed, which is the worst that there is.
fn guest() -> Result<Vec<u8>> {
    let (first, last) = (1 << 16, (PAGES + 1) << 16);
    let text = format!(
        r#"(module
            (memory (export "memory") {pages})
            (global $x (mut i64) (i64.const 88172645463325252))
            (global $steps (mut i32) (i32.const 0))
            (func (export "lull_abi_version") (result i32) i32.const 1)
            (func (export "lull_alloc") (param i32) (result i32) i32.const 1024)
            (func (export "lull_input") (param i32 i32 i32 i32))
            (func (export "lull_prepare") (result i32) i32.const 1)
            (func (export "lull_begin") (param i32 i32) (result i32) i32.const 0)
            (func (export "lull_step") (result i32) (local $x i64) (local $at i32)
                (local.set $x (global.get $x))
                (local.set $at (i32.const {first}))
                (loop $next
                    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
                    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
                    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
                    (i64.store (local.get $at) (local.get $x))
                    (local.set $at (i32.add (local.get $at) (i32.const 8)))
                    (br_if $next (i32.lt_u (local.get $at) (i32.const {last}))))
                (global.set $x (local.get $x))
                (global.set $steps (i32.add (global.get $steps) (i32.const 1)))
                (i32.eq (global.get $steps) (i32.const {STEPS})))
            (func (export "lull_result_ptr") (result i32) i32.const {first})
            (func (export "lull_result_len") (result i32) i32.const 8))"#,
        pages = PAGES + 1,
    );
    Ok(wat::parse_str(text)?)
}

/// What becomes of the checkpoints.
enum Checkpoints<'a> {
    /// None are taken.
    None,
    /// One after every step; this process forgets them.
    Forgotten,
    /// One after every step; this process keeps them, as an agent does.
    Kept(&'a Store),
}

/// What a run of the unit took.
struct Cost {
    wall: Duration,
    /// CPU time of the runner and of this process.
    cpu: Duration,
}

/// `checkpoint_ms_64mib`: time for which a checkpoint holds the guest up, in the median: hashing 64 MiB,
/// compressing them in vain, and handing them over a pipe to a host that takes them in. The host signs and
/// writes them to disk while the guest goes on. It is the wall-clock time of a unit with a checkpoint after every
/// step, less that of the same unit without, by their number.
///
/// `checkpoint_overhead_percent`: CPU time that such a checkpoint takes, of the runner and of the host, its file
/// included, at one every default interval. A run of minutes would show the same, under noise that is larger.
pub(crate) fn sixty_four_mib() -> Result<Vec<Figure>> {
    let module = guest()?;
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), CHECKPOINTS_BYTES_MAX, identity())?;
    let (mut held_up, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let without = run(&module, &Checkpoints::None)?;
        let forgotten = run(&module, &Checkpoints::Forgotten)?;
        let kept = run(&module, &Checkpoints::Kept(&store))?;
        held_up.push(forgotten.wall.saturating_sub(without.wall) / (STEPS - 1));
        cpu.push(kept.cpu.saturating_sub(without.cpu) / (STEPS - 1));
    }
    let interval_secs: f64 = CHECKPOINT_SECS_DEFAULT.parse()?;
    #[allow(clippy::float_arithmetic, reason = "a measurement")]
    let percent = percentile_ms(&mut cpu, 50) / (interval_secs * 1000.0) * 100.0;
    Ok(vec![
        Figure { name: "checkpoint_ms_64mib", value: percentile_ms(&mut held_up, 50), unit: "ms" },
        Figure { name: "checkpoint_overhead_percent", value: percent, unit: "%" },
    ])
}

/// Runs the unit in a runner of its own.
fn run(module: &[u8], checkpoints: &Checkpoints<'_>) -> Result<Cost> {
    let config = RunnerConfig { path: lull_sandbox::find_runner(None)?, require: WallPolicy::Required };
    let mut runner = Runner::start(&config, &Freezer::new())?;
    let limits =
        Limits { memory_bytes: u64::from(PAGES + 1) << 16, unit_secs: 600, result_bytes: 8, fuel: FUEL_MAX };
    runner.load(&Program { module, inputs: &[], limits, flavour: Flavour::Normal })?;
    let unit = lull_abi::Unit {
        stage: lull_abi::Stage::Work,
        number: 0,
        payload: lull_abi::Payload::Range { start: 0, end: 1 },
    };
    let every = (!matches!(checkpoints, Checkpoints::None)).then_some(Duration::ZERO);
    let how = RunOn { checkpoint_every: every, ..RunOn::default() };
    let (mut told, mut kept) = (0, Ok(()));
    let (start, cpu) = (Instant::now(), cpu_nanos(rustix::process::getpid())?);
    let run = runner.run_on(&unit, how, &mut |progress| {
        told += 1;
        if let (Progress::Checkpoint(image, state), Checkpoints::Kept(store)) = (progress, checkpoints) {
            let facts = Facts {
                state_digest: state.digest,
                base: None,
                cpu_micros: state.cpu_micros,
                ran: state.ran,
                witnessed: Vec::new(),
            };
            if kept.is_ok() {
                kept = store.put(name(), image, facts).map(drop);
            }
        }
    })?;
    let (wall, cpu) = (start.elapsed(), cpu_nanos(rustix::process::getpid())? - cpu);
    kept.context("keeping a checkpoint")?;
    ensure!(matches!(run.outcome, Outcome::Result(_)), "the guest ended with {:?}", run.outcome);
    let wanted = if every.is_some() { STEPS - 1 } else { 0 };
    ensure!(told == wanted, "{told} checkpoints, not {wanted}");
    Ok(Cost { wall, cpu: Duration::from_nanos(cpu) + Duration::from_micros(run.cpu_micros) })
}

fn name() -> UnitName {
    UnitName { job_id: 1, stage: Stage::Work, index: 0, made_of: Digest::of(b"module") }
}

/// Some device.
pub(crate) fn identity() -> Identity {
    let enrolment = Enrolment {
        device_id: 1,
        grid_id: "grid".to_owned(),
        owner: "owners/ada".to_owned(),
        coordinator: "http://127.0.0.1:1".to_owned(),
    };
    Identity::with_key(SigningKey::from_bytes(&[7; 32]), enrolment)
}
