//! Compiled modules that are not what they were: nobody loses a runner, or a unit, by one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lull_job::Digest;
use lull_sandbox::Flavour;
use lull_tests::{Agent, Grid, JobFile, binary, guest};
use lull_worker::compiled::{COMPILED_BYTES_MAX, Compiled};

const LEASE_TTL_SECS: u64 = 60;

struct Scene {
    grid: Grid,
    token: String,
    ada: Agent,
    /// Merging takes two owners.
    _grace: Agent,
}

impl Scene {
    fn set() -> Result<Self> {
        let grid = Grid::start(LEASE_TTL_SECS)?;
        let token = grid.submitter("lab", "100")?;
        let runner = binary("lull-runner");
        let runner = runner.to_str().context("a path in UTF-8")?;
        let options = ["--dedicated", "--slots", "1", "--runner", runner];
        let ada = grid.office_agent("ada", "agent-ada", &[], &options)?;
        let _grace = grid.agent("grace", "agent-grace")?;
        Ok(Self { grid, token, ada, _grace })
    }

    /// Runs a job, all of it by both owners.
    fn run(&self, text: &str) -> Result<()> {
        let items = [format!("echo {text}")];
        let file = JobFile::probe_lines(self.grid.dir(), text, &items.each_ref().map(String::as_str))?;
        let job = self.grid.submit(&self.token, &file.write(self.grid.dir(), text)?, &["--copies", "2"])?;
        assert_eq!(self.grid.answer(&self.token, &job)?, format!("{text}\n").into_bytes());
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        self.ada.state_dir.join("compiled")
    }

    /// How often the agent has said that.
    fn said(&self, what: &str) -> usize {
        self.ada.log().matches(what).count()
    }
}

/// Does something to an entry.
type Damage = fn(&Path) -> Result<()>;

fn flip_a_byte(entry: &Path) -> Result<()> {
    let mut bytes = fs::read(entry)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(fs::write(entry, bytes)?)
}

fn cut_it_short(entry: &Path) -> Result<()> {
    let bytes = fs::read(entry)?;
    Ok(fs::write(entry, &bytes[..bytes.len() - 1])?)
}

/// Another module's, as it was written for that.
fn put_anothers_in_its_place(entry: &Path) -> Result<()> {
    let folder = entry.parent().context("a folder")?;
    let compiled = Compiled::open(folder, &binary("lull-runner"), COMPILED_BYTES_MAX)?;
    let before = entries(folder)?;
    compiled.put(Digest::of(b"another"), Flavour::Normal, b"another's code");
    let another = entries(folder)?.into_iter().find(|path| !before.contains(path));
    Ok(fs::rename(another.context("it was put")?, entry)?)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let all = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(all.filter(|path| path.file_name().is_some_and(|name| name != "secret")).collect())
}

#[test]
fn a_damaged_one_reaches_no_runner() -> Result<()> {
    let scene = Scene::set()?;
    scene.run("first")?;
    let [entry] = &entries(&scene.folder())?[..] else { panic!("one module was compiled") };
    let whole = fs::read(entry)?;
    let damages: [(&str, Damage); 3] =
        [("flipped", flip_a_byte), ("cut", cut_it_short), ("exchanged", put_anothers_in_its_place)];
    for (number, (name, damage)) in (1..).zip(damages) {
        damage(entry)?;
        ensure!(fs::read(entry)? != whole, "{name}: nothing was damaged");

        scene.run(name)?;

        assert_eq!(scene.said("a compiled module is damaged"), number, "{name}: {}", scene.ada.log());
        assert!(fs::read(entry)? == whole, "{name}: it was not replaced");
    }
    assert_eq!(scene.said("has lost its runner"), 0, "{}", scene.ada.log());
    Ok(())
}

#[test]
fn one_that_a_runner_refuses_is_compiled_again_at_once() -> Result<()> {
    let scene = Scene::set()?;
    scene.run("first")?;
    let [entry] = &entries(&scene.folder())?[..] else { panic!("one module was compiled") };
    let whole = fs::read(entry)?;
    let compiled = Compiled::open(&scene.folder(), &binary("lull-runner"), COMPILED_BYTES_MAX)?;
    // With the agent's own seal, as one that it compiled itself before its disk came to another PC.
    compiled.put(Digest::of(&fs::read(guest("probe"))?), Flavour::Normal, b"for another processor");

    scene.run("second")?;

    assert_eq!(scene.said("a compiled module is not for this PC"), 1, "{}", scene.ada.log());
    assert_eq!(scene.said("has lost its runner"), 0, "{}", scene.ada.log());
    assert!(fs::read(entry)? == whole, "it was not replaced");
    Ok(())
}
