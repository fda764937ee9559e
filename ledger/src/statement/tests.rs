use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;
use crate::{AccountKind, Amount, Code, Currency};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn line(transfer: u64, time: &str, account: AccountKind, code: Code, moved: &str) -> Line {
    Line {
        time: at(time),
        transfer,
        currency: Currency::EUR,
        account,
        code,
        amount: amount(moved),
        job: None,
        unit: None,
        batch: None,
        reason: String::new(),
    }
}

/// An owner who was paid for a unit, had another one released, and was paid out.
fn of_owner() -> Statement {
    use AccountKind::{Available, Paid, Payout, Pending};
    let unit = UnitOf {
        stage: "work".to_owned(),
        index: 3,
        device: 2,
        device_name: "=cmd|' /C calc'!A0".to_owned(),
        attempt: "result".to_owned(),
        digest: "ab".repeat(32),
        verdict: "accepted".to_owned(),
    };
    let reward = Line {
        job: Some(12),
        unit: Some(unit),
        ..line(10, "2026-11-03T10:11:12Z", Available, Code::Reward, "0.0000005")
    };
    let accounts = [(Pending, "5", "4"), (Available, "1", "0.0000005"), (Payout, "0", "0"), (Paid, "2", "4")];
    let payout = |account, code, transfer, moved| Line {
        batch: Some(1),
        ..line(transfer, "2026-11-30T23:59:59Z", account, code, moved)
    };
    Statement {
        holder: Holder::Owner("bob".to_owned()),
        month: "2026-11".parse().unwrap(),
        as_of: at("2026-12-01T08:00:00Z"),
        is_final: true,
        accounts: accounts
            .map(|(account, opening, closing)| AccountLines {
                currency: Currency::EUR,
                account,
                opening: amount(opening),
                closing: amount(closing),
            })
            .to_vec(),
        lines: vec![
            reward,
            line(11, "2026-11-03T10:11:13Z", Pending, Code::Release, "-1"),
            line(11, "2026-11-03T10:11:13Z", Available, Code::Release, "1"),
            payout(Available, Code::Payout, 12, "-2"),
            payout(Payout, Code::Payout, 12, "2"),
            payout(Payout, Code::Paid, 13, "-2"),
            Line { reason: "-1; \"a\", <b>\nc".to_owned(), ..payout(Paid, Code::Paid, 13, "2") },
        ],
    }
}

#[test]
fn a_statement_adds_up_or_says_where_not() {
    let good = of_owner();
    assert_eq!(good.check(), Ok(()));
    let mut off = good.clone();
    off.accounts[1].closing = amount("0.0000004");
    assert!(matches!(off.check(), Err(StatementError::Sum { account: "available", .. })));
    let mut foreign = good.clone();
    foreign.lines[0].time = at("2026-12-01T00:00:00Z");
    assert_eq!(foreign.check(), Err(StatementError::Line(10)));
    let mut unordered = good.clone();
    unordered.lines.swap(0, 3);
    assert!(matches!(unordered.check(), Err(StatementError::Line(_))));
    let mut mixed = good.clone();
    mixed.lines[0].currency = Currency::new("JPY", None).unwrap();
    assert_eq!(mixed.check(), Err(StatementError::Line(10)), "it has no account in yen");
    let mut unknown = good;
    unknown.lines[0].account = AccountKind::Escrow;
    assert_eq!(unknown.check(), Err(StatementError::Line(10)));
}

#[test]
fn currencies_are_stated_apart() {
    let yen = Currency::new("JPY", None).unwrap();
    let mut statement = of_owner();
    let account = |account, opening, closing| AccountLines {
        currency: yen,
        account,
        opening: amount(opening),
        closing: amount(closing),
    };
    statement.accounts.push(account(AccountKind::Available, "0", "0"));
    statement.accounts.push(account(AccountKind::Remainders, "0", "0.25"));
    let on = |account, moved| Line {
        currency: yen,
        ..line(14, "2026-11-30T23:59:59Z", account, Code::Remainder, moved)
    };
    statement.lines.push(Line {
        currency: yen,
        ..line(13, "2026-11-30T23:59:59Z", AccountKind::Available, Code::Reward, "0.25")
    });
    statement.lines.push(on(AccountKind::Available, "-0.25"));
    statement.lines.push(on(AccountKind::Remainders, "0.25"));
    assert_eq!(statement.check(), Ok(()));
    assert_eq!(statement.currencies(), [Currency::EUR, yen]);
    let of_yen: Vec<_> = rows(&statement).into_iter().filter(|row| row.line.currency == yen).collect();
    assert_eq!(of_yen.iter().map(|row| row.balance).collect::<Vec<_>>(), ["0.25", "0", "0.25"].map(amount));
    assert!(text(&statement).contains("\nremainders, in JPY\n            0.000000  opening\n"));
    let json: serde_json::Value = serde_json::from_str(&json(&statement).unwrap()).unwrap();
    assert_eq!(json["currencies"], serde_json::json!(["EUR", "JPY"]));
    assert_eq!(
        (&json["lines"][7]["currency"], &json["accounts"][4]["currency"]),
        (&"JPY".into(), &"JPY".into())
    );
    let csv = String::from_utf8(csv(&statement).unwrap()).unwrap();
    assert_eq!((csv.matches(",EUR\r\n").count(), csv.matches(",JPY\r\n").count()), (15, 7));
    assert!(html(&statement).contains("<h2>remainders, in JPY</h2>"));
}

#[test]
fn months_are_written_in_one_way() {
    let check = |text: &str, fits: bool| assert_eq!(text.parse::<Month>().is_ok(), fits, "{text}");
    check("2026-11", true);
    check("2026-13", false);
    check("2026-1", false);
    check("26-11", false);
    check("+026-11", false);
    check("2026-11-01", false);
    check("1999-12", false);
    check("9999-01", false);
    let december: Month = "2026-12".parse().unwrap();
    assert_eq!(
        (december.to_string(), december.next().to_string()),
        ("2026-12".to_owned(), "2027-01".to_owned())
    );
}

#[test]
fn text_for_people() {
    let text = text(&of_owner());
    for expected in [
        "Statement of owners/bob for 2026-11 (UTC)\nFinal; drawn up 2026-12-01 08:00:00 UTC.\n",
        "\navailable, in EUR\n            1.000000  opening\n            0.000001  reward, 1 line\n",
        "                0.000001  2026-11-03 10:11:12  jobs/12  work 3  devices/2  result, accepted\n",
        "            1.000000  release, 1 line\n",
        "           -2.000000  payout, 1 line\n",
        "            0.000001  closing\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn cells_are_no_formulas_and_amounts_stay_numbers() {
    let bytes = csv(&of_owner()).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(
        text.lines().count() > 15 && text.split("\r\n").count() == 17,
        "a reason has a line break: {text}"
    );
    let mut reader = ::csv::Reader::from_reader(bytes.as_slice());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    let mut negative = 0;
    for record in reader.records() {
        let record = record.unwrap();
        for name in ["amount", "shown", "balance"] {
            assert!(record[column(name)].parse::<Amount>().is_ok(), "{record:?}");
            negative += usize::from(record[column(name)].starts_with('-'));
        }
        for name in ["device_name", "reason"] {
            assert!(!record[column(name)].starts_with(['=', '-']), "{record:?}");
        }
    }
    assert!(negative > 0);
    let check = |text: &str, escaped: bool| assert_eq!(cell(text) != text, escaped, "{text:?}");
    for begin in ["=", "+", "-", "@", "\t", "\r"] {
        check(&format!("{begin}1"), true);
    }
    check("a=1", false);
    check("", false);
    for sign in ["=", "+", "-", "@", "\u{ff1d}", "\u{ff0b}", "\u{ff0d}", "\u{ff20}"] {
        check(&format!("{sign}1"), true);
        check(&format!("a {sign}1"), false);
        for separator in [";", "\t", "\r", "\n", "\r\n"] {
            assert_eq!(cell(&format!("a{separator}{sign}1")), format!("a{separator}'{sign}1"));
        }
    }
}

#[test]
fn foreign_text_is_no_markup() {
    let page = html(&of_owner());
    assert!(page.contains("&lt;b&gt; c"), "{page}");
    assert!(!page.contains("<b>") && !page.contains("<script"));
    let json: serde_json::Value = serde_json::from_str(&json(&of_owner()).unwrap()).unwrap();
    assert_eq!(json["lines"][0]["device"], 2);
    assert_eq!(json["lines"][0]["amount"], "0.000000500000");
    assert_eq!(json["lines"][6]["reason"], "-1; \"a\", <b>\nc");
    assert_eq!(json["accounts"][3]["closing"], "4.000000000000");
}

/// Parts of 10^-12.
fn parts(count: i64) -> Amount {
    let part = amount("0.000000000001").times(count.unsigned_abs()).unwrap();
    if count < 0 { -part } else { part }
}

proptest! {
    /// CSV, page and ledger have one sum, however fine the amounts.
    #[test]
    fn every_form_has_the_same_sum(opening in 0i64..10_000_000, moves in proptest::collection::vec((-3_000_000i64..3_000_000, 0u8..3), 1..60)) {
        let codes = [Code::Reward, Code::Release, Code::Payout];
        let start = at("2026-11-01T00:00:00Z");
        let lines: Vec<Line> = moves.iter().enumerate().map(|(at, &(moved, code))| Line {
            time: start + TimeDelta::hours(at as i64),
            amount: parts(moved),
            ..line(at as u64, "2026-11-01T00:00:00Z", AccountKind::Available, codes[usize::from(code)], "0")
        }).collect();
        let sum: Amount = lines.iter().map(|line| line.amount).sum();
        let account = AccountLines { currency: Currency::EUR, account: AccountKind::Available, opening: parts(opening), closing: parts(opening) + sum };
        let statement = Statement { accounts: vec![account], lines, ..of_owner() };
        prop_assert_eq!(statement.check(), Ok(()));

        let mut exact = Amount::ZERO;
        let mut shown = Amount::ZERO;
        for record in ::csv::Reader::from_reader(csv(&statement).unwrap().as_slice()).records() {
            let record = record.unwrap();
            if !["opening", "closing"].contains(&&record[2]) {
                exact = exact + amount(&record[3]);
                shown = shown + amount(&record[4]);
            }
        }
        prop_assert_eq!(exact, sum);
        let page: Amount = html(&statement).split("<tr class=\"l\">").skip(1)
            .map(|row| amount(row.split("class=\"n\">").nth(1).unwrap().split('<').next().unwrap())).sum();
        prop_assert_eq!(page, shown);
        prop_assert_eq!(account.opening.rounded(PLACES_SHOWN) + page, account.closing.rounded(PLACES_SHOWN));
        let by_part: Amount = sections(&statement)[0].parts.iter().map(|part| part.shown).sum();
        prop_assert_eq!(by_part, page);
        for row in rows(&statement) {
            let off = row.shown - row.line.amount;
            prop_assert!(off.max(-off) < amount("0.000001"), "{:?}", off);
        }
    }
}
