//! Two currencies in one grid: what is earned in one is never paid in the other, remainders are their owner's, and a database
//! from before there were currencies goes on as it was.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lull_coordinator::core::OwnerId;
use lull_coordinator::seal::{GENESIS, Part, Record, Rows, SealKey};
use lull_coordinator::store::{OperatorId, Store, migrate};
use lull_job::Digest;
use lull_ledger::{Amount, Currency};
use lull_proto::v1;
use lull_tests::fleet::{Submitter, work_off};
use lull_tests::money::{accepted_by, field, parts};
use lull_tests::{Device, Fleet, Grid, binary, guest};
use serde_json::Value;
use tokio_postgres::Client;
use tokio_stream::StreamExt as _;

const IBANS: [&str; 2] = ["DE89370400440532013000", "NO9386011117947"];
const PRICE: &str = "33.333333333333";

/// A grid with three owners, two operators, and a submitter with euros.
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
        let grid = Grid::start_with(60, &["--fee-percent", "2.5"])?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut clinic = fleet.submitter("clinic", "1000").await?;
        let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
        let mut devices = Vec::new();
        for owner in ["ada", "grace", "mary"] {
            devices.push(fleet.device(owner).await?);
        }
        let operator =
            |name| Ok::<_, anyhow::Error>(grid.lull(&["admin", "operator", "add", name])?.trim().to_owned());
        let (alice, bob) = (operator("alice")?, operator("bob")?);
        Ok(Self { grid, alice, bob, clinic, module, devices })
    }

    fn spec(&self, currency: &str, price: &str) -> v1::JobSpec {
        v1::JobSpec {
            copies: 3,
            item_price: price.to_owned(),
            currency: currency.to_owned(),
            ..Submitter::trivial_spec(&self.module, 10)
        }
    }

    /// Everybody is paid for ten units.
    async fn earn(&mut self, currency: &str, price: &str) -> Result<v1::Job> {
        let job = self.clinic.create(self.spec(currency, price)).await?.name;
        work_off(&mut self.clinic, &job, &mut self.devices).await?;
        Ok(self.clinic.job(&job).await?)
    }

    fn refused(&self, token: &str, arguments: &[&str], words: &[&str]) -> Result<()> {
        let output = self.grid.lull_as(token, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{arguments:?} is done");
        ensure!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
        Ok(())
    }

    /// What an owner has in a currency.
    fn balance(&self, owner: &str, currency: &str) -> Result<Value> {
        let name = format!("owners/{owner}");
        self.grid.lull_json(&self.grid.operator, &["balance", &name, "--currency", currency])
    }

    fn payout(&self, token: &str, arguments: &[&str]) -> Result<Value> {
        self.grid.lull_json(token, &[&["admin", "payout"], arguments].concat())
    }

    /// Pays a batch out in a currency; returns it as it was proposed, and its message to the bank.
    fn pay(&self, currency: &str) -> Result<(Value, String)> {
        let batch = self.payout(&self.alice, &["propose", "--currency", currency])?;
        let name = batch["name"].as_str().context("a name")?;
        self.payout(&self.bob, &["approve", name])?;
        let message = self.grid.lull_with(&self.alice, &["admin", "payout", "export", name])?;
        self.payout(&self.alice, &["mark-paid", name])?;
        Ok((batch, message))
    }
}

fn said(error: &tonic::Status, words: &[&str]) -> Result<()> {
    ensure!(words.iter().all(|word| error.message().contains(word)), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_earned_in_one_currency_is_paid_in_it() -> Result<()> {
    let mut office = Office::open().await?;
    let (root, alice) = (office.grid.operator.clone(), office.alice.clone());
    let unknown = office.clinic.create(office.spec("JPY", PRICE)).await.expect_err("no yen");
    said(&unknown, &["no currency JPY", "it has EUR"])?;
    office.refused(&root, &["fund", "clinic", "1", "--currency", "JPY"], &["no currency JPY"])?;
    office.refused(&root, &["admin", "currency", "add", "EUX"], &["not in ISO 4217"])?;
    office.grid.lull(&["admin", "currency", "add", "JPY"])?;
    let list = office.grid.lull_json(&root, &["admin", "currency", "list"])?;
    assert_eq!(list[1], serde_json::json!({"code": "JPY", "decimals": 0, "default": false}));
    let poor = office.clinic.create(office.spec("JPY", PRICE)).await.expect_err("no yen yet");
    said(&poor, &["0 JPY does not cover", "1000 EUR", "nothing is converted"])?;
    office.refused(
        &root,
        &["fund", "clinic", "0.5", "--currency", "JPY"],
        &["more decimal places than JPY"],
    )?;
    let funded = ["fund", "clinic", "100000", "--currency", "JPY", "--request-id", REQUEST];
    office.grid.lull(&funded)?;
    office.grid.lull(&funded)?;
    office.refused(&root, &["fund", "clinic", "100000", "--request-id", REQUEST], &["REQUEST_ID_REUSED"])?;

    let euros = office.earn("", "0.1").await?;
    let yen = office.earn("JPY", PRICE).await?;
    let spec = |job: &v1::Job| job.spec.as_ref().map(|spec| spec.currency.clone());
    assert_eq!((spec(&euros).as_deref(), spec(&yen).as_deref()), (Some("EUR"), Some("JPY")));
    // By hand: 2.5 % of 33.333333333333 is 0.833333333333, and what is beyond the twelfth place is the owner's.
    let in_yen = 10 * parts("32.5");
    let both = office.grid.lull_json(&root, &["balance", "owners/ada"])?;
    assert_eq!((&both["currency"], field(&both, "available")), (&"EUR".into(), 10 * parts("0.0975")));
    let others = both["others"].as_array().context("others")?;
    assert_eq!((others.len(), field(&others[0], "available")), (1, in_yen), "{both}");
    let earned = office.devices[0].earnings().await?;
    let earned: Vec<(&str, u64)> =
        earned.by_currency.iter().map(|one| (one.currency.as_str(), one.total_units)).collect();
    assert_eq!(earned, [("EUR", 10), ("JPY", 10)]);
    let fees = office.grid.lull_json(&root, &["books"])?;
    let fees = fees["totals"].as_array().context("totals")?.iter().filter(|one| one["kind"] == "fees");
    let fees: Vec<i128> = fees.map(|one| field(one, "balance")).collect();
    assert_eq!(fees, [30 * parts("0.0025"), 30 * parts("0.833333333333")]);

    // Who pays and who is paid is said for each currency.
    let propose = ["admin", "payout", "propose", "--currency", "JPY"];
    office.refused(&alice, &propose, &["NO_PAYER", "--currency JPY"])?;
    let payer = ["admin", "payer", "set", "--name", "The Grid", "--iban", IBANS[0]];
    office.grid.lull_with(&alice, &[&payer[..], &["--currency", "JPY"]].concat())?;
    office.grid.lull_with(&alice, &payer)?;
    let payee = ["admin", "payee", "set", "ada", "--name", "Dr ada", "--iban", IBANS[1]];
    office.grid.lull_with(&alice, &payee)?;
    office.refused(&alice, &propose, &["NOTHING_TO_PAY", "payee that takes JPY"])?;
    office.grid.lull_with(&alice, &[&payee[..], &["--currency", "JPY"]].concat())?;
    office.refused(&alice, &[&propose[..], &["--minimum", "0.5"]].concat(), &["at least 1 JPY"])?;
    Ok(())
}

const REQUEST: &str = "0b8e6ae2-93a4-4ea4-8a31-7b0a4ef1d2c3";

#[tokio::test(flavor = "multi_thread")]
async fn a_remainder_is_its_owners_and_the_next_payout_takes_it_up() -> Result<()> {
    let mut office = Office::open().await?;
    let alice = office.alice.clone();
    office.grid.lull(&["admin", "currency", "add", "JPY"])?;
    office.grid.lull(&["fund", "clinic", "100000", "--currency", "JPY"])?;
    for currency in ["EUR", "JPY"] {
        let payer = ["admin", "payer", "set", "--name", "The Grid", "--iban", IBANS[0]];
        office.grid.lull_with(&alice, &[&payer[..], &["--currency", currency]].concat())?;
        let payee = ["admin", "payee", "set", "ada", "--name", "Dr ada", "--iban", IBANS[1]];
        office.grid.lull_with(&alice, &[&payee[..], &["--currency", currency]].concat())?;
    }
    office.earn("EUR", "0.1").await?;
    // Each unit brings 1.194444444445 yen: ten of them 11.94444444445.
    office.earn("JPY", "1.225070942970").await?;
    let each = parts("1.22507094297") - parts("0.030626773574");
    let (first, message) = office.pay("JPY")?;
    let paid = &first["payouts"][0];
    let whole = 10 * each / parts("1") * parts("1");
    let rest = 10 * each - whole;
    assert_eq!((field(paid, "amount"), field(paid, "remainder")), (whole, rest));
    assert_eq!(first["currency"], "JPY");
    assert_eq!(first["owners_without_payee"], serde_json::json!(["owners/grace", "owners/mary"]));
    assert!(
        message.contains("<InstdAmt Ccy=\"JPY\">11</InstdAmt>") && !message.contains("SEPA"),
        "{message}"
    );
    let left = office.balance("ada", "JPY")?;
    let fields = ["available", "paid", "remainder"].map(|part| field(&left, part));
    assert_eq!(fields, [0, whole, rest]);
    let (euros, message) = office.pay("EUR")?;
    assert_eq!(field(&euros["payouts"][0], "amount"), parts("0.97"));
    assert!(message.contains("Ccy=\"EUR\">0.97<") && message.contains("SEPA"), "{message}");
    let books = office.grid.lull_json(&office.grid.operator, &["books"])?;
    let kept = books["totals"].as_array().context("totals")?.iter().filter(|one| one["kind"] == "remainders");
    let kept: Vec<i128> = kept.map(|one| field(one, "balance")).collect();
    assert_eq!(kept, [parts("0.005"), rest], "ada's, in euros and in yen");

    office.earn("JPY", "1.225070942970").await?;
    let (second, _) = office.pay("JPY")?;
    let paid = &second["payouts"][0];
    let all = rest + 10 * each;
    assert_eq!(field(paid, "carried_in"), rest);
    assert_eq!(field(paid, "amount"), all / parts("1") * parts("1"));
    assert_eq!(field(paid, "remainder"), all % parts("1"));

    let client = office.grid.database().await?;
    let month: String =
        client.query_one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')", &[]).await?.get(0);
    let stated = |format: &str, more: &[&str]| {
        let statement = ["statement", "--owner", "ada", "--month", &month, "--format", format];
        office.grid.lull(&[&statement[..], more].concat())
    };
    let journal = stated("journal", &[])?;
    accepted_by("hledger", &["check", "-s", "ordereddates", "-f"], &journal)?;
    accepted_by("ledger", &["--pedantic", "balance", "-f"], &journal)?;
    let kept = accepted_by(
        "hledger",
        &["balance", "-N", "--flat", "-O", "csv", "^assets:remainders$", "-f"],
        &journal,
    )?;
    let shown = |amount: i128| {
        let text = format!("{:013}", amount);
        format!("{}.{} JPY", &text[..1], &text[1..])
    };
    assert!(kept.contains(&shown(all % parts("1"))) && kept.contains("0.005000000000 EUR"), "{kept}");
    let yen = stated("csv", &["--currency", "JPY"])?;
    assert!(yen.contains("JPY\r\n") && !yen.contains("EUR"), "{yen}");
    let json: Value = serde_json::from_str(&stated("json", &[])?)?;
    assert_eq!(json["currencies"], serde_json::json!(["EUR", "JPY"]));

    office.grid.check_books()?;
    office.grid.audit()?;
    only_one_currency_moves(&client).await?;
    // A remainder that is not what its payout left is found.
    let newest = "batch_id = (SELECT max(batch_id) FROM payout)";
    client.execute(&format!("UPDATE payout SET remainder = remainder / 2 WHERE {newest}"), &[]).await?;
    let told = office.grid.audit().expect_err("half a remainder").to_string();
    // By the seal, if it was sealed already.
    assert!(told.contains("remainders") || told.contains("payout (batch_id 3, owner_id 1)"), "{told}");
    assert!(office.grid.check_books().is_err());
    Ok(())
}

/// The database itself lets nothing between two currencies, and no currency change.
async fn only_one_currency_moves(client: &Client) -> Result<()> {
    let mixed = "SELECT count(*) FROM transfer WHERE debit >> 48 <> credit >> 48";
    ensure!(client.query_one(mixed, &[]).await?.get::<_, i64>(0) == 0);
    let sums =
        "SELECT count(*) FROM (SELECT currency FROM account GROUP BY 1 HAVING sum(balance) <> 0) AS off";
    ensure!(client.query_one(sums, &[]).await?.get::<_, i64>(0) == 0);
    for (change, constraint) in [
        (
            "INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
                VALUES (0, (1::bigint << 48) + 9, 1, 1, 0, 0, 0, 99)",
            "transfer_currency",
        ),
        ("INSERT INTO account (id) VALUES ((77::bigint << 48) + 9)", "account_currency_fkey"),
        ("UPDATE payout SET amount = amount + 0.5 WHERE currency = 1", "payout_amount_check"),
        ("UPDATE payout SET currency = 0 WHERE currency = 1", "payout_batch_id_currency_decimals_fkey"),
        ("UPDATE payout_batch SET decimals = 2 WHERE currency = 1", "payout_batch_id_currency_decimals_fkey"),
        ("UPDATE account SET balance = -1 WHERE id = (1::bigint << 48) + 24", "account_check"),
    ] {
        let error = client.execute(change, &[]).await.expect_err(change);
        let named = error.as_db_error().and_then(|error| error.constraint());
        ensure!(named == Some(constraint), "{change}: {named:?} {error:?}");
    }
    client.batch_execute("SET ROLE lull_app").await?;
    for change in
        ["UPDATE currency SET code = 'USD'", "DELETE FROM currency", "UPDATE transfer SET debit = 1"]
    {
        ensure!(client.execute(change, &[]).await.is_err(), "{change}");
    }
    Ok(client.batch_execute("RESET ROLE").await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_or_a_currency_that_was_changed_is_found() -> Result<()> {
    let mut office = Office::open().await?;
    office.grid.lull(&["admin", "currency", "add", "JPY"])?;
    office.grid.lull(&["fund", "clinic", "100000", "--currency", "JPY"])?;
    office.earn("JPY", PRICE).await?;
    let client = office.grid.database().await?;
    let sealed = "NOT EXISTS (SELECT FROM transfer WHERE xid >= (SELECT max(to_xid) FROM seal))";
    lull_tests::wait_until(&client, "sealed", sealed).await?;
    office.grid.audit()?;
    client.batch_execute("ALTER TABLE transfer DROP CONSTRAINT transfer_currency").await?;
    let reward = "ctid = (SELECT ctid FROM transfer WHERE code = 3 ORDER BY id LIMIT 1)";
    let one = "(1::bigint << 48)";
    for (change, back, found) in [
        // As if it had been paid in euros, and as if yen had become euros on the way.
        (
            format!("UPDATE transfer SET debit = debit - {one}, credit = credit - {one} WHERE {reward}"),
            format!(
                "UPDATE transfer SET debit = debit + {one}, credit = credit + {one} WHERE debit < {one} AND code = 3"
            ),
            "transfer (code 3",
        ),
        (
            format!("UPDATE transfer SET credit = credit - {one} WHERE {reward}"),
            format!("UPDATE transfer SET credit = credit + {one} WHERE credit < {one} AND code = 3"),
            "transfer (code 3",
        ),
        (
            "UPDATE currency SET code = 'USD' WHERE code = 'JPY'".to_owned(),
            "UPDATE currency SET code = 'JPY' WHERE code = 'USD'".to_owned(),
            "currency (number 1)",
        ),
        (
            "UPDATE currency SET decimals = 3 WHERE code = 'JPY'".to_owned(),
            "UPDATE currency SET decimals = 0 WHERE code = 'JPY'".to_owned(),
            "currency (number 1)",
        ),
    ] {
        ensure!(client.execute(&change, &[]).await? == 1, "{change}");
        let told = office.grid.audit().expect_err(&change).to_string();
        assert!(told.contains(found), "{change}: {told}");
        ensure!(client.execute(&back, &[]).await? == 1, "{back}");
    }
    office.grid.audit()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_is_said_once() -> Result<()> {
    let mut grid = Grid::start_with(60, &["--currency", "CREDIT=3"])?;
    grid.submitter("clinic", "5")?;
    let balance = grid.lull_json(&grid.operator, &["balance", "clinic"])?;
    assert_eq!((&balance["currency"], field(&balance, "available")), (&"CREDIT".into(), parts("5")));
    grid.kill_coordinator()?;
    grid.set_options(&["--currency", "EUR"]);
    let refusal = grid.restart_coordinator().expect_err("euros").to_string();
    assert!(refusal.contains("the default currency of this grid is CREDIT with 3 decimals"), "{refusal}");
    grid.set_options(&[]);
    grid.restart_coordinator()?;
    grid.check_books()?;
    grid.audit()
}

/// The migrations before there were currencies.
const BEFORE: [(i32, &str, &str); 13] = [
    (1, "first", include_str!("../../coordinator/migrations/0001_first.sql")),
    (2, "earnings", include_str!("../../coordinator/migrations/0002_earnings.sql")),
    (3, "checkpoints", include_str!("../../coordinator/migrations/0003_checkpoints.sql")),
    (4, "accounts", include_str!("../../coordinator/migrations/0004_accounts.sql")),
    (5, "trust", include_str!("../../coordinator/migrations/0005_trust.sql")),
    (6, "seal", include_str!("../../coordinator/migrations/0006_seal.sql")),
    (7, "payouts", include_str!("../../coordinator/migrations/0007_payouts.sql")),
    (8, "dropped", include_str!("../../coordinator/migrations/0008_dropped.sql")),
    (9, "referees", include_str!("../../coordinator/migrations/0009_referees.sql")),
    (10, "receipts", include_str!("../../coordinator/migrations/0010_receipts.sql")),
    (11, "fees", include_str!("../../coordinator/migrations/0011_fees.sql")),
    (12, "rounds", include_str!("../../coordinator/migrations/0012_rounds.sql")),
    (13, "edges", include_str!("../../coordinator/migrations/0013_edges.sql")),
];

/// What such a database has: a job that is paid, one of which pay was held back and released, and a payout that left less than
/// a cent on the owner's account.
const FILL: &str = "
    INSERT INTO grid (grid_id) VALUES ('old');
    INSERT INTO submitter (name) VALUES ('lab');
    INSERT INTO owner (name) VALUES ('ada');
    INSERT INTO operator (name) VALUES ('alice'), ('bob');
    INSERT INTO account (id) VALUES (9), (11), (12), (13), (14), (10), (18);
    INSERT INTO device (owner_id, public_key, display_name) VALUES (1, sha256('pc'), 'pc');
    INSERT INTO deposit (submitter_id, request_id, amount) VALUES (1, 'first', 100);
    INSERT INTO job (submitter_id, request_id, spec, order_key, priority, item_price, service_price, budget, state, items,
            stage, stage_units, stage_accepted, frontier, spent, refunded, settled)
        SELECT 1, n::text, '', sha256('key'), 0, 1.2345, 1.2345, 10, 2, 2, 1, 2, 2, 2, 2 * 1.2345, 10 - 2 * 1.2345, true
        FROM generate_series(1, 2) AS n;
    INSERT INTO attempt (job_id, stage, idx, owner_id, device_id, lease_token, outcome, digest, size_bytes, cpu_micros)
        SELECT job, 1, idx, 1, 1, 1, 1, sha256('a'), 1, 1 FROM generate_series(1, 2) AS job, generate_series(0, 1) AS idx;
    INSERT INTO verdict (job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts)
        SELECT job_id, stage, idx, 1, digest, 1, 1, 1 FROM attempt;
    INSERT INTO standing (owner_id, held_to, released_to) VALUES (1, 2, 2);
    INSERT INTO held (owner_id, seq, job_id, stage, idx, amount, until_seq, checked)
        SELECT 1, idx + 1, 2, 1, idx, 1.2345, 0, false FROM generate_series(0, 1) AS idx;
    INSERT INTO release (owner_id, from_seq, to_seq, amount) VALUES (1, 0, 2, 2.469);
    INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
        VALUES (0, 9, 100, 1, 0, 0, 0, 1), (9, 10, 10, 2, 1, 0, 0, 0), (9, 18, 10, 2, 2, 0, 0, 0),
            (10, 11, 1.2345, 3, 1, 1, 0, 1), (10, 11, 1.2345, 3, 1, 1, 1, 1),
            (18, 12, 1.2345, 3, 2, 1, 0, 1), (18, 12, 1.2345, 3, 2, 1, 1, 1),
            (10, 9, 10 - 2.469, 4, 1, 0, 0, 0), (18, 9, 10 - 2.469, 4, 2, 0, 0, 0),
            (12, 11, 2.469, 5, 0, 0, 0, 1), (11, 13, 4.93, 7, 0, 0, 1, 1), (13, 14, 4.93, 8, 0, 0, 1, 1);
    INSERT INTO posting (device_id) VALUES (1);
    INSERT INTO device_earning SELECT 1, date_trunc('month', now() AT TIME ZONE 'UTC')::date, 4 * 1.2345, 4;
    INSERT INTO payer (name, iban, bic, operator_id) VALUES ('The Grid', 'DE89370400440532013000', '', 1);
    INSERT INTO payee (owner_id, name, iban, operator_id) VALUES (1, 'Dr ada', 'NO9386011117947', 1);
    INSERT INTO payout_batch (request_id, state, minimum, payer_name, payer_iban, payer_bic, proposed_by, approved_by, approved_at,
            exported_by, exported_at)
        SELECT 'first', 3, 0.01, 'The Grid', 'DE89370400440532013000', '', 1, 2, now(), 2, now();
    INSERT INTO payout (batch_id, owner_id, state, amount, payee_name, payee_iban, carried_in, carried_out)
        VALUES (1, 1, 2, 4.93, 'Dr ada', 'NO9386011117947', 0, 0.008);
    INSERT INTO payout_line (transfer_id, batch_id, owner_id) SELECT id, 1, 1 FROM transfer WHERE credit = 11;
    UPDATE account SET balance = moved FROM (
        SELECT id, sum(change) AS moved FROM (
            SELECT credit AS id, amount AS change FROM transfer UNION ALL SELECT debit, -amount FROM transfer) AS posting
        GROUP BY id) AS posted WHERE account.id = posted.id;";

/// What was sealed then: number, table, columns, order.
const KINDS: [(i16, &str, &str, &str); 7] = [
    (
        1,
        "job",
        "id, submitter_id, request_id, spec, order_key, priority, item_price, service_price, budget, max_error, \
         max_answer_error, created_at",
        "id",
    ),
    (2, "deposit", "id, submitter_id, request_id, amount, created_at", "id"),
    (
        3,
        "transfer",
        "id, debit, credit, amount, code, job_id, stage, idx, attempt, created_at",
        "code, job_id, stage, idx, attempt",
    ),
    (
        4,
        "verdict",
        "job_id, stage, idx, version, outcome, digest, size_bytes, agreeing, attempts, created_at",
        "job_id, stage, idx, version",
    ),
    (5, "held", "owner_id, seq, job_id, stage, idx, amount, until_seq, checked, created_at", "owner_id, seq"),
    (6, "release", "id, owner_id, from_seq, to_seq, amount, created_at", "id"),
    (
        7,
        "catch",
        "id, owner_id, device_id, job_id, stage, idx, from_seq, to_seq, reason, correct, created_at",
        "id",
    ),
];

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Seals all that is there, as it was done before there were currencies; returns the head.
async fn seal(client: &Client, key: &SealKey) -> Result<[u8; 32]> {
    let mut parts: Vec<Part> = Vec::new();
    for (kind, table, columns, order) in KINDS {
        let copy = format!(
            "COPY (SELECT xid, {columns} FROM {table} ORDER BY xid, {order}) TO STDOUT (FORMAT binary)"
        );
        let mut rows = Rows::new(kind);
        let mut pieces = Box::pin(client.copy_out(&copy).await?);
        while let Some(piece) = pieces.next().await {
            rows.push(&piece?);
        }
        parts.extend(rows.finish().map_err(anyhow::Error::msg)?);
    }
    let end: String = client.query_one("SELECT pg_current_xact_id()::text", &[]).await?.get(0);
    let (xids, public_key, created_at) = (0..end.parse()?, key.public_key(), 800_000_000_000_000);
    let record =
        Record { grid_id: "old", number: 1, previous: GENESIS, xids, created_at, public_key, parts: &parts };
    let head = record.head();
    let signature = key.sign(&head);
    let insert = "INSERT INTO seal (number, from_xid, to_xid, created_at, head, public_key, signature)
        SELECT 1, '0', $1::text::xid8, '2000-01-01 00:00Z'::timestamptz + 800000000 * interval '1 second', $2, $3, $4";
    client.execute(insert, &[&end, &head.as_slice(), &public_key.as_slice(), &signature.as_slice()]).await?;
    for part in parts {
        let insert =
            "INSERT INTO seal_part (seal_number, kind, rows, digest, marks) VALUES (1, $1, $2, $3, $4)";
        let rows = i64::try_from(part.rows)?;
        client.execute(insert, &[&part.kind, &rows, &part.digest.as_slice(), &part.marks]).await?;
    }
    Ok(head)
}

fn audit(url: &str, head: &[u8; 32]) -> Result<Value> {
    let head = hex::encode(head);
    let arguments = ["--database", url, "--output", "json", "--head", &head];
    let output = Command::new(binary("lull-audit")).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(&text)?)
}

async fn balances(client: &Client) -> Result<Vec<(i64, String)>> {
    let rows = client.query("SELECT id, balance::text FROM account WHERE id <> 24 ORDER BY id", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_there_were_currencies_goes_on() -> Result<()> {
    let grid = Grid::start(60)?;
    grid.database().await?.batch_execute("CREATE DATABASE old").await?;
    let url = format!("{}old", grid.database_url().trim_end_matches("lull"));
    let client = connect(&url).await?;
    client
        .batch_execute(
            "CREATE TABLE migration (number integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    for (number, name, sql) in BEFORE {
        client.batch_execute(sql).await?;
        let digest = Digest::of(sql.as_bytes()).to_string();
        let insert = "INSERT INTO migration (number, name, digest) VALUES ($1, $2, $3)";
        client.execute(insert, &[&number, &name, &digest]).await?;
    }
    client.batch_execute(FILL).await?;
    let folder = tempfile::tempdir()?;
    let key = SealKey::open(folder.path())?;
    let head = seal(&client, &key).await?;
    let before = balances(&client).await?;

    let yen = migrate(&url, Some(Currency::new("JPY", None)?)).await.expect_err("it is in euros").to_string();
    assert!(yen.contains("the default currency of this grid is EUR"), "{yen}");
    migrate(&url, None).await?;
    migrate(&url, Some(Currency::EUR)).await?;

    assert_eq!(balances(&client).await?, before, "every balance is kept");
    let report = audit(&url, &head)?;
    assert_eq!((&report["seals"], &report["deposited"]["EUR"]), (&1.into(), &"100".into()), "{report}");
    let store = Store::open(&url)?;
    let books = store.check_books().await?;
    assert_eq!(books.faults, Vec::<String>::new());
    let balance = store.owner_balances(OwnerId(1), None).await?.into_iter().next().context("a balance")?;
    assert_eq!((balance.available, balance.remainder), ("0.008".parse()?, Amount::ZERO), "where it was");

    // It goes on: another currency, and a payout that takes what the last one left on the owner's account.
    let yen = store.add_currency(Currency::new("JPY", None)?).await?;
    store.deposit(lull_coordinator::core::SubmitterId(1), yen.id, "7".parse()?, "in yen").await?;
    client
        .batch_execute(
            "BEGIN;
             INSERT INTO reversal (code, job_id, stage, idx, attempt, reason, operator_id)
                 VALUES (7, 0, 0, 1, 1, 'closed', 1), (8, 0, 0, 1, 1, 'closed', 1);
             UPDATE payout SET state = 3;
             INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
                 VALUES (13, 11, 4.93, 9, 0, 0, 0, 1), (14, 13, 4.93, 9, 0, 0, 0, 2);
             UPDATE account SET balance = balance + 4.93 WHERE id = 11;
             UPDATE account SET balance = balance - 4.93 WHERE id = 14;
             COMMIT",
        )
        .await?;
    let euro = store.currency("").await?;
    store.propose_payouts("second", euro, "0.01".parse()?, OperatorId(1)).await?;
    let batch = store.payout_batch(2).await?;
    let paid = batch.payouts.first().context("a payout")?;
    assert_eq!(
        (paid.amount, paid.carried_in, paid.remainder),
        ("4.93".parse()?, "0.008".parse()?, "0.008".parse()?)
    );
    assert_eq!(store.check_books().await?.faults, Vec::<String>::new());
    store.seal(&key, "old", "test").await?.context("a seal")?;
    let report = audit(&url, &head)?;
    assert_eq!((&report["seals"], &report["unsealed_rows"]), (&2.into(), &0.into()), "{report}");
    assert_eq!(report["deposited"]["JPY"], "7", "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_bank_pays_is_not_exported_to_one() -> Result<()> {
    let mut office = Office::open().await?;
    let alice = office.alice.clone();
    office.grid.lull(&["admin", "currency", "add", "CREDIT", "--decimals", "1"])?;
    office.grid.lull(&["fund", "clinic", "100000", "--currency", "CREDIT"])?;
    let account = ["--name", "The Grid", "--iban", "DE89370400440532013000", "--currency", "CREDIT"];
    office.grid.lull_with(&alice, &[&["admin", "payer", "set"], &account[..]].concat())?;
    office.grid.lull_with(&alice, &[&["admin", "payee", "set", "ada"], &account[..]].concat())?;
    office.earn("CREDIT", PRICE).await?;
    let batch = office.payout(&alice, &["propose", "--currency", "CREDIT"])?;
    let name = batch["name"].as_str().context("a name")?;
    office.payout(&office.bob, &["approve", name])?;

    let export = ["admin", "payout", "export", name];
    office.refused(&alice, &export, &["CREDIT is no currency that a bank knows", "as csv"])?;
    let shown = office.payout(&alice, &["show", name])?;
    assert_eq!(shown["state"], "approved", "it can still be rejected");
    let table = office.grid.lull_with(&alice, &[&export[..], &["--format", "csv"]].concat())?;
    assert!(table.contains(",CREDIT,"), "{table}");
    assert_eq!(office.payout(&alice, &["show", name])?["state"], "exported");
    office.grid.check_books()?;
    office.grid.audit()
}
