//! Programs in C, compiled for WASI: run without a grid and on one, they give what they would give at home.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lull_proto::v1;
use lull_tests::fleet::Submitter;
use lull_tests::grid::root;
use lull_tests::{Agent, DEADLINE, Fleet, Grid, JobFile, guest};
use serde_json::Value;
use tonic::Code;

struct Scene {
    grid: Grid,
    token: String,
    _agents: Vec<Agent>,
}

impl Scene {
    fn set() -> Result<Self> {
        let grid = Grid::start(60)?;
        let token = grid.submitter("clinic", "100")?;
        let agents = grid.agents(["ada", "grace"])?;
        Ok(Self { grid, token, _agents: agents })
    }

    fn dir(&self) -> &Path {
        self.grid.dir()
    }

    /// Runs a job to its end; the answer must be that of a run without a grid.
    fn answer(&self, file: &JobFile, name: &str) -> Result<String> {
        let path = file.write(self.dir(), name)?;
        let job = self.grid.submit(&self.token, &path, &[])?;
        let answer = self.grid.answer(&self.token, &job)?;
        assert!(answer == self.grid.run_local(&path, &[])?, "{name}: another answer than without a grid");
        self.grid.check_money(&job)?;
        Ok(String::from_utf8(answer)?)
    }
}

/// A job of a C program that is compiled here.
fn compiled(dir: &Path, name: &str, source: &str) -> Result<JobFile> {
    let (source_path, module) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.wasm")));
    std::fs::write(&source_path, source)?;
    let clang = Command::new("clang")
        .args(["--target=wasm32-wasi", "-O2", "-o"])
        .args([&module, &source_path])
        .output()
        .context("clang: see deploy/setup")?;
    ensure!(clang.status.success(), "{}", String::from_utf8_lossy(&clang.stderr));
    Ok(JobFile::of("wordcount").path("module", &module))
}

fn lines_file(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

/// What `workloads/wordcount` counts, counted another way.
fn words(text: &str) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let lower = text.to_ascii_lowercase();
    for word in
        lower.split(|c: char| c.is_ascii() && !c.is_ascii_alphabetic()).filter(|word| !word.is_empty())
    {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts.into_iter().fold(String::new(), |mut text, (word, count)| {
        let _ = writeln!(text, "{word}\t{count}");
        text
    })
}

#[test]
fn a_c_program_counts_words_and_merges_its_counts() -> Result<()> {
    let scene = Scene::set()?;
    let text = root().join("docs/ARCHITECTURE.md");
    let file = JobFile::of("wordcount")
        .path("split.lines", &text)
        .set("items_per_unit", 40)
        .set("merge_fan_in", 3)
        .set("pay.item_price", "\"0.0001\"");

    let answer = scene.answer(&file, "words")?;

    assert_eq!(answer, words(&std::fs::read_to_string(&text)?));
    Ok(())
}

#[test]
fn the_program_of_the_readme_greets_whoever_it_reads() -> Result<()> {
    let scene = Scene::set()?;
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let source = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next());
    let names = lines_file(scene.dir(), "names.txt", "Ada\r\nGrace\nEmmy")?;
    let file = compiled(scene.dir(), "greet", source.context("a C program in the README")?)?
        .path("split.lines", &names)
        .set("items_per_unit", 1);

    // It knows nothing of merging: results stand one after another.
    assert_eq!(scene.answer(&file, "merged")?, "Hello, Ada!\nHello, Grace!\nHello, Emmy!\n");
    let unmerged = file.set("reduce", "\"none\"");
    assert_eq!(scene.answer(&unmerged, "unmerged")?, "0\tHello, Ada!\n1\tHello, Grace!\n2\tHello, Emmy!\n");
    Ok(())
}

/// Shows its arguments and input, and what it finds of clock, chance, environment and files.
const SHOW: &str = r#"
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <time.h>
    #include <unistd.h>
    __attribute__((export_name("lull_split"))) void lull_split(void) {}
    int main(int argc, char **argv) {
        char line[256];
        unsigned char random[4];
        if (strcmp(argv[1], "split") == 0) { puts("one two\nthree"); return 0; }
        printf("%d:", argc);
        for (int i = 0; i < argc; i++) printf(" %s", argv[i]);
        printf(" [");
        while (fgets(line, sizeof line, stdin)) { line[strcspn(line, "\n")] = 0; printf("%s;", line); }
        sleep(1000000);
        printf("] %lld %d", (long long)time(NULL), getentropy(random, 4));
        printf(" %s %s\n", getenv("HOME") ? "home" : "nowhere", fopen("/etc/passwd", "r") ? "files" : "nothing");
        return 0;
    }"#;

#[test]
fn every_split_reaches_a_program() -> Result<()> {
    let scene = Scene::set()?;
    let dir = scene.dir();
    let show = compiled(dir, "show", SHOW)?;
    // The last second of 1999, and the sleep.
    let end = " 947684800 0 nowhere nothing\n";
    let args = lines_file(dir, "args.txt", "--min\n3\n")?;
    let (a, b) = (lines_file(dir, "a.txt", "x\n")?, lines_file(dir, "b.txt", "y")?);
    let axes = "[{ name = \"x\", values = [\"1\", \"2\"] }, { name = \"y\", values = [\"p\"] }]";

    let range = show.clone().set("split.range", "{ start = 8, end = 11 }").set("items_per_unit", 2);
    assert_eq!(scene.answer(&range, "range")?, format!("2: guest work [8;9;]{end}2: guest work [10;]{end}"));
    let range = range.path("inputs.args", &args).set("items_per_unit", 9);
    assert_eq!(scene.answer(&range, "args")?, format!("4: guest work --min 3 [8;9;10;]{end}"));
    let files = show.clone().set("split.files", format!("['{}', '{}']", a.display(), b.display()));
    assert_eq!(scene.answer(&files.set("items_per_unit", 2), "files")?, format!("2: guest work [x;y;]{end}"));
    let grid = show.clone().set("split.grid", axes).set("items_per_unit", 2);
    assert_eq!(scene.answer(&grid, "grid")?, format!("2: guest work [1\tp;2\tp;]{end}"));
    let own = show.set("split.module", "{}").set("pay.budget", "\"1\"").set("items_per_unit", 1);
    assert_eq!(
        scene.answer(&own, "own")?,
        format!("2: guest work [one two;]{end}2: guest work [three;]{end}")
    );
    Ok(())
}

#[test]
fn a_program_that_fails_says_why() -> Result<()> {
    let scene = Scene::set()?;
    let source = r#"
        #include <stdio.h>
        #include <stdlib.h>
        int main(void) {
            int item, sum = 0;
            while (scanf("%d", &item) == 1) sum += item;
            if (sum == 1) { fprintf(stderr, "cannot halve %d\n", sum); return 3; }
            if (sum == 2) abort();
            printf("%d\n", sum);
            return 0;
        }"#;
    let file = compiled(scene.dir(), "fails", source)?
        .set("split.range", "{ start = 0, end = 4 }")
        .set("items_per_unit", 1);
    let path = file.write(scene.dir(), "fails")?;
    let job = scene.grid.submit(&scene.token, &path, &[])?;

    scene.grid.wait_end(&job, "incomplete")?;

    let failed = scene.grid.lull_as(&scene.token, &["results", &job, "--failed", "--output", "json"])?;
    let failed: Vec<Value> =
        String::from_utf8(failed.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let said: Vec<_> = failed.iter().map(|unit| unit["message"].as_str().unwrap_or_default()).collect();
    assert_eq!(
        said,
        ["the program exited with 3: cannot halve 1", "wasm trap: wasm `unreachable` instruction executed"]
    );
    let local = scene.grid.lull_as("", &["run-local", path.to_str().context("UTF-8")?])?;
    assert_eq!(local.status.code(), Some(6));
    let complaint = String::from_utf8(local.stderr)?;
    ensure!(
        complaint.contains("work unit 1 failed: the program exited with 3: cannot halve 1"),
        "{complaint}"
    );
    scene.grid.check_money(&job)
}

#[test]
fn a_unit_that_loses_its_pc_starts_anew_and_submit_says_so() -> Result<()> {
    let grid = Grid::start(3)?;
    let token = grid.submitter("clinic", "100")?;
    let source = r#"
        #include <stdio.h>
        int main(void) {
            unsigned long long x;
            while (scanf("%llu", &x) == 1) {
                for (int i = 0; i < 500000000; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; }
                printf("%llu\n", x);
            }
            return 0;
        }"#;
    let path = compiled(grid.dir(), "spins", source)?
        .set("split.range", "{ start = 1, end = 3 }")
        .set("items_per_unit", 1)
        .set("copies", 1)
        .write(grid.dir(), "spins")?;
    let submitted = grid.lull_as(&token, &["submit", path.to_str().context("UTF-8")?])?;
    let said = String::from_utf8(submitted.stderr)?;
    ensure!(
        said.contains("has no checkpoints: a unit that is interrupted starts from its beginning"),
        "{said}"
    );
    let job = String::from_utf8(submitted.stdout)?.trim().to_owned();
    let agent = grid.agent("ada", "ada-pc")?;
    let deadline = Instant::now() + DEADLINE;
    let compiled = agent.state_dir.join("compiled");
    // A runner that compiles runs no unit yet.
    while std::fs::read_dir(&compiled).map_or(0, Iterator::count) == 0 || agent.runners()?.is_empty() {
        ensure!(Instant::now() < deadline, "no unit was started: {}", agent.log());
        std::thread::yield_now();
    }

    // Merging takes a second owner.
    let _agents = (agent.kill_and_restart()?, grid.agent("grace", "grace-pc")?);

    assert_eq!(grid.answer(&token, &job)?, grid.run_local(&path, &[])?);
    grid.check_money(&job)
}

#[test]
fn what_a_program_cannot_have_is_refused_before_it_costs_anything() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "100")?;
    let dir = grid.dir();
    let table = lines_file(dir, "table.csv", "1,2\n")?;
    let words = || JobFile::of("wordcount").path("split.lines", &table);
    let refused = |file: JobFile, says: &str| -> Result<()> {
        let path = file.write(dir, "refused")?;
        for command in ["submit", "run-local"] {
            let output = grid.lull_as(&token, &[command, path.to_str().context("UTF-8")?])?;
            let complaint = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(2), "{complaint}");
            ensure!(complaint.contains(says), "{complaint}\nnot: {says}");
        }
        Ok(())
    };

    refused(
        words().path("inputs.table", &table),
        "inputs: a WASI program has no files, so it cannot see `table`",
    )?;
    let own = JobFile::of("wordcount").set("split.module", "{}").set("pay.budget", "\"1\"");
    refused(own, "split.module: the program does not split itself")?;
    let module = |name: &str, text: &str| -> Result<JobFile> {
        let path = dir.join(name);
        std::fs::write(&path, wat::parse_str(format!("(module {text})"))?)?;
        Ok(words().path("module", &path))
    };
    let memory = "(memory (export \"memory\") 1)";
    let foreign = format!("(import \"env\" \"now\" (func)) {memory} (func (export \"_start\"))");
    refused(module("foreign.wasm", &foreign)?, "imports `env.now`, which is no function of WASI preview 1")?;
    let library = format!("(import \"wasi_snapshot_preview1\" \"sched_yield\" (func (result i32))) {memory}");
    refused(module("library.wasm", &library)?, "build it as a program with a `main`, not as a library")?;
    grid.check_books()
}

#[tokio::test]
async fn the_coordinator_refuses_it_too() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "100").await?;
    let module = clinic.upload("module", &std::fs::read(guest("wordcount"))?).await?;
    let table = clinic.upload("table", b"1,2").await?;
    let spec = Submitter::trivial_spec(&module, 3);

    let refused = clinic.create(v1::JobSpec { inputs: vec![table], ..spec.clone() }).await;

    let status = refused.err().context("refused")?;
    assert_eq!(status.code(), Code::InvalidArgument);
    ensure!(status.message().contains("a WASI program has no files"), "{status}");
    clinic.create(spec).await?;
    Ok(())
}
