//! `lull-worker earnings`: from the running agent, else from the coordinator itself.

use std::io::{self, Write as _};

use anyhow::Context as _;
use chrono::Local;

use super::{clock, socket, state_dir_of};
use crate::args::{EarningsArgs, Output};
use crate::control::{Answer, AskError, Earnings, Request, ask, earnings_text};
use crate::identity::Identity;
use crate::notify::memory;
use crate::remote::{self, Remote, explain, unix_secs};
use crate::state_dir;

pub(super) fn run(arguments: &EarningsArgs) -> anyhow::Result<()> {
    let earnings = match ask(&socket(&arguments.place)?, &Request::Earnings {}) {
        Ok(Answer::Earnings(earnings)) => *earnings,
        Ok(other) => anyhow::bail!(
            "the agent answered {other:?} to a question about earnings: is it of another version?"
        ),
        Err(AskError::NotRunning) => directly(arguments)?,
        Err(error) => return Err(error.into()),
    };
    let shown = match arguments.output {
        Output::Json => serde_json::to_string(&earnings)?,
        Output::Text => earnings_text(&earnings, unix_secs(), |secs| clock(secs, Local::now())),
    };
    writeln!(io::stdout().lock(), "{shown}").context("stdout cannot be written")
}

/// Asks the coordinator as this device.
fn directly(arguments: &EarningsArgs) -> anyhow::Result<Earnings> {
    let state_dir = state_dir_of(&arguments.place)?;
    let identity = Identity::read_in(&state_dir)?.with_context(|| {
        format!("no agent runs here, and no device has enrolled in {}: start it with `lull-worker run`, or name its --state-dir", state_dir.display())
    })?;
    let coordinator = arguments.coordinator.as_ref().unwrap_or(&identity.enrolment.coordinator).clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let read = runtime.block_on(async {
        let channel = remote::channel(&coordinator)
            .with_context(|| format!("`{coordinator}` is no address of a coordinator"))?;
        let answer = Remote::new(channel, identity).earnings().await;
        answer.map_err(|status| {
            anyhow::anyhow!(
                "no agent runs here, and the coordinator {coordinator} cannot be asked: {}",
                explain(&status)
            )
        })
    });
    Ok(Earnings::new(&read?, &memory(&state_dir::absence(&state_dir)), unix_secs(), None))
}
