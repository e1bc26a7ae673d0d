//! `zerok serve`: whoever has only the command line has a relay.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use tempfile::TempDir;

use crate::support::{Device, Ended, Homes, signal};

struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What its first line says after `ready`.
    url: String,
    key: String,
}

impl Serving {
    fn start(home: &Device, data: &TempDir, listen: &str) -> Self {
        let data_dir = data.path().to_str().unwrap();
        let mut child = home
            .command(&["serve", "--listen", listen, "--data-dir", data_dir])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        let words: Vec<&str> = ready.split_whitespace().collect();
        let ["ready", url, key, iroh] = words[..] else { panic!("it did not start: {ready:?}") };
        assert!(iroh.starts_with("iroh="), "{ready}");
        let key = key.strip_prefix("key=").expect("the key");
        Self { url: url.into(), key: key.into(), child, stdout }
    }

    /// What Ctrl-C does.
    fn interrupt(mut self) -> Ended {
        signal(&self.child, "INT");
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().expect("ended by itself");
        Ended { code, stdout, stderr }
    }
}

#[test]
fn two_devices_meet_at_a_relay_that_the_command_line_runs_and_find_it_again_after_ctrl_c() {
    let (homes, data) = (Homes::new(), TempDir::new().unwrap());
    let (host, a, b) = (homes.device("host"), homes.device("a"), homes.device("b"));
    let serving = Serving::start(&host, &data, "127.0.0.1:0");
    let (url, key) = (serving.url.clone(), serving.key.clone());
    a.succeed(&["init", "--relay", &url, "--relay-key", &key, "--name", "a"]);
    a.let_in(&b);
    a.succeed(&["push", "one"]);
    assert_eq!(b.succeed(&["pull"]), "one\n");
    let ended = serving.interrupt();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("open {url} in a browser")), "{}", ended.stderr);
    assert!(!host.home.exists(), "a relay is nobody's home");

    let serving = Serving::start(&host, &data, url.strip_prefix("http://").unwrap());
    assert_eq!(serving.key, key, "it is the same relay");
    b.succeed(&["push", "two"]);
    assert_eq!(a.succeed(&["pull"]), "two\n");
    assert_eq!(serving.interrupt().code, 0);
}

#[test]
fn a_setting_that_makes_no_sense_is_a_usage_error_that_names_it() {
    let device = Homes::new().device("host");
    let said = device.fail(2, &["serve", "--listen", "8080"]);
    assert!(said.contains("--listen") && said.contains("127.0.0.1:8080"), "{said}");
    let said = device.with("ZEROK_RELAY_LISTN", "127.0.0.1:0").fail(2, &["serve"]);
    assert!(said.contains("did you mean ZEROK_RELAY_LISTEN"), "{said}");
}
