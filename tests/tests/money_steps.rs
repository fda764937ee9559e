//! Every step that moves money: cut once after it has committed and before its answer came, then done again twice.
//! The answers are the same, and nothing is there twice.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lull_proto::v1;
use lull_proto::v1::jobs_client::JobsClient;
use lull_proto::v1::ledger_client::LedgerClient;
use lull_proto::v1::payouts_client::PayoutsClient;
use lull_tests::fleet::{Submitter, report, work_off};
use lull_tests::{Device, Fleet, Grid, guest, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Request;
use tonic::transport::Endpoint;

const IBANS: [&str; 2] = ["DE89370400440532013000", "NO9386011117947"];

/// A line to the coordinator on which no answer comes back: calls arrive, and nobody hears what became of them.
async fn deaf_line(url: &str) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let upstream = url.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if let Ok(server) = TcpStream::connect(&upstream).await {
                tokio::spawn(pass_on(client, server));
            }
        }
    });
    Ok(format!("http://{address}"))
}

async fn pass_on(client: TcpStream, mut server: TcpStream) {
    let (mut said, _silent) = client.into_split();
    let mut bytes = [0; 4096];
    let mut unheard = [0; 4096];
    loop {
        tokio::select! {
            read = said.read(&mut bytes) => match read {
                Ok(length) if length > 0 && server.write_all(&bytes[..length]).await.is_ok() => {}
                _ => return,
            },
            heard = server.read(&mut unheard) => if !matches!(heard, Ok(1..)) { return },
        }
    }
}

/// A step.
#[derive(Debug, Clone)]
enum Step {
    Deposit,
    Submit(v1::JobSpec),
    Accept(v1::SyncRequest),
    Cancel(String),
    Propose,
    Approve,
    Export,
    MarkPaid,
    MarkReturned,
    Reverse,
}

impl Step {
    /// What is so once it has committed.
    fn committed(&self) -> &'static str {
        match self {
            Self::Deposit => "EXISTS (SELECT FROM deposit WHERE request_id = 'deposit')",
            Self::Submit(_) => "EXISTS (SELECT FROM job WHERE request_id = 'job')",
            Self::Accept(_) => {
                "EXISTS (SELECT FROM transfer WHERE code = 3 AND job_id = (SELECT max(id) FROM job))"
            }
            Self::Cancel(_) => "EXISTS (SELECT FROM job WHERE state = 4)",
            Self::Propose => "EXISTS (SELECT FROM payout_batch)",
            Self::Approve => "EXISTS (SELECT FROM payout_batch WHERE state = 2)",
            Self::Export => "EXISTS (SELECT FROM payout_batch WHERE state = 3)",
            Self::MarkPaid => "EXISTS (SELECT FROM payout WHERE state = 2)",
            Self::MarkReturned => "EXISTS (SELECT FROM payout WHERE state = 3)",
            Self::Reverse => "EXISTS (SELECT FROM reversal WHERE code = 1)",
        }
    }
}

/// Who calls.
#[derive(Debug, Clone)]
struct Callers {
    operator: String,
    alice: String,
    bob: String,
    clinic: String,
    device: String,
}

impl Callers {
    /// Does a step; returns what was answered.
    async fn call(&self, url: &str, step: &Step) -> Result<String> {
        let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
        let mut ledger = LedgerClient::new(channel.clone());
        let mut payouts = PayoutsClient::new(channel.clone());
        let batch = "payouts/1".to_owned();
        let answer = match step.clone() {
            Step::Deposit => {
                let message = v1::CreateDepositRequest {
                    parent: "submitters/clinic".to_owned(),
                    amount: "12.5".to_owned(),
                    currency: String::new(),
                    request_id: "deposit".to_owned(),
                };
                format!("{:?}", ledger.create_deposit(with(message, &self.operator)?).await?.into_inner())
            }
            Step::Submit(spec) => {
                let spec = Some(spec);
                let message =
                    v1::CreateJobRequest { spec, request_id: "job".to_owned(), validate_only: false };
                let mut jobs = JobsClient::new(channel);
                format!("{:?}", jobs.create_job(with(message, &self.clinic)?).await?.into_inner())
            }
            Step::Accept(request) => {
                let mut work = v1::work_client::WorkClient::new(channel);
                format!("{:?}", work.sync(with(request, &self.device)?).await?.into_inner())
            }
            Step::Cancel(name) => {
                let mut jobs = JobsClient::new(channel);
                let message = v1::CancelJobRequest { name };
                format!("{:?}", jobs.cancel_job(with(message, &self.clinic)?).await?.into_inner())
            }
            Step::Propose => {
                let message = v1::ProposePayoutsRequest {
                    request_id: "batch".to_owned(),
                    minimum: "1".to_owned(),
                    currency: String::new(),
                };
                format!("{:?}", payouts.propose_payouts(with(message, &self.alice)?).await?.into_inner())
            }
            Step::Approve => {
                let message = v1::ApprovePayoutBatchRequest { name: batch };
                format!("{:?}", payouts.approve_payout_batch(with(message, &self.bob)?).await?.into_inner())
            }
            Step::Export => {
                let message = v1::ExportPayoutBatchRequest { name: batch };
                format!("{:?}", payouts.export_payout_batch(with(message, &self.alice)?).await?.into_inner())
            }
            Step::MarkPaid => {
                let message = v1::MarkPayoutsPaidRequest { name: batch, owners: Vec::new() };
                format!("{:?}", payouts.mark_payouts_paid(with(message, &self.alice)?).await?.into_inner())
            }
            Step::MarkReturned => {
                let (owner, reason) = ("owners/ada".to_owned(), "AC04 closed account".to_owned());
                let message = v1::MarkPayoutReturnedRequest { name: batch, owner, reason };
                format!("{:?}", payouts.mark_payout_returned(with(message, &self.alice)?).await?.into_inner())
            }
            Step::Reverse => {
                let name = "submitters/clinic/deposits/2".to_owned();
                let message = v1::ReverseDepositRequest { name, reason: "typed twice".to_owned() };
                format!("{:?}", ledger.reverse_deposit(with(message, &self.operator)?).await?.into_inner())
            }
        };
        Ok(answer)
    }
}

fn with<T>(message: T, credentials: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", credentials.parse()?);
    Ok(request)
}

/// All that moved, and where it is.
async fn ledger(grid: &Grid) -> Result<String> {
    let select = "SELECT (SELECT count(*) || md5(string_agg(t::text, ' ' ORDER BY id)) FROM transfer AS t)
        || (SELECT md5(string_agg(a::text, ' ' ORDER BY id)) FROM account AS a)";
    Ok(grid.database().await?.query_one(select, &[]).await?.try_get(0)?)
}

/// Cuts a step, then does it twice.
async fn cut_and_repeat(grid: &mut Grid, callers: &Callers, step: Step) -> Result<()> {
    let line = deaf_line(&grid.url).await?;
    let (caller, cut) = (callers.clone(), step.clone());
    let call = tokio::spawn(async move { caller.call(&line, &cut).await });
    wait_until(&grid.database().await?, "committed", step.committed()).await?;
    assert!(!call.is_finished(), "{step:?} was answered");
    let before = ledger(grid).await?;
    grid.kill_coordinator()?;
    call.abort();
    grid.restart_coordinator()?;

    let first = callers.call(&grid.url, &step).await.with_context(|| format!("{step:?} again"))?;
    let second = callers.call(&grid.url, &step).await.with_context(|| format!("{step:?} once more"))?;
    assert_eq!(first, second, "{step:?}");
    assert_eq!(ledger(grid).await?, before, "{step:?} moved something again");
    grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_is_cut_once_and_done_twice() -> Result<()> {
    let mut grid = Grid::start_with(60, &["--fee-percent", "1.5"])?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "1000").await?;
    let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
    let mut devices = [fleet.device("ada").await?, fleet.device("bob").await?];
    let named =
        |name| Ok::<_, anyhow::Error>(grid.lull(&["admin", "operator", "add", name])?.trim().to_owned());
    let (alice, bob) = (named("alice")?, named("bob")?);
    grid.lull_with(&alice, &["admin", "payer", "set", "--name", "The Grid", "--iban", IBANS[0]])?;
    for owner in ["ada", "bob"] {
        let payee = ["admin", "payee", "set", owner, "--name", "Somebody", "--iban", IBANS[1]];
        grid.lull_with(&alice, &payee)?;
    }
    let token = ["admin", "create-token", "--role", "submitter", "--subject", "submitters/clinic"];
    let bearer = |token: &str| format!("Bearer {}", token.trim());
    let callers = Callers {
        operator: bearer(&grid.operator),
        alice: bearer(&alice),
        bob: bearer(&bob),
        clinic: bearer(&grid.lull(&token)?),
        device: devices[1].credentials().to_owned(),
    };

    cut_and_repeat(&mut grid, &callers, Step::Deposit).await?;
    cut_and_repeat(&mut grid, &callers, Step::Reverse).await?;
    let spec =
        v1::JobSpec { copies: 2, item_price: "2.345".to_owned(), ..Submitter::trivial_spec(&module, 3) };
    cut_and_repeat(&mut grid, &callers, Step::Submit(spec.clone())).await?;

    // The last of two owners that must agree reports: its answer is lost, what it brought is not.
    let accept = accepting(&mut devices).await?;
    cut_and_repeat(&mut grid, &callers, Step::Accept(accept)).await?;
    work_off(&mut clinic, "jobs/1", &mut devices).await?;
    clinic.create(spec).await?;
    cut_and_repeat(&mut grid, &callers, Step::Cancel("jobs/2".to_owned())).await?;

    let payout = [Step::Propose, Step::Approve, Step::Export, Step::MarkPaid, Step::MarkReturned];
    for step in payout {
        cut_and_repeat(&mut grid, &callers, step).await?;
    }
    grid.audit()
}

/// The report that decides a unit, not sent yet.
async fn accepting(devices: &mut [Device; 2]) -> Result<v1::SyncRequest> {
    let result = |index: u64| index.to_le_bytes().to_vec();
    let mut asked = Vec::new();
    for device in &mut *devices {
        let lease = device.ask(1, Duration::ZERO).await?.pop().context("a lease")?;
        asked.push(lease);
    }
    let first = report(&asked[0], result);
    devices[0].report(first).await?;
    // The other may hold another unit: it reports that, and takes the one that is left.
    while asked[1].indices != asked[0].indices {
        let other = report(&asked[1], result);
        devices[1].report(other).await?;
        asked[1] = devices[1].ask(1, Duration::ZERO).await?.pop().context("another lease")?;
    }
    let reports = vec![report(&asked[1], result)];
    Ok(v1::SyncRequest { reports, ..v1::SyncRequest::default() })
}
