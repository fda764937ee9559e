//! Some receipts under one signature: a sheet.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, VerifyingKey};
use lull_proto::v1;
use prost::Message as _;
use rust_decimal::Decimal;

/// First bytes of what is signed.
const MAGIC: &[u8] = b"lull receipts 1\n";

/// What was paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    /// Number of the job.
    pub job_id: u64,
    /// Number of the stage.
    pub stage_code: u32,
    /// Index in the stage.
    pub index: u64,
}

impl Unit {
    /// Its stage in words. What is made from a job's work has new numbers each time that it is made.
    #[must_use]
    pub fn stage(&self) -> String {
        let code = u8::try_from(self.stage_code % 256).unwrap_or_default();
        lull_job::Stage::from_code(code).to_string()
    }
}

/// What one posting paid this device, as a receipt or as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Seconds since 1970, and nanoseconds.
    pub time: (i64, i32),
    /// By unit.
    pub lines: BTreeMap<Unit, Paid>,
}

/// What was paid for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// Code of its currency; empty on receipts from before there were others than the grid's default.
    pub currency: String,
    /// How much.
    pub amount: Decimal,
}

impl Paid {
    /// Whether a receipt says what the ledger does.
    #[must_use]
    pub fn is(&self, ledger: &Self) -> bool {
        self.amount == ledger.amount && (self.currency == ledger.currency || self.currency.is_empty())
    }
}

impl std::fmt::Display for Paid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(format!("{} {}", self.amount, self.currency).trim_end())
    }
}

/// Exact amounts by code of their currency.
pub type Sums = BTreeMap<String, String>;

/// What was paid in each currency.
#[must_use]
pub fn sums<'a>(lines: impl Iterator<Item = &'a Paid>) -> Sums {
    let mut sums: BTreeMap<&str, Decimal> = BTreeMap::new();
    for line in lines {
        *sums.entry(&line.currency).or_default() += line.amount;
    }
    sums.into_iter().map(|(currency, sum)| (currency.to_owned(), sum.normalize().to_string())).collect()
}

/// The same, and what came to these sums already.
#[must_use]
pub fn sums_with<'a>(before: &Sums, lines: impl Iterator<Item = &'a Paid>) -> Sums {
    let before = before
        .iter()
        .map(|(currency, sum)| Paid { currency: currency.clone(), amount: sum.parse().unwrap_or_default() });
    let all: Vec<Paid> = before.chain(lines.cloned()).collect();
    sums(all.iter())
}

/// The same in words, as `1.5 EUR and 3 JPY`.
#[must_use]
pub fn shown(sums: &Sums) -> String {
    let all = sums.iter().map(|(currency, sum)| format!("{sum} {currency}").trim_end().to_owned());
    if sums.is_empty() { "0".to_owned() } else { all.collect::<Vec<_>>().join(" and ") }
}

impl Posting {
    /// What it comes to in each currency.
    #[must_use]
    pub fn amount(&self) -> String {
        shown(&sums(self.lines.values()))
    }

    /// The sum, where all of it is in one currency.
    fn sum(&self) -> Option<Decimal> {
        let first = self.lines.values().next();
        let is_of_one =
            self.lines.values().all(|line| first.is_some_and(|one| one.currency == line.currency));
        is_of_one.then(|| self.lines.values().map(|line| line.amount).sum())
    }
}

/// A receipt that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the posting.
    pub number: u64,
    /// What it says.
    pub posting: Posting,
    /// The last seal when it was signed, and its head.
    pub seal: u64,
    /// Empty before the first seal.
    pub head: Vec<u8>,
}

/// Whose receipts are expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The grid.
    pub grid_id: String,
    /// Number of the device.
    pub device_id: u64,
}

/// Why a sheet does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not what its key signed.
    #[error("the signature is not that of the receipts")]
    Signature,
    /// Its bytes make no receipt.
    #[error("a receipt cannot be read: {0}")]
    Unreadable(String),
    /// It is somebody else's.
    #[error("a receipt is for device {device_id} of grid {grid_id}")]
    Stranger {
        /// Of which device.
        device_id: u64,
        /// Of which grid.
        grid_id: String,
    },
    /// Its lines do not make its sum.
    #[error("the lines of the receipt for posting {0} do not make its amount")]
    Sum(u64),
}

/// Reads a sheet, and checks its signature by the key that it names, and everything that a receipt says of itself.
///
/// # Errors
/// When anything does not hold: then nothing in it counts.
pub fn check(sheet: &v1::Receipts, holder: &Holder) -> Result<Vec<Receipt>, Problem> {
    let key = <[u8; 32]>::try_from(sheet.public_key.as_slice()).map_err(|_| Problem::Signature)?;
    let signature = Signature::from_slice(&sheet.signature).map_err(|_| Problem::Signature)?;
    let verifying = VerifyingKey::from_bytes(&key).map_err(|_| Problem::Signature)?;
    let digest = digest(&key, &sheet.receipts);
    verifying.verify_strict(&digest, &signature).map_err(|_| Problem::Signature)?;
    sheet.receipts.iter().map(|bytes| receipt(bytes, holder)).collect()
}

fn receipt(bytes: &[u8], holder: &Holder) -> Result<Receipt, Problem> {
    let unreadable = |what: &dyn std::fmt::Display| Problem::Unreadable(what.to_string());
    let message = v1::Receipt::decode(bytes).map_err(|error| unreadable(&error))?;
    if (message.device_id, &message.grid_id) != (holder.device_id, &holder.grid_id) {
        return Err(Problem::Stranger { device_id: message.device_id, grid_id: message.grid_id });
    }
    let posting = posting(message.time, message.lines.iter()).map_err(|what| unreadable(&what))?;
    // What is in two currencies has no sum.
    let sum: Option<Decimal> = match message.amount.as_str() {
        "" => None,
        amount => Some(amount.parse().map_err(|error| unreadable(&error))?),
    };
    if sum != posting.sum() {
        return Err(Problem::Sum(message.posting));
    }
    Ok(Receipt { number: message.posting, posting, seal: message.seal, head: message.head })
}

/// Lines as they are compared.
///
/// # Errors
/// When an amount is none, or a unit is named twice.
pub fn posting<'a>(
    time: Option<prost_types::Timestamp>,
    lines: impl Iterator<Item = &'a v1::ReceiptLine>,
) -> Result<Posting, String> {
    let mut by_unit = BTreeMap::new();
    for line in lines {
        let unit = Unit { job_id: line.job_id, stage_code: line.stage_code, index: line.index };
        let amount = line.amount.parse().map_err(|_| format!("`{}` is no amount", line.amount))?;
        let paid = Paid { currency: line.currency.clone(), amount };
        if by_unit.insert(unit, paid).is_some() {
            return Err(format!("job {} unit {} is there twice", unit.job_id, unit.index));
        }
    }
    let time = time.unwrap_or_default();
    Ok(Posting { time: (time.seconds, time.nanos), lines: by_unit })
}

fn digest(public_key: &[u8; 32], receipts: &[Vec<u8>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(MAGIC).update(public_key).update(&(receipts.len() as u64).to_be_bytes());
    for receipt in receipts {
        hasher.update(blake3::hash(receipt).as_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
pub(super) mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    pub(crate) fn holder() -> Holder {
        Holder { grid_id: "grid-1".to_owned(), device_id: 7 }
    }

    pub(crate) fn message(number: u64, time: i64, amounts: &[&str]) -> v1::Receipt {
        let line = |(index, amount): (usize, &&str)| v1::ReceiptLine {
            job_id: 3,
            stage_code: 1,
            index: index as u64,
            amount: (*amount).to_owned(),
            currency: "EUR".to_owned(),
        };
        v1::Receipt {
            grid_id: "grid-1".to_owned(),
            device_id: 7,
            owner: "owners/ada".to_owned(),
            posting: number,
            time: Some(prost_types::Timestamp { seconds: time, nanos: 0 }),
            lines: amounts.iter().enumerate().map(line).collect(),
            amount: amounts
                .iter()
                .map(|amount| amount.parse::<Decimal>().unwrap())
                .sum::<Decimal>()
                .to_string(),
            seal: 1,
            head: vec![1; 32],
        }
    }

    pub(crate) fn signed(receipts: &[v1::Receipt], seed: u8) -> v1::Receipts {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let receipts: Vec<Vec<u8>> = receipts.iter().map(v1::Receipt::encode_to_vec).collect();
        let public_key = key.verifying_key().to_bytes();
        let signature = key.sign(&digest(&public_key, &receipts)).to_bytes().to_vec();
        v1::Receipts { receipts, public_key: public_key.to_vec(), signature, through: 0, more: false }
    }

    #[test]
    fn nothing_of_a_sheet_can_be_changed() {
        let sheet = signed(&[message(5, 100, &["0.1", "0.2"]), message(6, 101, &["1"])], 1);
        let receipts = check(&sheet, &holder()).unwrap();
        assert_eq!(receipts.iter().map(|receipt| receipt.number).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(receipts[0].posting.amount(), "0.3 EUR");
        for at in 0..sheet.receipts[0].len() {
            let mut other = sheet.clone();
            other.receipts[0][at] ^= 1;
            assert_eq!(check(&other, &holder()), Err(Problem::Signature));
        }
        let mut swapped = sheet.clone();
        swapped.receipts.swap(0, 1);
        assert_eq!(check(&swapped, &holder()), Err(Problem::Signature));
        let mut short = sheet.clone();
        short.receipts.pop();
        assert_eq!(check(&short, &holder()), Err(Problem::Signature));
        let mut foreign = sheet;
        foreign.public_key = signed(&[], 2).public_key;
        assert_eq!(check(&foreign, &holder()), Err(Problem::Signature));
    }

    #[test]
    fn what_a_coordinator_signs_is_not_believed() {
        let check = |message: v1::Receipt| check(&signed(&[message], 1), &holder());
        let false_sum = v1::Receipt { amount: "9".to_owned(), ..message(5, 100, &["0.1"]) };
        assert_eq!(check(false_sum), Err(Problem::Sum(5)));
        let others = v1::Receipt { device_id: 8, ..message(5, 100, &["0.1"]) };
        assert!(matches!(check(others), Err(Problem::Stranger { device_id: 8, .. })));
        let mut twice = message(5, 100, &["0.1"]);
        twice.lines.push(twice.lines[0].clone());
        assert!(matches!(check(twice), Err(Problem::Unreadable(_))));
        let mut mixed = message(5, 100, &["0.1", "2"]);
        mixed.lines[1].currency = "JPY".to_owned();
        assert_eq!(check(mixed.clone()), Err(Problem::Sum(5)), "there is no sum of euros and yen");
        mixed.amount.clear();
        assert_eq!(check(mixed).unwrap()[0].posting.amount(), "0.1 EUR and 2 JPY");
        let without = v1::Receipt { amount: String::new(), ..message(5, 100, &["0.1"]) };
        assert_eq!(check(without), Err(Problem::Sum(5)));
    }
}
