//! Statements and balances of a real grid: every form has the sum that the ledger has.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lull_coordinator::core::OwnerId;
use lull_coordinator::store::{BalancePart, BalancePiece, Store};
use lull_proto::v1;
use lull_tests::fleet::{Submitter, work_off};
use lull_tests::money::{accepted_by, field, parts};
use lull_tests::{DEADLINE, Device, Fleet, Grid, guest, wait_until};
use serde_json::Value;
use tokio::sync::mpsc;

/// A grid on which two owners worked for a clinic: some of it checked at once, some bought by confidence.
struct Worked {
    grid: Grid,
    clinic: Submitter,
    clinic_token: String,
    module: v1::Input,
    devices: Vec<Device>,
}

async fn worked(units: u64) -> Result<Worked> {
    let grid = Grid::start_with(60, &["--fee-percent", "3.7"])?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "1000").await?;
    let arguments = ["admin", "create-token", "--role", "submitter", "--subject", "clinic"];
    let clinic_token = grid.lull(&arguments)?.trim().to_owned();
    let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
    let mut devices = Vec::new();
    for owner in ["ada", "grace", "ada"] {
        devices.push(fleet.device(owner).await?);
    }
    let spec = v1::JobSpec {
        copies: 2,
        item_price: "0.012345678901".to_owned(),
        ..Submitter::trivial_spec(&module, units)
    };
    let job = clinic.create(spec).await?.name;
    work_off(&mut clinic, &job, &mut devices).await?;
    Ok(Worked { grid, clinic, clinic_token, module, devices })
}

impl Worked {
    async fn confident_job(&mut self, units: u64) -> Result<String> {
        let spec = v1::JobSpec {
            max_error: 1e-2,
            item_price: "0.000000700003".to_owned(),
            budget: "5".to_owned(),
            ..Submitter::trivial_spec(&self.module, units)
        };
        let job = self.clinic.create(spec).await?.name;
        work_off(&mut self.clinic, &job, &mut self.devices).await?;
        Ok(job)
    }

    fn owner_token(&self, name: &str) -> Result<String> {
        let arguments = ["admin", "create-token", "--role", "owner", "--subject", name];
        Ok(self.grid.lull(&arguments)?.trim().to_owned())
    }
}

/// This month and the one before, by the database's clock.
async fn months(client: &tokio_postgres::Client) -> Result<[String; 2]> {
    let select = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM'),
        to_char(now() AT TIME ZONE 'UTC' - interval '1 month', 'YYYY-MM')";
    let row = client.query_one(select, &[]).await?;
    Ok([row.get(0), row.get(1)])
}

/// What the ledger says that a holder's accounts of each kind moved in a month.
async fn moved(client: &tokio_postgres::Client, holder: &str, month: &str) -> Result<BTreeMap<String, i128>> {
    let mine = match holder.split_once('/') {
        Some(("owners", _)) => "SELECT id * 8 + kind FROM owner, generate_series(3, 6) AS kind WHERE name = $1",
        _ => {
            "SELECT id * 8 + 1 FROM submitter WHERE name = $1
             UNION ALL SELECT job.id * 8 + 2 FROM job JOIN submitter ON submitter.id = submitter_id WHERE name = $1"
        }
    };
    let select = format!(
        "SELECT kind, sum(change)::text FROM (
             SELECT account % 8 AS kind, change, created_at FROM (
                 SELECT credit AS account, amount AS change, created_at FROM transfer
                 UNION ALL SELECT debit, -amount, created_at FROM transfer) AS posting
             WHERE account IN ({mine})
             UNION ALL SELECT 7, CASE code WHEN 14 THEN amount ELSE -amount END, transfer.created_at
             FROM transfer JOIN owner ON owner.id = attempt WHERE code IN (14, 15) AND owner.name = $1) AS moved
         WHERE to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM') = $2 GROUP BY 1"
    );
    let name = holder.split_once('/').map_or("", |(_, name)| name);
    let rows = client.query(&select, &[&name, &month]).await?;
    let kinds = ["bank", "submitter", "escrow", "available", "pending", "payout", "paid", "remainders"];
    let kind = |code: i64| kinds[usize::try_from(code).unwrap_or(0)].to_owned();
    Ok(rows.iter().map(|row| (kind(row.get(0)), parts(row.get(1)))).collect())
}

fn statement(grid: &Grid, token: &str, holder: &str, month: &str, format: &str) -> Result<String> {
    let (flag, name) = match holder.split_once('/') {
        Some(("owners", name)) => ("--owner", name),
        Some((_, name)) => ("--submitter", name),
        None => ("--me", ""),
    };
    let mut arguments = vec!["statement", flag, name, "--month", month, "--format", format];
    arguments.retain(|argument| !argument.is_empty());
    grid.lull_with(token, &arguments)
}

/// No pay is due to be released, and no job to be looked through.
const AT_REST: &str = "NOT EXISTS (SELECT FROM recheck) AND NOT EXISTS (
    SELECT FROM standing JOIN held ON held.owner_id = standing.owner_id AND held.seq = released_to + 1
    WHERE until_seq <= held_to)";

/// Checks that every form has the ledger's sums; returns opening and closing of each account, exact.
async fn check(
    grid: &Grid,
    client: &tokio_postgres::Client,
    holder: &str,
    month: &str,
) -> Result<BTreeMap<String, [i128; 2]>> {
    // What is read one after the other must be the same books.
    wait_until(client, "at rest", AT_REST).await?;
    let ledger = moved(client, holder, month).await?;
    let read = |format| statement(grid, &grid.operator, holder, month, format);
    let json: Value = serde_json::from_str(&read("json")?)?;
    let mut edges = BTreeMap::new();
    for account in json["accounts"].as_array().context("accounts")? {
        let name = account["account"].as_str().context("a name")?.to_owned();
        let [opening, closing] = [field(account, "opening"), field(account, "closing")];
        assert_eq!(closing - opening, ledger.get(&name).copied().unwrap_or(0), "{holder} {month} {name}");
        edges.insert(name, [opening, closing]);
    }

    let (mut exact, mut shown) = (BTreeMap::<String, i128>::new(), 0);
    let text = read("csv")?;
    let mut lines = 0;
    for record in csv::Reader::from_reader(text.as_bytes()).records() {
        let record = record?;
        if &record[2] != "opening" && &record[2] != "closing" {
            *exact.entry(record[1].to_owned()).or_default() += parts(&record[3]);
            shown += parts(&record[4]);
            lines += 1;
        }
    }
    assert_eq!(exact, ledger, "{holder} {month}: CSV sum = ledger sum");
    assert_eq!(json["lines"].as_array().map(Vec::len), Some(lines));

    let page = read("html")?;
    let cell =
        |row: &str| row.split("class=\"n\">").nth(1).and_then(|cell| cell.split('<').next()).map(parts);
    let on_page: i128 = page.split("<tr class=\"l\">").skip(1).filter_map(cell).sum();
    assert_eq!(on_page, shown, "{holder} {month}: page sum = CSV sum");
    let on_text: i128 = read("text")?
        .lines()
        .filter(|line| line.starts_with("     ") && line.contains(':'))
        .filter_map(|line| line.split_whitespace().next().map(parts))
        .sum();
    assert_eq!(on_text, shown, "{holder} {month}: the text's sum too");

    let journal = read("journal")?;
    accepted_by("hledger", &["check", "-s", "ordereddates", "-f"], &journal)?;
    accepted_by("ledger", &["--pedantic", "balance", "-f"], &journal)?;
    for (name, [_, closing]) in &edges {
        let arguments = ["balance", "-N", "--flat", "-O", "csv", &format!("^assets:{name}$"), "-f"];
        let said = accepted_by("hledger", &arguments, &journal)?;
        let found = said.lines().nth(1).and_then(|line| line.split('"').nth(3)).unwrap_or("0");
        assert_eq!(parts(found.trim_end_matches(" EUR")), *closing, "hledger agrees: {said}");
    }
    Ok(edges)
}

/// Brings the sums that are kept beside the transfers to their times.
const SUMS_FOLLOW: &str = "
    UPDATE held SET created_at = transfer.created_at FROM transfer
    WHERE code = 3 AND transfer.job_id = held.job_id AND transfer.stage = held.stage AND transfer.idx = held.idx
      AND attempt = owner_id;
    DELETE FROM device_earning;
    INSERT INTO device_earning (device_id, month, amount, units)
    SELECT device_id, date_trunc('month', transfer.created_at AT TIME ZONE 'UTC')::date, sum(amount), count(*)
    FROM transfer JOIN attempt ON attempt.job_id = transfer.job_id AND attempt.stage = transfer.stage
      AND attempt.idx = transfer.idx AND attempt.owner_id = transfer.attempt
    WHERE code = 3 GROUP BY 1, 2";

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_statement_has_the_sum_of_the_ledger() -> Result<()> {
    let mut worked = worked(60).await?;
    worked.confident_job(40).await?;
    let client = worked.grid.database().await?;
    let [month, before] = months(&client).await?;
    let holders = ["owners/ada", "owners/grace", "submitters/clinic"];
    for holder in holders {
        check(&worked.grid, &client, holder, &month).await?;
    }
    worked.grid.check_books()?;

    // As if a part of it had been in the month before: what opens one month is what closed the other.
    let first_half =
        "UPDATE transfer SET created_at = date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
            - interval '1 day' + id % 86399 * interval '1 second'
        WHERE code < 3 OR code = 3 AND idx < 20";
    assert!(client.execute(first_half, &[]).await? > 40);
    client.batch_execute(SUMS_FOLLOW).await?;
    worked.grid.check_books()?;
    for holder in holders {
        let old = check(&worked.grid, &client, holder, &before).await?;
        let new = check(&worked.grid, &client, holder, &month).await?;
        for (name, [opening, _]) in new {
            assert_eq!(opening, old[&name][1], "{holder} {name}");
        }
    }
    let old = statement(&worked.grid, &worked.clinic_token, "", &before, "text")?;
    assert!(old.contains("submitters/clinic") && old.contains("Final;"), "{old}");
    let new = statement(&worked.grid, &worked.clinic_token, "", &month, "text")?;
    assert!(new.contains("Not final"), "{new}");
    Ok(())
}

/// The first batch is of the last microsecond of a month, the second of the first of the next.
const TWO_MONTHS: &str = "
    UPDATE transfer SET created_at = date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
        - interval '1 microsecond' * CASE WHEN code IN (7, 8, 14, 15) AND idx = 2 THEN 0 ELSE 1 END
    WHERE code < 3 OR code IN (3, 10) AND job_id = 1 OR code IN (7, 8, 14, 15)";

#[tokio::test(flavor = "multi_thread")]
async fn payouts_and_what_they_leave_are_of_their_month() -> Result<()> {
    let mut worked = worked(60).await?;
    let client = worked.grid.database().await?;
    let [month, before] = months(&client).await?;
    let operator = |name| {
        Ok::<_, anyhow::Error>(worked.grid.lull(&["admin", "operator", "add", name])?.trim().to_owned())
    };
    let (alice, bob) = (operator("alice")?, operator("bob")?);
    let iban = "DE89370400440532013000";
    worked.grid.lull_with(&alice, &["admin", "payer", "set", "--name", "The Grid", "--iban", iban])?;
    for owner in ["ada", "grace"] {
        worked.grid.lull_with(&alice, &["admin", "payee", "set", owner, "--name", "Dr", "--iban", iban])?;
    }
    for number in ["1", "2"] {
        worked.grid.lull_with(&alice, &["admin", "payout", "propose", "--minimum", "0.01"])?;
        worked.grid.lull_with(&bob, &["admin", "payout", "approve", number])?;
        worked.grid.lull_with(&bob, &["admin", "payout", "export", number, "--format", "csv"])?;
        worked.grid.lull_with(&bob, &["admin", "payout", "mark-paid", number])?;
        if number == "1" {
            let spec = v1::JobSpec {
                copies: 2,
                item_price: "0.012345678901".to_owned(),
                ..Submitter::trivial_spec(&worked.module, 20)
            };
            let job = worked.clinic.create(spec).await?.name;
            work_off(&mut worked.clinic, &job, &mut worked.devices).await?;
        }
    }
    client.batch_execute(TWO_MONTHS).await?;
    client.batch_execute(SUMS_FOLLOW).await?;
    worked.grid.check_books()?;
    for (name, holder) in [("ada", "owners/ada"), ("grace", "owners/grace")] {
        let old = check(&worked.grid, &client, holder, &before).await?;
        let new = check(&worked.grid, &client, holder, &month).await?;
        for (account, [opening, _]) in &new {
            assert_eq!(*opening, old[account][1], "{name} {account}");
        }
        let cent = parts("0.01");
        let [left, left_again] = [old["remainders"][1], new["remainders"][1]];
        assert!((1..cent).contains(&left) && (1..cent).contains(&left_again), "{name}: {left} {left_again}");
        assert_eq!(old["remainders"][0], 0);
        for (month, codes) in [(&before, [1, 0, 1]), (&month, [1, 1, 1])] {
            let csv = statement(&worked.grid, &worked.grid.operator, holder, month, "csv")?;
            let lines = |start: &str| csv.lines().filter(|line| line.contains(start)).count();
            let found =
                [",available,payout,-", ",remainders,taken up,-", ",remainders,remainder,"].map(lines);
            assert_eq!(found, codes, "{name} {month}: {csv}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_for_its_holder_and_for_operators() -> Result<()> {
    let worked = worked(4).await?;
    let (grid, ada) = (&worked.grid, worked.owner_token("ada")?);
    let client = grid.database().await?;
    let [month, _] = months(&client).await?;
    let mine = statement(grid, &ada, "", &month, "csv")?;
    assert_eq!(mine, statement(grid, &ada, "owners/ada", &month, "csv")?);
    let work: Vec<&str> = mine.lines().filter(|line| line.contains(",reward,")).collect();
    assert_eq!(work.len(), 4, "{mine}");
    for line in work {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(
            (cells[6], cells[7], cells[10], cells[11], cells[13]),
            ("1", "work", "fleet", "result", "accepted")
        );
        assert_eq!(cells[12].len(), 64, "a digest");
    }
    let paid_by = statement(grid, &worked.clinic_token, "", &month, "csv")?;
    assert!(
        paid_by.contains(",reward,") && !paid_by.contains("fleet"),
        "names of PCs are their owners': {paid_by}"
    );

    let refused = |token: &str, arguments: &[&str], exit: i32| {
        let output = grid.lull_as(token, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(exit), "{arguments:?}: {:?} {said}", output.status);
        Ok(())
    };
    let other = ["statement", "--owner", "grace", "--month", &month];
    refused(&ada, &other, 4)?;
    refused(&worked.clinic_token, &other, 4)?;
    refused(&ada, &["statement", "--submitter", "clinic", "--month", &month], 4)?;
    refused(&ada, &["balance", "owners/grace", "--lines"], 4)?;
    refused("lull_nobody", &other, 4)?;
    refused(&grid.operator, &["statement", "--me", "--month", &month], 2)?;
    refused(&grid.operator, &["statement", "--owner", "nobody", "--month", &month], 5)?;
    refused(&ada, &["statement", "--me", "--month", "2026-13"], 2)?;
    refused(&ada, &["statement", "--month", &month], 2)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_is_corrected_by_a_reversal_with_a_reason() -> Result<()> {
    let worked = worked(4).await?;
    let grid = &worked.grid;
    let client = grid.database().await?;
    let [month, _] = months(&client).await?;
    let deposit = grid.lull_json(&grid.operator, &["fund", "clinic", "12.5"])?;
    let name = deposit["name"].as_str().context("a name")?;
    let before = field(&grid.lull_json(&grid.operator, &["balance", "clinic"])?, "available");
    let reason = "=HYPERLINK(\"http://x\"); the bank, again";
    let arguments = ["admin", "reverse-deposit", name, "--reason", reason];
    let first = grid.lull_json(&grid.operator, &arguments)?;
    assert_eq!(field(&first, "balance"), before - parts("12.5"));
    assert_eq!(grid.lull_json(&grid.operator, &arguments)?, first, "again it changes nothing");
    assert_eq!(grid.lull_as(&worked.clinic_token, &arguments)?.status.code(), Some(4));
    let silent = grid.lull_as(&grid.operator, &["admin", "reverse-deposit", name, "--reason", " "])?;
    assert_eq!(silent.status.code(), Some(2));
    check(grid, &client, "submitters/clinic", &month).await?;
    let csv = statement(grid, &grid.operator, "submitters/clinic", &month, "csv")?;
    assert!(csv.contains("\"'=HYPERLINK(\"\"http://x\"\"); the bank, again\""), "{csv}");
    grid.check_books()?;

    // The first deposit is partly spent.
    let spent = ["admin", "reverse-deposit", "submitters/clinic/deposits/1", "--reason", "no"];
    let output = grid.lull_as(&grid.operator, &spent)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("INSUFFICIENT_FUNDS"), "{said}");
    grid.check_books()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_and_its_lines_are_of_one_moment() -> Result<()> {
    let mut worked = worked(10).await?;
    let client = worked.grid.database().await?;
    let ada: i64 = client.query_one("SELECT id FROM owner WHERE name = 'ada'", &[]).await?.get(0);
    let store = Store::open(&worked.grid.database_url())?;
    let (pieces, mut read) = mpsc::channel(1);
    // There is room for one piece: this one holds the balance up, with its snapshot taken.
    pieces.send(Ok(BalancePiece::Lines(BalancePart::Paid, Vec::new()))).await?;
    let writing = tokio::spawn(async move {
        let of = store.currency("").await?;
        store.balance_lines(OwnerId(ada), of, &[BalancePart::Pending, BalancePart::Available], &pieces).await
    });
    let held_up = "EXISTS (SELECT FROM pg_stat_activity
        WHERE state = 'idle in transaction' AND query LIKE '%min(after_results) AS first_after%')";
    wait_until(&client, "held up", held_up).await?;
    let before = worked.grid.lull_json(&worked.grid.operator, &["balance", "owners/ada"])?;
    worked.confident_job(20).await?;
    let after = worked.grid.lull_json(&worked.grid.operator, &["balance", "owners/ada"])?;
    assert!(field(&after, "pending") > field(&before, "pending"), "more was earned meanwhile");
    let mut sums = [0; 2];
    let mut balance = None;
    while let Some(piece) = read.recv().await {
        match piece? {
            BalancePiece::Balance(first) => balance = Some(first),
            BalancePiece::Lines(part, lines) => {
                let amounts = lines.iter().map(|line| parts(&line.line.amount.to_string()));
                sums[usize::from(part != BalancePart::Pending)] += amounts.sum::<i128>();
            }
        }
    }
    writing.await??;
    let balance = balance.context("a balance")?;
    let said = [balance.pending, balance.available].map(|amount| parts(&amount.to_string()));
    assert_eq!(said, [field(&before, "pending"), field(&before, "available")]);
    assert_eq!(sums, said, "the lines are those of the balance");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_reads_one_balance_at_a_time() -> Result<()> {
    let worked = worked(4).await?;
    let (grid, ada) = (&worked.grid, worked.owner_token("ada")?);
    let (holding, client) = (grid.database().await?, grid.database().await?);
    holding.batch_execute("BEGIN; LOCK TABLE account IN ACCESS EXCLUSIVE MODE").await?;
    let first = std::process::Command::new(lull_tests::binary("lull"))
        .arg("balance")
        .envs([("LULL_COORDINATOR", &grid.url), ("LULL_TOKEN", &ada)])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let reads =
        "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%AS pending,%')";
    wait_until(&client, "reading", reads).await?;
    let second = grid.lull_as(&ada, &["balance"])?;
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(1) && said.contains("READING"), "{said}");
    holding.batch_execute("COMMIT").await?;
    let first = first.wait_with_output()?;
    assert!(
        first.status.success() && String::from_utf8_lossy(&first.stdout).contains("owners/ada"),
        "{first:?}"
    );
    assert!(grid.lull_as(&ada, &["balance"])?.status.success(), "its turn is over");
    Ok(())
}

fn sum(balance: &Value, part: &str) -> i128 {
    let lines = balance["lines"].as_array().into_iter().flatten();
    lines.filter(|line| line["part"] == part).map(|line| field(line, "amount")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_says_why_it_is_pending_and_opens_into_units() -> Result<()> {
    let mut worked = worked(10).await?;
    let job = worked.confident_job(30).await?;
    let ada = worked.owner_token("ada")?;
    let client = worked.grid.database().await?;
    wait_until(&client, "at rest", AT_REST).await?;
    let balance = worked.grid.lull_json(&ada, &["balance", "--lines"])?;
    assert_eq!(balance["name"], "owners/ada");
    assert!(field(&balance, "pending") > 0, "{balance}");
    for part in ["pending", "available", "payout", "paid"] {
        assert_eq!(sum(&balance, part), field(&balance, part), "{part}");
    }
    let why = balance["pending_parts"].as_array().context("parts")?;
    assert_eq!(why.iter().map(|part| field(part, "amount")).sum::<i128>(), field(&balance, "pending"));
    assert_eq!((&why[0]["reason"], &why[0]["job"]), (&"held_back".into(), &job.as_str().into()));
    for line in balance["lines"].as_array().context("lines")? {
        for name in ["job", "stage", "digest", "time"] {
            assert!(line[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {line}");
        }
        assert!(line["device"].is_u64() && line["unit"].is_u64(), "{line}");
        assert_eq!((&line["attempt"], &line["verdict"]), (&"result".into(), &"accepted".into()));
        let held = line["part"] == "pending";
        assert_eq!(
            (line["after_results"].is_u64(), line["available_time"].is_string()),
            (held, held),
            "{line}"
        );
    }
    let first = &why[0];
    let said = worked.grid.lull_with(&ada, &["balance"])?;
    assert!(said.contains("which buys confidence: available after"), "{said}");

    // As many more results as it says: the first of it is released.
    let needed = first["first_after_results"].as_u64().context("results")?;
    let released = "SELECT count(*) FROM release JOIN owner ON owner.id = owner_id WHERE name = 'ada'";
    let held =
        "SELECT held_to, released_to FROM standing JOIN owner ON owner.id = owner_id WHERE name = 'ada'";
    let row = client.query_one(held, &[]).await?;
    let (held_to, released_to): (i64, i64) = (row.get(0), row.get(1));
    loop {
        let now: i64 = client.query_one(held, &[]).await?.get(0);
        if now >= held_to + i64::try_from(needed)? {
            break;
        }
        let before: i64 = client.query_one(released, &[]).await?.get(0);
        ensure!(before == 0 || released_to > 0, "released after {now} of {held_to} + {needed}");
        worked.confident_job(20).await?;
    }
    let deadline = Instant::now() + DEADLINE;
    while client.query_one(released, &[]).await?.get::<_, i64>(0) == 0 {
        ensure!(Instant::now() < deadline, "nothing was released");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    wait_until(&client, "at rest", AT_REST).await?;
    let balance = worked.grid.lull_json(&ada, &["balance", "--lines"])?;
    for part in ["pending", "available"] {
        assert_eq!(
            sum(&balance, part),
            field(&balance, part),
            "{part}: a release opens into what it released"
        );
    }
    let earned = worked.grid.lull_json(&ada, &["earnings"])?;
    let of_ada = &earned["owners"][0];
    let together = ["pending", "available", "payout", "paid"].map(|part| field(of_ada, part));
    assert_eq!(together.iter().sum::<i128>(), field(of_ada, "total"));
    worked.grid.check_books()
}

#[test]
fn a_reason_is_no_directive_of_a_journal() -> Result<()> {
    use lull_ledger::statement::{AccountLines, Holder, Line, Statement, journal};
    use lull_ledger::{AccountKind, Amount, Code, Currency};
    let reasons = [
        "AC04 [4711]",
        "a] b [1",
        "[=2026-13-45]",
        "[2026/11/03=2026-02-31]",
        "Typo: x",
        "Value:: 1 +",
        ":a:b:",
        "date: never",
        "date:2026-99-99",
        "date2:x, type: y",
        "; end",
        "a  = 5 EUR",
        "(code) ! * \u{85} \u{2028}\n    x  1 EUR",
        "%tag #b @ 3 {4}",
    ];
    let day = "2026-11-03T10:11:12Z".parse()?;
    let one: Amount = "0.01".parse()?;
    let line = |(at, reason): (usize, &&str)| Line {
        time: day,
        transfer: at as u64,
        currency: Currency::EUR,
        account: AccountKind::Available,
        code: Code::Reversal,
        amount: one,
        job: None,
        unit: None,
        batch: None,
        reason: (*reason).to_owned(),
    };
    let lines: Vec<Line> = reasons.iter().enumerate().map(line).collect();
    let account = |account| AccountLines {
        currency: Currency::EUR,
        account,
        opening: Amount::ZERO,
        closing: if account == AccountKind::Available {
            lines.iter().map(|line| line.amount).sum()
        } else {
            Amount::ZERO
        },
    };
    let holder = Holder::Owner("ada".to_owned());
    let accounts = holder.accounts().iter().map(|kind| account(*kind)).collect();
    let statement =
        Statement { month: "2026-11".parse()?, as_of: day, is_final: true, accounts, holder, lines };
    let journal = journal(&statement);
    accepted_by("hledger", &["check", "-s", "ordereddates", "-f"], &journal).context("hledger")?;
    accepted_by("ledger", &["--pedantic", "balance", "-f"], &journal).context("ledger")?;
    let tags = accepted_by("hledger", &["tags", "-f"], &journal)?;
    assert_eq!(tags.trim(), "", "no tag comes of a reason");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_liar_lost_is_on_its_statement() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "1000").await?;
    let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
    let spec = v1::JobSpec {
        max_error: 1e-2,
        budget: "500".to_owned(),
        item_price: "0.000000700003".to_owned(),
        ..Submitter::trivial_spec(&module, 400)
    };
    let job = clinic.create(spec).await?.name;
    let mut devices = Vec::new();
    for owner in 0..8 {
        devices.push(fleet.device(&format!("owner-{owner}")).await?);
    }
    // The first lies once it has returned thirty units.
    let (mut told, mut calls) = (0, 0);
    while clinic.job(&job).await?.state() == v1::JobState::Running {
        calls += 1;
        ensure!(calls < 400, "the job does not end");
        for (at, device) in devices.iter_mut().enumerate() {
            for lease in device.ask(5, std::time::Duration::ZERO).await? {
                told += if at == 0 { lease.indices.len() } else { 0 };
                let lies = at == 0 && told > 30;
                let text = |index: u64| format!("{lies} {index}").into_bytes();
                device.report(lull_tests::fleet::report(&lease, text)).await?;
            }
        }
    }
    let client = grid.database().await?;
    let [month, _] = months(&client).await?;
    for holder in ["owners/owner-0", "owners/owner-1", "submitters/clinic"] {
        check(&grid, &client, holder, &month).await?;
    }
    let csv = statement(&grid, &grid.operator, "owners/owner-0", &month, "csv")?;
    let lost: Vec<&str> = csv.lines().filter(|line| line.contains(",pending,forfeit,-")).collect();
    assert!(!lost.is_empty(), "{csv}");
    for line in lost {
        let cells: Vec<&str> = line.split(',').collect();
        assert!(!cells[6].is_empty() && !cells[9].is_empty(), "of a job and a device: {line}");
    }
    // The owner's PC and its operator are told the same.
    let earnings = grid.lull_json(&grid.operator, &["earnings", "owner-0"])?;
    let said = &earnings["owners"][0];
    let told = devices[0].earnings().await?;
    assert_eq!(parts(&told.total_amount), field(said, "total"), "{told:?} {said}");
    assert_eq!(told.month_amount, told.total_amount);
    assert_eq!(Some(told.total_units), said["attempts"].as_u64(), "{told:?} {said}");
    let balance = grid.lull_json(&grid.operator, &["balance", "owners/owner-0", "--lines"])?;
    let parts_of = balance["pending_parts"].as_array().context("parts")?;
    assert_eq!(parts_of.iter().map(|part| field(part, "amount")).sum::<i128>(), field(&balance, "pending"));
    grid.check_books()
}
