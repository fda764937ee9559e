//! A grid of real processes in a temporary directory.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a test waits for something that should happen at once.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A program of this workspace, beside the test that runs.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let found = test.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built: run `cargo build --workspace --bins` first, as `make test` does")
    })
}

/// The root of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A guest module.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    let path = root().join("target/guest").join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is not built: run `workloads/build` first, as `make test` does",
        path.display()
    );
    path
}

/// A coordinator, and what was started beside it.
pub struct Grid {
    /// Where it listens.
    pub url: String,
    /// The first operator's token.
    pub operator: String,
    coordinator: Process,
    arguments: Vec<String>,
    dir: TempDir,
}

/// An agent.
pub struct Agent {
    process: Process,
    /// Its state directory.
    pub state_dir: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// What is left of an agent on the disk of a PC that is switched off.
pub struct AgentAtRest {
    state_dir: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl AgentAtRest {
    /// Starts the agent again with the same state.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self) -> Result<Agent> {
        Agent::start_in(self.state_dir, self.arguments, self.environment)
    }
}

/// A child that does not outlive its test.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn spawn(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(&log)?;
        let child = command.stdin(Stdio::null()).stderr(file).spawn().context("spawning")?;
        Ok(Self { child, log })
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal(Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(15);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            #[allow(clippy::print_stderr, reason = "what a failed test leaves behind")]
            {
                eprintln!("--- end of {}", self.log.display());
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

impl Grid {
    /// A fresh grid whose leases live for `lease_ttl_secs`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(lease_ttl_secs: u64) -> Result<Self> {
        Self::start_with(lease_ttl_secs, &[])
    }

    /// The same, with options of the coordinator.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_with(lease_ttl_secs: u64, options: &[&str]) -> Result<Self> {
        // PostgreSQL runs as another user when the test is root's: it must be able to come here.
        let permissions = std::fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("lull-").permissions(permissions).tempdir()?;
        let mut arguments = vec!["--lease-ttl-secs".to_owned(), lease_ttl_secs.to_string()];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let (coordinator, url) = start_coordinator(dir.path(), &arguments, "127.0.0.1:0")?;
        let operator = std::fs::read_to_string(dir.path().join("state/operator.token"))?.trim().to_owned();
        Ok(Self { url, operator, coordinator, arguments, dir })
    }

    /// One more coordinator, with a state directory of its own, on the database of another.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_on(database_url: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("lull-").tempdir()?;
        let arguments = vec!["--database-url".to_owned(), database_url.to_owned()];
        let (coordinator, url) = start_coordinator(dir.path(), &arguments, "127.0.0.1:0")?;
        let operator = std::fs::read_to_string(dir.path().join("state/operator.token"))?.trim().to_owned();
        Ok(Self { url, operator, coordinator, arguments, dir })
    }

    /// Where the grid's files lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The coordinator's process.
    #[must_use]
    pub fn coordinator_pid(&self) -> Pid {
        self.coordinator.pid()
    }

    /// The postmaster's process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn postmaster_pid(&self) -> Result<Pid> {
        let file = self.dir.path().join("state/postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(file)?;
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
        pid.context("postmaster.pid names no process")
    }

    /// URL of the private database, as its owner.
    #[must_use]
    pub fn database_url(&self) -> String {
        let run = self.dir.path().join("state/postgres/run");
        format!("postgresql://lull_owner@{}/lull", run.display().to_string().replace('/', "%2F"))
    }

    /// Kills the coordinator as a power cut would.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        self.coordinator.signal(Signal::KILL)?;
        self.coordinator.child.wait()?;
        Ok(())
    }

    /// Starts the coordinator with these options from now on.
    pub fn set_options(&mut self, options: &[&str]) {
        self.arguments.truncate(2);
        self.arguments.extend(options.iter().map(|option| (*option).to_owned()));
    }

    /// Starts the coordinator again, where it listened before.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart_coordinator(&mut self) -> Result<()> {
        let address = self.url.trim_start_matches("http://").to_owned();
        let (coordinator, _) = start_coordinator(self.dir.path(), &self.arguments, &address)?;
        self.coordinator = coordinator;
        Ok(())
    }

    /// Runs `lull` with a token.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn lull_as(&self, token: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("lull"));
        command
            .args(arguments)
            .env("LULL_COORDINATOR", &self.url)
            .env("LULL_TOKEN", token)
            .stdin(Stdio::null());
        Ok(command.output()?)
    }

    /// Runs `lull` as the operator and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn lull(&self, arguments: &[&str]) -> Result<String> {
        success(arguments, self.lull_as(&self.operator, arguments)?)
    }

    /// Runs `lull` with a token and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn lull_with(&self, token: &str, arguments: &[&str]) -> Result<String> {
        success(arguments, self.lull_as(token, arguments)?)
    }

    /// Runs `lull` with a token and returns what it printed as JSON.
    ///
    /// # Errors
    /// When it fails.
    pub fn lull_json(&self, token: &str, arguments: &[&str]) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.lull_with(token, &[arguments, &["--output", "json"]].concat())?)?)
    }

    /// A submitter with a balance, and its token.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub fn submitter(&self, name: &str, balance: &str) -> Result<String> {
        self.lull(&["admin", "create-submitter", name])?;
        self.lull(&["fund", name, balance])?;
        let subject = format!("submitters/{name}");
        let token = self.lull(&["admin", "create-token", "--role", "submitter", "--subject", &subject])?;
        Ok(token.trim().to_owned())
    }

    /// An owner, and a token with which `uses` of its devices enrol.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub fn owner(&self, name: &str, uses: u32) -> Result<String> {
        self.lull(&["admin", "create-owner", name])?;
        let uses = uses.to_string();
        let arguments = ["admin", "create-enrolment-token", "--owner", name, "--uses", &uses];
        Ok(self.lull(&arguments)?.trim().to_owned())
    }

    /// Starts an agent of an owner, dedicated, with one slot.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn agent(&self, owner: &str, name: &str) -> Result<Agent> {
        let token = self.owner(owner, 1)?;
        let state_dir = self.dir.path().join(name);
        let arguments = [
            "--coordinator",
            &self.url,
            "--enrolment-token",
            &token,
            "--dedicated",
            "--slots",
            "1",
            "--name",
            name,
        ];
        Agent::start(state_dir, arguments.map(str::to_owned).to_vec())
    }

    /// Starts a dedicated agent of an owner whose state directory is a disk of so many MiB, its own and nobody
    /// else's: [`Agent::disk`] is the way in.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn agent_on_small_disk(&self, owner: &str, name: &str, mib: u32) -> Result<Agent> {
        std::fs::create_dir(self.dir.path().join(name))?;
        let disk = format!("mount -t tmpfs -o size={mib}m,mode=0700 tmpfs \"$0\"");
        self.agent_with_mount(owner, name, &disk, &[])
    }

    /// Starts a dedicated agent of an owner on a PC that has as much memory as that file says, in the form of
    /// `/proc/meminfo`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn agent_with_meminfo(
        &self,
        owner: &str,
        name: &str,
        meminfo: &Path,
        options: &[&str],
    ) -> Result<Agent> {
        let memory = format!("mount --bind '{}' /proc/meminfo", meminfo.display());
        self.agent_with_mount(owner, name, &memory, options)
    }

    /// Starts a dedicated agent that sees something else than others in one place of the file system; `$0` is its state
    /// directory.
    fn agent_with_mount(&self, owner: &str, name: &str, mount: &str, options: &[&str]) -> Result<Agent> {
        let token = self.owner(owner, 1)?;
        let state_dir = self.dir.path().join(name);
        let mut command = Command::new("unshare");
        let mount = format!("{mount} && exec \"$@\"");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]).arg(&state_dir);
        command.arg(binary("lull-worker")).args(["run", "--coordinator", &self.url, "--dedicated"]);
        command.args(["--slots", "1", "--name", name, "--enrolment-token", &token]).args(options);
        command.arg("--state-dir").arg(&state_dir).stdout(Stdio::null());
        let process = Process::spawn(command, state_dir.with_extension("log"))?;
        Ok(Agent { process, state_dir, arguments: Vec::new(), environment: Vec::new() })
    }

    /// Starts an agent of an owner on a PC where presence cannot be read: there is no display.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn watching_agent(&self, owner: &str, name: &str) -> Result<Agent> {
        let token = self.owner(owner, 1)?;
        let arguments =
            ["--coordinator", &self.url, "--enrolment-token", &token, "--slots", "1", "--name", name];
        Agent::start(self.dir.path().join(name), arguments.map(str::to_owned).to_vec())
    }

    /// Starts an agent of an owner on a PC with a desktop: `environment` names its display.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn office_agent(
        &self,
        owner: &str,
        name: &str,
        environment: &[(&str, &str)],
        options: &[&str],
    ) -> Result<Agent> {
        let token = self.owner(owner, 1)?;
        let arguments =
            ["--coordinator", &self.url, "--enrolment-token", &token, "--name", name, "--beside-others"];
        let arguments = arguments.iter().chain(options).map(|&argument| argument.to_owned()).collect();
        let environment =
            environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Agent::start_in(self.dir.path().join(name), arguments, environment)
    }

    /// Starts a dedicated agent for each of these owners.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn agents<const N: usize>(&self, owners: [&str; N]) -> Result<Vec<Agent>> {
        owners.into_iter().map(|owner| self.agent(owner, &format!("agent-{owner}"))).collect()
    }

    /// Submits a job file and returns the job's name.
    ///
    /// # Errors
    /// When it is refused.
    pub fn submit(&self, token: &str, file: &Path, options: &[&str]) -> Result<String> {
        let mut arguments = vec!["submit", file.to_str().context("a path in UTF-8")?];
        arguments.extend(options);
        let output = self.lull_as(token, &arguments)?;
        Ok(success(&arguments, output)?.trim().to_owned())
    }

    /// A job as JSON.
    ///
    /// # Errors
    /// When there is none.
    pub fn job(&self, job: &str) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.lull(&["jobs", job, "--output", "json"])?)?)
    }

    /// Waits until a job satisfies a condition.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_job(
        &self,
        job: &str,
        what: &str,
        mut done: impl FnMut(&serde_json::Value) -> bool,
    ) -> Result<serde_json::Value> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            // The coordinator may be down just now.
            if let Ok(state) = self.job(job) {
                if done(&state) {
                    return Ok(state);
                }
                ensure!(Instant::now() < deadline, "{job} was not {what} in time: {state}");
            }
            ensure!(
                Instant::now() < deadline,
                "{job} was not {what} in time, and the coordinator does not answer"
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Waits until a job has its answer, and reads it.
    ///
    /// # Errors
    /// When it ends otherwise, or not in time.
    pub fn answer(&self, token: &str, job: &str) -> Result<Vec<u8>> {
        self.wait_end(job, "complete")?;
        let output = self.lull_as(token, &["results", job])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// Waits until a job has ended in this state.
    ///
    /// # Errors
    /// When it ends otherwise, or not in time.
    pub fn wait_end(&self, job: &str, end: &str) -> Result<serde_json::Value> {
        let state = self.wait_job(job, "ended", |state| state["state"] != "running")?;
        ensure!(state["state"] == end, "{job} is not {end}: {state}");
        Ok(state)
    }

    /// Runs a job file without a grid and returns its answer.
    ///
    /// # Errors
    /// When it fails.
    pub fn run_local(&self, file: &Path, options: &[&str]) -> Result<Vec<u8>> {
        let mut arguments = vec!["run-local", file.to_str().context("a path in UTF-8")?];
        arguments.extend(options);
        Ok(success(&arguments, self.lull_as("", &arguments)?)?.into_bytes())
    }

    /// Audits the books from outside.
    ///
    /// # Errors
    /// What the auditor finds.
    pub fn audit(&self) -> Result<()> {
        let mut command = Command::new(binary("lull-audit"));
        let output =
            command.arg("--state-dir").arg(self.dir().join("state")).args(["--output", "json"]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        Ok(())
    }

    /// Checks that the books balance.
    ///
    /// # Errors
    /// When they do not.
    pub fn check_books(&self) -> Result<()> {
        self.lull(&["books"]).map(drop)
    }
}

impl Agent {
    fn start(state_dir: PathBuf, arguments: Vec<String>) -> Result<Self> {
        Self::start_in(state_dir, arguments, Vec::new())
    }

    fn start_in(
        state_dir: PathBuf,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let mut command = Command::new(binary("lull-worker"));
        command.arg("run").args(&arguments).arg("--state-dir").arg(&state_dir).stdout(Stdio::null());
        for desktop in
            ["DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"]
        {
            command.env_remove(desktop);
        }
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        let log = state_dir.with_extension("log");
        Ok(Self { process: Process::spawn(command, log)?, state_dir, arguments, environment })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Its state directory as it sees it, also where that is a disk of its own.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.pid().as_raw_nonzero());
        Path::new(&root).join(self.state_dir.strip_prefix("/").unwrap_or(&self.state_dir))
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.process.log).unwrap_or_default()
    }

    /// Its runners.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn runners(&self) -> Result<Vec<Pid>> {
        let parent = self.pid().as_raw_nonzero().get();
        let mut runners = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{parent}/task"))?.flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            runners.extend(
                children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw),
            );
        }
        Ok(runners)
    }

    /// Kills it as a power cut would, and starts it again with the same state.
    ///
    /// # Errors
    /// When it cannot be killed or started.
    pub fn kill_and_restart(self) -> Result<Self> {
        self.kill()?.start()
    }

    /// Tells it to end, and gives it the time to hand its work back.
    #[must_use]
    pub fn stop(self) -> AgentAtRest {
        let Self { process, state_dir, arguments, environment } = self;
        drop(process);
        AgentAtRest { state_dir, arguments, environment }
    }

    /// Kills it as a power cut would.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(self) -> Result<AgentAtRest> {
        self.process.signal(Signal::KILL)?;
        let (state_dir, arguments) = (self.state_dir.clone(), self.arguments.clone());
        Ok(AgentAtRest { state_dir, arguments, environment: self.environment.clone() })
    }
}

fn start_coordinator(dir: &Path, arguments: &[String], listen: &str) -> Result<(Process, String)> {
    let mut command = Command::new(binary("lull-coordinator"));
    command.arg("serve").arg("--state-dir").arg(dir.join("state")).args(["--listen", listen]).args(arguments);
    let mut process = Process::spawn_piped(command, dir.join("coordinator.log"))?;
    let stdout = process.child.stdout.take().context("a piped stdout")?;
    let mut url = String::new();
    BufReader::new(stdout).read_line(&mut url)?;
    if url.is_empty() {
        bail!("the coordinator ended: {}", std::fs::read_to_string(&process.log).unwrap_or_default());
    }
    Ok((process, url.trim().to_owned()))
}

impl Process {
    fn spawn_piped(mut command: Command, log: PathBuf) -> Result<Self> {
        command.stdout(Stdio::piped());
        Self::spawn(command, log)
    }
}

fn success(arguments: &[&str], output: Output) -> Result<String> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "lull {arguments:?}: {}: {complaint}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until a condition of SQL holds.
///
/// # Errors
/// When it does not in time, or the database refuses.
pub async fn wait_until(client: &tokio_postgres::Client, what: &str, condition: &str) -> Result<()> {
    let begun = Instant::now();
    while !client.query_one(&format!("SELECT {condition}"), &[]).await?.try_get::<_, bool>(0)? {
        ensure!(begun.elapsed() < DEADLINE, "not {what} in time");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}
