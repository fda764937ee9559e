//! `lull-audit`: recomputes a grid's ledger, and says whether it is what was sealed and whether it adds up.
//!
//! - [`source`]: the database, read only; [`kinds`]: what is sealed;
//! - [`chain`]: seals, and rows against them; [`books`]: balances and escrows;
//! - [`units`]: rewards, attempts and verdicts; [`queue`]: everything else that moves money; [`payouts`]: their lines and
//!   states; [`plan`]: how many items a unit is paid for;
//! - [`fault`]: what is found; [`amount`]: exact amounts; [`progress`]: for whoever waits.
//!
//! It shares no code and no query with the coordinator, so that a mistake there is not made again here. It writes
//! nothing. What an audit can show and what not stands in `docs/LEDGER.md`.

mod amount;
mod books;
mod chain;
mod fault;
mod kinds;
mod payouts;
mod plan;
mod progress;
mod queue;
mod source;
mod units;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{ArgGroup, Parser, ValueEnum};

use crate::books::{Books, Totals};
use crate::chain::{Chain, Known};
use crate::fault::{Check, Fault, Stop};
use crate::progress::Progress;
use crate::source::Source;

/// Recomputes a grid's ledger: seals, balances, escrows, every reward against its unit.
#[derive(Parser)]
#[command(
    name = "lull-audit",
    version,
    after_help = EXAMPLE,
    group = ArgGroup::new("whose").required(true).args(["state_dir", "database"])
)]
struct Arguments {
    /// The database: a postgresql:// URL. A user that may read is enough.
    #[arg(long, env = "LULL_DATABASE_URL", value_name = "URL")]
    database: Option<String>,
    /// The state directory of a coordinator that runs here, with its private database.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// A public key that may sign: 64 hexadecimal digits, or a file that holds them. May be given again. Without
    /// one any key may.
    #[arg(long = "key", value_name = "HEX|FILE")]
    keys: Vec<String>,
    /// A head that was kept elsewhere and has to be in the chain.
    #[arg(long, value_name = "HEX")]
    head: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const EXAMPLE: &str = "Example:\n  lull-audit --state-dir /var/lib/lull --key seal.pub --head 5c0e..\n\n\
    Exit codes: 0 the ledger is right; 1 it is broken, and the first broken row is named; 2 it could not be audited.";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// All that was found.
struct Report {
    chain: Chain,
    totals: Totals,
    units: units::Counts,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (code, text) = match run(&arguments) {
        Ok(report) => (0, show(&report, arguments.output)),
        Err(Stop::Broken(fault)) => (1, show_fault(&fault, arguments.output)),
        Err(Stop::Failed(error)) => {
            // Nobody reads it: the exit code says the same.
            let _ = writeln!(std::io::stderr(), "lull-audit: could not audit: {error:#}");
            return ExitCode::from(2);
        }
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(2),
    }
}

fn run(arguments: &Arguments) -> Check<Report> {
    let known = Known {
        keys: arguments.keys.iter().map(|key| read_key(key)).collect::<Result<_>>()?,
        head: arguments.head.as_deref().map(read_digest).transpose().context("reading --head")?,
    };
    let url = match (&arguments.database, &arguments.state_dir) {
        (Some(url), _) => url.clone(),
        (None, Some(dir)) => private_url(dir)?,
        (None, None) => return Err(Stop::Failed(anyhow!("name a database"))),
    };
    let progress = Progress::default();
    let talk = progress.talk();
    let (source, mut session) = Source::open(&url, progress)?;
    let others = source.clone();
    let others = std::thread::spawn(move || {
        let units = units::check(&others)?;
        queue::check(&others)?;
        payouts::check(&others)?;
        Ok(units)
    });
    let mut books = Books::default();
    let sums = chain::check(&mut session, &known, |kind, row| books.take(kind, row))
        .and_then(|chain| Ok((chain, books.close(&mut session)?)));
    // The others look at the same snapshot, which this session holds: it lives on until they are done.
    let others = others.join().unwrap_or_else(|_| Err(Stop::Failed(anyhow!("a check of units panicked"))));
    drop(talk);
    let (chain, totals) = sums?;
    Ok(Report { chain, totals, units: others? })
}

fn private_url(state_dir: &Path) -> Result<String> {
    let dir = state_dir.join("postgres/run");
    let dir = std::fs::canonicalize(&dir).with_context(|| {
        format!("{}: is a coordinator with a private database running there?", dir.display())
    })?;
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let host: String =
        std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str()).iter().copied().map(escape).collect();
    Ok(format!("postgresql://lull_app@{host}/lull"))
}

fn read_key(key: &str) -> Result<[u8; 32]> {
    if let Ok(key) = read_digest(key) {
        return Ok(key);
    }
    let text =
        std::fs::read_to_string(key).with_context(|| format!("--key {key} is neither a key nor a file"))?;
    read_digest(text.trim()).with_context(|| format!("reading the key in {key}"))
}

fn read_digest(text: &str) -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).context("not 64 hexadecimal digits")?;
    Ok(bytes)
}

fn show(report: &Report, output: Output) -> String {
    let Report { chain, totals, units } = report;
    let keys: Vec<String> = chain.keys.iter().map(hex::encode).collect();
    if output == Output::Json {
        let deposited: serde_json::Map<_, _> = totals
            .deposited
            .iter()
            .map(|(code, amount)| (code.clone(), serde_json::Value::String(amount.to_string())))
            .collect();
        let object = serde_json::json!({
            "ok": true,
            "seals": chain.seals,
            "head": hex::encode(chain.head),
            "keys": keys,
            "sealed_rows": chain.sealed_rows,
            "unsealed_rows": chain.unsealed_rows,
            "transfers": totals.transfers,
            "accounts": totals.accounts,
            "jobs": totals.jobs,
            "units": units.units,
            "attempts": units.attempts,
            "rewards": units.rewards,
            "deposited": deposited,
        });
        return format!("{object}\n");
    }
    let mut text = format!(
        "the ledger is right\n\
         {:>12} seals of {} rows, {} rows not sealed yet\n\
         {:>12} transfers between {} accounts, {} deposited\n\
         {:>12} rewards for {} attempts of {} units in {} jobs\n\
         head {}\n",
        chain.seals,
        chain.sealed_rows,
        chain.unsealed_rows,
        totals.transfers,
        totals.accounts,
        totals.deposited.iter().map(|(code, sum)| format!("{sum} {code}")).collect::<Vec<_>>().join(" and "),
        units.rewards,
        units.attempts,
        units.units,
        totals.jobs,
        hex::encode(chain.head),
    );
    for key in keys {
        text.push_str(&format!("key  {key}\n"));
    }
    text
}

fn show_fault(fault: &Fault, output: Output) -> String {
    match output {
        Output::Json => format!("{}\n", serde_json::json!({ "ok": false, "fault": fault })),
        Output::Text => format!("BROKEN {}: {}: {}\n", fault.check, fault.row, fault.problem),
    }
}
