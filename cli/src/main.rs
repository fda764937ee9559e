//! `lull`: the command line of people who submit jobs, own PCs, or run a grid.
//!
//! - [`args`]: the command line itself; [`commands`]: what each command does;
//! - [`grid`]: the way to a coordinator; [`local`]: a whole job without one;
//! - [`out`]: the only place that prints; [`view`]: the shapes of `--output json`; [`text`]: words for people;
//! - [`error`]: messages and exit codes.
//!
//! It decides nothing about jobs or money: that is the coordinator's.

mod args;
mod commands;
mod error;
mod grid;
mod local;
mod out;
mod text;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

use crate::error::Exit;

fn main() -> ExitCode {
    match commands::run(args::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.exit != Exit::PipeClosed {
                out::say(&format!("lull: {error}"));
            }
            ExitCode::from(error.exit as u8)
        }
    }
}
