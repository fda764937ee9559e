//! The loop that feeds the core and does what it says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lull_sandbox::RunnerConfig;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

use crate::blobs::Blobs;
use crate::cache::Cache;
use crate::checkpoints::{CHECKPOINTS_BYTES_MAX, Store};
use crate::compiled::{COMPILED_BYTES_MAX, Compiled};
use crate::control::{self, Ask, Pause};
use crate::core::{
    Agent, Attempt, AttemptKey, Command, Event, Network, Notify, People, SyncFailure, UnitName, UploadEnd,
};
use crate::desk::{Contact, Desk};
use crate::freezers::Freezers;
use crate::identity::Enrolment;
use crate::notify::Clerk;
use crate::os::Stop;
use crate::outbox::{Entry, Outbox, OutboxSender, Writer, Written};
use crate::presence::{self, Meter, Networks, Transfers, Watcher};
use crate::receipts::sheet::Holder;
use crate::receipts::{self, Keeper};
use crate::remote::{Remote, explain, is_temporary, unix_secs};
use crate::state_dir::StateDir;
use crate::walls::{Usable, Walls};
use crate::work::{Assignment, Tools, Worker};

/// A full disk is tried again this often.
const DISK_RETRY_EVERY: Duration = Duration::from_secs(5);
/// Exit code after a second signal, as shells number it.
const EXIT_INTERRUPTED: i32 = 130;

/// How the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Units at a time.
    pub slots: u32,
    /// What counts as a reason to rest.
    pub presence: presence::Settings,
    /// Size of the cache.
    pub cache_bytes: u64,
    /// How a runner is started.
    pub runner: RunnerConfig,
    /// Time between two checkpoints of a unit; `None`: none are taken.
    pub checkpoint_every: Option<Duration>,
    /// How often somebody who comes back is told what was earned.
    pub notify: Notify,
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// The coordinator does not know the device any more.
    UnknownDevice,
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The outbox cannot be opened.
    #[error("the outbox cannot be used: {0}")]
    Outbox(std::io::Error),
    /// The cache cannot be opened.
    #[error("the cache cannot be used: {0}")]
    Cache(std::io::Error),
    /// The checkpoints cannot be opened.
    #[error("the checkpoints cannot be used: {0}")]
    Checkpoints(std::io::Error),
    /// The receipts cannot be opened.
    #[error("the receipts cannot be used: {0}")]
    Receipts(std::io::Error),
    /// The owner could not speak to the agent, so could not pause it either.
    #[error(transparent)]
    Control(#[from] control::SocketError),
    /// A thread or a signal handler is refused.
    #[error("the system refused a thread or a signal handler: {0}")]
    System(std::io::Error),
}

/// Runs the agent until it is told to end.
///
/// # Errors
/// When it cannot start.
pub async fn run(settings: Settings, state: &StateDir, remote: Remote) -> Result<End, Error> {
    let outbox = Outbox::open(&state.outbox()).map_err(Error::Outbox)?;
    let cache = Cache::open(&state.cache(), settings.cache_bytes).map_err(Error::Cache)?;
    let checkpoints = Store::open(&state.checkpoints(), CHECKPOINTS_BYTES_MAX, remote.identity().clone())
        .map_err(Error::Checkpoints)?;
    #[allow(clippy::disallowed_methods, reason = "the time of files, which the same clock wrote")]
    checkpoints.forget_unused(std::time::SystemTime::now());
    let compiled = Compiled::open(&state.compiled(), &settings.runner.path, COMPILED_BYTES_MAX);
    let compiled = Arc::new(compiled.map_err(Error::Cache)?);
    let Enrolment { grid_id, device_id, .. } = &remote.identity().enrolment;
    let holder = Holder { grid_id: grid_id.clone(), device_id: *device_id };
    let receipts = receipts::Store::open(&state.receipts(), holder).map_err(Error::Receipts)?;
    let (events, received) = mpsc::unbounded_channel();
    let meter = begin(&settings.presence, &outbox, &events).map_err(Error::System)?;
    let remote = Arc::new(remote);
    let outbox_folder = outbox.folder().to_owned();
    let outbox =
        Writer::start(outbox, DISK_RETRY_EVERY, tell_written(events.clone())).map_err(Error::System)?;
    let freezers = Freezers::new();
    listen_for_signals(events.clone(), freezers.clone()).map_err(Error::System)?;
    let watcher = watch(settings.presence, freezers.clone(), events.clone()).map_err(Error::System)?;
    let walls = look_at_walls(settings.runner.clone(), events.clone()).map_err(Error::System)?;
    let tools = Tools {
        runtime: Handle::current(),
        blobs: Arc::new(Blobs::new(cache, Arc::clone(&remote), meter.clone())),
        freezers,
        compiled,
        runner: settings.runner,
        checkpoints: Arc::new(checkpoints),
        checkpoint_every: settings.checkpoint_every,
        events: events.clone(),
        outbox: outbox.clone(),
    };
    let contact = Arc::new(Mutex::new(Contact::default()));
    let pause = Pause::read(state.pause());
    let clerk = Clerk::start(Arc::clone(&remote), state.absence(), settings.notify);
    let desk = Desk::new(watcher, pause, remote.coordinator().to_owned(), Arc::clone(&contact), clerk)
        .with_meter(meter)
        .with_walls(walls);
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let socket = control::socket_path(state.path(), runtime_dir.as_deref())?;
    let (_server, asks) = control::Server::start(&socket)?;
    let shell = Shell {
        tools,
        remote,
        receipts: Keeper::new(receipts),
        outbox,
        outbox_folder,
        events,
        workers: BTreeMap::new(),
        call: None,
        desk,
        contact,
    };
    Ok(shell.run(Agent::new(settings.slots, Instant::now()), received, asks).await)
}

/// What the core hears first: that the network may cost, then what an earlier run left, which is uploaded if it does not. It says
/// which units of a lease need not run again.
fn begin(
    settings: &presence::Settings,
    outbox: &Outbox,
    events: &UnboundedSender<Event>,
) -> std::io::Result<Meter> {
    let meter = meter(settings, events.clone())?;
    for attempt in outbox.attempts().cloned() {
        let _ = events.send(Event::Stored(attempt));
    }
    Ok(meter)
}

/// Looks whether guests can be run here. Until it is known that they can, nothing is asked for.
fn look_at_walls(runner: RunnerConfig, events: UnboundedSender<Event>) -> std::io::Result<Walls> {
    let _ = events.send(Event::RunnerUnusable);
    Walls::look(runner, move |usable| {
        let _ = events.send(match usable {
            Usable::Yes => Event::RunnerUsable,
            Usable::No => Event::RunnerUnusable,
        });
    })
}

fn tell_written(events: UnboundedSender<Event>) -> impl Fn(Written) + Send + 'static {
    move |written| {
        let event = match written {
            Written::Stored(attempt) => Event::Stored(attempt),
            Written::Failed(error) => {
                tracing::error!(%error, "the outbox cannot be written: finished units wait in memory and no work is asked for; free some space");
                Event::StoreFailed
            }
            Written::Recovered => {
                tracing::info!("the outbox can be written again");
                Event::StoreRecovered
            }
        };
        let _ = events.send(event);
    }
}

fn watch(
    settings: presence::Settings,
    freezers: Freezers,
    events: UnboundedSender<Event>,
) -> std::io::Result<Watcher> {
    if settings.people == People::Nobody {
        tracing::info!("dedicated: presence is not watched, guests run at any time");
    }
    Watcher::start(settings, freezers, move |presence| {
        tracing::info!(?presence, "presence");
        let _ = events.send(Event::PresenceChanged(presence));
    })
}

/// Watches the network if its price matters. Until it is known, nothing is asked for.
fn meter(settings: &presence::Settings, events: UnboundedSender<Event>) -> std::io::Result<Meter> {
    if settings.transfers == Transfers::Any && settings.networks == Networks::Any {
        return Ok(Meter::unwatched());
    }
    let _ = events.send(Event::NetworkChanged(Network::Metered));
    Meter::watch(settings, move |network| {
        tracing::info!(?network, "network");
        let _ = events.send(Event::NetworkChanged(network));
    })
}

fn listen_for_signals(events: UnboundedSender<Event>, freezers: Freezers) -> std::io::Result<()> {
    let mut stop = Stop::listen()?;
    tokio::spawn(async move {
        stop.next().await;
        tracing::info!("ending: unfinished units are handed back; a second signal ends at once");
        let _ = events.send(Event::StopRequested);
        stop.next().await;
        freezers.kill_all();
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(())
}

struct Shell {
    tools: Tools,
    remote: Arc<Remote>,
    receipts: Keeper,
    outbox: OutboxSender,
    outbox_folder: PathBuf,
    events: UnboundedSender<Event>,
    workers: BTreeMap<u64, Worker>,
    call: Option<JoinHandle<()>>,
    desk: Desk,
    contact: Arc<Mutex<Contact>>,
}

impl Shell {
    async fn run(
        mut self,
        mut agent: Agent,
        mut received: UnboundedReceiver<Event>,
        mut asks: Receiver<Ask>,
    ) -> End {
        loop {
            let wake_at = agent.wake_at(Instant::now()).into_iter().chain(self.desk.wake_at()).min();
            let woken = async {
                match wake_at {
                    Some(at) => drop(tokio::time::timeout_at(at.into(), std::future::pending::<()>()).await),
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = received.recv() => event,
                Some(ask) = asks.recv() => match self.desk.answer(ask, &agent) {
                    Some(event) => Some(event),
                    None => continue,
                },
                () = woken => Some(Event::Woken),
            };
            self.desk.look(matches!(event, Some(Event::PresenceChanged(_))));
            match event {
                Some(Event::UnitFinished(_)) => self.desk.count_finished(),
                // The next may fail as this one did.
                Some(Event::LeaseFailed { .. }) => self.desk.look_at_walls_again(),
                _ => {}
            }
            // This holds a sender itself, so that there is always a next event.
            let event = event.unwrap_or(Event::StopRequested);
            for command in agent.handle(event, Instant::now(), rand::random()) {
                if let Some(end) = self.carry_out(command) {
                    self.tools.freezers.kill_all();
                    return end;
                }
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Option<End> {
        match command {
            Command::Start(lease) => {
                let token = lease.token;
                match Worker::start(lease, self.tools.clone()) {
                    Ok(worker) => drop(self.workers.insert(token, worker)),
                    Err(error) => {
                        tracing::error!(lease = token, %error, "no thread for a lease; it is handed back");
                        let _ = self.events.send(Event::LeaseFailed { token });
                    }
                }
            }
            Command::Run(key) => {
                if let Some(worker) = self.workers.get(&key.token) {
                    worker.run(key.index);
                }
            }
            Command::End { token } => {
                self.tools.freezers.kill(token);
                self.workers.remove(&token);
            }
            Command::Sync { id, request, timeout } => self.sync(id, request, timeout),
            Command::Upload(attempt) => self.upload(attempt),
            Command::FindCheckpoints(lease) => self.find_checkpoints(&lease),
            Command::UploadCheckpoint(key, unit) => self.upload_checkpoint(key, unit),
            Command::DropCheckpoint(unit) => self.tools.checkpoints.remove(&unit),
            Command::Forget(key) => self.outbox.send(Entry::Forget(key)),
            Command::LogRefusal(refusal) => tracing::warn!(
                lease = refusal.lease_token,
                unit = refusal.index,
                reason = refusal.reason().as_str_name(),
                remedy = refusal.message,
                "a report was not recorded"
            ),
            Command::LogLost { token } => {
                tracing::info!(lease = token, "a lease is lost: its units went elsewhere, or its job ended");
            }
            Command::Exit => return Some(End::Stopped),
            Command::ExitUnknownDevice => return Some(End::UnknownDevice),
        }
        None
    }

    fn sync(&mut self, id: u64, mut request: lull_proto::v1::SyncRequest, timeout: Duration) {
        if let Some(call) = self.call.take() {
            call.abort();
        }
        let (remote, events) = (Arc::clone(&self.remote), self.events.clone());
        let receipts = self.receipts.clone();
        let now = Instant::now();
        request.held_receipts = receipts.wanted(now);
        if request.held_receipts.is_none()
            && let Some(Ok(wait)) = request.wait.map(Duration::try_from)
        {
            // Only a call that asks for receipts is answered when there are some: this one gives way to it.
            request.wait = prost_types::Duration::try_from(wait.min(receipts.asks_in(now))).ok();
        }
        let contact = Arc::clone(&self.contact);
        let note = move |problem| {
            let mut contact = contact.lock().unwrap_or_else(PoisonError::into_inner);
            contact.note(problem, unix_secs())
        };
        self.call = Some(tokio::spawn(async move {
            let event = match remote.sync(request, timeout).await {
                Ok(mut response) => {
                    if note(None) {
                        tracing::info!("the coordinator answers");
                    }
                    if let Some(sheet) = response.receipts.take() {
                        receipts.keep(sheet);
                    }
                    Event::SyncAnswered { id, response }
                }
                Err(status) => {
                    // Once: it may be away for days.
                    if note(Some(explain(&status))) {
                        tracing::warn!(
                            error = explain(&status),
                            "the coordinator cannot be used; it is tried again"
                        );
                    }
                    // Whatever was wrong with it, the clock included, may be right in the next one.
                    remote.renew_assertion();
                    let failure = if status.code() == tonic::Code::Unauthenticated {
                        SyncFailure::Unauthenticated
                    } else {
                        SyncFailure::Unreachable
                    };
                    Event::SyncFailed { id, failure }
                }
            };
            let _ = events.send(event);
        }));
    }

    fn find_checkpoints(&self, lease: &lull_proto::v1::Lease) {
        // One that makes no sense is handed back when it is started.
        let Ok(assignment) = Assignment::check(lease) else { return };
        for &index in &lease.indices {
            let unit = assignment.unit(index);
            if !self.tools.checkpoints.has(&unit) {
                continue;
            }
            let key = AttemptKey { token: lease.token, index };
            let leased = assignment.checkpoint_of(index).map(|leased| leased.state_digest);
            let (checkpoints, events) = (Arc::clone(&self.tools.checkpoints), self.events.clone());
            tokio::task::spawn_blocking(move || {
                // One from an earlier lease that goes back to a state which this one does not name must not be handed back
                // under it: whose work is in it would not be known.
                if checkpoints.get(&unit).is_some_and(|(saved, _)| saved.is_good_for(leased)) {
                    let _ = events.send(Event::CheckpointSaved(key, unit));
                }
            });
        }
    }

    fn upload_checkpoint(&self, key: AttemptKey, unit: UnitName) {
        let (remote, events) = (Arc::clone(&self.remote), self.events.clone());
        let checkpoints = Arc::clone(&self.tools.checkpoints);
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || checkpoints.get(&unit)).await;
            let mut uploaded = None;
            if let Ok(Some((saved, state))) = read {
                match remote.write_blob(saved.blob_digest, state, key.token).await {
                    Ok(()) => {
                        tracing::info!(
                            lease = key.token,
                            unit = key.index,
                            steps = saved.steps,
                            "a checkpoint is handed back"
                        );
                        uploaded = Some(Box::new(saved.to_proto()));
                    }
                    Err(status) => tracing::warn!(
                        lease = key.token,
                        unit = key.index,
                        error = explain(&status),
                        "a checkpoint was not uploaded; its unit is handed back without"
                    ),
                }
            }
            let _ = events.send(Event::CheckpointUploaded(key, uploaded));
        });
    }

    fn upload(&self, attempt: Attempt) {
        let (remote, events) = (Arc::clone(&self.remote), self.events.clone());
        let folder = self.outbox_folder.clone();
        tokio::spawn(async move {
            let (key, digest) = (attempt.key, attempt.digest);
            let read = tokio::task::spawn_blocking(move || crate::outbox::read_result(&folder, digest));
            let end = match read.await {
                Ok(Some(bytes)) => match remote.write_blob(digest, bytes, key.token).await {
                    Ok(()) => UploadEnd::Done,
                    Err(status) => {
                        tracing::warn!(
                            lease = key.token,
                            unit = key.index,
                            error = explain(&status),
                            "a result was not uploaded"
                        );
                        // A coordinator that does not know this device may be another's for a while.
                        let is_unknown = status.code() == tonic::Code::Unauthenticated;
                        if is_unknown || is_temporary(&status) {
                            UploadEnd::TryAgain
                        } else {
                            UploadEnd::Refused
                        }
                    }
                },
                Ok(None) | Err(_) => {
                    tracing::error!(
                        lease = key.token,
                        unit = key.index,
                        "a result in the outbox is damaged; its unit is handed back"
                    );
                    UploadEnd::Unreadable
                }
            };
            let _ = events.send(Event::UploadEnded(key, end));
        });
    }
}

#[cfg(test)]
mod tests {
    use lull_job::Stage;
    use lull_sandbox::{Outcome, UnitRun};

    use super::*;

    #[test]
    fn whether_the_network_costs_is_asked_before_results_of_an_earlier_run_are_uploaded() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        let run = UnitRun { outcome: Outcome::Result(vec![1; 5000]), cpu_micros: 1, fuel: None };
        let (attempt, large) = Attempt::of(AttemptKey { token: 1, index: 0 }, 3, Stage::Work, run);
        outbox.write(&[Entry::Put(Box::new(attempt), large)]).unwrap();
        let settings =
            presence::Settings { transfers: Transfers::Unmetered, ..presence::Settings::default() };
        let (events, mut received) = mpsc::unbounded_channel();

        let _meter = begin(&settings, &outbox, &events).unwrap();

        let (mut agent, now) = (Agent::new(1, Instant::now()), Instant::now());
        let mut is_free = false;
        loop {
            let event = received.blocking_recv().unwrap();
            // Its word may come at any time.
            is_free |= matches!(event, Event::NetworkChanged(Network::Free));
            let is_stored = matches!(event, Event::Stored(_));
            let commands = agent.handle(event, now, 7);
            let is_uploaded = commands.iter().any(|command| matches!(command, Command::Upload(_)));
            assert!(is_free || !is_uploaded, "uploaded before it was known what that costs");
            if is_stored {
                return;
            }
        }
    }
}
