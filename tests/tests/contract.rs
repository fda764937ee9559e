//! The store in memory and the one on PostgreSQL are the same store: whatever is done to one and the other, in whatever
//! order, both say and keep the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lull_coordinator::core::{
    Copies, DeviceId, Fairness, HandBack, JobId, JobState, LeaseToken, Network, Networks, Onlookers, Outcome,
    OwnerId, Policy, Prices, Report, Request, RunMode, Stake, SubmitterId, Trouble, UnitKey, Want,
};
use lull_coordinator::store::{GridCurrency, Hints, NewJob, Store, Tokens};
use lull_job::{Digest, Spec, Stage};
use lull_ledger::{Amount, Code, Currency, CurrencyId};
use lull_proto::v1;
use lull_tests::fleet::Submitter;
use lull_tests::sim::{self, MemoryStore};
use lull_tests::{Fleet, Grid, guest};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::process::{Signal, kill_process};
use tokio_postgres::Client;

/// The device that is a referee: the first owner's second.
const REFEREE: usize = 1;

/// Longer than any test: leases expire by hand.
const TTL: Duration = Duration::from_secs(3_600);
const OWNERS: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    /// Devices ask for work in one batch.
    Ask(Vec<u8>),
    /// A unit of a lease is reported, rightly, wrongly or with a limit.
    Report {
        lease: u8,
        at: u8,
        says: u8,
    },
    HandBack {
        lease: u8,
    },
    Expire {
        lease: u8,
    },
    /// A lease has been out for ever.
    Straggle {
        lease: u8,
    },
    /// What the coordinator does every few seconds.
    Chores,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(0u8..10, 1..4).prop_map(Step::Ask),
        9 => (any::<u8>(), any::<u8>(), 0u8..12).prop_map(|(lease, at, says)| Step::Report { lease, at, says }),
        1 => any::<u8>().prop_map(|lease| Step::HandBack { lease }),
        1 => any::<u8>().prop_map(|lease| Step::Expire { lease }),
        2 => any::<u8>().prop_map(|lease| Step::Straggle { lease }),
        2 => Just(Step::Chores),
    ];
    prop::collection::vec(step, 1..120)
}

/// Both stores, with two jobs: who is caught in one may have lied in the other, which is complete perhaps.
struct Both {
    store: Store,
    client: Client,
    memory: MemoryStore,
    jobs: Vec<JobId>,
    devices: Vec<(DeviceId, OwnerId)>,
    /// Names of leases: in memory, in the database.
    names: BTreeMap<LeaseToken, LeaseToken>,
    tokens: Tokens,
    fairness: Fairness,
    /// How often units were wanted once more.
    copies: u64,
}

impl Both {
    const POLICY: fn() -> Policy = Policy::default;

    fn lease(&self, which: u8) -> Option<LeaseToken> {
        let open: Vec<LeaseToken> =
            self.names.keys().copied().filter(|name| self.memory.lease(*name).is_some()).collect();
        open.get(usize::from(which) % open.len().max(1)).copied()
    }

    fn request(&self, device: DeviceId, owner: OwnerId) -> Request {
        Request {
            device,
            owner,
            reports: Vec::new(),
            hand_backs: Vec::new(),
            held: Vec::new(),
            want: None,
            referee: device == self.devices[REFEREE].0,
            network: self.network(owner),
        }
    }

    /// Of five owners the first two are neighbours; where the last is, nobody knows.
    fn network(&self, owner: OwnerId) -> Option<Network> {
        let at = self.devices.iter().position(|(_, one)| *one == owner).unwrap_or(0) / 2;
        [Some(1), Some(1), Some(2), Some(3), None][at].map(Network)
    }

    fn networks(&self) -> Arc<Networks> {
        let owners: BTreeSet<OwnerId> = self.devices.iter().map(|(_, owner)| *owner).collect();
        let known = owners.iter().filter_map(|owner| Some((*owner, [self.network(*owner)?].into())));
        Arc::new(Networks { known: known.collect(), asking: owners })
    }

    fn referees(&self) -> BTreeSet<OwnerId> {
        [self.devices[REFEREE].1].into()
    }

    /// The request under the names of the other store.
    fn translated(&self, request: &Request) -> Request {
        let mut request = request.clone();
        let reports = request.reports.iter_mut().map(|report| &mut report.token);
        let hand_backs = request.hand_backs.iter_mut().map(|hand_back| &mut hand_back.token);
        for token in reports.chain(hand_backs).chain(&mut request.held) {
            *token = self.names.get(token).copied().unwrap_or(*token);
        }
        request
    }

    async fn sync(&mut self, requests: Vec<Request>) -> Result<()> {
        let (slots, owners) = (self.devices.len() as u64, OWNERS as u64);
        let networks = self.networks();
        let referees = self.referees();
        let hints =
            sim::Hints { slots, owners, referees, networks: Arc::clone(&networks), policy: Self::POLICY() };
        let troubles = Arc::new(self.memory.troubles());
        let expected = self.memory.sync(&requests, &hints);
        let translated: Vec<Request> = requests.iter().map(|request| self.translated(request)).collect();
        let hints = Hints {
            grid_slots: slots,
            grid_owners: owners,
            referees_there: self.referees(),
            networks,
            troubles,
            policy: Self::POLICY(),
        };
        let decided =
            self.store.sync_batch(&translated, &mut self.fairness, &mut self.tokens, TTL, &hints).await?;
        for (expected, reply) in expected.iter().zip(&decided.replies) {
            ensure!(expected.leases.len() == reply.leases.len(), "{expected:?} {reply:?}");
            for (here, there) in expected.leases.iter().zip(&reply.leases) {
                self.names.insert(*here, *there);
                let (Some(here), Some(there)) = (self.memory.lease(*here), decided.leases.get(there)) else {
                    continue;
                };
                ensure!(
                    (here.stage, here.mode, &here.open) == (there.stage, there.mode, &there.open),
                    "leases"
                );
            }
            let refusals = |list: &[(LeaseToken, u64, v1::RefusalReason)]| -> Vec<_> {
                list.iter().map(|(_, index, reason)| (*index, *reason)).collect()
            };
            ensure!(refusals(&expected.refusals) == refusals(&reply.refusals), "{expected:?} {reply:?}");
            ensure!(expected.lost.len() == reply.lost.len(), "{expected:?} {reply:?}");
        }
        Ok(())
    }

    async fn chores(&mut self) -> Result<()> {
        self.memory.release_held();
        self.store.release_held().await?;
        let due = self.store.unreviewed().await?;
        let here: Vec<JobId> = self.memory.unreviewed().into_iter().collect();
        ensure!(due == here, "what is to be looked over: {here:?} {due:?}");
        for job in due {
            self.memory.review(job, Self::POLICY());
            self.store.review(job, Self::POLICY()).await?;
        }
        self.client.execute(FORGOTTEN, &[]).await?;
        let due = self.store.unsettled().await?;
        let here: Vec<JobId> = self.memory.unsettled().into_iter().collect();
        ensure!(due == here, "what is to be settled: {here:?} {due:?}");
        for job in due {
            self.memory.settle(job);
            self.store.settle(job).await?;
        }
        Ok(())
    }

    async fn run(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Ask(devices) => {
                let ask = |device: &u8| {
                    let (device, owner) = self.devices[usize::from(*device) % self.devices.len()];
                    let want = Some(Want { leases: 1, units_max: 3 });
                    Request { want, ..self.request(device, owner) }
                };
                self.sync(devices.iter().map(ask).collect()).await
            }
            Step::Report { lease, at, says } => {
                let Some(token) = self.lease(*lease) else { return Ok(()) };
                let lease = self.memory.lease(token).context("a lease")?.clone();
                let index = lease.open[usize::from(*at) % lease.open.len()];
                let (outcome, text) = match says {
                    0 => (Outcome::Result, format!("wrong {}", lease.owner)),
                    1 => (Outcome::Result, "wrong".to_owned()),
                    2 => (Outcome::Limit, "too long".to_owned()),
                    _ => (Outcome::Result, "right".to_owned()),
                };
                // The last goes by bits of NaN.
                let strictly = if *says == 11 { "canonical" } else { &text };
                let strict =
                    (lease.mode == RunMode::Referee).then(|| (outcome, Digest::of(strictly.as_bytes())));
                let fuel = (lease.mode != RunMode::Normal && *says != 2).then_some(7 + index);
                let report = Report {
                    token,
                    unit: UnitKey { job: lease.job, stage: lease.stage, index },
                    outcome,
                    digest: Digest::of(text.as_bytes()),
                    size_bytes: text.len() as u64,
                    result: Some(text.into_bytes()),
                    cpu_micros: 50_000_000,
                    witnessed: Vec::new(),
                    strict,
                    fuel,
                };
                let request = Request { reports: vec![report], ..self.request(lease.device, lease.owner) };
                self.sync(vec![request]).await
            }
            Step::HandBack { lease } => {
                let Some(token) = self.lease(*lease) else { return Ok(()) };
                let lease = self.memory.lease(token).context("a lease")?.clone();
                let hand_back = HandBack { token, indexes: Vec::new(), checkpoints: Vec::new() };
                let request =
                    Request { hand_backs: vec![hand_back], ..self.request(lease.device, lease.owner) };
                self.sync(vec![request]).await
            }
            Step::Expire { lease } => {
                let Some(token) = self.lease(*lease) else { return Ok(()) };
                let name = self.names.get(&token).context("a name")?;
                let late = "UPDATE lease SET deadline = 'epoch' WHERE token = $1";
                self.client.execute(late, &[&name.0]).await?;
                self.memory.expire(&[token], Self::POLICY());
                self.store.expire_leases(TTL, Self::POLICY()).await.map(drop).map_err(Into::into)
            }
            Step::Straggle { lease } => {
                let Some(token) = self.lease(*lease) else { return Ok(()) };
                let name = self.names.get(&token).context("a name")?;
                let late = "UPDATE lease SET looked_at = CASE WHEN token = $1 THEN 'epoch' ELSE now() END";
                self.client.execute(late, &[&name.0]).await?;
                let there: BTreeSet<OwnerId> = self.devices.iter().map(|(_, owner)| *owner).collect();
                let onlookers = Onlookers { waiting: there.clone(), there };
                self.memory.straggle([(token, u64::MAX)].into(), &onlookers, Self::POLICY());
                let copied = self.store.straggle(&onlookers, Self::POLICY()).await?;
                self.copies += u64::from(copied.new_work);
                Ok(())
            }
            Step::Chores => self.chores().await,
        }
    }

    /// Both keep the same.
    async fn compare(&self) -> Result<()> {
        for job in &self.jobs {
            self.compare_job(*job).await?;
            self.compare_money(*job).await?;
            self.compare_attempts(*job).await?;
        }
        self.compare_releases().await?;
        let failures = |troubles: BTreeMap<DeviceId, Trouble>| -> Vec<_> {
            troubles.into_iter().map(|(device, one)| (device, one.fails, one.last)).collect()
        };
        let (here, there) = (failures(self.memory.troubles()), failures(self.store.troubles().await?));
        ensure!(here == there, "devices that failed: {here:?} {there:?}");
        self.compare_owners().await
    }

    async fn compare_job(&self, id: JobId) -> Result<()> {
        let here = self.memory.job(id).context("the job")?;
        let there = self.store.job(id, None).await?.job;
        ensure!(*here == there, "{here:?}\n{there:?}");
        let select = "SELECT idx, version, outcome, digest, agreeing, attempts FROM standing_verdict
            WHERE job_id = $1 AND stage = 1 ORDER BY idx";
        let rows = self.client.query(select, &[&id.0]).await?;
        let there = rows.iter().map(|row| {
            let digest: Vec<u8> = row.get(3);
            (row.get::<_, i64>(0), row.get::<_, i16>(1), digest, row.get::<_, i32>(4), row.get::<_, i32>(5))
        });
        let here = (0..).zip(self.memory.units(id, Stage::Work)).filter_map(|(index, unit)| {
            let verdict = unit.standing()?;
            let small = |number: u32| i32::try_from(number).unwrap_or(-1);
            let version = i16::try_from(verdict.version).unwrap_or(-1);
            let digest = verdict.digest.as_bytes().to_vec();
            Some((index, version, digest, small(verdict.agreeing), small(verdict.attempts)))
        });
        let (here, there): (Vec<_>, Vec<_>) = (here.collect(), there.collect());
        ensure!(here == there, "verdicts: {here:?}\n{there:?}");
        Ok(())
    }

    async fn compare_owners(&self) -> Result<()> {
        let select =
            "SELECT owner_id, correct, held_to - released_to, held_to, dropped, catches FROM standing";
        let stakes = "SELECT owner_id, stake.currency, balance, level FROM stake
            JOIN account ON account.id = (stake.currency::bigint << 48) + owner_id * 8 + 4
            WHERE NOT EXISTS (SELECT FROM recheck WHERE recheck.owner_id = stake.owner_id)";
        for row in self.client.query(stakes, &[]).await? {
            let owner = OwnerId(row.get(0));
            let currency = CurrencyId::from_number(row.get(1)).context("a currency")?;
            let here = self.memory.stakes(owner).get(&currency).copied();
            let there = Stake { held: Amount::new(row.get(2))?, level: Amount::new(row.get(3))? };
            ensure!(here == Some(there), "what {owner} has at stake: {here:?} {there:?}");
        }
        for row in self.client.query(select, &[]).await? {
            let known = self.memory.standing(OwnerId(row.get(0)));
            let count = |at| u64::try_from(row.get::<_, i64>(at)).unwrap_or(u64::MAX);
            let there = (count(1), count(2), count(3), count(4), row.get::<_, i32>(5));
            let held = self.memory.held(OwnerId(row.get(0))) as u64;
            let here = (known.correct, held, known.results, known.dropped);
            ensure!(here == (there.0, there.1, there.2, there.3), "owner {}: {here:?} {there:?}", count(0));
            ensure!(i32::try_from(known.catches) == Ok(there.4), "catches of owner {}", count(0));
        }
        Ok(())
    }

    /// What became of strict runs is the same.
    async fn compare_attempts(&self, id: JobId) -> Result<()> {
        let select =
            "SELECT idx, owner_id, coalesce(mode, 1::smallint), coalesce(by_referee, false), strict_digest, fuel
            FROM attempt WHERE job_id = $1 AND stage = 1 ORDER BY idx, owner_id";
        let rows = self.client.query(select, &[&id.0]).await?;
        let there = rows.iter().map(|row| {
            let digest: Option<Vec<u8>> = row.get(4);
            let key: (i64, i64) = (row.get(0), row.get(1));
            (key, row.get::<_, i16>(2), row.get::<_, bool>(3), digest, row.get::<_, Option<i64>>(5))
        });
        let units = (0..).zip(self.memory.units(id, Stage::Work));
        let mut here: Vec<_> = units
            .flat_map(|(index, unit)| unit.attempts().map(move |attempt| (index, unit, attempt)))
            .map(|(index, unit, attempt)| {
                let mode = match attempt.mode {
                    RunMode::Normal => 1,
                    RunMode::Strict => 2,
                    RunMode::Referee => 3,
                };
                let digest = attempt.strict.map(|(_, digest)| digest.as_bytes().to_vec());
                let fuel = unit.fuel.iter().find(|(owner, _)| *owner == attempt.owner);
                let fuel = fuel.and_then(|(_, fuel)| i64::try_from(*fuel).ok());
                ((index, attempt.owner.0), mode, attempt.by_referee, digest, fuel)
            })
            .collect();
        here.sort();
        let there: Vec<_> = there.collect();
        ensure!(here == there, "attempts: {here:?}\n{there:?}");
        Ok(())
    }

    /// Transfers of the job are the same, and releases of each owner come to the same.
    async fn compare_money(&self, id: JobId) -> Result<()> {
        let select = "SELECT code, stage, idx, attempt, debit, credit, amount FROM transfer
            WHERE job_id = $1 ORDER BY code, stage, idx, attempt";
        let rows = self.client.query(select, &[&id.0]).await?;
        let there: Vec<String> = rows
            .iter()
            .map(|row| {
                let key: (i16, i16, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
                let amount: rust_decimal::Decimal = row.get(6);
                format!("{key:?} {} {} {}", row.get::<_, i64>(4), row.get::<_, i64>(5), amount.normalize())
            })
            .collect();
        let mut here: Vec<_> =
            self.memory.transfers().iter().filter(|transfer| transfer.key.job == id.0).collect();
        here.sort_by_key(|transfer| (transfer.code.number(), transfer.key));
        let here: Vec<String> = here
            .into_iter()
            .map(|one| {
                let key = (one.code.number(), one.key.stage, one.key.index, one.key.attempt);
                let amount = one.amount.decimal().normalize();
                format!("{key:?} {} {} {amount}", one.debit().number(), one.credit().number())
            })
            .collect();
        ensure!(here == there, "transfers: {here:?}\n{there:?}");
        Ok(())
    }

    /// What was released comes to the same for each owner in each currency, and so does what every device earned.
    async fn compare_releases(&self) -> Result<()> {
        let select = "SELECT owner_id, currency, sum(amount) FROM release GROUP BY 1, 2";
        let rows = self.client.query(select, &[]).await?;
        let there: BTreeMap<(i64, i16), Amount> = rows
            .iter()
            .map(|row| Ok(((row.get(0), row.get(1)), Amount::new(row.get(2))?)))
            .collect::<Result<_>>()?;
        let mut here: BTreeMap<(i64, i16), Amount> = BTreeMap::new();
        for one in self.memory.transfers().iter().filter(|one| one.code == Code::Release) {
            let sum = here.entry((one.debit().holder(), one.currency().number())).or_default();
            *sum = *sum + one.amount;
        }
        ensure!(here == there, "releases: {here:?}\n{there:?}");
        let off = "SELECT currency FROM account GROUP BY 1 HAVING sum(balance) <> 0";
        ensure!(self.client.query(off, &[]).await?.is_empty(), "balances of a currency make something");
        let select =
            "SELECT (credit >> 48)::smallint, sum(amount) FROM transfer WHERE code = 3 GROUP BY 1 ORDER BY 1";
        let paid = self.client.query(select, &[]).await?;
        let select = "SELECT currency, sum(amount) FROM device_earning GROUP BY 1 ORDER BY 1";
        let earned = self.client.query(select, &[]).await?;
        let sums = |rows: &[tokio_postgres::Row]| -> Vec<(i16, rust_decimal::Decimal)> {
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        };
        ensure!(sums(&paid) == sums(&earned), "{paid:?} {earned:?}");
        Ok(())
    }
}

/// A grid whose coordinator stands still, so that nobody but the test changes the database.
struct Ground {
    grid: Grid,
    store: Store,
    submitter: SubmitterId,
    /// Two: each job of a case is in another.
    currencies: Vec<GridCurrency>,
    module: v1::Input,
    devices: Vec<(DeviceId, OwnerId)>,
}

async fn connect(grid: &Grid) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn ground() -> Result<Ground> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut lab = fleet.submitter("lab", "1000000").await?;
    let module = lab.upload("module", &std::fs::read(guest("hello"))?).await?;
    for owner in 0..OWNERS {
        for _ in 0..2 {
            fleet.device(&format!("owner-{owner}")).await?;
        }
    }
    let store = Store::open(&grid.database_url())?;
    let submitter = store.submitter("lab").await?;
    let yen = store.add_currency(Currency::new("JPY", None)?).await?;
    store.deposit(submitter, yen.id, "1000000".parse()?, "in yen").await?;
    let currencies = store.currencies().await?;
    let client = connect(&grid).await?;
    let rows = client.query("SELECT id, owner_id FROM device ORDER BY id", &[]).await?;
    let devices = rows.iter().map(|row| (DeviceId(row.get(0)), OwnerId(row.get(1)))).collect();
    kill_process(grid.coordinator_pid(), Signal::STOP)?;
    Ok(Ground { grid, store, submitter, currencies, module, devices })
}

/// A case: units of each job, whether they name copies or confidence, whether owners are known, and what is done.
type Case = (u64, bool, bool, Vec<Step>);

/// Every owner has this pending in the default currency, at the bank's cost, and nothing in others.
const PENDING: &str = "WITH wanted AS (
        SELECT id, currency, CASE WHEN currency = 0 THEN $1::numeric ELSE 0 END - balance AS change FROM account WHERE id % 8 = 4
        UNION ALL SELECT currency::bigint << 48, currency, sum(balance - CASE WHEN currency = 0 THEN $1 ELSE 0 END)
        FROM account WHERE id % 8 = 4 GROUP BY currency)
    UPDATE account SET balance = balance + change FROM wanted WHERE account.id = wanted.id";

/// What a catch takes of pay that was held back for no job at all goes back to the bank.
const FORGOTTEN: &str = "WITH lost AS (
        SELECT account.id, balance - (SELECT coalesce(sum(amount), 0) FROM held WHERE held.owner_id = standing.owner_id
            AND seq > released_to AND coalesce((SELECT currency FROM job WHERE id = job_id), 0) = 0) AS amount
        FROM standing JOIN account ON account.id = standing.owner_id * 8 + 4
        WHERE NOT EXISTS (SELECT FROM recheck WHERE recheck.owner_id = standing.owner_id)),
    moved AS (SELECT id, -amount AS change FROM lost UNION ALL SELECT 0, sum(amount) FROM lost)
    UPDATE account SET balance = balance + change FROM moved WHERE account.id = moved.id AND change <> 0";

/// Results of an owner that is known.
const KNOWN: u64 = 200;

/// A job of trivial units, in one of the currencies.
fn new_job(stage: &Ground, name: &str, of: usize, units: u64, confident: bool) -> Result<NewJob> {
    let (max_error, copies) = if confident { (0.01, 0) } else { (0.0, 1) };
    let budget: Amount = "0.001".parse()?;
    let message = v1::JobSpec {
        max_error,
        copies,
        allow_missing: true,
        budget: budget.to_string(),
        reduce: v1::Reduce::Tree.into(),
        service_price: "0.000001".to_owned(),
        ..Submitter::trivial_spec(&stage.module, units)
    };
    let spec = Spec::check(&message)?;
    let price: Amount = message.item_price.parse()?;
    Ok(NewJob {
        fee: lull_ledger::FeeRate::NONE,
        submitter: stage.submitter,
        request_id: format!("contract-{name}"),
        spec,
        items: units,
        currency: stage.currencies[of],
        prices: Prices { item: price, service: message.service_price.parse()? },
        copies: Copies::whole(2),
        service_owners: 2,
        strangers: 0,
        budget,
        has_default_budget: false,
        order_key: *Digest::of(name.as_bytes()).as_bytes(),
        message,
    })
}

/// Plays a case; returns how often a job was begun again, and how often units went out twice.
async fn play(stage: &Ground, number: u32, (units, confident, known, steps): &Case) -> Result<(u64, u64)> {
    let units = *units;
    let client = connect(&stage.grid).await?;
    // Owners took part in nothing yet.
    client.execute(PENDING, &[&rust_decimal::Decimal::ZERO]).await?;
    client
        .batch_execute(
            "TRUNCATE trouble, standing, stake, held, release, catch, recheck, reopened, job_owner",
        )
        .await?;
    let mut jobs = Vec::new();
    let mut memory = MemoryStore::default();
    for of in 0..2 {
        let new = new_job(stage, &format!("{number}-{of}"), of, units, *confident)?;
        ensure!(new.spec.plan(units).work_units() == units);
        let (job, _) = stage.store.create_job(&new).await?;
        memory.submit(stage.store.job(job, None).await?.job);
        jobs.push(job);
    }
    if *known {
        let standings = "INSERT INTO standing (owner_id, correct, held_to) SELECT id, $1, $1 FROM owner";
        client.execute(standings, &[&i64::try_from(KNOWN)?]).await?;
        let held = "INSERT INTO held (owner_id, seq, job_id, stage, idx, amount, until_seq, checked)
            SELECT id, seq, 0, 1, 0, 1, 1000000000, false FROM owner, generate_series(1, $1::bigint) AS seq";
        client.execute(held, &[&i64::try_from(KNOWN)?]).await?;
        client
            .execute(
                "INSERT INTO stake (owner_id, currency, level) SELECT id, 0, $1 FROM owner",
                &[&Amount::MAX.decimal()],
            )
            .await?;
        client.execute(PENDING, &[&rust_decimal::Decimal::from(KNOWN)]).await?;
        for (_, owner) in &stage.devices {
            memory.know(*owner, KNOWN, "1".parse()?);
        }
    }
    let mut both = Both {
        store: stage.store.clone(),
        client,
        memory,
        jobs,
        devices: stage.devices.clone(),
        names: BTreeMap::new(),
        tokens: Tokens::default(),
        fairness: Fairness::default(),
        copies: 0,
    };
    let result = async {
        for step in steps {
            both.run(step).await.with_context(|| format!("{step:?}"))?;
            both.compare().await.with_context(|| format!("after {step:?}"))?;
        }
        Ok(())
    }
    .await;
    for job in &both.jobs {
        if both.store.job(*job, None).await?.job.state == JobState::Running {
            both.store.cancel_job(*job).await?;
        }
    }
    let rounds =
        both.jobs.iter().filter_map(|job| both.memory.job(*job)).map(|job| u64::from(job.round)).sum();
    // The next case knows nothing of what this one left.
    both.client.batch_execute("UPDATE job SET settled = true").await?;
    result.map(|()| (rounds, both.copies))
}

#[test]
fn both_stores_do_the_same_whatever_is_done() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ground = runtime.block_on(ground())?;
    let number = std::cell::Cell::new(0);
    let config = Config { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let (rounds, copies) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let cases = (1u64..10, prop::bool::weighted(0.8), any::<bool>(), steps());
    let result = runner.run(&cases, |case| {
        number.set(number.get() + 1);
        let played = runtime.block_on(play(&ground, number.get(), &case));
        let (begun, copied) = played.map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
        rounds.set(rounds.get() + begun);
        copies.set(copies.get() + copied);
        Ok(())
    });
    result.map_err(|error| anyhow::anyhow!("{error}"))?;
    println!(
        "{} cases, in which jobs were begun again {} times and leases copied {} times",
        number.get(),
        rounds.get(),
        copies.get()
    );
    Ok(())
}

/// Found: whoever was caught was no voice any more in jobs that name copies, in memory only.
#[test]
fn who_was_caught_is_still_a_voice_where_copies_are_named() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ground = runtime.block_on(ground())?;
    let case: Case = (
        4,
        false,
        false,
        vec![
            Step::Ask(vec![0, 0]),
            Step::Report { lease: 0, at: 0, says: 0 },
            Step::Report { lease: 0, at: 0, says: 0 },
            Step::Report { lease: 1, at: 197, says: 5 },
            Step::Ask(vec![3, 8]),
            Step::Report { lease: 27, at: 77, says: 4 },
            Step::Report { lease: 204, at: 83, says: 11 },
            Step::Ask(vec![7, 5]),
            Step::Report { lease: 132, at: 71, says: 1 },
            Step::Report { lease: 213, at: 43, says: 10 },
            Step::Ask(vec![6, 9]),
            Step::Report { lease: 104, at: 79, says: 10 },
            Step::Report { lease: 39, at: 135, says: 0 },
            Step::Ask(vec![7]),
            Step::Report { lease: 174, at: 116, says: 1 },
            Step::Ask(vec![6, 8]),
            Step::Report { lease: 218, at: 137, says: 9 },
            Step::Ask(vec![1, 8, 2]),
            Step::Report { lease: 131, at: 248, says: 4 },
            Step::Report { lease: 5, at: 120, says: 7 },
            Step::Ask(vec![4, 5]),
            Step::Report { lease: 116, at: 111, says: 8 },
            Step::Report { lease: 254, at: 194, says: 4 },
        ],
    );
    runtime.block_on(play(&ground, 1, &case)).map(drop)
}

/// One dear result and cheap ones after it: it goes when as much was earned after it as twenty like it, and what is held
/// falls slowly then.
#[test]
fn pay_is_released_by_what_was_earned_after_it() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let ground = ground().await?;
        let client = connect(&ground.grid).await?;
        let (job, _) = ground.store.create_job(&new_job(&ground, "prices", 0, 4, true)?).await?;
        let (_, owner) = ground.devices[0];
        let earn = async |places: std::ops::RangeInclusive<i64>, pay: &str| -> Result<()> {
            let pay: rust_decimal::Decimal = pay.parse()?;
            let insert = "INSERT INTO held (owner_id, seq, job_id, stage, idx, amount, until_seq, checked)
                SELECT $1, seq, $2, 1, seq, $3, seq + 20, false FROM generate_series($4::bigint, $5::bigint) AS seq";
            client.execute(insert, &[&owner.0, &job.0, &pay, places.start(), places.end()]).await?;
            let post = "UPDATE account SET balance = balance + CASE WHEN id = 0 THEN -$2::numeric ELSE $2 END
                WHERE id IN (0, $1::bigint * 8 + 4)";
            let sum = pay * rust_decimal::Decimal::from(places.end() - places.start() + 1);
            client.execute(post, &[&owner.0, &sum]).await?;
            let upsert = "INSERT INTO standing (owner_id, held_to) VALUES ($1, $2)
                ON CONFLICT (owner_id) DO UPDATE SET held_to = excluded.held_to";
            client.execute(upsert, &[&owner.0, places.end()]).await?;
            Ok(())
        };
        let left = async || -> Result<i64> {
            ground.store.release_held().await?;
            let select = "SELECT released_to FROM standing WHERE owner_id = $1";
            Ok(client.query_one(select, &[&owner.0]).await?.get(0))
        };
        client.execute("INSERT INTO stake (owner_id, currency, level) VALUES ($1, 0, 20)", &[&owner.0]).await?;
        earn(1..=1, "1").await?;
        earn(2..=2_000, "0.01").await?;
        ensure!(left().await? == 0, "19.99 were earned after it");
        earn(2_001..=2_001, "0.01").await?;
        ensure!(left().await? == 1, "twenty were, and twenty are left of it");
        let later = "UPDATE stake SET changed_at = now() - interval '61 minutes'";
        client.execute(later, &[]).await?;
        ensure!(left().await? == 501, "a quarter goes");
        ensure!(left().await? == 501, "and not another soon");
        earn(2_002..=2_002, "0.01").await?;
        ensure!(left().await? == 502, "as much goes as comes");
        client.batch_execute("UPDATE held SET created_at = now() - interval '40 days' WHERE seq <= 1000").await?;
        ensure!(left().await? == 1_000, "nothing is held for longer than it may");
        Ok(())
    })
}
