//! `lull-coordinator`: the server of a grid.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lull_coordinator::core::{Policy, Share};
use lull_coordinator::server::{self, Config};
use lull_ledger::{Currency, FeeRate};
use tokio::signal::unix::{SignalKind, signal};

/// The server of a Lull grid: leases units to agents, verifies results, pays owners.
#[derive(Parser)]
#[command(name = "lull-coordinator", version, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "Example:\n  lull-coordinator serve --state-dir /var/lib/lull --listen 127.0.0.1:7878\n\n\
    The first operator's token is then in /var/lib/lull/operator.token.";

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGINT or SIGTERM.
    #[command(after_help = EXAMPLE)]
    Serve {
        /// Where the database, the blobs and the first operator's token lie.
        #[arg(long, env = "LULL_STATE_DIR", default_value = "/var/lib/lull")]
        state_dir: PathBuf,
        /// Where to listen; port 0 takes a free one. Loopback only, until TLS exists.
        #[arg(long, env = "LULL_LISTEN", default_value = "127.0.0.1:7878", value_name = "ADDRESS", value_parser = address)]
        listen: SocketAddr,
        /// A PostgreSQL database to use instead of a private one; its user owns it and may create roles.
        #[arg(long, env = "LULL_DATABASE_URL")]
        database_url: Option<String>,
        /// Seconds that a lease lives without being renewed.
        #[arg(long, env = "LULL_LEASE_TTL_SECS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
        lease_ttl_secs: u64,
        /// Percent of owners that may lie, all together if they like: what jobs are promised holds up to that.
        #[arg(long, env = "LULL_ASSUMED_LIARS", default_value_t = 5, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(0..=40))]
        assumed_liars: u64,
        /// Percent of each reward that the platform takes, of jobs submitted from now on; an exact decimal with at most four places.
        #[arg(long, env = "LULL_FEE_PERCENT", default_value = "0", value_name = "PERCENT")]
        fee_percent: FeeRate,
        /// What jobs, deposits and payouts are in when they name no currency: a code of ISO 4217, or one of your own with its
        /// decimals, such as CREDIT=2. It is set when the database is made, EUR if nothing is said, and cannot be changed.
        #[arg(long, env = "LULL_CURRENCY", value_name = "CODE")]
        currency: Option<Currency>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A stderr that nobody reads changes nothing.
            let _ = writeln!(std::io::stderr(), "lull-coordinator: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line. Some of them say what their own cause is.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run(command: Command) -> Result<()> {
    let Command::Serve {
        state_dir,
        listen,
        database_url,
        lease_ttl_secs,
        assumed_liars,
        fee_percent,
        currency,
    } = command;
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .with_env_var("LULL_LOG")
        .from_env()
        .context("LULL_LOG")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let lease_ttl = Duration::from_secs(lease_ttl_secs);
    let policy = Policy { liars: Share::parts(assumed_liars * (Share::WHOLE / 100)) };
    let config = Config { state_dir, listen, database_url, lease_ttl, policy, fee: fee_percent, currency };
    tokio::runtime::Runtime::new()?.block_on(serve(config))
}

async fn serve(config: Config) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let stop = Box::pin(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    let ready = Box::new(|address: SocketAddr| {
        tracing::info!(%address, "serving");
        // Scripts that start the program with port 0 read the address here.
        if let Err(error) = writeln!(std::io::stdout(), "http://{address}") {
            tracing::warn!(%error, "cannot print the address");
        }
    });
    server::run(config, stop, ready).await
}

/// Takes an address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:7878".to_owned())
}
