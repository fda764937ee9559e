//! A program in the runner's place that tells whatever its "module" names: for tests of what the host believes.

use std::io::{stdin, stdout};

use lull_sandbox::Outcome;
use lull_sandbox::checkpoint::{PAGE_BYTES, PAGES_FRAME_BYTES_MAX, StateHead, write_page};
use lull_sandbox::frame::{self, HostFrame, PROTOCOL, RunnerFrame};

fn pages(records: &[(u32, usize)]) -> RunnerFrame {
    let mut pages = Vec::new();
    records.iter().for_each(|(number, length)| write_page(&mut pages, *number, &vec![1; *length]));
    RunnerFrame::Pages { pages }
}

fn checkpoint(memory_pages: u32) -> RunnerFrame {
    RunnerFrame::Checkpoint {
        head: StateHead { steps: 1, memory_pages, ..StateHead::default() },
        digest: [1; 32],
        cpu_micros: 1,
    }
}

fn witnessed(steps: u64) -> RunnerFrame {
    RunnerFrame::Witnessed { steps, digest: [1; 32] }
}

/// What it says to a unit, before it says that it has finished. Its job allows 16 pages of memory.
fn lies(what: &str) -> Vec<RunnerFrame> {
    match what {
        "far page" => vec![pages(&[(16, 1)])],
        "same page" => vec![pages(&[(1, 1)]), pages(&[(1, 1)])],
        "long page" => vec![pages(&[(1, PAGE_BYTES + 1)])],
        "page past the state" => vec![pages(&[(5, 1)]), checkpoint(5)],
        "many checkpoints" => vec![checkpoint(1), checkpoint(1)],
        "large memory" => vec![checkpoint(17)],
        "not resumed" => vec![RunnerFrame::NotResumed { message: "no".to_owned() }],
        "other witness" => vec![witnessed(4)],
        "witness twice" => vec![witnessed(3), witnessed(3)],
        "long frame" => vec![RunnerFrame::Pages { pages: vec![0; PAGES_FRAME_BYTES_MAX + 100] }],
        _ => vec![pages(&[(0, 1), (15, 0)]), checkpoint(3), witnessed(3)],
    }
}

fn main() -> std::io::Result<()> {
    let say = |frame: &RunnerFrame| frame::write(&mut stdout().lock(), frame);
    say(&RunnerFrame::Ready { protocol: PROTOCOL, guest_thread: None, walls: Vec::new() })?;
    let mut what = String::new();
    while let Some(bytes) = frame::read(&mut stdin().lock())? {
        match frame::decode(&bytes)? {
            HostFrame::Load { module, .. } => {
                what = String::from_utf8_lossy(module).into_owned();
                say(&RunnerFrame::Loaded)?;
            }
            HostFrame::RunOn { .. } => {
                for lie in lies(&what) {
                    say(&lie)?;
                }
                let outcome = Outcome::Result(what.clone().into_bytes());
                say(&RunnerFrame::Finished { outcome, cpu_micros: 1, fuel: None })?;
            }
            _ => {}
        }
    }
    Ok(())
}
