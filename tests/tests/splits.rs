//! Every way to cut a job, merged and not, with small and large results.

use anyhow::{Context, Result};
use lull_tests::{Agent, Grid, JobFile};
use serde_json::Value;

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

    /// Runs a job to its end; the answer must be that of a run without a grid.
    fn answer(&self, file: &JobFile, name: &str) -> Result<Vec<u8>> {
        let path = file.write(self.grid.dir(), name)?;
        let job = self.grid.submit(&self.token, &path, &[])?;
        let answer = self.grid.answer(&self.token, &job)?;
        assert!(answer == self.grid.run_local(&path, &[])?, "{name}: another answer than without a grid");
        self.grid.check_money(&job)?;
        Ok(answer)
    }

    fn check(&self, file: &JobFile, name: &str, expected: &str) -> Result<()> {
        assert_eq!(String::from_utf8(self.answer(file, name)?)?, expected, "{name}");
        Ok(())
    }
}

#[test]
fn each_split_merged_and_not() -> Result<()> {
    let scene = Scene::set()?;
    let dir = scene.grid.dir();
    for (name, content) in [("a.txt", "echo a"), ("b.txt", "echo b"), ("items.txt", "echo x\necho y\necho z")]
    {
        std::fs::write(dir.join(name), content)?;
    }
    std::fs::write(dir.join("names.txt"), "Ada\r\nGrace")?;
    let unmerged = |file: &JobFile| file.clone().set("reduce", "\"none\"");
    let files = JobFile::of("probe").set("split.files", "[\"a.txt\", \"b.txt\"]");
    let axes = "[{ name = \"x\", values = [\"1\", \"2\"] }, { name = \"y\", values = [\"p\"] }]";
    let grid = JobFile::of("probe").set("split.grid", axes);
    let own = JobFile::of("probe")
        .set("split.module", "{}")
        .path("inputs.items", &dir.join("items.txt"))
        .set("items_per_unit", 2)
        .set("pay.budget", "\"1\"");
    let lines = JobFile::of("hello").set("split.lines", "\"names.txt\"");

    scene.check(&lines, "lines", "Hello, Ada!\nHello, Grace!\n")?;
    scene.check(&unmerged(&lines), "lines-none", "0\tHello, Ada!\n1\tHello, Grace!\n")?;
    scene.check(&files, "files", "a\nb\n")?;
    scene.check(&unmerged(&grid), "grid-none", "0\tx=1,y=p\n1\tx=2,y=p\n")?;
    scene.check(&own, "own", "x\ny\nz\n")?;
    scene.check(&unmerged(&own), "own-none", "0\tx\\ny\n1\tz\n")
}

#[test]
fn results_larger_than_a_row_are_blobs() -> Result<()> {
    let scene = Scene::set()?;
    // At the limit of a row, one past it, and more than one chunk.
    let file =
        JobFile::probe_lines(scene.grid.dir(), "items", &["bytes 4096", "bytes 4097", "bytes 300000"])?;

    assert_eq!(scene.answer(&file, "merged")?.len(), 4096 + 4097 + 300_000);
    let units = String::from_utf8(scene.answer(&file.clone().set("reduce", "\"none\""), "unmerged")?)?;
    let sizes: Vec<usize> = units.lines().map(|line| line.len() - "0\t".len()).collect();
    assert_eq!(sizes, [4096, 4097, 300_000]);
    Ok(())
}

#[test]
fn a_job_waits_for_a_second_owner_and_says_so() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "100")?;
    let file = JobFile::probe_lines(grid.dir(), "items", &["echo a", "echo b"])?.write(grid.dir(), "job")?;
    let _first = [grid.agent("ada", "one")?, grid.agent("ada", "two")?];

    let job = grid.submit(&token, &file, &[])?;

    let says =
        |state: &Value| state["reason"].as_str().is_some_and(|reason| reason.contains("of another owner"));
    let waiting = grid.wait_job(&job, "waiting for another owner", says)?;
    assert_eq!(waiting["progress"]["units_accepted"], 0, "{waiting}");
    let _second = grid.agent("grace", "three")?;
    assert_eq!(grid.answer(&token, &job)?, b"a\nb\n");
    grid.check_money(&job)
}

#[test]
fn cancelling_returns_what_is_not_spent() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "100")?;
    let file = JobFile::probe_lines(grid.dir(), "items", &["echo a"])?.write(grid.dir(), "job")?;
    let job = grid.submit(&token, &file, &["--budget", "7"])?;

    let cancelled = grid.lull_as(&token, &["cancel", &job])?;

    assert!(cancelled.status.success(), "{cancelled:?}");
    grid.wait_end(&job, "cancelled")?;
    let balance = grid.lull_as(&token, &["balance", "--output", "json"])?;
    let balance: Value = serde_json::from_slice(&balance.stdout)?;
    assert_eq!(lull_tests::money::field(&balance, "available"), lull_tests::money::parts("100"));
    balance["escrow"]
        .as_str()
        .filter(|escrow| lull_tests::money::parts(escrow) == 0)
        .context("empty escrow")?;
    grid.check_money(&job)
}
