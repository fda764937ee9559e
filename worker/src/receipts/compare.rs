//! Receipts against the ledger: every difference is named.

use std::collections::{BTreeMap, BTreeSet};

use lull_proto::v1;
use serde::Serialize;

use super::log::Kept;
use super::sheet::{self, Holder, Posting, Receipt, Sums, Unit};
use super::statement::{Compared, Statement};
use super::store::State;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file of receipts is not what was written.
    Damaged,
    /// A receipt does not hold.
    Invalid,
    /// A receipt is signed with a key that this PC does not know.
    UnknownKey,
    /// Two receipts for one posting differ.
    Contradiction,
    /// The ledger paid, and there is no receipt.
    NoReceipt,
    /// There is a receipt, and the ledger has no such pay.
    NotPaid,
    /// Receipt and ledger name different amounts.
    Amount,
    /// Receipt and ledger name different times.
    Time,
    /// There is a receipt, and the owner's statement has no such line.
    NotStated,
    /// Receipts that were removed with their months came to something else than the ledger has of that time.
    Pruned,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// What is wrong.
    pub kind: Kind,
    /// Number of the posting, where one is known.
    pub posting: Option<u64>,
    /// In words.
    pub message: String,
}

/// Pay that was taken back since: no difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TakenBack {
    /// Number of the posting that paid it.
    pub posting: u64,
    /// The unit.
    pub unit: String,
    /// In which currency.
    pub currency: String,
    /// How much, an exact decimal.
    pub amount: String,
    /// Why.
    pub reason: String,
}

/// What a comparison showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Receipts that hold.
    pub receipts: u64,
    /// Of them, those that this PC did not have yet: the coordinator gave them for the comparison.
    pub on_their_way: u64,
    /// Units that they pay.
    pub units: u64,
    /// Their sum in each currency.
    pub amount: Sums,
    /// What the ledger paid in all, in the same way.
    pub ledger_amount: Sums,
    /// Postings whose receipts were removed with their months: only their sums are compared.
    pub pruned_postings: u64,
    /// Pay that was taken back since.
    pub taken_back: Vec<TakenBack>,
    /// Statements that were compared, too.
    pub statements: Vec<Compared>,
    /// What is wrong.
    pub differences: Vec<Difference>,
    /// The newest seal that a receipt names, and its head.
    pub seal: u64,
    /// For `lull-audit --head`; empty when there is none.
    pub head: String,
}

/// Receipts, and everything that is wrong with them by themselves.
#[derive(Debug, Default)]
pub struct Collection {
    receipts: BTreeMap<u64, Receipt>,
    /// How many of them are kept here.
    kept: u64,
    differences: BTreeSet<Difference>,
}

impl Collection {
    /// Receipts of these months.
    #[must_use]
    pub fn of(months: &BTreeMap<String, Kept>, holder: &Holder, keys: &[String]) -> Self {
        let mut all = Self::default();
        for (month, kept) in months {
            for at in &kept.damaged_at {
                let message = format!("{month}.log is damaged at byte {at}");
                all.differences.insert(Difference { kind: Kind::Damaged, posting: None, message });
            }
            for sheet in &kept.sheets {
                all.add(sheet, holder, keys, &format!("in {month}.log"));
            }
        }
        all.kept = all.receipts.len() as u64;
        all
    }

    /// Adds a sheet that was found there.
    pub fn add(&mut self, sheet: &v1::Receipts, holder: &Holder, keys: &[String], place: &str) {
        let receipts = match sheet::check(sheet, holder) {
            _ if sheet.receipts.is_empty() => return,
            Ok(receipts) => receipts,
            Err(problem) => {
                let message = format!("{place}: {problem}");
                self.differences.insert(Difference { kind: Kind::Invalid, posting: None, message });
                return;
            }
        };
        let key = hex::encode(&sheet.public_key);
        if !keys.is_empty() && !keys.contains(&key) {
            let message = format!(
                "{place}: signed with the key {key}, which this PC does not know: ask the operator whether it is a coordinator's, and pass --key then"
            );
            self.differences.insert(Difference { kind: Kind::UnknownKey, posting: None, message });
        }
        for receipt in receipts {
            let number = receipt.number;
            match self.receipts.get(&number) {
                Some(known) if known.posting != receipt.posting => {
                    let message = format!("{place}: two receipts for posting {number} differ");
                    let posting = Some(number);
                    self.differences.insert(Difference { kind: Kind::Contradiction, posting, message });
                }
                Some(known) if known.seal >= receipt.seal => {}
                _ => drop(self.receipts.insert(number, receipt)),
            }
        }
    }

    /// Numbers of the receipts.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.receipts.keys().copied()
    }
}

/// Compares receipts with what the ledger paid, and with statements of the device's owner. Receipts of `newer` postings may be of pay that came after the ledger
/// was read.
///
/// # Errors
/// When the ledger says what cannot be.
pub fn compare(
    collection: Collection,
    ledger: &[v1::DevicePosting],
    newer: &BTreeSet<u64>,
    state: &State,
    (device, statements): (u64, &[Statement]),
) -> Result<Comparison, String> {
    let Collection { receipts, kept, mut differences } = collection;
    let mut paid = BTreeMap::new();
    let mut taken_back = Vec::new();
    for one in ledger {
        let lines = one.lines.iter().filter_map(|line| line.line.as_ref());
        let posting =
            sheet::posting(one.time, lines).map_err(|what| format!("posting {}: {what}", one.posting))?;
        paid.insert(one.posting, posting);
        taken_back.extend(one.lines.iter().filter_map(|line| self::taken_back(one.posting, line)));
    }
    let mut pruned = Vec::new();
    for (number, posting) in &paid {
        match receipts.get(number) {
            Some(receipt) => differences.extend(differing(*number, &receipt.posting, posting)),
            None if *number <= state.pruned_through => pruned.push(posting),
            None => {
                let (amount, units) = (posting.amount(), posting.lines.len());
                let message =
                    format!("posting {number} paid {amount} for {units} units: there is no receipt");
                differences.insert(Difference { kind: Kind::NoReceipt, posting: Some(*number), message });
            }
        }
    }
    differences.extend(differing_sums(&pruned, state));
    let mut stated = Vec::new();
    for statement in statements {
        let (compared, differing) = statement.compare(device, &receipts, state.pruned_through);
        stated.push(compared);
        differences.extend(differing);
    }
    for (number, receipt) in
        receipts.iter().filter(|(number, _)| !paid.contains_key(number) && !newer.contains(number))
    {
        let amount = receipt.posting.amount();
        let message = format!("posting {number} of {amount} has a receipt: the ledger has no such posting");
        differences.insert(Difference { kind: Kind::NotPaid, posting: Some(*number), message });
    }
    let newest = receipts.values().max_by_key(|receipt| receipt.seal);
    Ok(Comparison {
        receipts: receipts.len() as u64,
        on_their_way: receipts.len() as u64 - kept,
        units: receipts.values().map(|receipt| receipt.posting.lines.len() as u64).sum(),
        amount: sheet::sums(receipts.values().flat_map(|receipt| receipt.posting.lines.values())),
        ledger_amount: sheet::sums(paid.values().flat_map(|posting| posting.lines.values())),
        pruned_postings: pruned.len() as u64,
        taken_back,
        statements: stated,
        differences: differences.into_iter().collect(),
        seal: newest.map_or(0, |receipt| receipt.seal),
        head: newest.map(|receipt| hex::encode(&receipt.head)).unwrap_or_default(),
    })
}

/// What the ledger has where receipts were removed, against what they came to.
fn differing_sums(ledger: &[&Posting], state: &State) -> Option<Difference> {
    let removed = state.pruned.as_ref()?;
    let amount = sheet::sums(ledger.iter().flat_map(|posting| posting.lines.values()));
    // Receipts of before there were currencies name none.
    let is_same = removed.amount.contains_key("") || removed.amount == amount;
    if is_same && removed.postings == ledger.len() as u64 {
        return None;
    }
    let message = format!(
        "up to posting {}, {} receipts for {} were removed with their months: the ledger has {} such postings for {}",
        state.pruned_through,
        removed.postings,
        sheet::shown(&removed.amount),
        ledger.len(),
        sheet::shown(&amount)
    );
    Some(Difference { kind: Kind::Pruned, posting: None, message })
}

fn taken_back(posting: u64, line: &v1::PaidLine) -> Option<TakenBack> {
    let paid = line.line.as_ref().filter(|_| !line.taken_back.is_empty())?;
    let unit = Unit { job_id: paid.job_id, stage_code: paid.stage_code, index: paid.index };
    let (currency, amount) = (paid.currency.clone(), paid.amount.clone());
    let reason = line.taken_back.clone();
    Some(TakenBack { posting, unit: name(&unit), currency, amount, reason })
}

pub(super) fn name(unit: &Unit) -> String {
    let (stage, again) = (unit.stage(), unit.stage_code / 256);
    let again = if again == 0 { String::new() } else { format!(", made again for the {again}. time") };
    format!("jobs/{} {stage} unit {}{again}", unit.job_id, unit.index)
}

fn differing(number: u64, receipt: &Posting, ledger: &Posting) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut add = |kind, message| all.push(Difference { kind, posting: Some(number), message });
    for (unit, amount) in &receipt.lines {
        let name = name(unit);
        match ledger.lines.get(unit) {
            Some(paid) if amount.is(paid) => {}
            Some(paid) => add(
                Kind::Amount,
                format!("posting {number}, {name}: the receipt says {amount}, the ledger {paid}"),
            ),
            None => add(
                Kind::NotPaid,
                format!("posting {number}, {name}: the receipt says {amount}, the ledger has no such pay"),
            ),
        }
    }
    for (unit, paid) in ledger.lines.iter().filter(|(unit, _)| !receipt.lines.contains_key(unit)) {
        let name = name(unit);
        add(
            Kind::NoReceipt,
            format!("posting {number}, {name}: the ledger paid {paid}, the receipt does not name it"),
        );
    }
    if receipt.time != ledger.time && !ledger.lines.is_empty() {
        add(Kind::Time, format!("posting {number}: receipt and ledger name different times"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::sheet::tests::{holder, message, signed};
    use super::super::store::Pruned;
    use super::*;

    fn collection(messages: &[v1::Receipt], seed: u8) -> Collection {
        let mut all = Collection::default();
        let keys = [hex::encode(signed(&[], 1).public_key)];
        all.add(&signed(messages, seed), &holder(), &keys, "here");
        all
    }

    fn posting(number: u64, amounts: &[&str]) -> v1::DevicePosting {
        let receipt = message(number, 100, amounts);
        let lines = receipt.lines.into_iter();
        v1::DevicePosting {
            posting: number,
            time: receipt.time,
            lines: lines.map(|line| v1::PaidLine { line: Some(line), taken_back: String::new() }).collect(),
        }
    }

    fn check(collection: Collection, ledger: &[v1::DevicePosting], kinds: &[(Kind, Option<u64>)]) {
        let state = State { pruned_through: 3, ..State::default() };
        let compared = compare(collection, ledger, &BTreeSet::from([99]), &state, (7, &[])).unwrap();
        let found: Vec<_> = compared.differences.iter().map(|one| (one.kind, one.posting)).collect();
        assert_eq!(found, kinds, "{compared:?}");
    }

    #[test]
    fn each_difference_is_named() {
        let receipts = || collection(&[message(5, 100, &["0.1", "0.2"]), message(6, 100, &["1"])], 1);
        check(receipts(), &[posting(5, &["0.10", "0.2"]), posting(6, &["1"])], &[]);
        check(receipts(), &[posting(5, &["0.1", "0.2"])], &[(Kind::NotPaid, Some(6))]);
        let more = [posting(5, &["0.1", "0.2"]), posting(6, &["1"]), posting(7, &["1"])];
        check(receipts(), &more, &[(Kind::NoReceipt, Some(7))]);
        check(receipts(), &[posting(5, &["0.1", "0.3"]), posting(6, &["1"])], &[(Kind::Amount, Some(5))]);
        let mut in_yen = [posting(5, &["0.1", "0.2"]), posting(6, &["1"])];
        in_yen[1].lines[0].line.as_mut().unwrap().currency = "JPY".to_owned();
        check(receipts(), &in_yen, &[(Kind::Amount, Some(6))]);
        let mut old = message(6, 100, &["1"]);
        old.lines[0].currency.clear();
        check(collection(&[old], 1), &[posting(6, &["1"])], &[]);
        check(receipts(), &[posting(5, &["0.1"]), posting(6, &["1"])], &[(Kind::NotPaid, Some(5))]);
        let line = [posting(5, &["0.1", "0.2"]), posting(6, &["1", "2"])];
        check(receipts(), &line, &[(Kind::NoReceipt, Some(6))]);
        let mut late = [posting(5, &["0.1", "0.2"]), posting(6, &["1"])];
        late[1].time = Some(prost_types::Timestamp { seconds: 101, nanos: 0 });
        check(receipts(), &late, &[(Kind::Time, Some(6))]);
        check(collection(&[], 1), &[posting(3, &["1"])], &[]);
        check(collection(&[message(99, 100, &["1"])], 1), &[], &[]);
        check(collection(&[message(5, 100, &["1"])], 2), &[posting(5, &["1"])], &[(Kind::UnknownKey, None)]);
    }

    #[test]
    fn what_was_removed_is_compared_in_sum() {
        let removed = |postings, amount: &str| State {
            pruned_through: 4,
            pruned: Some(Pruned {
                postings,
                amount: [("EUR".to_owned(), amount.to_owned())].into(),
                ..Pruned::default()
            }),
            ..State::default()
        };
        let ledger = [posting(2, &["0.1"]), posting(3, &["1", "0.2"]), posting(5, &["7"])];
        let check = |state: &State, expected: &[Kind]| {
            let kept = collection(&[message(5, 100, &["7"])], 1);
            let compared = compare(kept, &ledger, &BTreeSet::new(), state, (7, &[])).unwrap();
            let found: Vec<_> = compared.differences.iter().map(|one| one.kind).collect();
            assert_eq!((found.as_slice(), compared.pruned_postings), (expected, 2), "{compared:?}");
        };
        check(&removed(2, "1.3"), &[]);
        check(&removed(2, "1.4"), &[Kind::Pruned]);
        check(&removed(3, "1.3"), &[Kind::Pruned]);
        // An agent of before did not count them.
        check(&State { pruned: None, ..removed(0, "0") }, &[]);
    }

    #[test]
    fn pay_that_was_taken_back_is_explained() {
        let mut ledger = posting(5, &["0.1"]);
        ledger.lines[0].taken_back = "forfeited: its owner lied".to_owned();
        let compared = compare(
            collection(&[message(5, 100, &["0.1"])], 1),
            &[ledger],
            &BTreeSet::new(),
            &State::default(),
            (7, &[]),
        )
        .unwrap();
        assert_eq!(compared.differences, []);
        let taken = &compared.taken_back[0];
        assert_eq!((taken.unit.as_str(), taken.amount.as_str()), ("jobs/3 work unit 0", "0.1"));
        assert_eq!(taken.currency, "EUR");
        assert_eq!(taken.reason, "forfeited: its owner lied");
    }

    #[test]
    fn receipts_that_contradict_each_other_are_named() {
        let mut all = collection(&[message(5, 100, &["0.1"])], 1);
        all.add(&signed(&[message(5, 100, &["0.2"])], 1), &holder(), &[], "there");
        check(all, &[posting(5, &["0.1"])], &[(Kind::Contradiction, Some(5))]);
    }
}
