//! The commands against a coordinator that says what each test needs.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use lull_job::Digest;
use lull_proto::v1;
use serde_json::Value;
use support::{FakeGrid, Script, module};
use tonic::Status;

fn job(state: v1::JobState) -> v1::Job {
    v1::Job {
        name: "jobs/7".to_owned(),
        spec: Some(v1::JobSpec { display_name: "study".to_owned(), ..Default::default() }),
        state: state.into(),
        settled: state != v1::JobState::Running,
        progress: Some(v1::Progress {
            stage: Some(v1::Stage { kind: v1::StageKind::Work.into(), level: 0 }),
            units: 12,
            units_accepted: 5,
            attempts: 11,
            attempts_judged: 10,
            owners: 3,
            ..Default::default()
        }),
        costs: Some(v1::Costs {
            budget: "12.5".to_owned(),
            spent: "4.0000005".to_owned(),
            reserved: "1".to_owned(),
            refunded: "0".to_owned(),
            expected: "10".to_owned(),
        }),
        ..Default::default()
    }
}

fn grid(script: Script) -> FakeGrid {
    FakeGrid::start(script)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[track_caller]
fn check(output: &Output, exit: i32, stderr: &[&str]) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    for expected in stderr {
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }
    text(&output.stdout)
}

#[test]
fn a_submission_uploads_what_is_missing_and_is_one_job_however_often_it_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = vec![b'x'; 600_000];
    std::fs::write(folder.path().join("m.wasm"), module()).expect("m.wasm");
    std::fs::write(folder.path().join("table.csv"), &table).expect("table.csv");
    let job_file = "module = \"m.wasm\"\ninputs = { table = \"table.csv\" }\nsplit.range = { end = 10 }\n\
                    pay = { item_price = \"1\" }";
    let path = folder.path().join("job.toml");
    std::fs::write(&path, job_file).expect("job.toml");
    let mut script = Script { job: job(v1::JobState::Running), creates_lost: 1, ..Default::default() };
    script.blobs.insert(Digest::of(&module()).as_bytes().to_vec(), module());
    let grid = grid(script);

    let path = path.to_str().expect("text");
    let output = grid.lull(&["submit", path, "--items", "3..9", "--pilot", "2", "--budget", "12.5"]);

    let said =
        ["jobs/7 is accepted: 12 units for 10.000000", "12.500000 at most", "owners of the PCs", "can read"];
    assert_eq!(check(&output, 0, &said), "jobs/7\n");
    let script = grid.script();
    let digest = Digest::of(&table).as_bytes().to_vec();
    assert_eq!(script.uploads, std::slice::from_ref(&digest));
    assert_eq!(script.blobs[&digest], table);
    assert_eq!(script.authorization, "Bearer secret");
    let [lost, answered] = script.creates.as_slice() else { panic!("two calls") };
    assert_eq!(lost, answered);
    assert_eq!(answered.request_id.len(), 36);
    let spec = answered.spec.as_ref().expect("a job");
    assert_eq!((spec.pilot_units, spec.budget.as_str()), (2, "12.5"));
    let range = v1::split::Kind::Range(v1::IntegerRange { start: 3, end: 9 });
    assert_eq!(spec.split.as_ref().and_then(|split| split.kind.clone()), Some(range));
}

#[test]
fn each_refusal_has_its_exit_code() {
    let check = |refusal: Status, args: &[&str], exit: i32, stderr: &str| {
        let grid = grid(Script { refusal: Some(refusal), ..Default::default() });
        check(&grid.lull(args), exit, &["lull: ", stderr]);
    };
    let unauthenticated = || Status::unauthenticated("this token is not known");
    check(unauthenticated(), &["jobs"], 4, "this token is not known (give a token with --token-file");
    check(Status::permission_denied("operators only"), &["books"], 4, "operators only");
    check(Status::not_found("no job of that name here"), &["jobs", "12"], 5, "jobs/12: no job of that name");
    check(Status::not_found("no job of that name here"), &["watch", "12"], 5, "jobs/12: no job of that name");
    check(
        Status::not_found("no job of that name here"),
        &["cancel", "12"],
        5,
        "jobs/12: no job of that name",
    );
    check(Status::invalid_argument("amount: is zero"), &["fund", "clinic", "0"], 2, "amount: is zero");
    check(Status::internal("its log says why"), &["results", "12"], 1, "its log says why");
    check(Status::unavailable("no database"), &["balance"], 3, "cannot serve now: no database");
}

#[test]
fn jobs_are_listed_through_all_pages() {
    let jobs = |names: &[&str]| {
        names.iter().map(|name| v1::Job { name: (*name).to_owned(), ..job(v1::JobState::Running) }).collect()
    };
    let grid =
        grid(Script { pages: vec![jobs(&["jobs/3", "jobs/2"]), jobs(&["jobs/1"])], ..Default::default() });
    let table = check(&grid.lull(&["jobs"]), 0, &[]);
    assert_eq!(table.lines().count(), 4, "{table}");
    let json: Value =
        serde_json::from_str(&check(&grid.lull(&["jobs", "--output", "json"]), 0, &[])).expect("JSON");
    let names: Vec<&Value> =
        json["jobs"].as_array().expect("a list").iter().map(|job| &job["name"]).collect();
    assert_eq!(names, ["jobs/3", "jobs/2", "jobs/1"]);
    assert_eq!(json["jobs"][0]["costs"]["spent"], "4.0000005");
}

#[test]
fn a_watch_outlives_a_broken_stream() {
    let watches = [
        vec![Ok(job(v1::JobState::Running)), Err(Status::unavailable("restarting"))],
        vec![Ok(job(v1::JobState::Running)), Ok(job(v1::JobState::Complete))],
    ];
    let grid = grid(Script { watches: watches.into(), ..Default::default() });
    let summary = check(
        &grid.lull(&["watch", "7"]),
        0,
        &["jobs/7: 5/12 units, 0 running, 7 left; work, 11 copies run", "restarting", "trying again"],
    );
    assert!(summary.contains("verified  5 units by 10 attempts of 3 owners"), "{summary}");
    assert!(summary.contains("4.000001 spent of 12.500000"), "{summary}");
}

#[test]
fn a_job_that_ended_without_an_answer_ends_the_watch_with_six() {
    let check = |state: v1::JobState, stderr: &str| {
        let watches = [vec![Ok(job(v1::JobState::Running)), Ok(job(state))]];
        let grid = grid(Script { watches: watches.into(), ..Default::default() });
        let lines = check(&grid.lull(&["watch", "jobs/7", "--output", "json"]), 6, &[stderr]);
        let last: Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert_eq!((&last["name"], &last["settled"]), (&"jobs/7".into(), &true.into()));
    };
    check(v1::JobState::Incomplete, "`lull results jobs/7 --failed`");
    check(v1::JobState::Cancelled, "jobs/7 is cancelled");
}

#[test]
fn control_c_leaves_the_job_alone() {
    let grid =
        grid(Script { job: job(v1::JobState::Running), watches: [vec![]].into(), ..Default::default() });
    let mut child = grid.command(&["watch", "7"]).stderr(Stdio::piped()).spawn().expect("lull runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("its stderr")).lines();
    let first = stderr.next().expect("a line").expect("text");
    assert!(first.starts_with("jobs/7: 5/12 units"), "{first}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let last = stderr.last().expect("a line").expect("text");
    assert!(
        last.contains("stopped watching; jobs/7 goes on") && last.contains("lull cancel jobs/7"),
        "{last}"
    );
    assert_eq!(child.wait().expect("its end").code(), Some(130));
}

fn complete(reduce: v1::Reduce, answer: &[u8]) -> v1::Job {
    let mut job = job(v1::JobState::Complete);
    job.spec = Some(v1::JobSpec { reduce: reduce.into(), ..Default::default() });
    job.answer = Some(v1::Input {
        digest: Digest::of(answer).as_bytes().to_vec(),
        size_bytes: answer.len() as u64,
        name: String::new(),
    });
    job
}

#[test]
fn an_answer_goes_to_stdout_or_whole_into_a_file() {
    let answer = vec![b"rank,gene\n".to_vec(), b"1,M27891_at\n".to_vec()];
    let job = complete(v1::Reduce::Tree, &answer.concat());
    let grid = grid(Script { job, answer, ..Default::default() });
    assert_eq!(check(&grid.lull(&["results", "7"]), 0, &[]), "rank,gene\n1,M27891_at\n");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("answer.csv");
    let path_text = path.to_str().expect("text");
    assert_eq!(check(&grid.lull(&["results", "7", "--out", path_text]), 0, &["written to"]), "");
    assert_eq!(std::fs::read(&path).expect("the answer"), b"rank,gene\n1,M27891_at\n");
    grid.script().answer.pop();
    check(&grid.lull(&["results", "7", "--out", path_text]), 1, &["another digest"]);
    assert_eq!(std::fs::read(&path).expect("the answer"), b"rank,gene\n1,M27891_at\n");
}

#[test]
fn results_that_are_not_there_end_with_six() {
    let early = grid(Script { job: job(v1::JobState::Running), ..Default::default() });
    check(&early.lull(&["results", "7"]), 6, &["jobs/7 has no answer, it is running", "lull watch jobs/7"]);
    let incomplete = grid(Script { job: job(v1::JobState::Incomplete), ..Default::default() });
    check(&incomplete.lull(&["results", "7"]), 6, &["--failed"]);
}

#[test]
fn unmerged_results_are_a_line_each_and_large_ones_are_fetched() {
    let large = "x".repeat(5_000);
    let unit = |number: u64, result: &[u8], size_bytes: usize, digest: &[u8]| v1::DecidedUnit {
        stage: Some(v1::Stage { kind: v1::StageKind::Work.into(), level: 0 }),
        number,
        result: result.to_vec(),
        size_bytes: size_bytes as u64,
        digest: digest.to_vec(),
        ..Default::default()
    };
    let digest = Digest::of(large.as_bytes()).as_bytes().to_vec();
    let pages = vec![vec![unit(0, b"Hello, Ada!\n", 12, &[])], vec![unit(4, b"", 5_000, &digest)]];
    let mut script = Script { job: complete(v1::Reduce::None, b""), unit_pages: pages, ..Default::default() };
    script.blobs.insert(digest, large.clone().into_bytes());
    let grid = grid(script);
    let lines = check(&grid.lull(&["results", "7"]), 0, &[]);
    assert_eq!(lines, format!("0\tHello, Ada!\n4\t{large}\n"));
}

#[test]
fn failed_units_are_listed_with_their_messages() {
    let unit = v1::DecidedUnit {
        stage: Some(v1::Stage { kind: v1::StageKind::Merge.into(), level: 1 }),
        index: 3,
        number: 3,
        outcome: v1::Outcome::GuestFailed.into(),
        result: b"row 4 is ragged".to_vec(),
        size_bytes: 15,
        agreeing: 2,
        attempts: 2,
        ..Default::default()
    };
    let job = job(v1::JobState::Incomplete);
    let grid = grid(Script { job, unit_pages: vec![vec![unit]], ..Default::default() });
    assert_eq!(check(&grid.lull(&["results", "7", "--failed"]), 0, &[]), "merge(1) 3: row 4 is ragged\n");
}

#[test]
fn books_that_do_not_balance_end_with_seven() {
    let books = |sum: &str| v1::Books {
        sum: sum.to_owned(),
        transfers: 4,
        accounts: 3,
        totals: vec![v1::AccountTotal { kind: "bank".to_owned(), balance: "-10".to_owned() }],
        faults: Vec::new(),
    };
    let balanced = grid(Script { books: books("0.000000000000"), ..Default::default() });
    let table = check(&balanced.lull(&["books"]), 0, &[]);
    assert!(
        table.contains("bank     -10.000000") && table.contains("4 transfers between 3 accounts"),
        "{table}"
    );
    let unbalanced = grid(Script { books: books("0.000000000001"), ..Default::default() });
    let json = check(&unbalanced.lull(&["--output", "json", "books"]), 7, &["the sum is 0.000000000001"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["balanced"], &json["totals"][0]["kind"]), (&false.into(), &"bank".into()));
}
