//! Receipts: signed by a real coordinator, kept by real agents, and compared with the ledger.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lull_tests::money::field;
use lull_tests::{DEADLINE, Grid, JobFile, binary, wait_until};
use serde_json::Value;

/// What `earnings verify` exits with when receipts and ledger differ.
const DIFFERS: i32 = 7;

fn say(state_dir: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("lull-worker"));
    command.args(["earnings", "verify"]).args(arguments).arg("--state-dir").arg(state_dir);
    Ok(command.output()?)
}

/// What the comparison showed, and the exit code.
fn verify(state_dir: &Path) -> Result<(Value, i32)> {
    let output = say(state_dir, &["--output", "json"])?;
    let code = output.status.code().context("an exit code")?;
    ensure!(code == 0 || code == DIFFERS, "{code}: {}", String::from_utf8_lossy(&output.stderr));
    Ok((serde_json::from_slice(&output.stdout)?, code))
}

/// Receipts and ledger agree.
fn agree(state_dir: &Path) -> Result<Value> {
    let (compared, code) = verify(state_dir)?;
    ensure!(code == 0 && compared["differences"] == serde_json::json!([]), "{compared}");
    ensure!(compared["amount"] == compared["ledger_amount"], "{compared}");
    Ok(compared)
}

/// Waits until all receipts of an agent are on its own disk.
fn kept(state_dir: &Path) -> Result<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let compared = agree(state_dir)?;
        if compared["on_their_way"] == 0 && compared["receipts"].as_u64() > Some(0) {
            return Ok(compared);
        }
        ensure!(Instant::now() < deadline, "receipts are still on their way: {compared}");
        std::thread::park_timeout(std::time::Duration::from_millis(200));
    }
}

/// What differs, as `kind`; sorted.
fn differences(state_dir: &Path) -> Result<Vec<(String, String)>> {
    let (compared, code) = verify(state_dir)?;
    ensure!(code == DIFFERS, "{compared}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = compared["differences"].as_array().context("differences")?;
    Ok(list.iter().map(|one| (text(&one["kind"]), text(&one["message"]))).collect())
}

fn kinds(state_dir: &Path) -> Result<Vec<String>> {
    Ok(differences(state_dir)?.into_iter().map(|(kind, _)| kind).collect())
}

/// Submits a job of so many units, each of one item at 0.01.
fn job_file(grid: &Grid, name: &str, units: usize) -> Result<JobFile> {
    JobFile::probe_lines(grid.dir(), name, &vec!["echo a"; units])
}

fn submit(grid: &Grid, token: &str, name: &str, units: usize) -> Result<String> {
    grid.submit(token, &job_file(grid, name, units)?.write(grid.dir(), name)?, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_earned_is_receipted_and_every_difference_is_named() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "100")?;
    let agents = grid.agents(["ada", "bob"])?;
    let job = submit(&grid, &token, "hello", 20)?;
    grid.wait_end(&job, "complete")?;

    for (agent, owner) in agents.iter().zip(["ada", "bob"]) {
        let compared = kept(&agent.state_dir)?;
        let paid = grid.paid(&job)?;
        let (_, amount, units) =
            paid.iter().find(|(name, ..)| name == &format!("owners/{owner}")).context(owner)?;
        assert_eq!((field(&compared["amount"], "EUR"), compared["units"].as_u64()), (*amount, Some(*units)));
    }
    // What is paid in yen is receipted in yen.
    grid.lull(&["admin", "currency", "add", "JPY"])?;
    grid.lull(&["fund", "clinic", "100", "--currency", "JPY"])?;
    let file = job_file(&grid, "yen", 3)?.write(grid.dir(), "yen")?;
    let in_yen = grid.submit(&token, &file, &["--currency", "JPY"])?;
    grid.wait_end(&in_yen, "complete")?;
    for (agent, owner) in agents.iter().zip(["ada", "bob"]) {
        let compared = agree(&agent.state_dir)?;
        for (job, currency) in [(&job, "EUR"), (&in_yen, "JPY")] {
            let paid = grid.paid(job)?;
            let (_, amount, _) =
                paid.iter().find(|(name, ..)| name == &format!("owners/{owner}")).context(owner)?;
            assert_eq!(field(&compared["amount"], currency), *amount, "{compared}");
        }
    }
    let said = String::from_utf8(say(&agents[0].state_dir, &[])?.stdout)?;
    assert!(said.contains(" EUR and ") && said.ends_with("Receipts and ledger agree.\n"), "{said}");
    let head = kept(&agents[0].state_dir)?["head"].as_str().context("a head")?.to_owned();
    assert_eq!(head.len(), 64, "a head to audit with: {head}");
    grid.audit()?;
    grid.check_books()?;

    // The owner's statement says the same, and is not believed either.
    let database = grid.database().await?;
    let month = "SELECT to_char(min(created_at) AT TIME ZONE 'UTC', 'YYYY-MM') FROM transfer WHERE code = 3";
    let month: String = database.query_one(month, &[]).await?.get(0);
    let statement = grid.lull(&["statement", "--owner", "ada", "--month", &month, "--format", "json"])?;
    let mut statement: Value = serde_json::from_str(&statement)?;
    let file = grid.dir().join("statement.json");
    let path = file.to_str().context("a path")?;
    std::fs::write(&file, statement.to_string())?;
    let said = say(&agents[0].state_dir, &["--statement", path])?;
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains(&format!("owners/ada for {month}, too")), "{text}");
    // Drawn up much later, it would have to name everything.
    statement["as_of"] = "2999-01-01T00:00:00Z".into();
    let lines = statement["lines"].as_array_mut().context("lines")?;
    let at = lines.iter().position(|line| line["category"] == "reward").context("a reward")?;
    lines.remove(at);
    std::fs::write(&file, statement.to_string())?;
    let said = say(&agents[0].state_dir, &["--statement", path])?;
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.code() == Some(DIFFERS) && text.contains("has no such line"), "{text}");

    // Whoever can write to the database changes, hides and adds pay.
    let ada = "(SELECT id FROM owner WHERE name = 'ada')";
    let one = format!("ctid = (SELECT ctid FROM transfer WHERE code = 3 AND attempt = {ada} LIMIT 1)");
    let restore = "INSERT INTO transfer OVERRIDING SYSTEM VALUE SELECT * FROM before";
    database
        .batch_execute(&format!("CREATE TEMP TABLE before AS SELECT * FROM transfer WHERE {one}"))
        .await?;
    database.execute(&format!("UPDATE transfer SET amount = amount / 2 WHERE {one}"), &[]).await?;
    let found = differences(&agents[0].state_dir)?;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].0 == "amount" && found[0].1.contains("the receipt says 0.01 EUR, the ledger 0.005 EUR"),
        "{found:?}"
    );
    agree(&agents[1].state_dir)?;
    database.execute("DELETE FROM transfer USING before WHERE transfer.id = before.id", &[]).await?;
    assert_eq!(kinds(&agents[0].state_dir)?, ["not_paid"]);
    database.execute(restore, &[]).await?;
    agree(&agents[0].state_dir)?;
    database.execute("DELETE FROM posting WHERE device_id = 1", &[]).await?;
    assert!(kinds(&agents[0].state_dir)?.iter().all(|kind| kind == "not_paid"));
    let faults = grid.lull_as(&grid.operator, &["books"])?;
    assert!(String::from_utf8_lossy(&faults.stdout).contains("a device's postings"), "{faults:?}");
    let postings = "INSERT INTO posting SELECT DISTINCT attempt.device_id, transfer.xid FROM transfer
        JOIN attempt USING (job_id, stage, idx) WHERE owner_id = attempt.owner_id AND transfer.attempt = owner_id
          AND code = 3 ON CONFLICT DO NOTHING";
    database.execute(postings, &[]).await?;
    agree(&agents[0].state_dir)?;

    // Whoever can write to the PC changes and removes receipts.
    let ada = agents[0].state_dir.clone();
    agents.into_iter().next().context("ada")?.kill()?;
    let folder = ada.join("receipts");
    let log = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "log"))
        .context("a month")?;
    let state = folder.join("state.json");
    let text = std::fs::read_to_string(&state)?;
    // All receipts are here: none is given again.
    let mut counted: Value = serde_json::from_str(&text)?;
    counted["through"] = Value::from(u32::MAX);
    std::fs::write(&state, counted.to_string())?;
    let whole = std::fs::read(&log)?;
    let mut changed = whole.clone();
    changed[60] ^= 1;
    std::fs::write(&log, &changed)?;
    assert!(kinds(&ada)?.iter().all(|kind| kind == "no_receipt" || kind == "damaged"));
    std::fs::remove_file(&log)?;
    assert!(kinds(&ada)?.iter().all(|kind| kind == "no_receipt"));
    std::fs::write(&log, &whole)?;
    // A key that the PC was not told at its enrolment.
    counted["keys"] = serde_json::json!(["00".repeat(32)]);
    std::fs::write(&state, counted.to_string())?;
    assert_eq!(kinds(&ada)?, ["unknown_key"]);
    let key = std::fs::read_to_string(grid.dir().join("state/seal.pub"))?;
    assert!(say(&ada, &["--key", key.trim()])?.status.success());
    std::fs::write(&state, text)?;
    agree(&ada).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_was_lost_on_its_way_arrives_later() -> Result<()> {
    let mut grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "100")?;
    let agents = grid.agents(["ada", "bob"])?;
    let first = submit(&grid, &token, "first", 4)?;
    grid.wait_end(&first, "complete")?;

    // Answers with receipts cannot be made while nobody may read the seals: what pays is committed, its answer is not.
    let mut database = grid.database().await?;
    let watching = grid.database().await?;
    let lock = database.transaction().await?;
    lock.batch_execute("LOCK TABLE seal IN ACCESS EXCLUSIVE MODE").await?;
    let second = submit(&grid, &token, "second", 400)?;
    let number = second.trim_start_matches("jobs/").to_owned();
    let asked = "EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'seal'::regclass
        AND mode = 'AccessShareLock')";
    let paid = format!("EXISTS (SELECT FROM transfer WHERE code = 3 AND job_id = {number}) AND {asked}");
    wait_until(&watching, "paid, with an answer that waits", &paid).await?;
    grid.kill_coordinator()?;
    drop(lock);
    grid.restart_coordinator()?;
    grid.wait_end(&second, "complete")?;
    for agent in &agents {
        kept(&agent.state_dir)?;
    }

    // The same for a PC: killed at any moment, it has or gets all receipts once.
    let third = submit(&grid, &token, "third", 200)?;
    let mut agents = agents.into_iter();
    let (ada, bob) = (agents.next().context("ada")?, agents.next().context("bob")?);
    let mut ada = ada;
    for _ in 0..3 {
        ada = ada.kill_and_restart()?;
        let before = grid.job(&third)?["progress"]["units_accepted"].as_u64().unwrap_or(0);
        grid.wait_job(&third, "further", |job| {
            job["settled"] == true || job["progress"]["units_accepted"].as_u64() > Some(before)
        })?;
    }
    grid.wait_end(&third, "complete")?;
    let all: u64 = [&ada, &bob]
        .iter()
        .map(|agent| Ok(kept(&agent.state_dir)?["units"].as_u64().unwrap_or(0)))
        .sum::<Result<u64>>()?;
    let paid: u64 = [first, second, third]
        .iter()
        .map(|job| Ok(grid.paid(job)?.iter().map(|(_, _, units)| units).sum::<u64>()))
        .sum::<Result<u64>>()?;
    assert_eq!(all, paid);
    grid.check_books()?;
    grid.audit()
}

#[tokio::test(flavor = "multi_thread")]
async fn pay_that_was_taken_back_is_explained() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "100")?;
    let agents = grid.agents(["ada", "bob", "cyd"])?;
    let file = job_file(&grid, "sure", 12)?.set("max_error", "0.1").set("pay.budget", "\"10\"");
    let job = grid.submit(&token, &file.write(grid.dir(), "sure")?, &[])?;
    grid.wait_end(&job, "complete")?;
    let compared = kept(&agents[0].state_dir)?;
    assert_eq!(compared["taken_back"], serde_json::json!([]), "held back, and paid");

    // As a coordinator writes it when it finds a wrong result; the rest it does itself.
    let database = grid.database().await?;
    let caught = "WITH known AS (SELECT owner_id, released_to, held_to, correct FROM standing JOIN owner ON owner.id = owner_id
            WHERE name = 'ada'),
        reset AS (UPDATE standing SET correct = 0, released_to = known.held_to, catches = catches + 1,
            caught_at = clock_timestamp() FROM known WHERE standing.owner_id = known.owner_id),
        caught AS (INSERT INTO catch (owner_id, device_id, job_id, stage, idx, from_seq, to_seq, reason, correct)
            SELECT known.owner_id, device.id, 1, 1, 0, released_to, held_to, 'returned another result', correct
            FROM known JOIN device USING (owner_id) RETURNING id, owner_id)
        INSERT INTO recheck (catch_id, job_id, owner_id) SELECT caught.id, job_owner.job_id, owner_id
        FROM caught JOIN job_owner USING (owner_id)";
    database.execute(caught, &[]).await?;
    wait_until(&database, "forfeited", "EXISTS (SELECT FROM transfer WHERE code = 6)").await?;

    // What rested on it alone is run again: then nothing is paid any more.
    wait_until(&database, "looked through", "NOT EXISTS (SELECT FROM recheck)").await?;
    grid.wait_end(&job, "complete")?;

    let compared = kept(&agents[0].state_dir)?;
    let taken = compared["taken_back"].as_array().context("taken back")?;
    assert!(!taken.is_empty());
    for one in taken {
        assert_eq!(one["reason"], "forfeited: its owner returned another result", "{one}");
    }
    let said = String::from_utf8(say(&agents[0].state_dir, &[])?.stdout)?;
    assert!(said.contains("Taken back since: 0.01 EUR for jobs/1 work unit "), "{said}");
    assert_eq!(kept(&agents[1].state_dir)?["taken_back"], serde_json::json!([]));
    grid.check_books()?;
    grid.audit()
}
