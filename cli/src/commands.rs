//! The commands, one module each: what it takes, what it calls, what it prints.

pub(crate) mod admin;
pub(crate) mod balance;
pub(crate) mod cancel;
pub(crate) mod devices;
pub(crate) mod jobs;
pub(crate) mod money;
pub(crate) mod results;
pub(crate) mod run_local;
pub(crate) mod statement;
pub(crate) mod submit;
pub(crate) mod watch;

mod currencies;
mod job_input;
mod ledger_line;
mod payouts;
mod progress;
mod referees;
mod summary;
mod units;
mod upload;

use crate::args::{Cli, Command};
use crate::error::{Error, Exit, Result};
use crate::grid::Grid;

/// Runs a command to its end.
///
/// # Errors
/// Why it did not do what it was asked.
pub(crate) fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    // Its runner lives as long as the thread that starts it: this one.
    let command = match command {
        Command::RunLocal(args) => return run_local::run(&args, global.output),
        other => other,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Exit::Failure, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        // A job file is read and checked before anybody is asked anything.
        let prepared = match &command {
            Command::Submit(args) => Some(submit::prepare(args)?),
            _ => None,
        };
        let grid = Grid::connect(&global.coordinator, &global.token_source()).await?;
        let format = global.output;
        match (command, prepared) {
            (Command::Submit(args), Some(prepared)) => submit::run(&grid, &args, prepared, format).await,
            (Command::Jobs(args), _) => jobs::run(&grid, &args, format).await,
            (Command::Watch(args), _) => watch::run(&grid, &args.job, format).await,
            (Command::Results(args), _) => results::run(&grid, &args, format).await,
            (Command::Cancel(args), _) => cancel::run(&grid, &args, format).await,
            (Command::Devices(_), _) => devices::run(&grid, format).await,
            (Command::Fund(args), _) => money::fund(&grid, args, format).await,
            (Command::Balance(args), _) => balance::run(&grid, args, format).await,
            (Command::Earnings(args), _) => money::earnings(&grid, args, format).await,
            (Command::Statement(args), _) => statement::run(&grid, args, format).await,
            (Command::Books(_), _) => money::books(&grid, format).await,
            (Command::Admin(args), _) => admin::run(&grid, args, format).await,
            (Command::RunLocal(_) | Command::Submit(_), _) => unreachable!("handled above"),
        }
    })
}
