//! `lull-worker earnings verify`: the receipts of this PC against the coordinator's ledger.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use lull_proto::v1;

use super::state_dir_of;
use crate::args::{Output, VerifyArgs};
use crate::identity::Identity;
use crate::receipts::compare::{Collection, Comparison, compare};
use crate::receipts::read;
use crate::receipts::sheet::{Holder, shown};
use crate::receipts::statement::Statement;
use crate::remote::{self, Remote, explain};
use crate::state_dir;

/// Differences that are written out for people; programs get all.
const DIFFERENCES_SHOWN: usize = 100;

/// Receipts and ledger differ, and the differences were named.
#[derive(Debug, thiserror::Error)]
#[error("receipts and ledger differ")]
pub(super) struct Differs;

pub(super) fn run(arguments: &VerifyArgs) -> anyhow::Result<()> {
    let state_dir = state_dir_of(&arguments.place)?;
    let identity = Identity::read_in(&state_dir)?.with_context(|| {
        format!("no device has enrolled in {}: name its --state-dir", state_dir.display())
    })?;
    let coordinator = arguments.coordinator.as_ref().unwrap_or(&identity.enrolment.coordinator).clone();
    let holder =
        Holder { grid_id: identity.enrolment.grid_id.clone(), device_id: identity.enrolment.device_id };
    let folder = state_dir::receipts(&state_dir);
    let (state, months) =
        read(&folder).with_context(|| format!("the receipts in {} cannot be read", folder.display()))?;
    let statements =
        arguments.statements.iter().map(|path| statement(path)).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<String> = state.keys.iter().chain(&arguments.keys).cloned().collect();
    let mut collection = Collection::of(&months, &holder, &keys);
    let numbers = collection.numbers().filter(|number| *number > state.through).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let compared = runtime.block_on(async {
        let channel = remote::channel(&coordinator)
            .with_context(|| format!("`{coordinator}` is no address of a coordinator"))?;
        let mut books = Books { remote: Remote::new(channel, identity), through: state.through, numbers };
        // Receipts that are still on their way come first, and those of what is paid meanwhile last.
        let mut on_their_way = books.receipts().await?;
        let before: BTreeSet<u64> = books.numbers.clone();
        let ledger = books.pay().await?;
        on_their_way.extend(books.receipts().await?);
        let newer = books.numbers.difference(&before).copied().collect();
        for sheet in &on_their_way {
            collection.add(sheet, &holder, &keys, "from the coordinator");
        }
        let stated = (holder.device_id, statements.as_slice());
        compare(collection, &ledger, &newer, &state, stated).map_err(anyhow::Error::msg)
    })?;
    let shown = match arguments.output {
        Output::Json => serde_json::to_string_pretty(&compared)?,
        Output::Text => text(&compared),
    };
    writeln!(io::stdout().lock(), "{shown}").context("stdout cannot be written")?;
    if compared.differences.is_empty() { Ok(()) } else { Err(Differs.into()) }
}

fn statement(path: &Path) -> anyhow::Result<Statement> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Statement::read(&text).map_err(|problem| anyhow::anyhow!("{} {problem}", path.display()))
}

/// What the coordinator says.
struct Books {
    remote: Remote,
    through: u64,
    numbers: BTreeSet<u64>,
}

impl Books {
    /// Receipts that are not here yet.
    async fn receipts(&mut self) -> anyhow::Result<Vec<v1::Receipts>> {
        let mut sheets = Vec::new();
        loop {
            let held = v1::HeldReceipts {
                through: self.through,
                numbers: self
                    .numbers
                    .iter()
                    .copied()
                    .filter(|number| *number > self.through)
                    .take(1_000)
                    .collect(),
            };
            let sheet = self.remote.receipts(held).await.map_err(refused)?;
            let numbers: BTreeSet<u64> = sheet.receipts.iter().filter_map(|bytes| number(bytes)).collect();
            let is_new = !numbers.is_subset(&self.numbers) || sheet.through > self.through;
            self.numbers.extend(numbers);
            self.through = self.through.max(sheet.through);
            let more = sheet.more && is_new;
            sheets.push(sheet);
            if !more {
                return Ok(sheets);
            }
        }
    }

    async fn pay(&self) -> anyhow::Result<Vec<v1::DevicePosting>> {
        let mut all: Vec<v1::DevicePosting> = Vec::new();
        loop {
            let after = all.last().map_or(0, |last| last.posting);
            let answer = self.remote.pay(after).await.map_err(refused)?;
            let more = answer.more && answer.postings.last().is_some_and(|last| last.posting > after);
            all.extend(answer.postings);
            if !more {
                return Ok(all);
            }
        }
    }
}

fn number(receipt: &[u8]) -> Option<u64> {
    prost::Message::decode(receipt).ok().map(|receipt: v1::Receipt| receipt.posting)
}

fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the coordinator cannot be asked: {}", explain(&status))
}

fn text(compared: &Comparison) -> String {
    let Comparison { receipts, units, amount, ledger_amount, differences, .. } = compared;
    let mut text = format!(
        "{receipts} receipts for {units} units, {} in all; the ledger paid {}.",
        shown(amount),
        shown(ledger_amount)
    );
    let mut line = |line: &str| {
        let _ = write!(text, "\n{line}");
    };
    if compared.pruned_postings > 0 {
        line(&format!(
            "{} postings are older than the receipts kept here: only what they come to is compared.",
            compared.pruned_postings
        ));
    }
    for taken in &compared.taken_back {
        line(&format!(
            "Taken back since: {} {} for {}, {}.",
            taken.amount, taken.currency, taken.unit, taken.reason
        ));
    }
    for one in &compared.statements {
        line(&format!(
            "Compared with the statement of {} for {}, too: {} units of this PC are on it.",
            one.holder, one.month, one.units
        ));
    }
    if compared.seal > 0 {
        line(&format!("The newest receipt names the head of seal {}: {}", compared.seal, compared.head));
    }
    if differences.is_empty() {
        line("Receipts and ledger agree.");
    } else {
        line(&format!("{} differences:", differences.len()));
        for difference in differences.iter().take(DIFFERENCES_SHOWN) {
            line(&format!("  {}", difference.message));
        }
        if differences.len() > DIFFERENCES_SHOWN {
            line("  and more: --output json names all.");
        }
    }
    text
}
