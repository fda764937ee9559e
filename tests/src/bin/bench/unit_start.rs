//! How soon a unit begins once its lease is there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lull_job::Digest;
use lull_proto::v1;
use lull_sandbox::{Flavour, RunnerConfig, WallPolicy};
use lull_tests::{DEADLINE, guest};
use lull_worker::blobs::Blobs;
use lull_worker::cache::Cache;
use lull_worker::checkpoints::{CHECKPOINTS_BYTES_MAX, Store};
use lull_worker::compiled::{COMPILED_BYTES_MAX, Compiled};
use lull_worker::core::{AttemptKey, Event};
use lull_worker::freezers::Freezers;
use lull_worker::outbox::{Outbox, Writer};
use lull_worker::presence::Meter;
use lull_worker::remote::{Remote, channel};
use lull_worker::work::{Tools, Worker};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::checkpoints::identity;
use crate::{Figure, percentile_ms, throughput};

/// Leases, one after another.
const LEASES: u64 = 101;
/// Where no coordinator is: nothing has to be fetched.
const NOWHERE: &str = "http://127.0.0.1:1";

/// `unit_start_ms`: from a lease in the agent's hand to its first unit's end, in the median, of a guest that does next
/// to nothing: its first instruction comes a little earlier. In between the module and its compiled form are read from
/// disk and verified, and a runner is started, locks itself down, and takes them in. The agent has had the module before.
pub(crate) fn unit_start() -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let module = std::fs::read(guest("hello"))?;
    let mut times = throughput::runtime()?.block_on(async {
        let (tools, mut events) = tools(folder.path(), &module)?;
        // The first compiles the module.
        first_unit(&tools, &mut events, lease(0, &module)).await?;
        let mut times = Vec::new();
        for token in 1..=LEASES {
            times.push(first_unit(&tools, &mut events, lease(token, &module)).await?);
        }
        Ok::<_, anyhow::Error>(times)
    })?;
    Ok(vec![Figure { name: "unit_start_ms", value: percentile_ms(&mut times, 50), unit: "ms" }])
}

/// From a lease to the end of its unit.
async fn first_unit(
    tools: &Tools,
    events: &mut UnboundedReceiver<Event>,
    lease: v1::Lease,
) -> Result<Duration> {
    let token = lease.token;
    let start = Instant::now();
    let worker = Worker::start(Arc::new(lease), tools.clone())?;
    worker.run(0);
    loop {
        match tokio::time::timeout(DEADLINE, events.recv()).await?.context("nobody tells anything")? {
            Event::UnitFinished(AttemptKey { token: of, index: 0 }) if of == token => {
                let time = start.elapsed();
                tools.freezers.kill(token);
                return Ok(time);
            }
            Event::LeaseFailed { .. } => bail!("the lease cannot be worked on"),
            _ => {}
        }
    }
}

/// What an agent gives to its leases' threads, on a PC where nobody is.
fn tools(folder: &Path, module: &[u8]) -> Result<(Tools, UnboundedReceiver<Event>)> {
    let [cache, compiled, checkpoints, outbox] =
        ["cache", "compiled", "checkpoints", "outbox"].map(|name| folder.join(name));
    for path in [&cache, &compiled, &checkpoints, &outbox] {
        std::fs::create_dir(path)?;
    }
    let cache = Cache::open(&cache, 1 << 30)?;
    cache.put(Digest::of(module), module.to_vec());
    let runner = RunnerConfig { path: lull_sandbox::find_runner(None)?, require: WallPolicy::Required };
    let remote = Arc::new(Remote::new(channel(NOWHERE)?, identity()));
    let freezers = Freezers::new();
    freezers.thaw_all();
    let (events, told) = mpsc::unbounded_channel();
    let tools = Tools {
        runtime: Handle::current(),
        blobs: Arc::new(Blobs::new(cache, remote, Meter::unwatched())),
        freezers,
        compiled: Arc::new(Compiled::open(&compiled, &runner.path, COMPILED_BYTES_MAX)?),
        runner,
        checkpoints: Arc::new(Store::open(&checkpoints, CHECKPOINTS_BYTES_MAX, identity())?),
        checkpoint_every: Some(Duration::from_secs(60)),
        events,
        outbox: Writer::start(Outbox::open(&outbox)?, DEADLINE, |_| ())?,
    };
    ensure!(tools.compiled.get(Digest::of(module), Flavour::Normal).is_none(), "an empty cache");
    Ok((tools, told))
}

fn lease(token: u64, module: &[u8]) -> v1::Lease {
    let module = v1::Input {
        name: "hello".to_owned(),
        digest: Digest::of(module).as_bytes().to_vec(),
        size_bytes: module.len() as u64,
    };
    let range = v1::split::Kind::Range(v1::IntegerRange { start: 0, end: 1 });
    v1::Lease {
        token,
        job: Some(v1::LeasedJob {
            job_id: 1,
            module: Some(module),
            split: Some(v1::Split { kind: Some(range) }),
            items: 1,
            items_per_unit: 1,
            limits: Some(v1::Limits { memory_bytes: 64 << 20, unit_secs: 60, result_bytes: 4096 }),
            ..v1::LeasedJob::default()
        }),
        stage: Some(v1::Stage { kind: v1::StageKind::Work.into(), level: 0 }),
        indices: vec![0],
        ..v1::Lease::default()
    }
}
