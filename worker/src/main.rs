//! `lull-worker`: the agent on a PC.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use lull_proto::v1;
use lull_sandbox::{RunnerConfig, find_runner};
use lull_worker::agent::{self, End, Settings};
use lull_worker::alone::{Alone, MACHINE};
use lull_worker::args::{Command, RunArgs};
use lull_worker::commands;
use lull_worker::config;
use lull_worker::core::Backoff;
use lull_worker::identity::{Enrolment, Identity, enrolment_proof, key_for_enrolment};
use lull_worker::log_file::LogFile;
use lull_worker::receipts;
use lull_worker::remote::{self, Remote};
use lull_worker::state_dir::{self, StateDir};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

/// Exit codes; `--help` explains them.
const EXIT_UNEXPECTED: u8 = 1;
const EXIT_SETTINGS: u8 = 2;
const EXIT_LOCKED: u8 = 3;
const EXIT_UNKNOWN_DEVICE: u8 = 4;

/// Threads for calls to the coordinator; leases have their own.
const CALL_THREADS: usize = 2;

/// An error, and the exit code that tells of it.
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    fn settings(error: impl Into<anyhow::Error>) -> Self {
        Self { code: EXIT_SETTINGS, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: EXIT_UNEXPECTED, error: error.into() }
    }
}

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let cli = match config::load(&argv) {
        Ok(cli) => cli,
        Err(config::Error::Usage(error)) => error.exit(),
        Err(error) => return wrong_settings(&error),
    };
    let arguments = match cli.command {
        Command::Run(arguments) => arguments,
        Command::Config(arguments) => {
            return match config::run(&arguments.command, cli.config.as_deref()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => wrong_settings(&*error),
            };
        }
        other => return commands::run(&other, cli.config.as_deref()),
    };
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).with_env_var("LULL_LOG");
    let filter = match filter.from_env() {
        Ok(filter) => filter,
        Err(error) => return wrong_settings(&*anyhow::anyhow!("LULL_LOG: {error}")),
    };
    let is_terminal = std::io::stderr().is_terminal();
    let log_file = LogFile::default();
    tracing_subscriber::registry()
        .with(filter)
        .with(fmt::layer().with_ansi(is_terminal).with_writer(std::io::stderr))
        .with(fmt::layer().with_ansi(false).with_writer(log_file.clone()))
        .init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(CALL_THREADS).enable_all().build();
    let result = runtime.map_err(Failure::from).and_then(|runtime| {
        let result = runtime.block_on(run(&arguments, &log_file));
        // A blob that is on its way is of no use any more.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            tracing::error!("{}", commands::whole(&error));
            ExitCode::from(code)
        }
    }
}

/// Says what is wrong before there is a log.
fn wrong_settings(error: &dyn std::error::Error) -> ExitCode {
    let text = error.to_string();
    let _ =
        writeln!(std::io::stderr().lock(), "error: {}", text.strip_prefix("error: ").unwrap_or(&text).trim());
    ExitCode::from(EXIT_SETTINGS)
}

async fn run(arguments: &RunArgs, log_file: &LogFile) -> Result<(), Failure> {
    arguments.check_modules().map_err(|problem| Failure::settings(anyhow::anyhow!(problem)))?;
    let Some(path) = arguments.state_dir() else {
        return Err(Failure::settings(anyhow::anyhow!(
            "neither HOME nor XDG_STATE_HOME (on Windows LOCALAPPDATA) says where to keep things: pass --state-dir"
        )));
    };
    let runner = RunnerConfig {
        path: find_runner(arguments.runner.as_deref()).map_err(Failure::settings)?,
        require: arguments.walls.into(),
    };
    let state = StateDir::open(&path).map_err(|error| Failure {
        code: if matches!(error, state_dir::Error::Locked { .. }) { EXIT_LOCKED } else { EXIT_SETTINGS },
        error: error.into(),
    })?;
    if let Err(error) = log_file.open(&path) {
        tracing::warn!(%error, "the log cannot be kept in the state directory; it goes to stderr only");
    }
    let _alone = if arguments.presence.dedicated || arguments.presence.beside_others {
        None
    } else {
        Some(Alone::take(MACHINE).map_err(|error| Failure { code: EXIT_LOCKED, error: error.into() })?)
    };
    let known = Identity::read(&state).map_err(Failure::settings)?;
    let remembered = known.as_ref().map(|identity| identity.enrolment.coordinator.clone());
    let Some(coordinator) = arguments.coordinator.clone().or(remembered) else {
        return Err(Failure::settings(anyhow::anyhow!(
            "no coordinator is known yet: pass --coordinator with its address"
        )));
    };
    let channel = remote::channel(&coordinator).map_err(|error| {
        let context = format!("`{coordinator}` is no address of a coordinator");
        Failure::settings(anyhow::Error::from(error).context(context))
    })?;
    let identity = match known {
        Some(identity) => identity,
        None => enrol(arguments, &state, channel.clone(), coordinator).await?,
    };
    let Enrolment { device_id, owner, .. } = &identity.enrolment;
    tracing::info!(device = device_id, %owner, state_dir = %path.display(), slots = arguments.slots(), "running");
    let settings = Settings {
        slots: arguments.slots(),
        presence: arguments.presence.settings(),
        cache_bytes: arguments.cache_bytes,
        runner,
        checkpoint_every: arguments.checkpoint_every(),
        notify: arguments.notify(),
    };
    match agent::run(settings, &state, Remote::new(channel, identity)).await? {
        End::Stopped => Ok(()),
        End::UnknownDevice => Err(Failure {
            code: EXIT_UNKNOWN_DEVICE,
            error: anyhow::anyhow!(
                "the coordinator does not know this device any more: move {} away and enrol again with a new token",
                path.display()
            ),
        }),
    }
}

/// Enrols this device; waits for a coordinator that is away.
async fn enrol(
    arguments: &RunArgs,
    state: &StateDir,
    channel: tonic::transport::Channel,
    coordinator: String,
) -> Result<Identity, Failure> {
    let Some(token) = arguments.enrolment_token.as_deref().map(str::trim).filter(|token| !token.is_empty())
    else {
        return Err(Failure::settings(anyhow::anyhow!(
            "this device has not enrolled yet: pass --enrolment-token (or LULL_ENROLMENT_TOKEN) with a token from the operator"
        )));
    };
    let key = key_for_enrolment(state).map_err(Failure::settings)?;
    let request = v1::EnrolRequest {
        enrolment_token: token.to_owned(),
        public_key: key.verifying_key().to_bytes().to_vec(),
        proof: enrolment_proof(&key, token),
        display_name: arguments.name(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut backoff = Backoff::default();
    let enrolled = loop {
        let status = match remote::enrol(channel.clone(), request.clone()).await {
            Ok(enrolled) => break enrolled,
            Err(status) => status,
        };
        if !remote::is_temporary(&status) {
            return Err(Failure::settings(anyhow::anyhow!("enrolment was refused: {}", status.message())));
        }
        let wait = backoff.next(rand::random());
        tracing::warn!(
            error = remote::explain(&status),
            ?wait,
            "the coordinator cannot be reached to enrol; it is tried again"
        );
        if tokio::time::timeout(wait, tokio::signal::ctrl_c()).await.is_ok() {
            return Err(anyhow::anyhow!("interrupted before this device had enrolled").into());
        }
    };
    receipts::pin(&state.receipts(), &enrolled.coordinator_keys).map_err(|error| {
        Failure::settings(anyhow::Error::from(error).context("the coordinator's keys cannot be kept"))
    })?;
    let enrolment = Enrolment {
        device_id: enrolled.device_id,
        grid_id: enrolled.grid_id,
        owner: enrolled.owner,
        coordinator,
    };
    tracing::info!(device = enrolment.device_id, owner = enrolment.owner, "enrolled");
    Identity::create(state, key, enrolment).map_err(Failure::settings)
}
