//! A second agent on a machine, as a process, and as another user's.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use lull_worker::alone::{Alone, Error, Holder, MACHINE};
use tempfile::TempDir;

/// A user that no root is.
const NOBODY: u32 = 65534;
/// In the environment of the process that holds a lock for a test: its name.
const HOLD: &str = "LULL_TEST_HOLD";

/// Tests that take the machine's own lock, one at a time: who finds it taken by another test would soon find it free.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(arguments: &[&str]) -> Output {
    let state = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lull-worker"));
    command.env_clear().args(["run", "--runner", "/bin/true", "--state-dir"]).arg(state.path());
    command.args(arguments).output().unwrap()
}

fn check_refused(second: &Output, holder: &str) {
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains("watches this PC already") && said.contains(holder), "{said}");
}

#[test]
fn a_second_agent_that_watches_says_who_is_the_first() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // An agent that really runs here is as good a first one.
    let _first = Alone::take(MACHINE);
    check_refused(&run(&[]), "process ");
    for arguments in ["--dedicated", "--beside-others"] {
        let said = run(&[arguments]);
        assert_eq!(said.status.code(), Some(2), "it gets as far as to miss its coordinator: {said:?}");
        assert!(String::from_utf8_lossy(&said.stderr).contains("no coordinator is known"), "{said:?}");
    }
}

/// A folder of another user, and a copy of a program in it: it may lie where that user may not go.
fn folder_of_nobody(program: &Path) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("program");
    fs::copy(program, &copy).unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    (folder, copy)
}

/// Whether this process can start a program as another user; says so if it cannot.
fn is_root() -> bool {
    let is_root = rustix::process::getuid().is_root();
    if !is_root {
        #[allow(clippy::print_stdout, reason = "what was not tested")]
        {
            println!("skipped: only root can start a program as another user");
        }
    }
    is_root
}

fn as_nobody(program: &Path) -> Command {
    let nobody = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--"]).arg(program);
    // Not root's home.
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command
}

#[test]
fn another_users_agent_is_refused_too() {
    if !is_root() {
        return;
    }
    let (folder, copy) = folder_of_nobody(Path::new(env!("CARGO_BIN_EXE_lull-worker")));
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let _first = Alone::take(MACHINE);
    let mut second = as_nobody(&copy);
    second.args(["run", "--runner", "/bin/true", "--state-dir"]).arg(folder.path().join("state"));
    check_refused(&second.output().unwrap(), "process ");
}

#[test]
fn root_is_refused_where_another_user_was_first() {
    if !is_root() {
        return;
    }
    let name = format!("lull-worker.test.{}", std::process::id());
    let (_folder, copy) = folder_of_nobody(&std::env::current_exe().unwrap());
    let mut holder = as_nobody(&copy);
    holder.args(["--exact", "holds_a_lock_for_another_test", "--nocapture"]).env(HOLD, &name);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("holds it")));

    let error = Alone::take(&name).expect_err("nobody has it");

    let Error::Taken { holder: Holder::Known { pid, user } } = &error else { panic!("{error}") };
    assert_eq!((pid.cast_unsigned(), user.as_str()), (holder.id(), "nobody"), "{error}");
    end(&mut holder);
    Alone::take(&name).unwrap();
}

/// Run by the test above, as another user.
#[test]
fn holds_a_lock_for_another_test() {
    let Ok(name) = std::env::var(HOLD) else { return };
    let _held = Alone::take(&name).unwrap();
    #[allow(clippy::print_stdout, reason = "the other test waits for it")]
    {
        println!("holds it");
    }
    // Until the other test has seen it, or is gone.
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
