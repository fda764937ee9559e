//! Payouts on a real grid: two people, exact lines, and a coordinator that is killed between all steps.

use anyhow::{Context as _, Result, ensure};
use lull_proto::v1;
use lull_tests::fleet::{Submitter, work_off};
use lull_tests::money::{accepted_by, field, parts};
use lull_tests::{Device, Fleet, Grid, binary, guest};
use serde_json::Value;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tests/pain.001.001.09-used.xsd");
const REQUEST: &str = "0b8e6ae2-93a4-4ea4-8a31-7b0a4ef1d2c3";
const IBANS: [&str; 3] = ["DE89370400440532013000", "NO9386011117947", "GB29 NWBK 6016 1331 9268 19"];

/// A grid with three owners, two of whom have payees, and two operators.
struct Office {
    grid: Grid,
    alice: String,
    bob: String,
    clinic: Submitter,
    module: v1::Input,
    devices: Vec<Device>,
}

impl Office {
    async fn open() -> Result<Self> {
        let grid = Grid::start(60)?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut clinic = fleet.submitter("clinic", "10000").await?;
        let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
        let mut devices = Vec::new();
        for owner in ["ada", "grace", "mary"] {
            devices.push(fleet.device(owner).await?);
        }
        let operator =
            |name| Ok::<_, anyhow::Error>(grid.lull(&["admin", "operator", "add", name])?.trim().to_owned());
        let (alice, bob) = (operator("alice")?, operator("bob")?);
        grid.lull_with(&alice, &["admin", "payer", "set", "--name", "The Grid", "--iban", IBANS[0]])?;
        for (owner, iban) in [("ada", IBANS[1]), ("grace", IBANS[2])] {
            grid.lull_with(
                &alice,
                &["admin", "payee", "set", owner, "--name", &format!("Dr {owner}"), "--iban", iban],
            )?;
        }
        Ok(Self { grid, alice, bob, clinic, module, devices })
    }

    /// Everybody earns this much for each of some units.
    async fn earn(&mut self, price: &str, units: u64) -> Result<()> {
        let spec = v1::JobSpec {
            copies: 3,
            item_price: price.to_owned(),
            ..Submitter::trivial_spec(&self.module, units)
        };
        let job = self.clinic.create(spec).await?.name;
        work_off(&mut self.clinic, &job, &mut self.devices).await.map(drop)
    }

    fn payout(&self, token: &str, arguments: &[&str]) -> Result<Value> {
        self.grid.lull_json(token, &[&["admin", "payout"], arguments].concat())
    }

    fn refused(&self, token: &str, arguments: &[&str], exit: i32, word: &str) -> Result<()> {
        let output = self.grid.lull_as(token, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(exit) && said.contains(word),
            "{arguments:?}: {:?} {said}",
            output.status
        );
        Ok(())
    }

    fn export(&self, batch: &str, format: &str) -> Result<String> {
        self.grid.lull_with(&self.alice, &["admin", "payout", "export", batch, "--format", format])
    }

    /// Available, in a payout, paid, and left as a remainder.
    fn balance(&self, owner: &str) -> Result<[i128; 4]> {
        let balance = self.grid.lull_json(&self.grid.operator, &["balance", &format!("owners/{owner}")])?;
        Ok(["available", "payout", "paid", "remainder"].map(|part| field(&balance, part)))
    }

    /// Kills the coordinator, starts it again, and checks the books.
    fn crash(&mut self) -> Result<()> {
        self.grid.kill_coordinator()?;
        self.grid.restart_coordinator()?;
        self.grid.check_books()
    }

    async fn transfers(&self) -> Result<Vec<(i16, i64)>> {
        let client = self.grid.database().await?;
        let select = "SELECT code, count(*) FROM transfer WHERE code >= 7 GROUP BY code ORDER BY code";
        Ok(client.query(select, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

fn one<'a>(batch: &'a Value, owner: &str) -> Result<&'a Value> {
    let payouts = batch["payouts"].as_array().context("payouts")?;
    payouts.iter().find(|payout| payout["owner"] == format!("owners/{owner}")).context("the owner's payout")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_survives_a_crash_after_each_step_and_repeats_nothing() -> Result<()> {
    let mut office = Office::open().await?;
    office.earn("1.2345678", 10).await?;
    let (alice, bob) = (office.alice.clone(), office.bob.clone());
    let earned = parts("12.345678");
    let paid = parts("12.34");

    let propose = ["propose", "--minimum", "5", "--request-id", REQUEST];
    let batch = office.payout(&alice, &propose)?;
    assert_eq!((&batch["state"], &batch["open_count"]), (&"proposed".into(), &2.into()));
    assert_eq!(batch["owners_without_payee"], serde_json::json!(["owners/mary"]));
    office.crash()?;
    assert_eq!(office.payout(&alice, &propose)?, batch, "the same request proposes once");
    let rest = earned - paid;
    assert_eq!(office.balance("ada")?, [0, paid, 0, rest]);
    assert_eq!(office.balance("mary")?, [earned, 0, 0, 0]);
    office.refused(&alice, &["admin", "payout", "approve", "1"], 1, "SAME_OPERATOR")?;
    office.refused(&alice, &["admin", "payout", "export", "1"], 1, "NOT_APPROVED")?;
    office.refused(&alice, &["admin", "payout", "mark-paid", "1"], 1, "NOT_EXPORTED")?;
    let other = ["admin", "payout", "propose", "--minimum", "6", "--request-id", REQUEST];
    office.refused(&alice, &other, 2, "REQUEST_ID_REUSED")?;

    let approved = office.payout(&bob, &["approve", "1"])?;
    assert_eq!((&approved["state"], &approved["approver"]), (&"approved".into(), &"bob".into()));
    office.crash()?;
    assert_eq!(office.payout(&bob, &["approve", "1"])?, approved);

    // Who is paid was settled by the proposal.
    let moved = ["admin", "payee", "set", "ada", "--name", "Eve", "--iban", IBANS[0]];
    office.grid.lull_with(&alice, &moved)?;
    let message = office.export("1", "pain")?;
    let table = office.export("1", "csv")?;
    office.crash()?;
    assert_eq!(office.export("1", "pain")?, message, "the same bytes each time");
    assert_eq!(office.export("1", "csv")?, table);
    accepted_by("xmllint", &["--noout", "--nonet", "--schema", SCHEMA], &message)?;
    assert!(message.contains("<CtrlSum>24.68</CtrlSum>") && message.contains(IBANS[1]), "{message}");
    assert!(message.contains("Dr ada") && !message.contains("Eve"), "{message}");
    let sum: i128 = csv::Reader::from_reader(table.as_bytes())
        .records()
        .map(|row| Ok(parts(&row?[4])))
        .sum::<Result<_>>()?;
    assert_eq!(sum, 2 * paid);
    office.refused(&bob, &["admin", "payout", "reject", "1", "--reason", "late"], 1, "EXPORTED")?;

    let one_paid = office.payout(&alice, &["mark-paid", "1", "--owner", "ada"])?;
    assert_eq!(
        (&one(&one_paid, "ada")?["state"], &one(&one_paid, "grace")?["state"]),
        (&"paid".into(), &"open".into())
    );
    office.crash()?;
    assert_eq!(office.payout(&alice, &["mark-paid", "1", "--owner", "ada"])?, one_paid);
    let all_paid = office.payout(&alice, &["mark-paid", "1"])?;
    assert_eq!(all_paid["open_count"], 0);
    office.crash()?;
    assert_eq!(office.payout(&alice, &["mark-paid", "1"])?, all_paid);
    assert_eq!(office.balance("ada")?, [0, 0, paid, rest]);

    let back = ["mark-returned", "1", "--owner", "ada", "--reason", "AC04 closed account"];
    let returned = office.payout(&bob, &back)?;
    office.crash()?;
    assert_eq!(office.payout(&bob, &back)?, returned, "it comes back once");
    assert_eq!(one(&returned, "ada")?["reason"], "AC04 closed account");
    assert_eq!(office.payout(&alice, &["mark-paid", "1"])?, returned, "what came back stays so");
    assert_eq!(office.balance("ada")?, [paid, 0, 0, rest]);
    assert_eq!(office.balance("grace")?, [0, 0, paid, rest]);
    assert_eq!(office.transfers().await?, [(7, 2), (8, 2), (9, 2), (14, 2)]);

    let client = office.grid.database().await?;
    let month: String =
        client.query_one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')", &[]).await?.get(0);
    let statement =
        |format| office.grid.lull(&["statement", "--owner", "ada", "--month", &month, "--format", format]);
    let journal = statement("journal")?;
    accepted_by("hledger", &["check", "-s", "ordereddates", "-f"], &journal)?;
    accepted_by("ledger", &["--pedantic", "balance", "-f"], &journal)?;
    let text = statement("text")?;
    assert!(text.contains("payouts/1  AC04 closed account"), "{text}");

    // What came back is what the next batch pays.
    let second = office.payout(&alice, &["propose"])?;
    let next = one(&second, "ada")?;
    assert_eq!((field(next, "amount"), &next["lines"], &next["payee"]), (paid, &1.into(), &"Eve".into()));
    assert_eq!(
        (field(next, "carried_in"), field(next, "remainder")),
        (rest, rest),
        "taken up, and left again"
    );
    assert_eq!(office.transfers().await?, [(7, 3), (8, 2), (9, 2), (14, 3), (15, 1)]);
    assert_eq!(second["payouts"].as_array().map(Vec::len), Some(1), "grace has less than a cent: {second}");
    office.grid.check_books()?;

    // Whoever audits from outside sees the same, and every change by hand.
    office.grid.audit()?;
    let newest = "batch_id = (SELECT max(batch_id) FROM payout)";
    for (by_hand, back, row) in [
        ("amount = amount + 1", "amount = amount - 1", "code 7"),
        ("state = state + 1", "state = state - 1", "payout (batch_id "),
        ("remainder = 0", "remainder = carried_out", "remainders"),
    ] {
        ensure!(client.execute(&format!("UPDATE payout SET {by_hand} WHERE {newest}"), &[]).await? == 1);
        let told = office.grid.audit().expect_err(by_hand).to_string();
        assert!(told.contains(row), "{by_hand}: {told}");
        client.execute(&format!("UPDATE payout SET {back} WHERE {newest}"), &[]).await?;
    }
    client.execute("UPDATE reversal SET code = 1 WHERE id = 1", &[]).await?;
    let told = office.grid.audit().expect_err("a reversal of nothing").to_string();
    assert!(told.contains("code 8"), "a payout that was paid and did not come back: {told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_payout_lists_exactly_its_lines() -> Result<()> {
    let mut office = Office::open().await?;
    let (alice, bob) = (office.alice.clone(), office.bob.clone());
    office.earn("0.0033", 5).await?;
    office.refused(&alice, &["admin", "payout", "propose", "--minimum", "0.02"], 1, "NOTHING_TO_PAY")?;
    office.refused(&alice, &["admin", "payout", "propose", "--minimum", "0.001"], 2, "minimum")?;
    let mut seen = std::collections::BTreeSet::new();
    for (round, (units, amount, carried_in)) in
        [(5, "0.01", "0"), (7, "0.02", "0.0065"), (1, "0.01", "0.0096")].into_iter().enumerate()
    {
        if round > 0 {
            office.earn("0.0033", units).await?;
        }
        let batch = office.payout(&alice, &["propose", "--minimum", "0.01"])?;
        let name = batch["name"].as_str().context("a name")?.to_owned();
        assert_eq!(name, format!("payouts/{}", round + 1), "what came to nothing took no number");
        let ada = one(&batch, "ada")?;
        assert_eq!(
            (field(ada, "amount"), field(ada, "carried_in")),
            (parts(amount), parts(carried_in)),
            "{ada}"
        );
        assert_eq!(ada["lines"], units);
        office.payout(&bob, &["approve", &name])?;
        office.export(&name, "csv")?;
        if round != 1 {
            office.payout(&bob, &["mark-paid", &name])?;
        }
        let opened = office.payout(&alice, &["show", &name, "--lines", "ada"])?;
        let lines = opened["lines"].as_array().context("lines")?;
        assert_eq!(lines.iter().map(|line| field(line, "amount")).sum::<i128>(), parts(amount), "{opened}");
        for line in lines.iter().filter(|line| line["category"] != "carried") {
            assert!(seen.insert((line["job"].to_string(), line["unit"].to_string())), "paid twice: {line}");
            assert_eq!(line["verdict"], "accepted");
        }
        let balance = office.grid.lull_json(&office.grid.operator, &["balance", "owners/ada", "--lines"])?;
        for part in ["available", "payout", "paid"] {
            let lines = balance["lines"].as_array().context("lines")?;
            let sum: i128 =
                lines.iter().filter(|line| line["part"] == part).map(|line| field(line, "amount")).sum();
            assert_eq!(sum, field(&balance, part), "{part} after {name}: {balance}");
        }
    }
    assert_eq!(seen.len(), 13);
    let client = office.grid.database().await?;
    let month: String =
        client.query_one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')", &[]).await?.get(0);
    let journal =
        office.grid.lull(&["statement", "--owner", "ada", "--month", &month, "--format", "journal"])?;
    accepted_by("hledger", &["check", "-s", "ordereddates", "-f"], &journal)?;
    accepted_by("ledger", &["--pedantic", "balance", "-f"], &journal)?;
    let batches = office.payout(&alice, &["list"])?;
    assert_eq!(batches.as_array().map(Vec::len), Some(3));
    office.grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_at_once_and_pay_that_comes_meanwhile_are_paid_once() -> Result<()> {
    let mut office = Office::open().await?;
    office.earn("0.0033", 40).await?;
    let mut proposals = Vec::new();
    for at in 0..12 {
        proposals.push(
            std::process::Command::new(binary("lull"))
                .args(["admin", "payout", "propose"])
                .env("LULL_COORDINATOR", &office.grid.url)
                .env("LULL_TOKEN", if at % 2 == 0 { &office.alice } else { &office.bob })
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()?,
        );
        office.earn("0.0033", 7).await?;
    }
    let mut made = 0;
    for mut proposal in proposals {
        made += usize::from(proposal.wait()?.success());
    }
    assert!(made > 0);
    let batches = office.payout(&office.alice, &["list"])?;
    assert_eq!(
        batches.as_array().map(Vec::len),
        Some(made),
        "a proposal that fails leaves nothing: {batches}"
    );
    let earned = parts("0.0033") * (40 + 12 * 7);
    let [available, proposed, _, remainder] = office.balance("ada")?;
    assert_eq!(available + proposed + remainder, earned);
    let client = office.grid.database().await?;
    let lines =
        "SELECT count(*), count(DISTINCT transfer_id) FROM payout_line JOIN owner ON owner.id = owner_id
        WHERE name = 'ada'";
    let row = client.query_one(lines, &[]).await?;
    assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1));
    office.grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_is_available_again() -> Result<()> {
    let mut office = Office::open().await?;
    office.earn("1", 3).await?;
    let (alice, bob) = (office.alice.clone(), office.bob.clone());
    office.payout(&alice, &["propose"])?;
    office.payout(&bob, &["approve", "1"])?;
    let rejected = office.payout(&alice, &["reject", "1", "--reason", "the wrong month"])?;
    assert_eq!((&rejected["state"], &rejected["open_count"]), (&"rejected".into(), &0.into()));
    office.crash()?;
    assert_eq!(office.payout(&alice, &["reject", "1", "--reason", "again"])?, rejected);
    assert_eq!(office.balance("ada")?, [parts("3"), 0, 0, 0]);
    for step in [&["approve", "1"][..], &["export", "1"], &["mark-paid", "1"]] {
        office.refused(&bob, &[&["admin", "payout"], step].concat(), 1, "REJECTED")?;
    }
    let again = office.payout(&alice, &["propose"])?;
    assert_eq!(field(one(&again, "grace")?, "amount"), parts("3"));
    office.grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_with_names_are_needed() -> Result<()> {
    let mut office = Office::open().await?;
    office.earn("1", 1).await?;
    let root = office.grid.operator.clone();
    let (alice, bob) = (office.alice.clone(), office.bob.clone());
    let payout = |step: &'static [&'static str]| [&["admin", "payout"], step].concat();
    office.refused(&root, &payout(&["propose"]), 4, "with a name")?;
    office.payout(&alice, &["propose"])?;
    office.refused(&root, &payout(&["approve", "1"]), 4, "with a name")?;
    // Whoever has a name gets no second one.
    office.refused(&alice, &["admin", "operator", "add", "mallory"], 4, "state directory")?;
    office.refused(&alice, &["admin", "create-token", "--role", "operator"], 4, "state directory")?;
    office.refused(&root, &["admin", "operator", "add", "alice"], 2, "NAME_TAKEN")?;
    let token = office.grid.lull(&["admin", "create-token", "--role", "owner", "--subject", "ada"])?;
    office.refused(token.trim(), &payout(&["list"]), 4, "operator")?;
    office.refused(&bob, &payout(&["approve", "9"]), 5, "no batch")?;
    for iban in ["DE89370400440532013001", "US64SVBKUS6S3300958879", "nonsense"] {
        office.refused(
            &alice,
            &["admin", "payee", "set", "mary", "--name", "Mary", "--iban", iban],
            2,
            "iban",
        )?;
    }
    let accents = ["admin", "payee", "set", "mary", "--name", "Zo\u{eb}", "--iban", IBANS[0]];
    office.refused(&alice, &accents, 2, "display_name")?;
    let payees = office.grid.lull_json(&alice, &["admin", "payee", "list"])?;
    assert_eq!(payees[1]["iban"], "GB29NWBK60161331926819", "blanks are left out: {payees}");
    // The database itself takes no second word from the same person, and no change of what was booked.
    let client = office.grid.database().await?;
    let same = "UPDATE payout_batch SET state = 2, approved_by = proposed_by, approved_at = now()";
    assert!(client.execute(same, &[]).await.is_err());
    client.batch_execute("SET ROLE lull_app").await?;
    for change in [
        "UPDATE payout SET amount = 1",
        "DELETE FROM payout_line",
        "UPDATE reversal SET reason = 'x'",
        "UPDATE payout_batch SET payer_iban = 'x'",
    ] {
        assert!(client.execute(change, &[]).await.is_err(), "{change}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_a_step_repeats_nothing() -> Result<()> {
    let mut office = Office::open().await?;
    let (alice, bob) = (office.alice.clone(), office.bob.clone());
    for round in 0..4_u64 {
        office.earn("2.5", 2).await?;
        let id = format!("0b8e6ae2-93a4-4ea4-8a31-7b0a4ef1d2c{round}");
        // After a crash the next batch may have a number further on.
        let mut batch = String::new();
        for at in 0..5_u64 {
            let (token, step): (&str, Vec<&str>) = match at {
                0 => (&alice, vec!["propose", "--request-id", &id]),
                1 => (&bob, vec!["approve", &batch]),
                2 => (&alice, vec!["export", &batch]),
                3 => (&alice, vec!["mark-paid", &batch]),
                _ => (&bob, vec!["mark-returned", &batch, "--owner", "ada", "--reason", "closed"]),
            };
            let arguments: Vec<&str> = ["admin", "payout"].into_iter().chain(step.iter().copied()).collect();
            let mut child = std::process::Command::new(binary("lull"))
                .args(&arguments)
                .env("LULL_COORDINATOR", &office.grid.url)
                .env("LULL_TOKEN", token)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()?;
            // Somewhere between before the call and after it: each round and step at another point.
            std::thread::park_timeout(std::time::Duration::from_micros(3_000 * (round * 5 + at)));
            office.grid.kill_coordinator()?;
            office.grid.restart_coordinator()?;
            child.wait()?;
            office.grid.lull_with(token, &arguments)?;
            if at == 0 {
                let proposed = office.payout(token, &step)?;
                batch = proposed["name"].as_str().context("a name")?.to_owned();
            }
            office.grid.check_books()?;
        }
        assert_eq!(office.balance("ada")?, [parts("5") * i128::from(round + 1), 0, 0, 0]);
        assert_eq!(office.balance("grace")?, [0, 0, parts("5") * i128::from(round + 1), 0]);
        let count = round.cast_signed() + 1;
        assert_eq!(office.transfers().await?, [(7, 2 * count), (8, 2 * count), (9, 2 * count)]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_takes_no_number_and_an_account_is_new_until_it_was_paid() -> Result<()> {
    let mut office = Office::open().await?;
    office.earn("1", 3).await?;
    let (alice, bob) = (office.alice.clone(), office.bob.clone());
    for _ in 0..2 {
        let dear = ["admin", "payout", "propose", "--minimum", "500"];
        office.refused(&alice, &dear, 1, "NOTHING_TO_PAY")?;
    }
    let batch = office.payout(&alice, &["propose"])?;
    assert_eq!(batch["name"], "payouts/1", "there is no gap");
    assert_eq!([&one(&batch, "ada")?["paid_before"], &one(&batch, "grace")?["paid_before"]], [false, false]);
    office.payout(&bob, &["approve", "1"])?;
    office.export("1", "csv")?;
    office.payout(&bob, &["mark-paid", "1"])?;
    office.payout(&bob, &["mark-returned", "1", "--owner", "grace", "--reason", "AC04"])?;

    office.earn("1", 3).await?;
    let batch = office.payout(&alice, &["propose"])?;
    assert_eq!([&one(&batch, "ada")?["paid_before"], &one(&batch, "grace")?["paid_before"]], [true, false]);
    let shown = office.grid.lull_with(&bob, &["admin", "payout", "show", "2"])?;
    let of =
        |owner: &str| shown.lines().find(|line| line.contains(owner)).context("a row").map(str::to_owned);
    assert!(of("owners/ada")?.contains("as before") && of("owners/grace")?.contains(" new "), "{shown}");
    assert!(shown.contains("minimum   0.010000 EUR"), "{shown}");
    office.payout(&bob, &["reject", "2", "--reason", "another account"])?;

    let elsewhere = ["admin", "payee", "set", "ada", "--name", "Dr ada", "--iban", IBANS[0]];
    office.grid.lull_with(&alice, &elsewhere)?;
    let batch = office.payout(&alice, &["propose"])?;
    assert_eq!(one(&batch, "ada")?["paid_before"], false);
    office.grid.check_books()?;
    office.grid.audit()
}
