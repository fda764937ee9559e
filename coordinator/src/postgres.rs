//! The private database: a `postgres` child of the coordinator, for whoever does not run one already.
//!
//! Its data lies in a directory of mode 0700, it listens on a Unix socket only, and it syncs to disk. It gets a
//! fast shutdown when the coordinator ends, however it ends, and is started again when it dies on its own. It has one
//! coordinator: a second one on the same state directory is refused.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, getuid, kill_process};

/// `sockaddr_un` has 108 bytes; PostgreSQL appends `/.s.PGSQL.5432`.
const SOCKET_DIR_BYTES_MAX: usize = 107 - "/.s.PGSQL.5432".len();
/// A crashed server waits this long for its last processes to let go of the shared memory.
const RESTART_DELAY: Duration = Duration::from_millis(200);
/// One that ends again and again (a full disk, a damaged file) waits longer each time, up to this: nobody reads the same
/// complaint four times a second.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);
/// A server that ran this long was well.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// A server that did not stop by itself in this time is killed; nothing committed is lost.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A running private server.
pub struct Postgres {
    socket_dir: PathBuf,
    stop: mpsc::Sender<()>,
    supervisor: Option<JoinHandle<()>>,
    /// Locked until it is closed, so also when the process is killed.
    _lock: File,
}

struct Installation {
    bin: PathBuf,
    account: Option<Account>,
    data: PathBuf,
    socket_dir: PathBuf,
    log: PathBuf,
}

/// The user that the server runs as when the coordinator is root: PostgreSQL refuses to.
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Starts the server of this state directory, making its database at the first start.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, cannot use the directory, or has a coordinator already.
    pub fn start(state_dir: &Path) -> Result<Self> {
        let installation = Installation::find(state_dir)?;
        let lock = lock(state_dir)?;
        installation.prepare_dirs(state_dir)?;
        if !installation.data.exists() {
            installation.init()?;
        }
        let (stop, stopped) = mpsc::channel();
        let socket_dir = installation.socket_dir.clone();
        // The server's parent-death signal fires when the thread that started it ends: this one lives on.
        let supervisor = std::thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || supervise(&installation, &stopped))?;
        Ok(Self { socket_dir, stop, supervisor: Some(supervisor), _lock: lock })
    }

    /// URL of a database of this server, as its owner.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let dir: String =
            self.socket_dir.to_string_lossy().replace('%', "%25").replace('/', "%2F").replace(' ', "%20");
        format!("postgresql://lull_owner@{dir}/{database}")
    }

    /// Creates the database `lull` where it is not there yet. Waits until the server answers.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn create_database(&self) -> Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let connect = async {
            loop {
                ticks.tick().await;
                match tokio_postgres::connect(&self.url("postgres"), tokio_postgres::NoTls).await {
                    Ok(connected) => break connected,
                    Err(error) => tracing::debug!(%error, "waiting for postgres"),
                }
            }
        };
        let (client, connection) =
            tokio::time::timeout(Duration::from_secs(60), connect).await.with_context(|| {
                format!(
                    "PostgreSQL did not start within a minute: see {}",
                    self.socket_dir.with_file_name("log").display()
                )
            })?;
        let connection = tokio::spawn(connection);
        if client.query_opt("SELECT FROM pg_database WHERE datname = 'lull'", &[]).await?.is_none() {
            client.batch_execute("CREATE DATABASE lull").await?;
        }
        drop(client);
        connection.await?.context("closing the connection to PostgreSQL")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The supervisor may be gone already; then there is nothing to stop.
        let _ = self.stop.send(());
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

/// Takes hold of the private server of a state directory, and leaves there who has it.
fn lock(state_dir: &Path) -> Result<File> {
    let path = state_dir.join("lock");
    let unusable = || format!("locking {}", path.display());
    let mut options = File::options();
    let mut lock =
        options.create(true).read(true).write(true).truncate(false).open(&path).with_context(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "another coordinator (process {}) runs on the state directory {}: stop it, or name another --state-dir",
            fs::read_to_string(&path).unwrap_or_default().trim(),
            state_dir.display()
        ),
        Err(TryLockError::Error(error)) => return Err(error).with_context(unusable),
    }
    lock.set_len(0).with_context(unusable)?;
    writeln!(lock, "{}", std::process::id()).with_context(unusable)?;
    Ok(lock)
}

impl Installation {
    fn find(state_dir: &Path) -> Result<Self> {
        let root = state_dir.join("postgres");
        let socket_dir = root.join("run");
        ensure!(
            socket_dir.as_os_str().len() <= SOCKET_DIR_BYTES_MAX,
            "the state directory {} is too deep for a Unix socket: use a path {} bytes shorter",
            state_dir.display(),
            socket_dir.as_os_str().len() - SOCKET_DIR_BYTES_MAX
        );
        let account = if getuid().is_root() { Some(Account::find()?) } else { None };
        Ok(Self { bin: find_bin()?, account, data: root.join("data"), socket_dir, log: root.join("log") })
    }

    fn prepare_dirs(&self, state_dir: &Path) -> Result<()> {
        let root = state_dir.join("postgres");
        for dir in [&root, &self.socket_dir] {
            fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
            if let Some(account) = &self.account {
                chown(dir, Some(account.uid), Some(account.gid))?;
            }
        }
        if let Some(account) = &self.account {
            for dir in state_dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
                let mode = fs::metadata(dir)?.permissions().mode();
                ensure!(
                    mode & 0o001 != 0,
                    "PostgreSQL runs as the user {}, which cannot enter {}: choose another --state-dir, or `chmod o+x` it",
                    account.name,
                    dir.display()
                );
            }
        }
        Ok(())
    }

    /// A command that runs as the server's user and gets SIGINT, a fast shutdown, when its parent thread dies.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if let Some(account) = &self.account {
            command.args([
                "--reuid",
                &account.uid.to_string(),
                "--regid",
                &account.gid.to_string(),
                "--clear-groups",
            ]);
        }
        command.arg("--").arg(self.bin.join(program));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Makes the data directory under another name first, so that a half-made one is never used.
    fn init(&self) -> Result<()> {
        let fresh = self.data.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        let options =
            ["--username=lull_owner", "--auth=peer", "--encoding=UTF8", "--locale=C", "--no-instructions"];
        let output = self
            .command("initdb")
            .args(options)
            .arg("-D")
            .arg(&fresh)
            .output()
            .context("running initdb through setpriv (package util-linux)")?;
        ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        let user = system_user(getuid().as_raw())?;
        fs::write(fresh.join("pg_hba.conf"), "local all all peer map=lull\n")?;
        fs::write(fresh.join("pg_ident.conf"), format!("lull {user} lull_owner\nlull {user} lull_app\n"))?;
        fs::rename(&fresh, &self.data)?;
        Ok(())
    }

    fn spawn(&self) -> Result<Child> {
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let mut socket_option = OsString::from("unix_socket_directories=");
        socket_option.push(&self.socket_dir);
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data).arg("-c").arg(socket_option);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.stdout(log.try_clone()?).stderr(log);
        // Ctrl-C on a terminal goes to the whole group: the server has to outlive the coordinator's last calls.
        command.process_group(0);
        command.spawn().context("starting postgres through setpriv (package util-linux)")
    }
}

/// Durable, local, and sized for one PC that has other things to do.
const SETTINGS: [&str; 11] = [
    "listen_addresses=",
    "fsync=on",
    "synchronous_commit=on",
    "max_connections=40",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "wal_compression=on",
    "checkpoint_timeout=15min",
    "autovacuum_naptime=10s",
    "jit=off",
    "log_min_messages=warning",
];

fn supervise(installation: &Installation, stopped: &mpsc::Receiver<()>) {
    let mut delay = RESTART_DELAY;
    // The server of a coordinator that was killed may take a while to end: until then there cannot be another.
    let mut was_well = false;
    loop {
        let began = Instant::now();
        match installation.spawn() {
            Ok(mut child) => {
                if wait(&mut child, stopped) == Ended::Stopped {
                    return;
                }
                tracing::error!(log = %installation.log.display(), "postgres ended, or a former one still holds its data: it is started again");
            }
            Err(error) => tracing::error!(error = %format!("{error:#}"), "cannot start postgres"),
        }
        let is_well = began.elapsed() >= WELL_AFTER;
        was_well |= is_well;
        delay = if was_well && !is_well { delay } else { RESTART_DELAY };
        if stopped.recv_timeout(delay) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        delay = (delay * 2).min(RESTART_DELAY_MAX);
    }
}

#[derive(PartialEq)]
enum Ended {
    Stopped,
    Alone,
}

/// Waits until the server ends, or is told to.
fn wait(child: &mut Child, stopped: &mpsc::Receiver<()>) -> Ended {
    const POLL: Duration = Duration::from_millis(50);
    loop {
        if !matches!(child.try_wait(), Ok(None)) {
            return Ended::Alone;
        }
        if stopped.recv_timeout(POLL) == Err(mpsc::RecvTimeoutError::Timeout) {
            continue;
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A server that is gone cannot be signalled, and need not be.
            let _ = kill_process(pid, Signal::INT);
        }
        let mut left = STOP_TIMEOUT;
        while matches!(child.try_wait(), Ok(None)) && !left.is_zero() {
            std::thread::park_timeout(POLL);
            left = left.saturating_sub(POLL);
        }
        if matches!(child.try_wait(), Ok(None)) {
            tracing::error!("postgres did not stop, killing it");
            let _ = child.kill();
            let _ = child.wait();
        }
        return Ended::Stopped;
    }
}

fn find_bin() -> Result<PathBuf> {
    let has_server = |dir: &PathBuf| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    if let Some(dir) = std::env::var_os("LULL_PG_BIN").map(PathBuf::from) {
        ensure!(has_server(&dir), "LULL_PG_BIN={} holds no postgres and initdb", dir.display());
        return Ok(dir);
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, dir)| has_server(dir))
        .collect();
    versions.sort();
    if let Some((_, dir)) = versions.pop() {
        return Ok(dir);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).find(has_server) {
        Some(dir) => Ok(dir),
        None => bail!(
            "PostgreSQL is not installed: `apt-get install postgresql`, or name its bin directory in LULL_PG_BIN, \
             or give --database-url"
        ),
    }
}

impl Account {
    fn find() -> Result<Self> {
        let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        let account = ["lull", "postgres"].iter().find_map(|name| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                let matches = fields.next() == Some(name);
                let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
                matches.then(|| Self { name: (*name).to_owned(), uid, gid })
            })
        });
        account.context("PostgreSQL refuses to run as root: create a user `lull` (`useradd --system lull`)")
    }
}

fn system_user(uid: u32) -> Result<String> {
    let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.with_context(|| format!("user {uid} has no name in /etc/passwd"))
}
