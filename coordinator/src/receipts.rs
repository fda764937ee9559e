//! Receipts: what a device was paid, signed.
//!
//! Receipts are made after the transaction that pays, when their device asks: of what was just decided from memory, of
//! everything else from the ledger. What is kept here may be lost at any moment, and is left out for devices that ask
//! for no receipts. `docs/LEDGER.md` says byte by byte what is signed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lull_ledger::Amount;
use lull_proto::v1;
use prost::Message as _;
use tokio::time::Instant;

use crate::core::{DeviceId, OwnerId};
use crate::seal::SealKey;
use crate::store::{self, Lacking, Posting, PostingLine, Store};

/// First bytes of what is signed.
const MAGIC: &[u8] = b"lull receipts 1\n";
/// The ledger is looked at for a device this often: for postings of other coordinators, and of what is no batch, and
/// to tell it up to which one it has all.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A device that names so many receipts is told up to which one it has all, so that it can name fewer.
const HELD_LOOK: usize = 64;
/// Receipts that a device may name.
pub const HELD_MAX: usize = 1_000;
/// Lines that wait for their devices. Past that all are forgotten: the ledger has them.
const LINES_WAITING_MAX: usize = 500_000;
/// Lines that wait for one device: what an answer holds. Past that they are read from the ledger, in parts.
const LINES_PER_DEVICE_MAX: usize = 20_000;
/// Devices that are remembered; past that all are forgotten.
const DEVICES_MAX: usize = 100_000;
/// A head that is older is read again.
const HEAD_AGE: Duration = Duration::from_secs(1);

/// Makes receipts.
pub struct Receipts {
    store: Store,
    key: Arc<SealKey>,
    grid_id: String,
    waiting: Mutex<Waiting>,
    head: tokio::sync::Mutex<Option<(Instant, Head)>>,
}

type Head = Option<(u64, Vec<u8>)>;

#[derive(Default)]
struct Waiting {
    devices: BTreeMap<DeviceId, Known>,
    lines: usize,
}

#[derive(Default)]
struct Known {
    /// As receipts name it.
    owner: String,
    /// When the ledger was looked at; `None`: it has to be.
    looked_at: Option<Instant>,
    postings: Vec<Posting>,
}

/// What a device has.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// All up to this posting.
    pub through: u64,
    /// Those beyond.
    pub numbers: BTreeSet<u64>,
}

impl Held {
    fn lacks(&self, posting: &Posting) -> bool {
        posting.number > self.through && !self.numbers.contains(&posting.number)
    }
}

/// Whether the ledger is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every now and then: the device keeps what it gets.
    WhenDue,
    /// Yes, and it changes nothing for the agent of that device, which may be another program.
    Now,
}

impl Receipts {
    /// Signs with this key.
    #[must_use]
    pub fn new(store: Store, key: Arc<SealKey>, grid_id: String) -> Self {
        Self { store, key, grid_id, waiting: Mutex::default(), head: tokio::sync::Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a batch paid, for those of its devices that ask for receipts.
    pub fn keep(&self, postings: Vec<Posting>) {
        let mut waiting = self.lock();
        for posting in postings {
            let (device, new) = (posting.device, posting.lines.len());
            let Some(known) = waiting.devices.get_mut(&device) else { continue };
            let before = lines(&known.postings);
            if before + new > LINES_PER_DEVICE_MAX {
                waiting.devices.remove(&device);
                waiting.lines -= before;
            } else {
                known.postings.push(posting);
                waiting.lines += new;
            }
        }
        if waiting.lines > LINES_WAITING_MAX {
            *waiting = Waiting::default();
        }
    }

    /// Whether something waits for a device that it does not have.
    #[must_use]
    pub fn has_some_for(&self, device: DeviceId, held: &Held) -> bool {
        let waiting = self.lock();
        waiting.devices.get(&device).is_some_and(|known| known.postings.iter().any(|one| held.lacks(one)))
    }

    /// Receipts that a device lacks; `None` when there are none and nothing else to say.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn of(
        &self,
        device: DeviceId,
        owner: OwnerId,
        held: &Held,
        look: Look,
    ) -> Result<Option<v1::Receipts>, store::Error> {
        if look == Look::WhenDue {
            if let Some((owner, postings)) = self.take(device, held) {
                if postings.is_empty() {
                    return Ok(None);
                }
                let head = self.head().await?;
                return Ok(Some(self.sign(&owner, &postings, &head, (0, false))));
            }
            self.expect(device);
        }
        let now = Instant::now();
        let lacking = self.store.lacking_receipts(device, owner, held.through, &held.numbers).await?;
        let owner_name = format!("owners/{}", lacking.owner);
        if look == Look::WhenDue {
            self.note(device, &owner_name, &lacking, now);
        }
        if lacking.postings.is_empty() && lacking.through == held.through {
            return Ok(None);
        }
        let head = self.head().await?;
        Ok(Some(self.sign(&owner_name, &lacking.postings, &head, (lacking.through, lacking.more))))
    }

    /// What waits for a device, which it does until the device says that it has it: an answer can be lost. `None` when the
    /// ledger should be looked at.
    fn take(&self, device: DeviceId, held: &Held) -> Option<(String, Vec<Posting>)> {
        let mut waiting = self.lock();
        let known = waiting.devices.get_mut(&device)?;
        if known.looked_at?.elapsed() > LOOK_EVERY || held.numbers.len() > HELD_LOOK {
            return None;
        }
        let before = lines(&known.postings);
        known.postings.retain(|one| held.lacks(one));
        let (owner, postings) = (known.owner.clone(), known.postings.clone());
        waiting.lines -= before - lines(&postings);
        Some((owner, postings))
    }

    /// From now on what is paid to this device is kept: the ledger is about to be looked at.
    fn expect(&self, device: DeviceId) {
        let mut waiting = self.lock();
        if waiting.devices.len() >= DEVICES_MAX {
            *waiting = Waiting::default();
        }
        waiting.devices.entry(device).or_default().looked_at = None;
    }

    /// Notes what a look at the ledger showed.
    fn note(&self, device: DeviceId, owner: &str, lacking: &Lacking, looked_at: Instant) {
        let mut waiting = self.lock();
        if let Some(known) = waiting.devices.get_mut(&device) {
            owner.clone_into(&mut known.owner);
            // While there is more, the next call looks again.
            known.looked_at = (!lacking.more).then_some(looked_at);
        }
    }

    async fn head(&self) -> Result<Head, store::Error> {
        let mut known = self.head.lock().await;
        match &*known {
            Some((read_at, head)) if read_at.elapsed() < HEAD_AGE => Ok(head.clone()),
            _ => {
                let head = self.store.last_head().await?;
                *known = Some((Instant::now(), head.clone()));
                Ok(head)
            }
        }
    }

    fn sign(
        &self,
        owner: &str,
        postings: &[Posting],
        head: &Head,
        (through, more): (u64, bool),
    ) -> v1::Receipts {
        let receipts: Vec<Vec<u8>> =
            postings.iter().map(|posting| self.receipt(owner, posting, head).encode_to_vec()).collect();
        let public_key = self.key.public_key();
        let signature = self.key.sign(&digest(&public_key, &receipts));
        v1::Receipts {
            receipts,
            public_key: public_key.to_vec(),
            signature: signature.to_vec(),
            through,
            more,
        }
    }

    fn receipt(&self, owner: &str, posting: &Posting, head: &Head) -> v1::Receipt {
        let (seal, head) = head.clone().unwrap_or_default();
        let amount: Amount = posting.lines.iter().map(|line| line.amount).sum();
        v1::Receipt {
            grid_id: self.grid_id.clone(),
            device_id: posting.device.0.unsigned_abs(),
            owner: owner.to_owned(),
            posting: posting.number,
            time: Some(posting.time.into()),
            lines: posting.lines.iter().map(line).collect(),
            amount: amount.to_string(),
            seal,
            head,
        }
    }
}

/// A line as it is written on receipts.
#[must_use]
pub fn line(line: &PostingLine) -> v1::ReceiptLine {
    v1::ReceiptLine {
        job_id: line.job.0.unsigned_abs(),
        stage_code: line.stage.unsigned_abs().into(),
        index: line.index,
        amount: line.amount.to_string(),
    }
}

fn lines(postings: &[Posting]) -> usize {
    postings.iter().map(|posting| posting.lines.len()).sum()
}

/// What is signed.
fn digest(public_key: &[u8; 32], receipts: &[Vec<u8>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(MAGIC).update(public_key).update(&(receipts.len() as u64).to_be_bytes());
    for receipt in receipts {
        hasher.update(blake3::hash(receipt).as_bytes());
    }
    *hasher.finalize().as_bytes()
}
