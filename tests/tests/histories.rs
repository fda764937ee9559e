//! Random histories of money on a real grid: jobs are funded, submitted, worked off rightly and wrongly, cancelled; owners are
//! paid out in every way that a batch can go; each call is repeated, or cut by the coordinator's death and then repeated.
//! After each history the books balance, by the coordinator, by the auditor, and by the sums of this test.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use lull_proto::v1;
use lull_proto::v1::jobs_client::JobsClient;
use lull_proto::v1::ledger_client::LedgerClient;
use lull_proto::v1::payouts_client::PayoutsClient;
use lull_proto::v1::work_client::WorkClient;
use lull_tests::fleet::{self, Submitter};
use lull_tests::money::parts;
use lull_tests::{Device, Fleet, Grid, guest};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rustix::process::{Signal, kill_process};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const CASES: u32 = 4;
const STEPS: std::ops::Range<usize> = 60..140;
/// Enough that a liar is outvoted twice.
const OWNERS: [&str; 6] = ["ada", "bob", "cyd", "dan", "eve", "fay"];
const SUBMITTERS: [&str; 2] = ["clinic", "school"];
/// What money is in: the default, and one without decimals.
const CURRENCIES: [&str; 2] = ["", "JPY"];
const IBAN: &str = "DE89370400440532013000";
/// Transfers that every run has, whatever it draws: deposit, escrow, reward, refund, payout, paid, reversal.
const CODES: [i16; 7] = [1, 2, 3, 4, 7, 8, 9];

/// Nothing is sealed meanwhile: a month passes by changing what is there.
const HOLD: &str = "INSERT INTO chore VALUES ('seal', 'test', 'infinity')
    ON CONFLICT (name) DO UPDATE SET holder = 'test', held_until = 'infinity'";

#[derive(Debug, Clone)]
enum Step {
    Fund {
        submitter: u8,
        currency: u8,
        cents: u16,
    },
    Reverse {
        deposit: u8,
    },
    Submit {
        submitter: u8,
        currency: u8,
        confident: bool,
        units: u8,
        price: u16,
    },
    Cancel {
        job: u8,
    },
    /// A device asks for work and reports it: rightly, or one time in eight with a lie.
    Work {
        device: u8,
        says: u8,
    },
    /// Pay that is held back becomes old.
    AMonth,
    Propose {
        currency: u8,
    },
    Approve {
        batch: u8,
    },
    Reject {
        batch: u8,
    },
    Export {
        batch: u8,
    },
    Paid {
        batch: u8,
    },
    Returned {
        batch: u8,
        owner: u8,
    },
}

/// A step, and whether the coordinator dies meanwhile: after it has had so many turns.
type Played = (Step, Option<u8>);

fn steps() -> impl Strategy<Value = Vec<Played>> {
    let batch = any::<u8>;
    let step = prop_oneof![
        2 => (any::<u8>(), any::<u8>(), 1u16..5_000)
            .prop_map(|(submitter, currency, cents)| Step::Fund { submitter, currency, cents }),
        1 => any::<u8>().prop_map(|deposit| Step::Reverse { deposit }),
        3 => (any::<u8>(), any::<u8>(), any::<bool>(), 1u8..12, 1u16..2_000).prop_map(
            |(submitter, currency, confident, units, price)| {
                Step::Submit { submitter, currency, confident, units, price }
            }
        ),
        1 => any::<u8>().prop_map(|job| Step::Cancel { job }),
        24 => (any::<u8>(), any::<u8>()).prop_map(|(device, says)| Step::Work { device, says }),
        1 => Just(Step::AMonth),
        2 => any::<u8>().prop_map(|currency| Step::Propose { currency }),
        2 => batch().prop_map(|batch| Step::Approve { batch }),
        1 => batch().prop_map(|batch| Step::Reject { batch }),
        2 => batch().prop_map(|batch| Step::Export { batch }),
        2 => batch().prop_map(|batch| Step::Paid { batch }),
        1 => (batch(), any::<u8>()).prop_map(|(batch, owner)| Step::Returned { batch, owner }),
    ];
    prop::collection::vec((step, prop::option::weighted(0.04, any::<u8>())), STEPS)
}

/// How every history ends: what is there is paid out, and one payout comes back. Batches are picked from the last.
const END: [Step; 10] = [
    Step::AMonth,
    Step::Propose { currency: 1 },
    Step::Approve { batch: 0 },
    Step::Export { batch: 0 },
    Step::Paid { batch: 0 },
    Step::Propose { currency: 0 },
    Step::Approve { batch: 0 },
    Step::Export { batch: 0 },
    Step::Paid { batch: 0 },
    Step::Returned { batch: 0, owner: 0 },
];

/// A call, whole: made again it is the same.
#[derive(Debug, Clone)]
enum Call {
    Fund(v1::CreateDepositRequest),
    Reverse(v1::ReverseDepositRequest),
    Submit(usize, Box<v1::CreateJobRequest>),
    Cancel(usize, v1::CancelJobRequest),
    Report(usize, v1::LeaseReport),
    Propose(v1::ProposePayoutsRequest),
    Approve(v1::ApprovePayoutBatchRequest),
    Reject(v1::RejectPayoutBatchRequest),
    Export(v1::ExportPayoutBatchRequest),
    Paid(v1::MarkPayoutsPaidRequest),
    Returned(v1::MarkPayoutReturnedRequest),
}

/// Who takes part, by what each shows to the coordinator.
struct Callers {
    channel: Channel,
    operator: String,
    alice: String,
    bob: String,
    submitters: Vec<String>,
    devices: Vec<Device>,
}

fn with<T>(message: T, credentials: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", credentials.parse().expect("ASCII"));
    request
}

impl Callers {
    /// Makes a call; returns the name of what it made or changed.
    async fn call(&self, call: Call) -> Result<String, Status> {
        let mut ledger = LedgerClient::new(self.channel.clone());
        let mut payouts = PayoutsClient::new(self.channel.clone());
        let mut jobs = JobsClient::new(self.channel.clone());
        let mut work = WorkClient::new(self.channel.clone());
        let name = match call {
            Call::Fund(message) => {
                ledger.create_deposit(with(message, &self.operator)).await?.into_inner().name
            }
            Call::Reverse(message) => {
                let reversal = ledger.reverse_deposit(with(message, &self.operator)).await?.into_inner();
                reversal.number.to_string()
            }
            Call::Submit(who, message) => {
                jobs.create_job(with(*message, &self.submitters[who])).await?.into_inner().name
            }
            Call::Cancel(who, message) => {
                jobs.cancel_job(with(message, &self.submitters[who])).await?.into_inner().name
            }
            Call::Report(device, report) => {
                let message = v1::SyncRequest { reports: vec![report], ..v1::SyncRequest::default() };
                work.sync(with(message, self.devices[device].credentials())).await?;
                String::new()
            }
            Call::Propose(message) => {
                payouts.propose_payouts(with(message, &self.alice)).await?.into_inner().name
            }
            Call::Approve(message) => {
                payouts.approve_payout_batch(with(message, &self.bob)).await?.into_inner().name
            }
            Call::Reject(message) => {
                payouts.reject_payout_batch(with(message, &self.alice)).await?.into_inner().name
            }
            Call::Export(message) => {
                payouts.export_payout_batch(with(message, &self.alice)).await?.into_inner().name
            }
            Call::Paid(message) => {
                payouts.mark_payouts_paid(with(message, &self.alice)).await?.into_inner().name
            }
            Call::Returned(message) => {
                payouts.mark_payout_returned(with(message, &self.alice)).await?.into_inner().name
            }
        };
        Ok(name)
    }
}

struct History {
    grid: Grid,
    callers: Callers,
    module: v1::Input,
    deposits: Vec<String>,
    /// With their submitters.
    jobs: Vec<(usize, String)>,
    batches: Vec<String>,
    /// Calls so far: each has a request id of its own.
    calls: usize,
}

fn pick<T>(from: &[T], which: u8) -> Option<&T> {
    from.get(usize::from(which) % from.len().max(1))
}

impl History {
    async fn begin() -> Result<Self> {
        let grid = Grid::start(60)?;
        grid.database().await?.execute(HOLD, &[]).await?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut module = None;
        let mut submitters = Vec::new();
        for name in SUBMITTERS {
            let mut submitter = fleet.submitter(name, "100").await?;
            module = Some(submitter.upload("module", &std::fs::read(guest("hello"))?).await?);
            submitters.push(submitter.credentials().to_owned());
        }
        let operator = |name| anyhow::Ok(grid.lull(&["admin", "operator", "add", name])?.trim().to_owned());
        let (alice, bob) = (operator("alice")?, operator("bob")?);
        grid.lull(&["admin", "currency", "add", "JPY"])?;
        for name in SUBMITTERS {
            grid.lull(&["fund", name, "100", "--currency", "JPY"])?;
        }
        for currency in ["EUR", "JPY"] {
            let payer =
                ["admin", "payer", "set", "--name", "The Grid", "--iban", IBAN, "--currency", currency];
            grid.lull_with(&alice, &payer)?;
        }
        let mut devices = Vec::new();
        for owner in OWNERS {
            devices.push(fleet.device(owner).await?);
            // Not everybody wants money.
            if owner != "fay" {
                let payee = ["admin", "payee", "set", owner, "--name", owner, "--iban", IBAN];
                grid.lull_with(&alice, &payee)?;
                grid.lull_with(&alice, &[&payee[..], &["--currency", "JPY"]].concat())?;
            }
        }
        let callers = Callers {
            channel: Endpoint::from_shared(grid.url.clone())?.connect_lazy(),
            operator: format!("Bearer {}", grid.operator),
            alice: format!("Bearer {alice}"),
            bob: format!("Bearer {bob}"),
            submitters,
            devices,
        };
        let module = module.context("a submitter")?;
        let (deposits, jobs, batches) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { grid, callers, module, deposits, jobs, batches, calls: 0 })
    }

    /// What a step comes to, if there is what it needs.
    async fn call_of(&mut self, step: &Step) -> Result<Option<Call>> {
        self.calls += 1;
        let request_id = format!("call-{}", self.calls);
        let code = |which: u8| pick(&CURRENCIES, which).map(|code| (*code).to_owned()).unwrap_or_default();
        let batch = |which| {
            self.batches.iter().rev().nth(usize::from(which) % self.batches.len().clamp(1, 3)).cloned()
        };
        Ok(match *step {
            Step::Fund { submitter, currency, cents } => {
                let parent = pick(&SUBMITTERS, submitter).map(|name| format!("submitters/{name}"));
                let currency = code(currency);
                let amount = match currency.as_str() {
                    "JPY" => cents.to_string(),
                    _ => format!("{}.{:02}", cents / 100, cents % 100),
                };
                parent.map(|parent| {
                    Call::Fund(v1::CreateDepositRequest { parent, amount, request_id, currency })
                })
            }
            Step::Reverse { deposit } => pick(&self.deposits, deposit).cloned().map(|name| {
                Call::Reverse(v1::ReverseDepositRequest { name, reason: "typed wrongly".to_owned() })
            }),
            Step::Submit { submitter, currency, confident, units, price } => {
                let spec = v1::JobSpec {
                    copies: if confident { 0 } else { 2 },
                    max_error: if confident { 0.05 } else { 0.0 },
                    budget: if confident { (u32::from(units) * 2).to_string() } else { String::new() },
                    item_price: format!("0.{price:04}1234"),
                    currency: code(currency),
                    ..Submitter::trivial_spec(&self.module, units.into())
                };
                let message = v1::CreateJobRequest { spec: Some(spec), request_id, validate_only: false };
                Some(Call::Submit(usize::from(submitter) % SUBMITTERS.len(), Box::new(message)))
            }
            Step::Cancel { job } => pick(&self.jobs, job)
                .cloned()
                .map(|(who, name)| Call::Cancel(who, v1::CancelJobRequest { name })),
            Step::Work { device, says } => {
                let at = usize::from(device) % self.callers.devices.len();
                let asking = fleet::asking(3, std::time::Duration::ZERO);
                let leases = match self.callers.devices[at].sync(asking).await {
                    Ok(answer) => answer.leases,
                    Err(status) => {
                        sound(&status)?;
                        Vec::new()
                    }
                };
                let lies = says % 8 == 0;
                leases.first().map(|lease| {
                    let said =
                        |index: u64| format!("{index}{}", if lies { " or so" } else { "" }).into_bytes();
                    Call::Report(at, fleet::report(lease, said))
                })
            }
            Step::AMonth => {
                let older = "UPDATE held SET created_at = created_at - interval '31 days'";
                self.grid.database().await?.execute(older, &[]).await?;
                None
            }
            Step::Propose { currency } => {
                let (minimum, currency) = (String::new(), code(currency));
                Some(Call::Propose(v1::ProposePayoutsRequest { request_id, minimum, currency }))
            }
            Step::Approve { batch: which } => {
                batch(which).map(|name| Call::Approve(v1::ApprovePayoutBatchRequest { name }))
            }
            Step::Reject { batch: which } => batch(which).map(|name| {
                Call::Reject(v1::RejectPayoutBatchRequest { name, reason: "the wrong month".to_owned() })
            }),
            Step::Export { batch: which } => {
                batch(which).map(|name| Call::Export(v1::ExportPayoutBatchRequest { name }))
            }
            Step::Paid { batch: which } => {
                batch(which).map(|name| Call::Paid(v1::MarkPayoutsPaidRequest { name, owners: Vec::new() }))
            }
            Step::Returned { batch: which, owner } => batch(which).map(|name| {
                let owner = format!("owners/{}", OWNERS[usize::from(owner) % OWNERS.len()]);
                let reason = "AC04 closed account".to_owned();
                Call::Returned(v1::MarkPayoutReturnedRequest { name, owner, reason })
            }),
        })
    }

    /// Makes a call twice. Where the coordinator is to die, it does so during the first, whose answer may never come.
    async fn play(&mut self, (step, dies_after): &Played) -> Result<()> {
        let call = self.call_of(step).await?;
        let first = match (call.clone(), dies_after) {
            (None, None) => return Ok(()),
            (Some(call), None) => Some(self.callers.call(call).await),
            (call, Some(turns)) => {
                let pid = self.grid.coordinator_pid();
                let kill = async {
                    for _ in 0..*turns {
                        tokio::task::yield_now().await;
                    }
                    kill_process(pid, Signal::KILL)
                };
                if let Some(call) = call {
                    let (_, killed) = tokio::join!(self.callers.call(call), kill);
                    killed?;
                } else {
                    kill.await?;
                }
                self.grid.kill_coordinator()?;
                self.grid.restart_coordinator()?;
                None
            }
        };
        let Some(call) = call else { return Ok(()) };
        let again = self.callers.call(call.clone()).await;
        for answer in first.iter().chain([&again]) {
            if let Err(status) = answer {
                sound(status)?;
            }
        }
        if let Some(Ok(first)) = &first {
            ensure!(again.as_ref().ok() == Some(first), "{call:?} gave {first}, and again {again:?}");
        }
        let Ok(name) = again else { return Ok(()) };
        match call {
            Call::Fund(_) => self.deposits.push(name),
            Call::Submit(who, _) => self.jobs.push((who, name)),
            Call::Propose(_) => self.batches.push(name),
            _ => {}
        }
        Ok(())
    }

    /// Every account has what its transfers make; the banks alone are in the red; nothing went from one currency to another.
    async fn check(&self) -> Result<BTreeMap<i16, u64>> {
        let database = self.grid.database().await?;
        let mut sums: BTreeMap<i64, i128> = BTreeMap::new();
        let mut codes = BTreeMap::new();
        let mut of_currency: BTreeMap<i64, u64> = BTreeMap::new();
        for row in database.query("SELECT debit, credit, amount::text, code FROM transfer", &[]).await? {
            let amount = parts(row.get(2));
            let currency = |account: i64| account >> 48;
            let (debit, credit) = (row.get(0), row.get(1));
            ensure!(currency(debit) == currency(credit), "{amount} went from {debit} to {credit}");
            *of_currency.entry(currency(debit)).or_default() += 1;
            *sums.entry(row.get(0)).or_default() -= amount;
            *sums.entry(row.get(1)).or_default() += amount;
            *codes.entry(row.get(3)).or_default() += 1;
        }
        for row in database.query("SELECT id, balance::text FROM account", &[]).await? {
            let (account, balance): (i64, &str) = (row.get(0), row.get(1));
            let balance = balance.strip_prefix('-').map_or_else(|| parts(balance), |number| -parts(number));
            ensure!(sums.remove(&account).unwrap_or(0) == balance, "account {account} has {balance}");
            ensure!(balance >= 0 || account % (1 << 48) == 0, "account {account} has {balance}");
        }
        ensure!(sums.is_empty(), "money on accounts that are none: {sums:?}");
        ensure!(of_currency.len() == CURRENCIES.len(), "money moved in {of_currency:?} only");
        self.grid.check_books()?;
        self.grid.audit()?;
        Ok(codes)
    }
}

/// A refusal with a reason, and no failure of the coordinator's own.
fn sound(status: &Status) -> Result<()> {
    ensure!(!matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss), "{status:?}");
    Ok(())
}

async fn whole(steps: &[Played]) -> Result<BTreeMap<i16, u64>> {
    let mut history = History::begin().await?;
    let end = END.map(|step| (step, None));
    for step in steps.iter().chain(&end) {
        history.play(step).await.with_context(|| format!("{step:?}"))?;
    }
    history.check().await
}

#[test]
fn the_books_balance_whatever_is_done() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seed = std::env::var("LULL_SEED").ok().map_or_else(|| Ok(rand::random()), |seed| seed.parse())?;
    println!("LULL_SEED={seed}");
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 60,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let seen = std::cell::RefCell::new(BTreeMap::<i16, u64>::new());
    let result = TestRunner::new(config).run(&steps(), |steps| {
        let codes = runtime.block_on(whole(&steps));
        for (code, count) in codes.map_err(|error| TestCaseError::fail(format!("{error:#}")))? {
            *seen.borrow_mut().entry(code).or_default() += count;
        }
        Ok(())
    });
    result.map_err(|error| anyhow::anyhow!("{error}"))?;
    let seen = seen.into_inner();
    println!("transfers by code: {seen:?}");
    ensure!(CODES.iter().all(|code| seen.contains_key(code)), "too little was done: {seen:?}");
    Ok(())
}
