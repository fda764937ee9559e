//! The whole coordinator, started and stopped.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lull_ledger::{Currency, FeeRate};
use lull_proto::v1::{
    admin_server::AdminServer, blobs_server::BlobsServer, jobs_server::JobsServer,
    ledger_server::LedgerServer, payouts_server::PayoutsServer, work_server::WorkServer,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::auth::{Auth, hash_token, new_token};
use crate::blobs::Blobs;
use crate::chores;
use crate::core::Policy;
use crate::grid::Grid;
use crate::postgres::Postgres;
use crate::receipts::Receipts;
use crate::seal::SealKey;
use crate::service::{
    AdminService, BlobsService, Context, JobsService, LedgerService, PayoutsService, Turns, WorkService,
};
use crate::store::{OperatorId, Store, Subject, migrate};

/// The largest message taken: the report of a full lease of results that live in rows.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Calls that go on when the coordinator is told to stop get this long.
const DRAIN: Duration = Duration::from_secs(3);
/// The folder of blobs and the admin token may be read by nobody else.
const PRIVATE: u32 = 0o700;

/// How a coordinator is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its database, blobs and first token lie.
    pub state_dir: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A database of somebody else's; the private one when there is none.
    pub database_url: Option<String>,
    /// How long a lease lives without being renewed.
    pub lease_ttl: Duration,
    /// What is assumed of the grid's owners.
    pub policy: Policy,
    /// What the platform takes of each reward of a new job.
    pub fee: FeeRate,
    /// What the grid's money is in by default: said when its database is made, and the same ever after.
    pub currency: Option<Currency>,
}

/// Runs a coordinator until `stop` completes. `ready` is told the address once calls are answered.
///
/// # Errors
/// When it cannot start, or its listener fails.
pub fn run(config: Config, stop: Stop, ready: Ready) -> Pin<Box<dyn Future<Output = Result<()>>>> {
    // Boxed here, so that all of it is compiled once, in this crate.
    Box::pin(start(config, stop, ready))
}

/// Completes when the coordinator should stop.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Is told the address once calls are answered.
pub type Ready = Box<dyn FnOnce(SocketAddr)>;

async fn start(config: Config, mut stop: Stop, ready: Ready) -> Result<()> {
    ensure!(
        config.listen.ip().is_loopback(),
        "refusing to listen on {}: without TLS, which is not built yet, tokens would cross the network in the clear; \
         listen on 127.0.0.1 and put a TLS proxy or an SSH tunnel before it",
        config.listen
    );
    // Before anything is started for it: an address that is taken is the commonest mistake.
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!("cannot listen on {}: stop what listens there, or name another --listen", config.listen)
    })?;
    let state_dir = make_state_dir(&config.state_dir)?;
    // Dropped last: everything else uses it.
    let (database_url, postgres) = match config.database_url {
        Some(url) => (url, None),
        None => {
            let dir = state_dir.clone();
            let postgres = tokio::task::spawn_blocking(move || Postgres::start(&dir)).await??;
            tokio::select! {
                created = postgres.create_database() => created?,
                () = &mut stop => return Ok(()),
            }
            (postgres.url("lull"), Some(postgres))
        }
    };
    tokio::select! {
        migrated = migrate(&database_url, config.currency) => migrated.context("cannot use the database")?,
        () = &mut stop => return Ok(()),
    }
    let store = Store::open(&database_url)?;
    store.check_seals().await?;
    let grid_id = store.grid_id(&new_token("grid")).await?;
    let blobs_dir = state_dir.join("blobs");
    let blobs = Blobs::open(&blobs_dir).with_context(|| format!("opening {}", blobs_dir.display()))?;
    fs::set_permissions(&blobs_dir, fs::Permissions::from_mode(PRIVATE))?;
    keep_operator_token(&state_dir, &store).await?;

    let key = Arc::new(SealKey::open(&state_dir)?);
    store.add_coordinator_key(&key.public_key()).await?;
    let receipts = Arc::new(Receipts::new(store.clone(), Arc::clone(&key), grid_id.clone()));
    let (grid, told) = Grid::open(store.clone(), config.lease_ttl, config.policy, Arc::clone(&receipts));
    let mut chores = chores::start(store.clone(), blobs.clone(), grid.clone(), told);
    chores.spawn(chores::seal(store.clone(), key, grid_id.clone()));
    let auth = Arc::new(Auth::new(store.clone(), grid_id));
    let connections = store.clone();
    let context = Context { store, blobs, grid, auth, fee: config.fee, receipts, turns: Turns::default() };
    let address = listener.local_addr()?;
    fs::write(state_dir.join("address"), format!("http://{address}\n"))?;
    let result = serve(context, listener, stop, || ready(address)).await;
    // Both would complain of a database that is being stopped.
    chores.shutdown().await;
    connections.close();
    if let Some(postgres) = postgres {
        tokio::task::spawn_blocking(move || drop(postgres)).await?;
    }
    result
}

async fn serve(context: Context, listener: TcpListener, stop: Stop, ready: impl FnOnce()) -> Result<()> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<WorkServer<WorkService>>().await;
    health_reporter.set_serving::<JobsServer<JobsService>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(lull_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(AdminServer::new(AdminService::new(context.clone())))
        .add_service(
            BlobsServer::new(BlobsService::new(context.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            JobsServer::new(JobsService::new(context.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(LedgerServer::new(LedgerService::new(context.clone())))
        .add_service(PayoutsServer::new(PayoutsService::new(context.clone())))
        .add_service(WorkServer::new(WorkService::new(context)).max_decoding_message_size(MESSAGE_BYTES_MAX));
    ready();
    let (stopping, told) = tokio::sync::oneshot::channel();
    let stop = async move {
        stop.await;
        // Nobody waits for it once the server has failed.
        let _ = stopping.send(());
    };
    let incoming = TcpListenerStream::new(listener);
    let server = router.serve_with_incoming_shutdown(incoming, stop);
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return result.context("serving"),
        _ = told => tracing::info!("stopping"),
    }
    // Long polls and watches would hold a graceful stop for ever; their callers come back by themselves.
    match tokio::time::timeout(DRAIN, server).await {
        Ok(result) => result.context("serving"),
        Err(_) => Ok(()),
    }
}

fn make_state_dir(dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| {
        format!("cannot make the state directory {}: name another --state-dir", dir.display())
    })?;
    Ok(fs::canonicalize(dir)?)
}

/// The first operator's token lies in the state directory, for whoever may read that.
async fn keep_operator_token(state_dir: &Path, store: &Store) -> Result<()> {
    let path = state_dir.join("operator.token");
    let token = match fs::read_to_string(&path) {
        Ok(token) => token.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = new_token("lull");
            let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
            std::io::Write::write_all(&mut file, format!("{token}\n").as_bytes())?;
            file.persist(&path)?;
            token
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    Ok(store.add_api_token(&hash_token(&token), Subject::Operator(OperatorId::UNNAMED)).await?)
}
