//! Who is who: submitters, owners, tokens, devices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use lull_job::Digest;
use lull_ledger::AccountKind;
use tokio_postgres::Row;

use super::batch::{load_standings, load_troubles};
use super::rows::From;
use super::{Error, Store, run_tx};
use crate::core::{DeviceId, Fault, JobId, Network, OwnerId, Standing, SubmitterId, Trouble, UnitKey};

/// An operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorId(pub i64);

impl OperatorId {
    /// The operator without a name: whoever may read the state directory, and whomever that one gave a token.
    pub const UNNAMED: Self = Self(0);

    /// Whether this is a person with a name.
    #[must_use]
    pub fn is_named(self) -> bool {
        self != Self::UNNAMED
    }
}

/// Whom an API token speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Whoever runs the grid.
    Operator(OperatorId),
    /// A submitter.
    Submitter(SubmitterId),
    /// An owner.
    Owner(OwnerId),
}

/// A device for people to see.
#[derive(Debug, Clone)]
pub struct DeviceRow {
    /// Its number.
    pub id: DeviceId,
    /// Its name.
    pub display_name: String,
    /// Name of its owner.
    pub owner: String,
    /// When it enrolled.
    pub enrolled_at: SystemTime,
    /// When it last called.
    pub last_seen_at: SystemTime,
    /// Whether somebody sits at it, as in `lull.v1.Presence`.
    pub presence: i16,
    /// Leases that it holds.
    pub open_leases: u32,
    /// Attempts that it has made.
    pub attempts: u64,
    /// How often it was blamed.
    pub blames: u64,
    /// The newest of these.
    pub recent_blames: Vec<BlameRow>,
    /// What is known of its owner.
    pub standing: Standing,
    /// Whether the operator trusts it to settle disputes.
    pub referee: bool,
    /// Whether it failed when it was last heard of.
    pub trouble: Option<Trouble>,
}

/// What a device was blamed for.
#[derive(Debug, Clone)]
pub struct BlameRow {
    /// The unit.
    pub unit: UnitKey,
    /// How it was wrong.
    pub fault: Fault,
    /// Steps of the checkpoint that it hangs on.
    pub steps: u64,
    /// The state, as its maker signed it.
    pub state: Digest,
    /// The state, as it was witnessed.
    pub witnessed: Digest,
    /// By how many.
    pub witnesses: u32,
    /// When the verdict said so.
    pub created_at: SystemTime,
}

/// Blames that are shown with a device: the rest is a number.
const RECENT_BLAMES: i64 = 10;

/// A device that called.
#[derive(Debug, Clone, Copy)]
pub struct DeviceSeen {
    /// Which.
    pub device: DeviceId,
    /// Whether somebody sits at it, as in `lull.v1.Presence`.
    pub presence: i16,
    /// Where it called from, if that is known.
    pub network: Option<Network>,
}

impl Store {
    /// The name of this grid; made at the first call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn grid_id(&self, fresh: &str) -> Result<String, Error> {
        run_tx!(self.pool, "grid_id", tx => {
            tx.execute("INSERT INTO grid (grid_id) VALUES ($1) ON CONFLICT DO NOTHING", &[&fresh]).await?;
            Ok(tx.query_one("SELECT grid_id FROM grid", &[]).await?.try_get(0)?)
        })
    }

    /// A submitter with its accounts; an existing one is returned as it is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_submitter(&self, name: &str) -> Result<SubmitterId, Error> {
        self.create_holder("submitter", &[AccountKind::Submitter], name).await.map(SubmitterId)
    }

    /// An owner with its accounts; an existing one is returned as it is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_owner(&self, name: &str) -> Result<OwnerId, Error> {
        let kinds = [AccountKind::Available, AccountKind::Pending, AccountKind::Payout, AccountKind::Paid];
        self.create_holder("owner", &kinds, name).await.map(OwnerId)
    }

    /// An operator with a name, and its token. A name is given once: a second token for it would let somebody else
    /// be that person.
    ///
    /// # Errors
    /// When the name is taken.
    pub async fn create_operator(&self, name: &str, token_hash: &[u8; 32]) -> Result<OperatorId, Error> {
        run_tx!(self.pool, "create_operator", tx => {
            let insert = "INSERT INTO operator (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id";
            let row = tx.query_opt(insert, &[&name]).await?.ok_or_else(|| Error::NameTaken(name.to_owned()))?;
            let id: i64 = row.try_get(0)?;
            let insert = "INSERT INTO api_token (hash, role, subject) VALUES ($1, 1, $2)";
            tx.execute(insert, &[&token_hash.as_slice(), &id]).await?;
            Ok(OperatorId(id))
        })
    }

    async fn create_holder(
        &self,
        table: &'static str,
        kinds: &[AccountKind],
        name: &str,
    ) -> Result<i64, Error> {
        run_tx!(self.pool, "create_holder", tx => {
            // A currency that is added meanwhile waits for this, or is seen here.
            tx.execute("SELECT FROM grid FOR SHARE", &[]).await?;
            let insert = format!("INSERT INTO {table} (name) VALUES ($1) ON CONFLICT DO NOTHING");
            tx.execute(&insert, &[&name]).await?;
            let id: i64 = tx.query_one(&format!("SELECT id FROM {table} WHERE name = $1"), &[&name]).await?.try_get(0)?;
            // In every currency.
            let kinds: Vec<i64> = kinds.iter().map(|kind| kind.code()).collect();
            let insert = "INSERT INTO account (id) SELECT (number::bigint << 48) + $1::bigint * 8 + kind
                FROM currency, unnest($2::bigint[]) AS kinds (kind) ON CONFLICT DO NOTHING";
            tx.execute(insert, &[&id, &kinds]).await?;
            Ok(id)
        })
    }

    /// The submitter of that name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn submitter(&self, name: &str) -> Result<SubmitterId, Error> {
        self.holder("submitter", name).await.map(SubmitterId)
    }

    /// The owner of that name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn owner(&self, name: &str) -> Result<OwnerId, Error> {
        self.holder("owner", name).await.map(OwnerId)
    }

    async fn holder(&self, table: &'static str, name: &str) -> Result<i64, Error> {
        run_tx!(self.pool, "holder", tx => {
            let row = tx.query_opt(&format!("SELECT id FROM {table} WHERE name = $1"), &[&name]).await?;
            Ok(row.ok_or(Error::NotFound(table))?.try_get(0)?)
        })
    }

    /// Keeps the hash of an API token.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_api_token(&self, hash: &[u8; 32], subject: Subject) -> Result<(), Error> {
        let (role, subject) = match subject {
            Subject::Operator(id) => (1i16, id.0),
            Subject::Submitter(id) => (2, id.0),
            Subject::Owner(id) => (3, id.0),
        };
        run_tx!(self.pool, "add_api_token", tx => {
            let insert = "INSERT INTO api_token (hash, role, subject) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            tx.execute(insert, &[&hash.as_slice(), &role, &subject]).await?;
            Ok(())
        })
    }

    /// Whom an API token speaks for, if anybody.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn subject(&self, hash: &[u8; 32]) -> Result<Option<Subject>, Error> {
        run_tx!(self.pool, "subject", tx => {
            let select = tx.prepare_cached("SELECT role, subject FROM api_token WHERE hash = $1").await?;
            let Some(row) = tx.query_opt(&select, &[&hash.as_slice()]).await? else { return Ok(None) };
            let subject: i64 = row.try_get("subject")?;
            match row.try_get::<_, i16>("role")? {
                1 => Ok(Some(Subject::Operator(OperatorId(subject)))),
                2 => Ok(Some(Subject::Submitter(SubmitterId(subject)))),
                3 => Ok(Some(Subject::Owner(OwnerId(subject)))),
                other => Err(From("api_token").wrong("role", other)),
            }
        })
    }

    /// Keeps the hash of an enrolment token; returns when it expires.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_enrolment_token(
        &self,
        hash: &[u8; 32],
        owner: OwnerId,
        uses: u32,
        ttl: Duration,
    ) -> Result<SystemTime, Error> {
        run_tx!(self.pool, "add_enrolment_token", tx => {
            let insert = "INSERT INTO enrolment_token (hash, owner_id, uses_left, expires_at)
                VALUES ($1, $2, $3, now() + $4::bigint * interval '1 second') RETURNING expires_at";
            let uses = i32::try_from(uses).unwrap_or(i32::MAX);
            let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
            Ok(tx.query_one(insert, &[&hash.as_slice(), &owner.0, &uses, &ttl]).await?.try_get(0)?)
        })
    }

    /// Enrols a device. A key that is enrolled already for the token's owner keeps its device and uses
    /// nothing up: an answer that was lost can be asked for again.
    ///
    /// # Errors
    /// When the token is unknown, expired or used up, or the key belongs to another owner.
    pub async fn enrol(
        &self,
        token_hash: &[u8; 32],
        public_key: &[u8; 32],
        display_name: &str,
    ) -> Result<(DeviceId, String), Error> {
        run_tx!(self.pool, "enrol", tx => {
            let lock = "SELECT owner_id, uses_left, expires_at < now() AS expired, owner.name
                FROM enrolment_token JOIN owner ON owner.id = owner_id WHERE hash = $1 FOR UPDATE OF enrolment_token";
            let row = tx.query_opt(lock, &[&token_hash.as_slice()]).await?;
            let row = row.ok_or(Error::EnrolmentToken("not known here"))?;
            let owner: i64 = row.try_get("owner_id")?;
            let name: String = row.try_get("name")?;
            let known = "SELECT id, owner_id FROM device WHERE public_key = $1";
            if let Some(device) = tx.query_opt(known, &[&public_key.as_slice()]).await? {
                if device.try_get::<_, i64>("owner_id")? != owner {
                    return Err(Error::KeyTaken);
                }
                return Ok((DeviceId(device.try_get("id")?), name));
            }
            if row.try_get("expired")? {
                return Err(Error::EnrolmentToken("expired"));
            }
            if row.try_get::<_, i32>("uses_left")? == 0 {
                return Err(Error::EnrolmentToken("used up"));
            }
            let used = "UPDATE enrolment_token SET uses_left = uses_left - 1 WHERE hash = $1";
            tx.execute(used, &[&token_hash.as_slice()]).await?;
            let insert = "INSERT INTO device (owner_id, public_key, display_name) VALUES ($1, $2, $3) RETURNING id";
            let id = tx.query_one(insert, &[&owner, &public_key.as_slice(), &display_name]).await?.try_get(0)?;
            Ok((DeviceId(id), name))
        })
    }

    /// Owner and key of a device, if it is enrolled, and whether it is a referee.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device_key(&self, device: DeviceId) -> Result<Option<(OwnerId, [u8; 32], bool)>, Error> {
        run_tx!(self.pool, "device_key", tx => {
            let select = tx.prepare_cached("SELECT owner_id, public_key, referee FROM device WHERE id = $1").await?;
            let Some(row) = tx.query_opt(&select, &[&device.0]).await? else { return Ok(None) };
            let key: &[u8] = row.try_get("public_key")?;
            let key = key.try_into().map_err(|error| From("device").wrong("public_key", error))?;
            Ok(Some((OwnerId(row.try_get("owner_id")?), key, row.try_get("referee")?)))
        })
    }

    /// Makes a device a referee, or an ordinary device again.
    ///
    /// # Errors
    /// When there is no such device, or the database fails.
    pub async fn set_referee(&self, device: DeviceId, referee: bool) -> Result<(), Error> {
        run_tx!(self.pool, "set_referee", tx => {
            let update = "UPDATE device SET referee = $2 WHERE id = $1";
            match tx.execute(update, &[&device.0, &referee]).await? {
                0 => Err(Error::NotFound("device")),
                _ => Ok(()),
            }
        })
    }

    /// Notes when devices last called.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn devices_seen(&self, seen: &[DeviceSeen]) -> Result<(), Error> {
        run_tx!(self.pool, "devices_seen", tx => {
            let update = "UPDATE device SET last_seen_at = now(), presence = seen.presence, network = seen.network
                FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS seen (id, presence, network) WHERE device.id = seen.id";
            let ids: Vec<i64> = seen.iter().map(|seen| seen.device.0).collect();
            let presence: Vec<i16> = seen.iter().map(|seen| seen.presence).collect();
            let networks: Vec<Option<i64>> = seen.iter().map(|seen| seen.network.map(|network| network.0)).collect();
            tx.execute(update, &[&ids, &presence, &networks]).await?;
            Ok(())
        })
    }

    /// Where devices of each owner last called from, of those that called within a day.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn networks(&self) -> Result<BTreeMap<OwnerId, BTreeSet<Network>>, Error> {
        run_tx!(self.pool, "networks", tx => {
            let select = "SELECT DISTINCT owner_id, network FROM device
                WHERE network IS NOT NULL AND last_seen_at > now() - interval '1 day'";
            let mut networks: BTreeMap<OwnerId, BTreeSet<Network>> = BTreeMap::new();
            for row in tx.query(&tx.prepare_cached(select).await?, &[]).await? {
                let network = Network(row.try_get("network")?);
                networks.entry(OwnerId(row.try_get("owner_id")?)).or_default().insert(network);
            }
            Ok(networks)
        })
    }

    /// Devices with numbers above `after`, of one owner or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn devices(
        &self,
        owner: Option<OwnerId>,
        after: DeviceId,
        limit: i64,
    ) -> Result<Vec<DeviceRow>, Error> {
        run_tx!(self.pool, "devices", tx => {
            let select = "SELECT device.id, display_name, owner_id, owner.name AS owner, enrolled_at, last_seen_at, presence, referee,
                    (SELECT count(*) FROM lease WHERE device_id = device.id AND NOT expired) AS open_leases,
                    (SELECT count(*) FROM attempt WHERE attempt.device_id = device.id) AS attempts,
                    (SELECT count(*) FROM blame WHERE blame.device_id = device.id) AS blames
                FROM device JOIN owner ON owner.id = owner_id
                WHERE device.id > $1 AND ($2::bigint IS NULL OR owner_id = $2) ORDER BY device.id LIMIT $3";
            let rows = tx.query(select, &[&after.0, &owner.map(|o| o.0), &limit]).await?;
            let owners = rows.iter().map(|row| OwnerId(row.get("owner_id"))).collect();
            let standings = load_standings(tx, &owners).await?;
            let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
            let troubles = load_troubles(tx, Some(&ids)).await?;
            let mut devices: Vec<DeviceRow> = rows
                .iter()
                .map(|row| {
                    let from = From("device");
                    Ok(DeviceRow {
                        id: DeviceId(row.try_get("id")?),
                        display_name: row.try_get("display_name")?,
                        owner: row.try_get("owner")?,
                        enrolled_at: row.try_get("enrolled_at")?,
                        last_seen_at: row.try_get("last_seen_at")?,
                        presence: row.try_get("presence")?,
                        open_leases: u32::try_from(from.count(row, "open_leases")?).unwrap_or(u32::MAX),
                        attempts: from.count(row, "attempts")?,
                        blames: from.count(row, "blames")?,
                        recent_blames: Vec::new(),
                        standing: standings.get(&OwnerId(row.try_get("owner_id")?)).copied().unwrap_or_default(),
                        referee: row.try_get("referee")?,
                        trouble: troubles.get(&DeviceId(row.try_get("id")?)).copied(),
                    })
                })
                .collect::<Result<_, Error>>()?;
            let blamed: Vec<i64> = devices.iter().filter(|row| row.blames > 0).map(|row| row.id.0).collect();
            if !blamed.is_empty() {
                let select = "SELECT newest.* FROM unnest($1::bigint[]) AS shown (id) CROSS JOIN LATERAL (
                    SELECT * FROM blame WHERE blame.device_id = shown.id ORDER BY created_at DESC LIMIT $2) AS newest";
                for row in tx.query(select, &[&blamed, &RECENT_BLAMES]).await? {
                    let id = DeviceId(row.try_get("device_id")?);
                    let blame = blame(&row)?;
                    devices.iter_mut().filter(|device| device.id == id).for_each(|d| d.recent_blames.push(blame.clone()));
                }
            }
            Ok(devices)
        })
    }
}

fn blame(row: &Row) -> Result<BlameRow, Error> {
    let from = From("blame");
    Ok(BlameRow {
        unit: UnitKey {
            job: JobId(row.try_get("job_id")?),
            stage: from.stage(row, "stage")?,
            index: from.count(row, "idx")?,
        },
        fault: match row.try_get::<_, i16>("why")? {
            1 => Fault::Poisoned,
            2 => Fault::Resumed,
            other => return Err(from.wrong("why", other)),
        },
        steps: from.count(row, "steps")?,
        state: from.digest(row, "state_digest")?,
        witnessed: from.digest(row, "witnessed")?,
        witnesses: u32::try_from(row.try_get::<_, i32>("witnesses")?).unwrap_or(0),
        created_at: row.try_get("created_at")?,
    })
}
