//! What other people's programs make of the files: hledger, ledger, xmllint.

use std::io::Write as _;
use std::process::{Command, Output};

use chrono::{DateTime, TimeDelta, Utc};
use lull_ledger::payout::{self, Order, Party, Payment};
use lull_ledger::statement::{self, AccountLines, Holder, Line, Statement};
use lull_ledger::{Amount, Code, Currency};

fn amount(text: &str) -> Amount {
    text.parse().expect("an amount")
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// Runs a program on a file that ends as its arguments do.
fn run(program: &str, arguments: &[&str], content: &[u8]) -> Output {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(content).expect("written");
    Command::new(program)
        .args(arguments)
        .arg(file.path())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: `deploy/setup test` installs it"))
}

#[track_caller]
fn check(program: &str, arguments: &[&str], content: &[u8], expected: bool) -> String {
    let output = run(program, arguments, content);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), expected, "{program} {arguments:?}: {said}");
    said
}

/// A month of lines that come and go between two accounts and the world outside, in two currencies.
fn statement(holder: Holder) -> Statement {
    let yen = Currency::new("JPY", None).expect("yen");
    let mut lines = Vec::new();
    let (mut first, mut second) = (amount("3"), amount("1.000000000001"));
    let accounts = holder.accounts();
    let mut in_yen = Amount::ZERO;
    let opened = [(accounts[0], first), (accounts[1], second)];
    for step in 0..200_u64 {
        let time = at("2026-11-01T00:00:00Z") + TimeDelta::hours(step.cast_signed() * 3);
        let line = |account, code, amount| Line {
            time,
            transfer: step,
            currency: Currency::EUR,
            account,
            code,
            amount,
            job: Some(step),
            unit: None,
            batch: None,
            reason: if step % 7 == 0 { "a; b\nassets:c  1 EUR".to_owned() } else { String::new() },
        };
        let moved = amount("0.000000000007").times(step + 1).expect("small");
        if step % 3 == 0 {
            lines.push(line(accounts[0], Code::Release, -moved));
            lines.push(line(accounts[1], Code::Release, moved));
            (first, second) = (first - moved, second + moved);
        } else {
            lines.push(line(accounts[0], if step % 2 == 0 { Code::Reward } else { Code::Reversal }, moved));
            first = first + moved;
        }
        lines.push(Line { transfer: 1_000 + step, currency: yen, ..line(accounts[1], Code::Reward, moved) });
        in_yen = in_yen + moved;
    }
    let closed = [first, second];
    let known = opened.into_iter().zip(closed).map(|((account, opening), closing)| AccountLines {
        currency: Currency::EUR,
        account,
        opening,
        closing,
    });
    let rest = accounts[2..].iter().map(|account| AccountLines {
        currency: Currency::EUR,
        account: *account,
        opening: Amount::ZERO,
        closing: Amount::ZERO,
    });
    let closing = |account| if account == accounts[1] { in_yen } else { Amount::ZERO };
    let in_yen = accounts.iter().map(|account| AccountLines {
        currency: yen,
        account: *account,
        opening: Amount::ZERO,
        closing: closing(*account),
    });
    let accounts = known.chain(rest).chain(in_yen).collect();
    let month = "2026-11".parse().expect("a month");
    let statement =
        Statement { holder, month, as_of: at("2026-12-01T00:00:00Z"), is_final: true, accounts, lines };
    statement.check().expect("it adds up");
    statement
}

#[test]
fn hledger_and_ledger_take_a_journal_and_find_what_was_changed() {
    for holder in [Holder::Owner("bob".to_owned()), Holder::Submitter("clinic".to_owned())] {
        let statement = statement(holder);
        let journal = statement::journal(&statement);
        check("hledger", &["check", "-s", "ordereddates", "-f"], journal.as_bytes(), true);
        check("ledger", &["--pedantic", "balance", "-f"], journal.as_bytes(), true);

        let mut empty = Statement { lines: Vec::new(), ..statement.clone() };
        empty.accounts.iter_mut().for_each(|account| account.closing = account.opening);
        let nothing = statement::journal(&empty);
        check("hledger", &["check", "-s", "ordereddates", "-f"], nothing.as_bytes(), true);
        check("ledger", &["--pedantic", "balance", "-f"], nothing.as_bytes(), true);

        for line in [statement.lines.len() / 2, statement.lines.len() / 2 + 1] {
            let mut changed = statement.clone();
            let currency = changed.lines[line].currency;
            let good = format!("{} {currency}", changed.lines[line].amount.fixed(Amount::PLACES));
            changed.lines[line].amount = changed.lines[line].amount + amount("0.000000000001");
            let bad = format!("{} {currency}", changed.lines[line].amount.fixed(Amount::PLACES));
            assert!(journal.contains(&good) && journal.contains("commodity JPY\n"));
            let transfer = format!("transfer {}", changed.lines[line].transfer);
            let (before, after) = journal.split_once(&format!("{transfer}  ")).expect("the transfer");
            let tampered = format!("{before}{transfer}  {}", after.replacen(&good, &bad, 1));
            check("hledger", &["check", "-s", "ordereddates", "-f"], tampered.as_bytes(), false);
            check("ledger", &["--pedantic", "balance", "-f"], tampered.as_bytes(), false);
        }
        // What is said to be in euros instead is not in the yen that were asserted.
        let swapped = journal.replacen(" JPY\n    income", " EUR\n    income", 1).replacen(
            " JPY\n    expenses",
            " EUR\n    expenses",
            1,
        );
        assert_ne!(swapped, journal);
        check("hledger", &["check", "-s", "ordereddates", "-f"], swapped.as_bytes(), false);
        check("ledger", &["--pedantic", "balance", "-f"], swapped.as_bytes(), false);
    }
}

fn order() -> Order {
    let party = |name: &str, iban: &str| Party::new(name, iban.parse().expect("an IBAN")).expect("a party");
    let payment = |owner, amount_text: &str| Payment {
        owner,
        owner_name: format!("{}-{owner}", "o".repeat(60)),
        payee: party(&"N".repeat(70), "NO9386011117947"),
        amount: amount(amount_text),
    };
    Order {
        batch: i64::MAX as u64 / 1_000_000_000,
        currency: Currency::EUR,
        exported_at: at("2026-11-30T23:59:59.999999Z"),
        payer: party("The Grid (office) 'A' + B", "DE89370400440532013000"),
        payer_bic: None,
        payments: vec![payment(1, "0.01"), payment(20, "999999999.99"), payment(300, "12.3")],
    }
}

#[test]
fn pain_is_valid_with_and_without_a_bic() {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pain.001.001.09-used.xsd");
    let arguments = ["--noout", "--nonet", "--schema", schema];
    let with_bic = Order { payer_bic: Some("COBADEFF".parse().expect("a BIC")), ..order() };
    for order in [order(), with_bic] {
        let message = payout::pain(&order).expect("written");
        assert_eq!(message, payout::pain(&order).expect("written"), "the same bytes each time");
        check("xmllint", &arguments, &message, true);
        let text = String::from_utf8(message).expect("UTF-8");
        assert!(
            text.contains("<CtrlSum>1000000012.30</CtrlSum>") && text.contains("<NbOfTxs>3</NbOfTxs>"),
            "{text}"
        );
        for (good, bad) in [
            ("Ccy=\"EUR\">12.30<", "Ccy=\"EUR\">12.305<"),
            ("<PmtMtd>TRF</PmtMtd>", ""),
            ("NO9386011117947", "no9386011117947"),
            (">0.01<", ">0.00<"),
        ] {
            assert!(text.contains(good), "{good}");
            check("xmllint", &arguments, text.replacen(good, bad, 1).as_bytes(), false);
        }
    }
}

/// The schema for whole yen, without the service level.
fn widened(schema: &str) -> String {
    let changes = [
        ("<xs:element name=\"PmtTpInf\">", "<xs:element name=\"PmtTpInf\" minOccurs=\"0\">"),
        ("fixed=\"SLEV\"", "fixed=\"SHAR\""),
        ("fixed=\"EUR\"", "fixed=\"JPY\""),
        ("<xs:fractionDigits value=\"2\"/>", "<xs:fractionDigits value=\"0\"/>"),
        ("<xs:minInclusive value=\"0.01\"/>", "<xs:minInclusive value=\"1\"/>"),
        ("value=\"999999999.99\"", "value=\"999999999\""),
    ];
    changes.into_iter().fold(schema.to_owned(), |schema, (from, to)| {
        assert!(schema.contains(from), "{from}");
        schema.replace(from, to)
    })
}

#[test]
fn other_currencies_are_paid_by_pain_without_sepa_and_ones_own_are_not() {
    let used =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pain.001.001.09-used.xsd"))
            .expect("read");
    let mut yen = Order { currency: Currency::new("JPY", None).expect("yen"), ..order() };
    for payment in &mut yen.payments {
        payment.amount = amount("1203");
    }
    let message = payout::pain(&yen).expect("written");
    let text = String::from_utf8(message.clone()).expect("UTF-8");
    assert!(
        text.contains("<InstdAmt Ccy=\"JPY\">1203</InstdAmt>") && text.contains("<CtrlSum>3609</CtrlSum>"),
        "{text}"
    );
    assert!(!text.contains("SEPA") && text.contains("<ChrgBr>SHAR</ChrgBr>"), "{text}");
    // The same schema, but for what SEPA narrows down.
    let schema = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(schema.path(), widened(&used)).expect("written");
    let schema = schema.path().to_string_lossy().into_owned();
    check("xmllint", &["--noout", "--nonet", "--schema", &schema], &message, true);
    let own = Order { currency: Currency::new("CREDIT", Some(0)).expect("ours"), ..yen };
    assert!(matches!(payout::pain(&own), Err(payout::PainError::Currency(_))));
    assert!(String::from_utf8(payout::csv(&own).expect("written")).expect("UTF-8").contains(",1203,CREDIT,"));
}

#[test]
fn the_csv_of_a_batch_has_a_row_for_each_payout() {
    let text = String::from_utf8(payout::csv(&order()).expect("written")).expect("UTF-8");
    let rows: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(rows.len(), 5, "a header, three rows, and the end: {text}");
    assert!(rows[2].contains(",NO9386011117947,999999999.99,EUR,LULL-9223372036-20"), "{}", rows[2]);
}
