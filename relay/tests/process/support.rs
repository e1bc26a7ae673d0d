//! Starts the binary, asks it, stops it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use zerok_sync_protocol::channel::StaticKey;
use zerok_sync_protocol::frame::EntryItem;

use crate::client::{Client, Group, link};

/// The program.
pub const RELAY: &str = env!("CARGO_BIN_EXE_zerok-relay");

/// A relay that said that it is ready.
pub struct Running {
    pub child: Child,
    ready: String,
}

impl Running {
    pub fn start(dir: &Path, more: &[&str]) -> Self {
        Self::spawn(relay(dir).args(["--listen", "127.0.0.1:0"]).args(more))
    }

    /// Runs the command until the relay is ready.
    pub fn spawn(command: &mut Command) -> Self {
        Self::until_ready(command.spawn().unwrap())
    }

    /// Waits for the ready line of a relay that was started.
    pub fn until_ready(mut child: Child) -> Self {
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        Self { child, ready }
    }

    pub fn addr(&self) -> &str {
        self.ready.strip_prefix("ready http://").and_then(|rest| rest.split(' ').next()).unwrap()
    }

    pub fn field(&self, name: &str) -> &str {
        self.ready.split_whitespace().find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap()
    }

    pub fn get(&self, path: &str) -> String {
        self.get_with(path, "Accept: */*")
    }

    pub fn get_with(&self, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(self.addr()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\n{header}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A client that has done the handshake.
    pub async fn client(&self, device: &StaticKey) -> Client {
        let link = link::ws_at(self.addr().parse().unwrap()).await;
        Client::open(link, device, &self.field("key").parse().unwrap()).await
    }

    /// A member of a log that it made.
    pub async fn founder(&self, group: &Group, device: &StaticKey) -> Client {
        let mut client = self.client(device).await;
        client.found(group).await;
        client
    }

    /// All that stands in a log, from its start.
    pub async fn entries(&self, group: &Group, device: &StaticKey) -> Vec<EntryItem> {
        let mut client = self.client(device).await;
        client.admitted(group).await;
        client.follow().await
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Asks it to stop; its exit code, the rest of stdout, and stderr.
    pub fn stop(self, signal: &str) -> Output {
        self.signal(signal);
        self.child.wait_with_output().unwrap()
    }
}

/// The binary with a data directory in `dir`, and nothing of this environment.
pub fn relay(dir: &Path) -> Command {
    let mut command = Command::new(RELAY);
    command
        .current_dir(dir)
        .env_clear()
        .args(["--data-dir", dir.join("data").to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A run that prints nothing but complaints: its exit code and what it said.
pub fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = relay(dir).args(args).output().unwrap();
    assert!(output.stdout.is_empty(), "stdout is for the ready line");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The same command, run by a shell that first does something to itself.
pub fn after(preparation: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{preparation}; exec \"$0\" \"$@\"")).arg(command.get_program());
    shell.args(command.get_args()).current_dir(command.get_current_dir().unwrap()).env_clear();
    shell.env("PATH", std::env::var_os("PATH").unwrap());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// A run to its end: exit code, stdout, stderr.
pub fn command(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = relay(dir).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
