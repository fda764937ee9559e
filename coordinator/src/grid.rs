//! Where calls of devices meet: those that wait while one batch commits become the next batch.
//!
//! Nothing here is state that a restart would miss: a waiting call, a hint about who is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lull_proto::v1;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::core::{
    DeviceId, Fairness, JobId, Lease, Network, Networks, Onlookers, OwnerId, Policy, Reply, Request, Trouble,
};
use crate::receipts::Receipts;
use crate::store::{self, Aftermath, DeviceSeen, Hints, Store, Tokens};

/// Calls decided in one transaction.
const BATCH_CALLS_MAX: usize = 256;
/// Calls that wait to be decided; more are told to come back.
const QUEUE_CALLS_MAX: usize = 4_096;
/// How long a device counts as there after a call.
const PRESENT_FOR: Duration = Duration::from_secs(60);
/// Waiting calls look for work this often even when nobody wakes them: another coordinator may have made some.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A call on its way through the grid.
struct Call {
    request: Request,
    /// Until when it waits for work; it does not wait when that is past.
    wait_until: Instant,
    /// Whether it asks for receipts too: then it waits no longer than until its device is paid.
    receipts: bool,
    answer: oneshot::Sender<Result<Answer, Arc<store::Error>>>,
}

/// What a call gets.
#[derive(Debug)]
pub struct Answer {
    /// What the core replied.
    pub reply: Reply,
    /// The leases of the reply.
    pub leases: Vec<Lease>,
    /// Jobs whose leases may come with checkpoints and the like.
    pub checkpointed: Arc<BTreeSet<JobId>>,
}

/// Why a call was not decided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many calls wait.
    #[error("{QUEUE_CALLS_MAX} calls are waiting: try again in a few seconds")]
    Busy,
    /// The coordinator is going down.
    #[error("the coordinator is shutting down: try again")]
    ShuttingDown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Arc<store::Error>),
}

/// The meeting place.
#[derive(Clone)]
pub struct Grid {
    calls: mpsc::Sender<Call>,
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    lease_ttl: Duration,
    policy: Policy,
    receipts: Arc<Receipts>,
    work: Notify,
    due: mpsc::UnboundedSender<Due>,
    seen: Mutex<BTreeMap<DeviceId, Seen>>,
    known: Mutex<Known>,
}

/// What is read from the database every now and then: hints.
#[derive(Default)]
struct Known {
    /// Where owners called from, of which others on the same database know too.
    lately: BTreeMap<OwnerId, BTreeSet<Network>>,
    lately_at: Option<Instant>,
    networks: Arc<Networks>,
    /// Devices that failed.
    troubles: Arc<BTreeMap<DeviceId, Trouble>>,
}

/// A job that needs more than a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// Its split has returned: count the items.
    Count(JobId),
    /// Its work is done: look it over.
    Review(JobId),
    /// It is complete, and no pay for it is held back any more.
    Settle(JobId),
}

struct Seen {
    owner: OwnerId,
    referee: bool,
    asks: bool,
    presence: i16,
    at: Instant,
    noted: bool,
    /// Whether its call waits for work, and there was none.
    waits: bool,
    network: Option<Network>,
}

impl Seen {
    /// Whether it is a referee that would take work: a dispute must not wait for a PC that is in use, or busy for long.
    fn settles(&self) -> bool {
        let is_free = [v1::Presence::Idle, v1::Presence::Dedicated].map(|free| free as i32);
        self.referee && self.asks && is_free.contains(&i32::from(self.presence))
    }
}

impl Grid {
    /// Opens the meeting place. Jobs that need more than a batch come out of the receiver.
    #[must_use]
    pub fn open(
        store: Store,
        lease_ttl: Duration,
        policy: Policy,
        receipts: Arc<Receipts>,
    ) -> (Self, mpsc::UnboundedReceiver<Due>) {
        let (calls, queue) = mpsc::channel(QUEUE_CALLS_MAX);
        let (due, needing) = mpsc::unbounded_channel();
        let seen = Mutex::new(BTreeMap::new());
        let (work, known) = (Notify::new(), Mutex::default());
        let shared = Arc::new(Shared { store, lease_ttl, policy, receipts, work, due, seen, known });
        let combiner = tokio::spawn(combine(Arc::clone(&shared), queue));
        tokio::spawn(async move {
            if combiner.await.is_err_and(|error| error.is_panic()) {
                // A coordinator that answers but decides nothing is worse than one that is started again.
                tracing::error!("deciding a batch panicked");
                std::process::abort();
            }
        });
        (Self { calls, shared }, needing)
    }

    /// Decides one call, together with others.
    ///
    /// # Errors
    /// When too many wait, or the database fails.
    pub async fn sync(
        &self,
        request: Request,
        presence: i16,
        wait: Duration,
        receipts: bool,
    ) -> Result<Answer, Error> {
        self.shared.note(&request, presence);
        let (answer, answered) = oneshot::channel();
        let call = Call { request, wait_until: Instant::now() + wait, receipts, answer };
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::ShuttingDown,
        })?;
        Ok(answered.await.map_err(|_| Error::ShuttingDown)??)
    }

    /// Who could take a second copy of a unit.
    #[must_use]
    pub fn onlookers(&self) -> Onlookers {
        let all = self.shared.lock_seen();
        let there = || all.values().filter(|seen| seen.at.elapsed() < PRESENT_FOR);
        Onlookers {
            there: there().map(|seen| seen.owner).collect(),
            waiting: there().filter(|seen| seen.waits).map(|seen| seen.owner).collect(),
        }
    }

    /// Tells those who wait what a transaction means for them.
    pub fn tell(&self, aftermath: &Aftermath) {
        self.shared.tell(aftermath);
    }

    /// What is known of the grid as a whole.
    #[must_use]
    pub fn hints(&self) -> Hints {
        self.shared.hints()
    }

    /// What the operator assumes.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.shared.policy
    }

    /// How long a lease lives without being renewed.
    #[must_use]
    pub fn lease_ttl(&self) -> Duration {
        self.shared.lease_ttl
    }

    /// Writes down who called since the last time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_devices(&self) -> Result<(), store::Error> {
        let seen: Vec<DeviceSeen> = {
            let mut all = self.shared.lock_seen();
            all.retain(|_, seen| !seen.noted || seen.at.elapsed() < PRESENT_FOR);
            let fresh = all.iter_mut().filter(|(_, seen)| !seen.noted);
            fresh
                .map(|(device, seen)| {
                    seen.noted = true;
                    DeviceSeen { device: *device, presence: seen.presence, network: seen.network }
                })
                .collect()
        };
        if !seen.is_empty() {
            self.shared.store.devices_seen(&seen).await?;
        }
        self.shared.learn_networks().await?;
        self.shared.learn_troubles().await
    }
}

impl Shared {
    fn lock_seen(&self) -> std::sync::MutexGuard<'_, BTreeMap<DeviceId, Seen>> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note(&self, request: &Request, presence: i16) {
        let (owner, referee, asks) = (request.owner, request.referee, request.want.is_some());
        let network = request.network;
        let seen =
            Seen { owner, referee, asks, presence, at: Instant::now(), noted: false, waits: false, network };
        self.lock_seen().insert(request.device, seen);
    }

    fn hints(&self) -> Hints {
        let (networks, troubles) = self.known();
        let all = self.lock_seen();
        let there = || all.values().filter(|seen| seen.at.elapsed() < PRESENT_FOR);
        // One that failed and gets nothing for a while settles nothing.
        let rests = |device| troubles.get(device).is_some_and(|trouble| trouble.rest_secs() > 0);
        let referees = all
            .iter()
            .filter(|(device, seen)| seen.at.elapsed() < PRESENT_FOR && seen.settles() && !rests(*device));
        let referees_there = referees.map(|(_, seen)| seen.owner).collect();
        Hints {
            networks,
            troubles,
            grid_slots: there().count() as u64,
            grid_owners: there().map(|seen| seen.owner).collect::<BTreeSet<_>>().len() as u64,
            referees_there,
            policy: self.policy,
        }
    }

    fn lock_known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn learn_troubles(&self) -> Result<(), store::Error> {
        let troubles = self.store.troubles().await?;
        self.lock_known().troubles = Arc::new(troubles);
        Ok(())
    }

    /// Puts together who called from where: here just now, and elsewhere within a day.
    async fn learn_networks(&self) -> Result<(), store::Error> {
        let is_due = self.lock_known().lately_at.is_none_or(|at| at.elapsed() >= PRESENT_FOR);
        if is_due {
            let lately = self.store.networks().await?;
            let mut known = self.lock_known();
            (known.lately, known.lately_at) = (lately, Some(Instant::now()));
        }
        let mut networks = Networks { known: self.lock_known().lately.clone(), ..Networks::default() };
        for seen in self.lock_seen().values().filter(|seen| seen.at.elapsed() < PRESENT_FOR) {
            if let Some(network) = seen.network {
                networks.known.entry(seen.owner).or_default().insert(network);
            }
            if seen.asks {
                networks.asking.insert(seen.owner);
            }
        }
        self.lock_known().networks = Arc::new(networks);
        Ok(())
    }

    fn known(&self) -> (Arc<Networks>, Arc<BTreeMap<DeviceId, Trouble>>) {
        let known = self.lock_known();
        let networks = Arc::clone(&known.networks);
        (networks, Arc::clone(&known.troubles))
    }

    /// Notes whose calls wait for work, of those that were decided.
    fn note_waiting(&self, waiting: &[(DeviceId, bool)]) {
        let mut all = self.lock_seen();
        for (device, waits) in waiting {
            if let Some(seen) = all.get_mut(device) {
                seen.waits = *waits;
            }
        }
    }

    fn tell(self: &Arc<Self>, aftermath: &Aftermath) {
        let count = aftermath.uncounted.iter().copied().map(Due::Count);
        for due in count.chain(aftermath.unreviewed.iter().copied().map(Due::Review)) {
            // Without a receiver the coordinator is going down; the next one looks for them at its start.
            let _ = self.due.send(due);
        }
        if aftermath.new_work {
            self.work.notify_one();
        }
        if aftermath.troubles_changed {
            // A hint: nobody waits for it.
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = shared.learn_troubles().await {
                    tracing::warn!(%error, "cannot read which devices failed");
                }
            });
        }
    }
}

async fn combine(shared: Arc<Shared>, mut queue: mpsc::Receiver<Call>) {
    let mut fairness = Fairness::default();
    let mut tokens = Tokens::default();
    let mut parked: VecDeque<Call> = VecDeque::new();
    let mut look_again = tokio::time::interval(LOOK_AGAIN);
    // Waiting calls that have not looked for work since they were last woken.
    let mut due = 0;
    loop {
        let mut batch = Vec::new();
        if due == 0 {
            tokio::select! {
                call = queue.recv() => match call {
                    Some(call) => batch.push(call),
                    None => return,
                },
                () = shared.work.notified(), if !parked.is_empty() => due = dismiss(&mut parked),
                _ = look_again.tick() => due = dismiss(&mut parked),
            }
        }
        while batch.len() < BATCH_CALLS_MAX
            && let Ok(call) = queue.try_recv()
        {
            batch.push(call);
        }
        // Some of them may have been answered meanwhile.
        due = due.min(parked.len());
        let looking = due.min(BATCH_CALLS_MAX - batch.len());
        due -= looking;
        batch.extend(parked.drain(..looking));
        if !batch.is_empty() {
            decide(&shared, &mut fairness, &mut tokens, batch, &mut parked).await;
        }
    }
}

/// Answers calls that have waited long enough, and forgets those whose device has gone. Returns how many are left.
fn dismiss(parked: &mut VecDeque<Call>) -> usize {
    let now = Instant::now();
    answer_empty(parked, |call| call.answer.is_closed() || call.wait_until <= now);
    parked.len()
}

/// Answers those of the waiting calls without work.
fn answer_empty(parked: &mut VecDeque<Call>, is_done: impl Fn(&Call) -> bool) {
    let (done, waiting): (VecDeque<Call>, VecDeque<Call>) = parked.drain(..).partition(is_done);
    *parked = waiting;
    for call in done {
        let _ = call.answer.send(Ok(Answer {
            reply: Reply::default(),
            leases: Vec::new(),
            checkpointed: Arc::default(),
        }));
    }
}

async fn decide(
    shared: &Arc<Shared>,
    fairness: &mut Fairness,
    tokens: &mut Tokens,
    batch: Vec<Call>,
    parked: &mut VecDeque<Call>,
) {
    let hints = shared.hints();
    let alone = batch.len() == 1;
    let (mut requests, rest): (Vec<Request>, Vec<_>) =
        batch.into_iter().map(|call| (call.request, (call.wait_until, call.receipts, call.answer))).unzip();
    for (request, (.., answer)) in requests.iter_mut().zip(&rest) {
        if answer.is_closed() {
            request.want = None;
        }
    }
    let started = Instant::now();
    let decided = shared.store.sync_batch(&requests, fairness, tokens, shared.lease_ttl, &hints).await;
    tracing::debug!(calls = requests.len(), micros = started.elapsed().as_micros(), "committed a batch");
    let decided = match decided {
        Ok(decided) => decided,
        Err(error) if !alone && !error.is_unavailable() => {
            tracing::error!(%error, calls = requests.len(), "batch failed: its calls are decided one by one");
            for (request, (wait_until, receipts, answer)) in requests.into_iter().zip(rest) {
                let call = vec![Call { request, wait_until, receipts, answer }];
                Box::pin(decide(shared, fairness, tokens, call, parked)).await;
            }
            return;
        }
        Err(error) => {
            tracing::error!(%error, calls = requests.len(), "batch failed");
            let error = Arc::new(error);
            for (.., answer) in rest {
                let _ = answer.send(Err(Arc::clone(&error)));
            }
            return;
        }
    };
    shared.tell(&decided.aftermath);
    let paid: BTreeSet<DeviceId> = decided.postings.iter().map(|posting| posting.device).collect();
    shared.receipts.keep(decided.postings);
    if !parked.is_empty() && !paid.is_empty() {
        answer_empty(parked, |call| call.receipts && paid.contains(&call.request.device));
    }
    let checkpointed = Arc::new(decided.checkpointed);
    let now = Instant::now();
    let mut waiting = Vec::with_capacity(requests.len());
    for ((request, (wait_until, receipts, answer)), reply) in
        requests.into_iter().zip(rest).zip(decided.replies)
    {
        let waits = request.want.is_some() && request.reports.is_empty() && request.hand_backs.is_empty();
        let is_parked = waits && reply == Reply::default() && wait_until > now;
        waiting.push((request.device, is_parked));
        if is_parked {
            parked.push_back(Call { request, wait_until, receipts, answer });
            continue;
        }
        let leases = reply.leases.iter().filter_map(|token| decided.leases.get(token).cloned()).collect();
        // A device that hung up finds its leases with its next call.
        let _ = answer.send(Ok(Answer { reply, leases, checkpointed: Arc::clone(&checkpointed) }));
    }
    shared.note_waiting(&waiting);
}
