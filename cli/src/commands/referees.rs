//! `lull admin referee`: whom the operator trusts to settle disputes.

use clap::Subcommand;
use lull_proto::v1;
use serde::Serialize;

use crate::error::Result;
use crate::grid::Grid;
use crate::out::{self, Format};
use crate::text::{human, name};

/// Devices that settle disputes: their word is final
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  lull admin referee add 7
  lull admin referee remove 7

`lull devices` says which devices are referees.")]
pub(crate) enum RefereeCommand {
    /// Make a device a referee
    ///
    /// Where results of a unit differ, a referee runs it at full speed and strictly. What it returns
    /// decides the unit, and whoever returned something else is held for a liar: take a PC that you
    /// look after yourself.
    #[command(after_help = "Example:\n  lull admin referee add 7\n\nJSON: {device, owner, referee}")]
    Add {
        /// The device, as `lull devices` numbers it
        #[arg(value_name = "DEVICE", value_parser = name::device)]
        device: String,
    },
    /// Make it an ordinary device again; what it decided stays decided
    #[command(after_help = "Example:\n  lull admin referee remove 7\n\nJSON: {device, owner, referee}")]
    Remove {
        /// The device
        #[arg(value_name = "DEVICE", value_parser = name::device)]
        device: String,
    },
}

#[derive(Debug, Serialize)]
struct Referee {
    device: String,
    owner: String,
    referee: bool,
}

/// Runs one of them.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn run(grid: &Grid, command: RefereeCommand, format: Format) -> Result<()> {
    let (name, referee) = match command {
        RefereeCommand::Add { device } => (device, true),
        RefereeCommand::Remove { device } => (device, false),
    };
    let request = v1::SetRefereeRequest { name, referee };
    let response = grid.admin().set_referee(request).await.map_err(|status| grid.explain(&status))?;
    let v1::Device { name, display_name, owner, referee, .. } = response.into_inner();
    match format {
        Format::Json => out::json(&Referee { device: name, owner, referee }),
        Format::Table => out::line(&format!(
            "{} ({}) {}",
            human::plain(&name),
            human::plain(&display_name),
            if referee { "is a referee" } else { "is no referee" }
        )),
    }
}
