//! Bad input: each gets one clear error that names the thing and the remedy, and loses nothing.

use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, Result};
use lull_tests::money::field;
use lull_tests::{Grid, JobFile, guest, study};
use serde_json::Value;

/// Exit codes as `lull --help` lists them.
const USAGE: i32 = 2;
const FAILURE: i32 = 1;
const NOT_ALLOWED: i32 = 4;
const NOT_FOUND: i32 = 5;
const NO_ANSWER: i32 = 6;

struct Desk {
    grid: Grid,
    token: String,
}

impl Desk {
    fn open() -> Result<Self> {
        let grid = Grid::start(60)?;
        let token = grid.submitter("clinic", "5")?;
        Ok(Self { grid, token })
    }

    fn balance(&self) -> Result<Value> {
        let output = self.grid.lull_as(&self.token, &["balance", "--output", "json"])?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A job file that would be accepted.
    fn good(&self) -> JobFile {
        JobFile::of("probe").set("split.range", "{ start = 0, end = 10 }")
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.grid.dir().join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// A command is refused with this exit code, says this, and changes nobody's money.
    fn check(&self, token: &str, arguments: &[&str], exit: i32, says: &str) -> Result<()> {
        let before = self.balance()?;
        let output = self.grid.lull_as(token, arguments)?;
        refused(&output, arguments, exit, says);
        assert_eq!(self.balance()?, before, "{arguments:?}");
        Ok(())
    }

    fn check_submit(&self, file: &JobFile, options: &[&str], exit: i32, says: &str) -> Result<()> {
        let path = file.write(self.grid.dir(), "refused")?;
        let mut arguments = vec!["submit", path.to_str().context("a path in UTF-8")?];
        arguments.extend(options);
        self.check(&self.token, &arguments, exit, says)
    }
}

fn refused(output: &Output, what: &[&str], exit: i32, says: &str) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{what:?}: {complaint}");
    assert!(complaint.contains(says), "{what:?} said: {complaint}\nnot: {says}");
    assert!(output.stdout.is_empty(), "{what:?} printed data");
}

#[test]
fn job_files() -> Result<()> {
    let desk = Desk::open()?;
    let check = |file: JobFile, says: &str| desk.check_submit(&file, &[], USAGE, says);
    let good = || desk.good();

    check(good().set("colour", "\"red\""), "unknown field `colour`")?;
    check(good().set("limits.memory", 1), "unknown field `memory`")?;
    check(good().path("module", &desk.grid.dir().join("absent.wasm")), "absent.wasm")?;
    check(good().path("inputs.table", &desk.grid.dir().join("absent.csv")), "input `table`")?;
    check(good().set("split.range", "{ start = 4, end = 4 }"), "4..4 is empty: the end must be greater")?;
    check(good().set("split.grid", "[{ name = \"x\", values = [] }]"), "split")?;
    check(good().set("copies", 9), "copies: 9 is out of range: 1 to 8")?;
    check(good().set("merge_fan_in", 1), "merge_fan_in: 1 is out of range")?;
    let absent = desk.grid.dir().join("absent.toml");
    desk.check(&desk.token, &["submit", absent.to_str().context("UTF-8")?], USAGE, "absent.toml")?;
    desk.grid.check_books()
}

#[test]
fn money() -> Result<()> {
    let desk = Desk::open()?;
    let check = |file: JobFile, exit: i32, says: &str| desk.check_submit(&file, &[], exit, says);
    let price = |price: &str| desk.good().set("pay.item_price", format!("\"{price}\""));

    check(desk.good().set("pay.budget", "\"0\""), USAGE, "budget")?;
    check(desk.good().set("pay.budget", "\"0.01\""), USAGE, "budget")?;
    check(price("0"), USAGE, "item_price: 0 is not a price")?;
    check(price("-1"), USAGE, "item_price")?;
    check(price("1e3"), USAGE, "item_price")?;
    check(price("0.0000000000001"), USAGE, "item_price")?;
    check(price("1"), FAILURE, "INSUFFICIENT_FUNDS")?;
    assert_eq!(field(&desk.balance()?, "escrow"), 0);
    desk.grid.check_books()
}

#[test]
fn modules() -> Result<()> {
    let desk = Desk::open()?;
    let check = |name: &str, content: &[u8], says: &str| {
        let module = desk.file(name, content)?;
        desk.check_submit(&desk.good().path("module", &module), &[], USAGE, says)
    };
    let header = *b"\0asm\x01\0\0\0";
    // Type section: one function of nothing; import section: `env.clock` of that type.
    let import = [&header[..], b"\x01\x04\x01\x60\0\0", b"\x02\x0d\x01\x03env\x05clock\0\0"].concat();
    let largest = usize::try_from(lull_job::limits::MODULE_BYTES_MAX)?;

    check(
        "text.wasm",
        b"fn main() {}",
        "not a WebAssembly module that Lull can run (it does not begin like one):",
    )?;
    check("empty.wasm", b"", "not a WebAssembly module")?;
    check("cut.wasm", &std::fs::read(guest("hello"))?[..20_000], "not a WebAssembly module")?;
    check("import.wasm", &import, "the module imports `env.clock`, but a guest imports nothing")?;
    check("bare.wasm", &header, "the module does not export")?;
    check("large.wasm", &vec![0; largest + 1], "16777217 bytes, more than the 16777216 allowed")?;
    check("largest.wasm", &vec![0; largest], "not a WebAssembly module")?;
    desk.grid.check_books()
}

#[test]
fn callers() -> Result<()> {
    let desk = Desk::open()?;
    let good = desk.good().write(desk.grid.dir(), "good")?;
    let submit = ["submit", good.to_str().context("UTF-8")?];
    desk.grid.owner("bob", 1)?;
    let owner = desk.grid.lull(&["admin", "create-token", "--role", "owner", "--subject", "bob"])?;
    let other = desk.grid.submitter("rival", "5")?;
    let job = desk.grid.submit(&desk.token, &good, &[])?;

    desk.check("nonsense", &submit, NOT_ALLOWED, "this API token is not known here")?;
    desk.check("", &submit, NOT_ALLOWED, "token")?;
    desk.check(owner.trim(), &submit, NOT_ALLOWED, "only a submitter may do this")?;
    desk.check(owner.trim(), &["jobs"], NOT_ALLOWED, "jobs are for submitters")?;
    desk.check(&other, &["jobs", &job], NOT_FOUND, "no job of that name")?;
    desk.check(&other, &["cancel", &job], NOT_FOUND, "no job of that name")?;
    desk.check(&other, &["results", &job], NOT_FOUND, "no job of that name")?;
    desk.check(&desk.token, &["jobs", "99"], NOT_FOUND, "no job of that name")?;
    desk.check(&desk.token, &["books"], NOT_ALLOWED, "only an operator")?;
    desk.check(&desk.token, &["fund", "clinic", "1"], NOT_ALLOWED, "only an operator")?;
    desk.check(&desk.token, &["results", &job], NO_ANSWER, "waits for it")?;
    desk.check(&desk.grid.operator, &["balance", "bob"], NOT_FOUND, "of an owner write owners/bob")?;
    desk.check(&desk.grid.operator, &["balance"], USAGE, "an operator's token speaks for nobody")?;
    desk.grid.check_books()
}

#[test]
fn submitting_twice_gives_the_same_job_and_takes_the_money_once() -> Result<()> {
    let desk = Desk::open()?;
    let id = "0b5ab6d4-5f4e-4d0e-9d0c-0d6f4f8a1c11";
    let file = desk.good().write(desk.grid.dir(), "good")?;
    let first = desk.grid.submit(&desk.token, &file, &["--request-id", id])?;
    let balance = desk.balance()?;

    let second = desk.grid.submit(&desk.token, &file, &["--request-id", id])?;

    assert_eq!(second, first);
    assert_eq!(desk.balance()?, balance);
    assert!(field(&balance, "escrow") > 0, "{balance}");
    desk.check_submit(&desk.good().set("priority", 3), &["--request-id", id], USAGE, "REQUEST_ID_REUSED")?;
    desk.grid.lull_as(&desk.token, &["cancel", &first])?;
    assert_eq!(field(&desk.balance()?, "escrow"), 0);
    desk.grid.check_money(&first)
}

#[test]
fn a_wrong_table_ends_the_study_with_its_line() -> Result<()> {
    let desk = Desk::open()?;
    let _agents = desk.grid.agents(["ada", "grace"])?;
    let good = std::fs::read_to_string(study::table())?;
    let lines: Vec<&str> = good.lines().take(50).collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n")
    };
    let ragged = lines[6].rsplit_once(',').context("a value")?.0;
    let word = lines[8].rsplit_once(',').context("a value")?.0.to_owned() + ",much";
    let cases = [
        ("ragged", with(6, ragged), "expression, line 7: 37 values where the header names 38 samples"),
        ("word", with(8, &word), "expression, line 9: column 40: `much` is not a number"),
        (
            "one-class",
            with(0, &lines[0].replace("AML", "ALL")),
            "expression, line 1: all 38 samples are `ALL`",
        ),
    ];

    for (name, table, says) in cases {
        let table = desk.file(name, table.as_bytes())?;
        let file = JobFile::of("maxt")
            .path("inputs.expression", &table)
            .set("split.range", "{ start = 0, end = 100 }")
            .set("items_per_unit", 100)
            .set("pay.item_price", "\"0.001\"")
            .write(desk.grid.dir(), name)?;
        let job = desk.grid.submit(&desk.token, &file, &[])?;
        let state = desk.grid.wait_end(&job, "incomplete")?;
        let failed = desk.grid.lull_as(&desk.token, &["results", &job, "--failed"])?;
        let failed = String::from_utf8(failed.stdout)?;
        assert!(failed.contains(says), "{name}: {failed}\n{state}");
        desk.grid.check_money(&job)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_pc_whose_name_is_no_line_is_not_enrolled() -> Result<()> {
    use ed25519_dalek::{Signer as _, SigningKey};
    use lull_proto::v1;

    let grid = Grid::start(60)?;
    let token = grid.owner("ada", 1)?;
    let key = SigningKey::from_bytes(&[7; 32]);
    let channel = tonic::transport::Endpoint::from_shared(grid.url.clone())?.connect().await?;
    let mut work = v1::work_client::WorkClient::new(channel);
    let request = |name: &str| v1::EnrolRequest {
        enrolment_token: token.clone(),
        public_key: key.verifying_key().to_bytes().to_vec(),
        proof: key.sign(format!("lull.v1 enrolment\n{token}").as_bytes()).to_bytes().to_vec(),
        display_name: name.to_owned(),
        agent_version: String::new(),
    };
    for name in ["a\nb", "a\r=1", "a\tb", "a\u{85}b"] {
        let refused = work.enrol(request(name)).await.expect_err("refused");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains("display_name: holds a control character"), "{refused}");
    }
    work.enrol(request("Schöner PC; Zimmer 3")).await?;
    Ok(())
}
