//! A PostgreSQL cluster that lives as long as the test process.
//!
//! `initdb` and `pg_ctl` of the installed PostgreSQL (15 or later) make a cluster in a temporary
//! directory, on a private port of 127.0.0.1 and a socket in that directory. PostgreSQL refuses to
//! run as root; there it runs as `postgres` or `nobody`. A small shell outlives the test process,
//! waits for its end (however it comes) on a pipe, stops the cluster and removes the directory.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::port;

/// How the cluster treats a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync = on`: as in production, for tests that crash it.
    Full,
    /// `fsync = off`: fast, for everything else.
    None,
}

/// Ports tried for a cluster: another process may take one before the server does.
const PORTS_TRIED: u32 = 10;

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No `initdb`.
    #[error(
        "PostgreSQL 15 or later is not installed: install it (on Debian: apt-get install postgresql), or put its bin folder into PATH"
    )]
    NotInstalled,
    /// A command of PostgreSQL failed.
    #[error("{command} failed: {output}")]
    Command {
        /// Which.
        command: String,
        /// What it said.
        output: String,
    },
    /// The machine did not let us.
    #[error("could not set up a PostgreSQL cluster: {0}")]
    Io(#[from] std::io::Error),
}

/// A running cluster. Stopped and removed when dropped or when the process ends.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    /// User and group to run as, when this process is root.
    run_as: Option<(u32, u32)>,
    /// Removes the cluster once the other end of its stdin closes.
    janitor: Child,
}

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The cluster that all tests of this process share, without durability.
///
/// # Panics
/// If it cannot be started, with one sentence that says what to do.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| match Cluster::start(Durability::None) {
        Ok(cluster) => cluster,
        Err(error) => panic!("{error}"),
    })
}

impl Cluster {
    /// Makes and starts a cluster.
    ///
    /// # Errors
    /// [`PostgresError::NotInstalled`], or what `initdb` or `pg_ctl` said.
    pub fn start(durability: Durability) -> Result<Self, PostgresError> {
        let bin = bin_dir().ok_or(PostgresError::NotInstalled)?;
        let run_as = unprivileged_user()?;
        let mut cluster = Self::in_a_folder(bin, run_as)?;
        cluster.init(durability)?;
        cluster.up_on_a_free_port()?;
        Ok(cluster)
    }

    /// A standby on a port of its own: a copy of this cluster that follows it and can be read. This
    /// one waits for it if its `synchronous_standby_names` says so, and not otherwise.
    ///
    /// # Errors
    /// What `pg_basebackup` or `pg_ctl` said.
    pub fn standby(&self) -> Result<Self, PostgresError> {
        let mut standby = Self::in_a_folder(self.bin.clone(), self.run_as)?;
        let mut copy = standby.command("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "zerok", "-X", "stream", "-c", "fast", "-R"]);
        copy.arg("-D").arg(standby.data());
        run(copy)?;
        standby.up_on_a_free_port()?;
        Ok(standby)
    }

    /// Makes a standby a primary. What it had received it has.
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn promote(&self) -> Result<(), PostgresError> {
        let mut pg_ctl = self.pg_ctl();
        pg_ctl.args(["-w", "promote"]);
        run(pg_ctl)
    }

    fn in_a_folder(bin: PathBuf, run_as: Option<(u32, u32)>) -> Result<Self, PostgresError> {
        let dir = tempfile::Builder::new().prefix("zerok-pg-").tempdir()?.keep();
        if let Some((user, group)) = run_as {
            chown(&dir, user, group)?;
        }
        let janitor = janitor(&bin, &dir, run_as)?;
        Ok(Self { bin, dir, port: port::free()?, run_as, janitor })
    }

    fn up_on_a_free_port(&mut self) -> Result<(), PostgresError> {
        for _ in 1..PORTS_TRIED {
            match self.up() {
                Err(PostgresError::Command { output, .. }) if output.contains(PORT_TAKEN) => self.port = port::free()?,
                outcome => return outcome,
            }
        }
        self.up()
    }

    /// A new empty database; answers its URL.
    ///
    /// # Panics
    /// If the cluster is down.
    pub fn database(&self) -> String {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut createdb = self.command("createdb");
        createdb.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "zerok", &name]);
        run(createdb).expect("a running cluster makes databases");
        self.url(&name)
    }

    /// URL of a database. Its password is not asked for; it is there to be looked for in logs.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://zerok:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Starts it after [`Self::crash`] or [`Self::down`].
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn up(&self) -> Result<(), PostgresError> {
        let mut pg_ctl = self.pg_ctl();
        let socket = self.dir.display();
        pg_ctl.args(["-o", &format!("-c port={} -c unix_socket_directories={socket}", self.port)]);
        pg_ctl.arg("-l").arg(self.dir.join("log")).args(["-w", "-t", "60", "start"]);
        run(pg_ctl).map_err(|error| match error {
            PostgresError::Command { command, output } => {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                PostgresError::Command { command, output: format!("{output}\n{log}") }
            }
            other => other,
        })
    }

    /// Stops it as an administrator would: connections are closed, nothing is lost.
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn down(&self) -> Result<(), PostgresError> {
        self.stop("fast")
    }

    /// Stops it without any tidying, so that the next start recovers from the log.
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn crash(&self) -> Result<(), PostgresError> {
        self.stop("immediate")
    }

    /// One of PostgreSQL's own programs, such as `psql` or `pgbench`, as the cluster's user.
    pub fn client(&self, program: &str) -> Command {
        self.command(program)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn stop(&self, mode: &str) -> Result<(), PostgresError> {
        let mut pg_ctl = self.pg_ctl();
        pg_ctl.args(["-m", mode, "-w", "stop"]);
        run(pg_ctl)
    }

    fn init(&self, durability: Durability) -> Result<(), PostgresError> {
        let mut initdb = self.command("initdb");
        initdb.args(["-U", "zerok", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions", "--no-sync"]);
        initdb.arg("-D").arg(self.data());
        run(initdb)?;
        let fsync = if durability == Durability::Full { "on" } else { "off" };
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nmax_connections = 300\nfsync = {fsync}\nfull_page_writes = {fsync}\n"
        );
        std::fs::write(self.data().join("postgresql.auto.conf"), settings)?;
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn pg_ctl(&self) -> Command {
        let mut command = self.command("pg_ctl");
        command.arg("-s").arg("-D").arg(self.data());
        command
    }

    fn command(&self, program: &str) -> Command {
        command(&self.bin, program, &self.dir, self.run_as)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        // It ends by itself; waiting only keeps the directory from outliving the value.
        let _ = self.janitor.wait();
    }
}

/// The password in every URL that [`Cluster::url`] makes.
pub const PASSWORD: &str = "swordfish";

fn bin_dir() -> Option<PathBuf> {
    let from_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let from_pg_config = Command::new("pg_config")
        .arg("--bindir")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|text| PathBuf::from(text.trim()));
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    installed.sort();
    // A link in PATH (to initdb alone, say) leads to the folder that has all of them.
    let resolved = |dir: PathBuf| Some(dir.join("initdb").canonicalize().ok()?.parent()?.to_owned());
    from_path
        .chain(from_pg_config)
        .chain(installed.into_iter().rev())
        .filter_map(resolved)
        .find(|dir| ["initdb", "pg_ctl", "createdb"].iter().all(|program| dir.join(program).is_file()))
}

/// `None` unless this process is root.
fn unprivileged_user() -> Result<Option<(u32, u32)>, PostgresError> {
    if id(&["-u"])? != Some(0) {
        return Ok(None);
    }
    for user in ["postgres", "nobody"] {
        if let (Some(uid), Some(gid)) = (id(&["-u", user])?, id(&["-g", user])?) {
            return Ok(Some((uid, gid)));
        }
    }
    Err(PostgresError::Command {
        command: "id".into(),
        output: "PostgreSQL refuses to run as root and there is neither a user `postgres` nor `nobody`".into(),
    })
}

fn id(arguments: &[&str]) -> Result<Option<u32>, PostgresError> {
    let output = Command::new("id").args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

#[cfg(unix)]
fn chown(path: &Path, user: u32, group: u32) -> std::io::Result<()> {
    std::os::unix::fs::chown(path, Some(user), Some(group))
}

#[cfg(not(unix))]
fn chown(_: &Path, _: u32, _: u32) -> std::io::Result<()> {
    Ok(())
}

/// A command run in a folder that the unprivileged user can enter, with nothing of ours open.
fn command(bin: &Path, program: &str, dir: &Path, run_as: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(bin.join(program));
    command.current_dir(dir).env("LC_ALL", "C").stdin(Stdio::null());
    #[cfg(unix)]
    if let Some((user, group)) = run_as {
        use std::os::unix::process::CommandExt;
        command.uid(user).gid(group);
    }
    command
}

/// Runs a command that may leave a server behind: its output goes to a file, because a server
/// would keep a pipe open for ever.
fn run(mut command: Command) -> Result<(), PostgresError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut output = tempfile::tempfile()?;
    command.stdout(output.try_clone()?).stderr(output.try_clone()?);
    if command.status()?.success() {
        return Ok(());
    }
    let mut text = String::new();
    std::io::Seek::rewind(&mut output)?;
    output.read_to_string(&mut text)?;
    Err(PostgresError::Command { command: name, output: text.trim().to_owned() })
}

/// A shell in a process group of its own (so that an interrupt from the terminal spares it) that
/// removes the cluster when this process is gone.
fn janitor(bin: &Path, dir: &Path, run_as: Option<(u32, u32)>) -> Result<Child, PostgresError> {
    // Again, because a process of the cluster may still write while it is told to stop.
    const SCRIPT: &str = r#"
        read -r _
        for attempt in 1 2 3 4 5; do
            "$0" -s -D "$1/data" -m immediate -w stop
            rm -rf "$1" && break
            sleep 1
        done
    "#;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(SCRIPT).arg(bin.join("pg_ctl")).arg(dir);
    shell.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        shell.process_group(0);
        if let Some((user, group)) = run_as {
            shell.uid(user).gid(group);
        }
    }
    Ok(shell.spawn()?)
}

/// What the server's log says then.
const PORT_TAKEN: &str = "Address already in use";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_cluster_leaves_nothing_behind() {
        let cluster = Cluster::start(Durability::None).expect("PostgreSQL is installed");
        let (dir, port) = (cluster.dir().to_owned(), cluster.port);
        assert!(cluster.database().ends_with("test_0"));
        assert!(dir.join("data/postmaster.pid").exists());
        drop(cluster);
        assert!(!dir.exists());
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    }

    #[test]
    fn a_port_that_somebody_took_meanwhile_is_told_apart() {
        let mut cluster = Cluster::start(Durability::None).expect("PostgreSQL is installed");
        cluster.down().expect("it runs");
        let taken = TcpListener::bind(("127.0.0.1", cluster.port)).expect("the cluster is down");
        let refused = cluster.up().expect_err("the port is taken").to_string();
        assert!(refused.contains(PORT_TAKEN), "{refused}");
        cluster.port = port::free().expect("there are free ports");
        cluster.up().expect("another port");
        drop(taken);
    }
}
