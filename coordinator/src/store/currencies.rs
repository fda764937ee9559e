//! The currencies of the grid. One that is there stays as it is, so that what was read once can be kept.

use std::sync::{Arc, PoisonError, RwLock};

use deadpool_postgres::Transaction;
use lull_ledger::{AccountId, AccountKind, Amount, Currency, CurrencyId};
use tokio_postgres::Row;

use super::error::precondition;
use super::rows::From;
use super::{Error, Store, run_tx};
use crate::core::SubmitterId;

/// Currencies of one grid: each costs a row of `account` for every submitter and four for every owner.
pub const CURRENCIES_MAX: usize = 100;

/// A currency, and its number in this grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridCurrency {
    /// Its number.
    pub id: CurrencyId,
    /// What it is.
    pub currency: Currency,
}

/// What was read of them.
pub(super) type Known = Arc<RwLock<Vec<GridCurrency>>>;

impl Store {
    /// All of them, the default first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn currencies(&self) -> Result<Vec<GridCurrency>, Error> {
        let all = run_tx!(self.pool, "currencies", tx => all(tx).await)?;
        self.currencies.write().unwrap_or_else(PoisonError::into_inner).clone_from(&all);
        Ok(all)
    }

    /// The one of this code; the default where it is empty.
    ///
    /// # Errors
    /// When the grid does not have it; the error says which it has.
    pub async fn currency(&self, code: &str) -> Result<GridCurrency, Error> {
        let is_it = |one: &GridCurrency| {
            one.currency.code() == code || code.is_empty() && one.id == CurrencyId::DEFAULT
        };
        if let Some(known) = self.known(is_it) {
            return Ok(known);
        }
        let all = self.currencies().await?;
        all.iter().copied().find(is_it).ok_or_else(|| {
            let codes: Vec<&str> = all.iter().map(|one| one.currency.code()).collect();
            Error::NoCurrency { code: code.to_owned(), known: codes.join(", ") }
        })
    }

    /// The one of this number.
    ///
    /// # Errors
    /// When there is none.
    pub async fn currency_of(&self, id: CurrencyId) -> Result<Currency, Error> {
        if let Some(known) = self.known(|one| one.id == id) {
            return Ok(known.currency);
        }
        let all = self.currencies().await?;
        let found = all.iter().find(|one| one.id == id);
        found.map(|one| one.currency).ok_or_else(|| From("currency").wrong("number", id.number()))
    }

    fn known(&self, is_it: impl Fn(&GridCurrency) -> bool) -> Option<GridCurrency> {
        let known = self.currencies.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().copied().find(is_it)
    }

    /// Adds one, with accounts for everybody. One that is there already stays as it is.
    ///
    /// # Errors
    /// When it is there with other decimals, or there are as many as there can be.
    pub async fn add_currency(&self, currency: Currency) -> Result<GridCurrency, Error> {
        run_tx!(self.pool, "add_currency", tx => {
            // Who is created meanwhile waits, and gets an account in it then. The program may lock no table that it cannot change.
            tx.execute("SELECT FROM grid FOR UPDATE", &[]).await?;
            let all = all(tx).await?;
            if let Some(known) = all.iter().find(|one| one.currency.code() == currency.code()) {
                if known.currency == currency {
                    return Ok(*known);
                }
                let message = format!("{currency} has {} decimals here, and keeps them", known.currency.decimals());
                return Err(precondition("OTHER_DECIMALS", message));
            }
            if all.len() >= CURRENCIES_MAX {
                let message = format!("a grid has at most {CURRENCIES_MAX} currencies");
                return Err(precondition("TOO_MANY_CURRENCIES", message));
            }
            let insert = "INSERT INTO currency (number, code, decimals)
                SELECT max(number) + 1, $1, $2 FROM currency RETURNING number, code, decimals";
            let decimals = i16::try_from(currency.decimals()).unwrap_or(i16::MAX);
            let added = grid_currency(&tx.query_one(insert, &[&currency.code(), &decimals]).await?)?;
            let own: Vec<i64> = [AccountKind::Bank, AccountKind::Losses, AccountKind::Fees, AccountKind::Remainders]
                .map(|kind| AccountId::of_grid(added.id, kind).number())
                .to_vec();
            let insert = "INSERT INTO account (id) SELECT unnest($1::bigint[])
                UNION ALL SELECT ($2::bigint << 48) + id * 8 + 1 FROM submitter
                UNION ALL SELECT ($2::bigint << 48) + id * 8 + kind FROM owner, (VALUES (3), (4), (5), (6)) AS kinds (kind)";
            tx.execute(insert, &[&own, &i64::from(added.id.number())]).await?;
            Ok(added)
        })
    }
}

async fn all(tx: &Transaction<'_>) -> Result<Vec<GridCurrency>, Error> {
    let select = "SELECT number, code, decimals FROM currency ORDER BY number";
    tx.query(&tx.prepare_cached(select).await?, &[]).await?.iter().map(grid_currency).collect()
}

/// The currency that the columns `number`, `code` and `decimals` name.
pub(super) fn grid_currency(row: &Row) -> Result<GridCurrency, Error> {
    Ok(GridCurrency { id: From("currency").currency(row, "number")?, currency: currency(row)? })
}

/// The currency that the columns `code` and `decimals` name.
pub(super) fn currency(row: &Row) -> Result<Currency, Error> {
    let from = From("currency");
    let decimals: i16 = row.try_get("decimals")?;
    let decimals = u32::try_from(decimals).map_err(|error| from.wrong("decimals", error))?;
    Currency::new(row.try_get("code")?, Some(decimals)).map_err(|error| from.wrong("code", error))
}

/// Locks a submitter's money: its jobs and deposits are decided one after the other, whatever currency they are in. Returns
/// what is free in this one.
pub(super) async fn lock_free(
    tx: &Transaction<'_>,
    submitter: SubmitterId,
    currency: CurrencyId,
) -> Result<Amount, Error> {
    let account = |currency| AccountId::new(currency, AccountKind::Submitter, submitter.0).number();
    let (first, own) = (account(CurrencyId::DEFAULT), account(currency));
    let lock = "SELECT id, balance FROM account WHERE id IN ($1, $2) ORDER BY id FOR UPDATE";
    let rows = tx.query(lock, &[&first, &own]).await?;
    let row = rows.iter().find(|row| row.get::<_, i64>("id") == own).ok_or(Error::NotFound("submitter"))?;
    From("account").amount(row, "balance")
}

/// That a submitter has too little, and what it has in which currency.
pub(super) async fn insufficient(
    tx: &Transaction<'_>,
    submitter: SubmitterId,
    asked: CurrencyId,
    needed: Amount,
) -> Result<Error, Error> {
    let select = "SELECT number, code, decimals, balance FROM account JOIN currency ON number = currency
        WHERE id = (number::bigint << 48) + $1::bigint * 8 + 1 AND (balance > 0 OR number = $2) ORDER BY number";
    let (mut has, mut free, mut code) = (Vec::new(), Amount::ZERO, String::new());
    for row in tx.query(select, &[&submitter.0, &asked.number()]).await? {
        let GridCurrency { id, currency } = grid_currency(&row)?;
        let balance = From("account").amount(&row, "balance")?;
        if id == asked {
            (free, code) = (balance, currency.to_string());
        } else {
            has.push(format!("{balance} {currency}"));
        }
    }
    Ok(Error::InsufficientFunds { available: free, needed, currency: code, others: has.join(", ") })
}
