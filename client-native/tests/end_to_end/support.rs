//! A relay process, homes, and the command line to work them with.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::Value;
use tempfile::TempDir;

/// The relay's binary: the one beside `zerok` if it is newer than its sources, else built now.
fn relay_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let beside = Path::new(env!("CARGO_BIN_EXE_zerok")).with_file_name("zerok-relay");
        let modified = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let sources = ["relay", "protocol"].map(|name| newest(&workspace.join(name).join("src")));
        if modified(&beside) > sources.into_iter().max() { beside } else { build_relay() }
    })
}

/// When the newest file below a directory was modified.
fn newest(directory: &Path) -> SystemTime {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let times =
        entries.map(|path| if path.is_dir() { newest(&path) } else { path.metadata().unwrap().modified().unwrap() });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn build_relay() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "zerok-sync-relay", "--bin", "zerok-relay"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "the relay does not build");
    let messages = String::from_utf8(built.stdout).expect("cargo writes UTF-8");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable")
}

/// A relay in a process of its own. Killed when dropped.
pub struct RelayProcess {
    child: Child,
    pub url: String,
    pub key: String,
}

/// How to run a relay.
pub struct RelaySetup {
    /// Keeps the relay's files until the test ends.
    directory: TempDir,
    options: Vec<String>,
}

impl RelaySetup {
    /// On SQLite, logging everything it ever logs.
    pub fn sqlite() -> Self {
        Self { directory: TempDir::new().unwrap(), options: vec!["--log".into(), "trace".into()] }
    }

    pub fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(ToString::to_string));
        self
    }

    /// Everything the relay writes: database, keys, log.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it on a free port.
    pub fn start(&self) -> RelayProcess {
        self.start_on("127.0.0.1:0")
    }

    /// Starts it where it was before.
    pub fn restart(&self, before: &RelayProcess) -> RelayProcess {
        self.start_on(before.url.strip_prefix("http://").unwrap())
    }

    /// Runs one of the binary's other commands while the relay does not run, and starts it again.
    pub fn maintain(&self, relay: &mut RelayProcess, command: &str) {
        relay.kill();
        let data_dir = self.directory.path().as_os_str();
        let ended = Command::new(relay_binary()).args([command, "--data-dir"]).arg(data_dir).output().unwrap();
        assert!(ended.status.success(), "{command}: {ended:?}");
        *relay = self.restart(relay);
    }

    fn start_on(&self, listen: &str) -> RelayProcess {
        let log = File::options().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let mut child = Command::new(relay_binary())
            .args(["--listen", listen, "--data-dir"])
            .arg(self.directory.path())
            .args(&self.options)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let words: Vec<&str> = ready.split_whitespace().collect();
        let ["ready", url, key, _iroh] = words[..] else {
            let log = std::fs::read_to_string(self.directory.path().join("log"));
            panic!("the relay did not start: {ready:?} {log:?}")
        };
        RelayProcess { url: url.into(), key: key.strip_prefix("key=").unwrap().into(), child }
    }
}

impl RelayProcess {
    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A place for homes.
pub struct Homes(TempDir);

/// One device, as far as its command line goes.
#[derive(Clone)]
pub struct Device {
    pub home: PathBuf,
    transport: &'static str,
    environment: Vec<(&'static str, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Homes {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// The device whose home has this name; nothing is created.
    pub fn device(&self, name: &str) -> Device {
        Device { home: self.0.path().join(name), transport: "auto", environment: Vec::new() }
    }
}

impl Device {
    pub fn over(self, transport: &'static str) -> Self {
        Self { transport, ..self }
    }

    /// With a variable in the environment of every command.
    pub fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.environment.push((variable, value.to_owned()));
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zerok"));
        for variable in ["HOME", "TRANSPORT", "RELAY", "PASSPHRASE", "NEW_PASSPHRASE", "EXPORT_PASSPHRASE"] {
            command.env_remove(format!("ZEROK_{variable}"));
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("--home").arg(&self.home).args(["--transport", self.transport]).args(arguments);
        command
    }

    /// Runs a command to its end, with nothing on standard input.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        Ended {
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).expect("prints UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("prints UTF-8"),
        }
    }

    /// Runs a command that must succeed; its stdout.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        ended.stdout
    }

    /// Runs a command that must fail with this code; its stderr.
    pub fn fail(&self, code: i32, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        assert!(!ended.stderr.is_empty(), "a failure is explained");
        ended.stderr
    }

    /// Like [`Self::succeed`] with `--json`: the lines, parsed.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.succeed(&[&["--json"], arguments].concat());
        printed.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
    }

    pub fn init(&self, relay: &RelayProcess) {
        let name = self.home.file_name().unwrap().to_str().unwrap().to_owned();
        self.succeed(&["init", "--relay", &relay.url, "--name", &name]);
    }

    /// Starts `invite --link`; the link it printed comes with it.
    pub fn invite(&self, options: &[&str]) -> Inviting {
        self.inviting(&[&["--link"], options].concat())
    }

    /// Starts `invite --code`; the code it printed comes with it.
    pub fn invite_by_code(&self, options: &[&str]) -> Inviting {
        self.inviting(&[&["--code"], options].concat())
    }

    fn inviting(&self, options: &[&str]) -> Inviting {
        let mut child = self
            .command(&[&["invite"], options].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut link = String::new();
        stdout.read_line(&mut link).unwrap();
        Inviting { child, stdout, link: link.trim_end().into() }
    }

    /// Starts `join`, without a terminal.
    pub fn join(&self, arguments: &[&str]) -> Joining {
        let mut child = self
            .command(&[&["join"], arguments].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Joining { child, stderr, said: String::new() }
    }

    /// Brings `other` into this device's group.
    pub fn let_in(&self, other: &Device) {
        let inviting = self.invite(&["--yes"]);
        let name = other.home.file_name().unwrap().to_str().unwrap().to_owned();
        other.succeed(&["join", &inviting.link, "--name", &name]);
        assert_eq!(inviting.end().code, 0);
    }
}

/// An `invite` that waits for its joiner.
pub struct Inviting {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The link, or the code.
    pub link: String,
}

impl Inviting {
    /// Types a line at its terminal.
    pub fn answer(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What Ctrl-C does.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        signal(&self.child, "INT");
    }

    /// Its end, and what was printed behind the link or code. Nobody types any more.
    pub fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        self.wait()
    }

    /// Its end, while somebody still sits at the terminal.
    pub fn wait(mut self) -> Ended {
        let _terminal = self.child.stdin.take();
        let mut stdout = String::new();
        std::io::Read::read_to_string(&mut self.stdout, &mut stdout).unwrap();
        let output = self.child.wait_with_output().unwrap();
        Ended {
            code: output.status.code().expect("ended by itself"),
            stdout,
            stderr: String::from_utf8(output.stderr).expect("prints UTF-8"),
        }
    }
}

/// A `join` under way.
pub struct Joining {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Joining {
    /// The digits it shows, once it does.
    pub fn digits(&mut self) -> String {
        while self.stderr.read_line(&mut self.said).unwrap() > 0 {
            if let Some((_, digits)) = self.said.split_once("shows ") {
                return digits[..2].to_owned();
            }
        }
        panic!("no digits were shown: {}", self.said)
    }

    /// What Ctrl-C does.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        signal(&self.child, "INT");
    }

    pub fn end(mut self) -> Ended {
        std::io::Read::read_to_string(&mut self.stderr, &mut self.said).unwrap();
        let code = self.child.wait().unwrap().code().expect("ended by itself");
        Ended { code, stdout: String::new(), stderr: self.said }
    }
}

/// Sends a process a signal.
#[cfg(unix)]
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// A relay and two devices `a` and `b` of one group.
pub fn pair(setup: &RelaySetup) -> (RelayProcess, Homes, Device, Device) {
    let relay = setup.start();
    let homes = Homes::new();
    let (a, b) = (homes.device("a"), homes.device("b"));
    a.init(&relay);
    a.let_in(&b);
    (relay, homes, a, b)
}
