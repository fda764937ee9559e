//! The command line: flags that every command has, and the list of commands. What a command takes
//! stands beside what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    admin, balance, cancel, devices, jobs, money, results, run_local, statement, submit, watch,
};
use crate::grid::{self, TokenSource};
use crate::out::Format;

/// Submits jobs to a grid of idle PCs, watches them, and reads answers and earnings.
#[derive(Debug, Parser)]
#[command(name = "lull", version, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  lull submit job.toml --pilot 20 --watch
  lull results 12 --out answer.csv
  lull --output json jobs

The token is read from --token, --token-file, LULL_TOKEN or the file that
LULL_TOKEN_FILE names, in this order. Data goes to stdout, talk to stderr.
With --output json amounts are exact decimals in strings, digests are
hexadecimal, times are RFC 3339 in UTC.

Exit codes:
    0  done
    1  any other failure
    2  wrong command line or bad input, such as a wrong job file
    3  the coordinator cannot be reached
    4  not allowed: the token is missing, wrong, or of another role
    5  not found
    6  the job ended without an answer (incomplete or cancelled), or has none yet
    7  the books do not balance
  130  Ctrl-C";

/// Heading of the flags that every command has.
const GLOBAL: &str = "Options of every command";

/// Flags that every command has.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Address of the coordinator
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        env = "LULL_COORDINATOR",
        value_name = "URL",
        default_value = "http://127.0.0.1:7878",
        value_parser = grid::address
    )]
    pub(crate) coordinator: String,
    /// Token of the caller; others on this PC may see it in the list of processes: prefer --token-file
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// File that holds the token
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Tables for people, or JSON for programs
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FORMAT", default_value = "table", value_enum)]
    pub(crate) output: Format,
}

impl Global {
    /// Where the token comes from.
    pub(crate) fn token_source(&self) -> TokenSource {
        TokenSource { token: self.token.clone(), token_file: self.token_file.clone() }
    }
}

/// What `lull` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Submit(submit::SubmitArgs),
    Jobs(jobs::JobsArgs),
    Watch(watch::WatchArgs),
    Results(results::ResultsArgs),
    Cancel(cancel::CancelArgs),
    Devices(devices::DevicesArgs),
    Fund(money::FundArgs),
    Balance(balance::BalanceArgs),
    Earnings(money::EarningsArgs),
    Statement(statement::StatementArgs),
    Books(money::BooksArgs),
    Admin(admin::AdminArgs),
    RunLocal(run_local::RunLocalArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{}: {help}", command.get_name());
            for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
                check(inner);
            }
        }
        check(&mut Cli::command());
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let cli = Cli::try_parse_from(["lull", "jobs", "--output", "json", "--token", "t"]).unwrap();
        assert_eq!((cli.global.output, cli.global.token.as_deref()), (Format::Json, Some("t")));
        let both = ["lull", "jobs", "--token", "t", "--token-file", "f"];
        assert!(Cli::try_parse_from(both).is_err());
    }
}
