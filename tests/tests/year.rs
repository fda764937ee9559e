//! A year of a thousand owners: rows as a grid writes them, read through the real store, paid out, and audited.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use lull_coordinator::core::{OwnerId, SubmitterId};
use lull_coordinator::store::{Holder, StatementPart, Store};
use lull_ledger::statement::Month;
use lull_ledger::{AccountKind, Amount};
use lull_tests::Grid;
use lull_tests::history::{FEE, FILL, PRICE, REWARD};
use lull_tests::money::parts;
use tokio::sync::{Mutex, mpsc};

const OWNERS: i64 = 1_000;
const YEAR: i32 = 2025;
/// Statements that are read at once: the store has as many connections.
const READERS: usize = 6;

/// Openings and closings by account, and what the lines make; a submitter's escrow is one account.
async fn statement(
    store: &Store,
    holder: Holder,
    month: Month,
) -> Result<BTreeMap<AccountKind, [Amount; 3]>> {
    let (pieces, mut read) = mpsc::channel(4);
    let mut accounts: BTreeMap<AccountKind, [Amount; 3]> = BTreeMap::new();
    let reading = async {
        while let Some(piece) = read.recv().await {
            match piece? {
                StatementPart::Head(head) => {
                    ensure!(head.is_final, "{month} is long over");
                    accounts = head
                        .accounts
                        .into_iter()
                        .map(|one| (one.kind, [one.opening, one.closing, Amount::ZERO]))
                        .collect();
                }
                StatementPart::Lines(lines) => {
                    for line in lines {
                        let sum = &mut accounts.get_mut(&line.account).context("an account of the head")?[2];
                        *sum = *sum + line.amount;
                    }
                }
            }
        }
        Ok(())
    };
    let writing = async {
        let pieces = pieces;
        store.statement(holder, month, None, &pieces).await
    };
    let (written, ()) = tokio::try_join!(async { Ok::<_, anyhow::Error>(writing.await?) }, reading)?;
    let () = written;
    Ok(accounts)
}

/// All statements of a holder: every month begins where the one before ended, and its lines make the difference.
async fn year(store: &Store, holder: Holder, months: &[Month]) -> Result<Vec<BTreeMap<AccountKind, Amount>>> {
    let mut known: BTreeMap<AccountKind, Amount> = BTreeMap::new();
    let mut moved = Vec::new();
    for month in months {
        let accounts = statement(store, holder, *month).await?;
        for (kind, [opening, closing, lines]) in &accounts {
            let before = known.insert(*kind, *closing).unwrap_or_default();
            ensure!(*opening == before, "{holder:?} {month}: {kind:?} opens with {opening} after {before}");
            ensure!(
                *opening + *lines == *closing,
                "{holder:?} {month}: {kind:?} moved {lines} from {opening} to {closing}"
            );
        }
        moved.push(accounts.into_iter().map(|(kind, [_, _, lines])| (kind, lines)).collect());
    }
    Ok(moved)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_a_thousand_owners_is_stated_paid_out_and_audited() -> Result<()> {
    let grid = Grid::start(60)?;
    let database = grid.database().await?;
    database.batch_execute(FILL).await?;
    let first = format!("{YEAR}-01-01");
    let fill = format!(
        "CALL fill({OWNERS}, '{first}', {PRICE}, {REWARD}, {FEE}); DROP PROCEDURE fill; VACUUM ANALYZE"
    );
    for statement in fill.split("; ") {
        database.batch_execute(statement).await?;
    }
    assert_eq!(parts(REWARD) + parts(FEE), parts(PRICE));
    grid.check_books()?;

    let months: Vec<Month> =
        (1..=12).map(|month| Ok(format!("{YEAR}-{month:02}").parse()?)).collect::<Result<_>>()?;
    let store = Store::open(&grid.database_url())?;
    let mut stated: Vec<BTreeMap<AccountKind, Amount>> = vec![BTreeMap::new(); months.len()];
    let holders = (1..=OWNERS).map(|owner| Holder::Owner(OwnerId(owner)));
    let queue = Arc::new(Mutex::new(holders.chain([Holder::Submitter(SubmitterId(1))]).collect::<Vec<_>>()));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..READERS {
        let (queue, store, months) = (Arc::clone(&queue), store.clone(), months.clone());
        readers.spawn(async move {
            let mut all = Vec::new();
            loop {
                let Some(holder) = queue.lock().await.pop() else { return Ok::<_, anyhow::Error>(all) };
                all.push(year(&store, holder, &months).await?);
            }
        });
    }
    let mut statements = 0;
    while let Some(read) = readers.join_next().await {
        for of_holder in read?? {
            for (all, moved) in stated.iter_mut().zip(of_holder) {
                statements += 1;
                for (kind, lines) in moved {
                    let sum = all.entry(kind).or_default();
                    *sum = *sum + lines;
                }
            }
        }
    }
    assert_eq!(statements, (OWNERS + 1) * 12);

    // What all statements say of a month is what the ledger moved in it, summed another way.
    let moved = "SELECT coalesce(sum(CASE WHEN credit % 8 = $3 THEN amount ELSE 0 END)
            - sum(CASE WHEN debit % 8 = $3 THEN amount ELSE 0 END), 0)::text FROM transfer
        WHERE to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM') = $1 AND $2 > 0";
    for (month, all) in months.iter().zip(&stated) {
        // Nothing was paid out yet: of remainders there are none.
        for (kind, sum) in all.iter().filter(|(kind, _)| **kind != AccountKind::Remainders) {
            let row = database.query_one(moved, &[&month.to_string(), &1_i32, &kind.code()]).await?;
            assert_eq!(parts(row.get(0)), parts(&sum.to_string()), "{month} {kind:?}");
        }
        assert_eq!(parts(&all[&AccountKind::Available].to_string()), parts(REWARD) * i128::from(OWNERS));
    }

    // Everybody is paid whole cents; what is left waits among the remainders.
    let named =
        |name| Ok::<_, anyhow::Error>(grid.lull(&["admin", "operator", "add", name])?.trim().to_owned());
    let (alice, bob) = (named("alice")?, named("bob")?);
    let payer = ["admin", "payer", "set", "--name", "The Grid", "--iban", "DE89370400440532013000"];
    grid.lull_with(&alice, &payer)?;
    grid.lull_with(&alice, &["admin", "payout", "propose", "--minimum", "1"])?;
    grid.lull_with(&bob, &["admin", "payout", "approve", "1"])?;
    let message = grid.lull_with(&alice, &["admin", "payout", "export", "1", "--format", "pain"])?;
    let cent = parts("0.01");
    let each = parts(REWARD) * 12 / cent;
    let all = each * i128::from(OWNERS);
    assert!(message.contains(&format!("<NbOfTxs>{OWNERS}</NbOfTxs>")), "a payout for each owner");
    assert!(message.contains(&format!("<CtrlSum>{}.{:02}</CtrlSum>", all / 100, all % 100)), "{all}");
    assert_eq!(message.matches(&format!(">{}.{:02}</InstdAmt>", each / 100, each % 100)).count(), 1_000);
    grid.lull_with(&alice, &["admin", "payout", "mark-paid", "1"])?;
    let left = grid.lull_json(&grid.operator, &["balance", "owners/owner-0001"])?;
    assert_eq!(lull_tests::money::field(&left, "available"), 0);
    assert_eq!(lull_tests::money::field(&left, "remainder"), parts(REWARD) * 12 - each * cent);
    grid.check_books()?;
    grid.audit()
}
