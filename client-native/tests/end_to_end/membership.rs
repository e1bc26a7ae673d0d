//! Removing devices, leaving, other names and new keys, as a person does it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;

use crate::support::{Device, Homes, RelayProcess, RelaySetup, pair};

fn three(setup: &RelaySetup) -> (RelayProcess, Homes, [Device; 3]) {
    let relay = setup.start();
    let homes = Homes::new();
    // Two of them over WebSocket, one over iroh.
    let devices = [("a", "ws"), ("b", "iroh"), ("c", "ws")].map(|(name, over)| homes.device(name).over(over));
    devices[0].init(&relay);
    devices[0].let_in(&devices[1]);
    devices[0].let_in(&devices[2]);
    (relay, homes, devices)
}

pub fn id_of(device: &Device) -> String {
    let own = device.json(&["devices"]).into_iter().find(|row| row["own"] == true).expect("itself");
    own["device"].as_str().expect("hex").to_owned()
}

fn texts(device: &Device) -> Vec<String> {
    device.succeed(&["pull"]).lines().map(Into::into).collect()
}

/// A `pull --follow` under way.
struct Following {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Following {
    /// Starts one; it is connected, having read all of these.
    fn start(device: &Device, options: &[&str], texts: &[&str]) -> Self {
        let arguments = [options, &["pull", "--follow"]].concat();
        let mut command = device.command(&arguments);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut following = Self { child, stdout };
        for text in texts {
            assert_eq!(following.line(), *text);
        }
        following
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("prints UTF-8");
        line.trim_end().into()
    }

    /// Its end by itself: exit code, and what it said.
    fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("prints UTF-8");
        (self.child.wait().expect("a child").code().expect("ended by itself"), said)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn d_rev_01_a_device_revoked_while_it_is_connected_is_told_at_once_and_the_others_are_not_disturbed() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, [a, b, c]) = three(&setup);
    a.succeed(&["push", "before"]);
    let revoked = Following::start(&b, &[], &["before"]);
    let mut stays = Following::start(&c, &[], &["before"]);
    a.succeed(&["revoke", "b"]);
    let (code, said) = revoked.end();
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("removed from the group"), "{said}");
    a.succeed(&["push", "after"]);
    assert_eq!(stays.line(), "after");
}

#[test]
fn d_rev_01_of_a_device_revoked_while_it_pushes_the_others_have_what_was_acknowledged_and_nothing_later() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, [a, b, c]) = three(&setup);
    let (acked, acks) = mpsc::channel();
    let pushing = std::thread::spawn({
        let b = b.clone();
        move || {
            for n in 0.. {
                let text = format!("b{n}");
                let ended = b.run(&["push", &text, "--wait", "relay"]);
                if ended.code != 0 {
                    return ended;
                }
                acked.send(text).expect("the test waits");
            }
            unreachable!("a revoked device is refused")
        }
    });
    let mut acknowledged: Vec<String> = acks.iter().take(2).collect();
    a.succeed(&["revoke", "b"]);
    let refused = pushing.join().expect("ends");
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    acknowledged.extend(acks.iter());
    let read = texts(&a);
    assert_eq!(read[..acknowledged.len()], acknowledged, "what was acknowledged is there");
    assert!(read.len() <= acknowledged.len() + 1, "at most the one whose answer was lost: {read:?}");
    assert_eq!(texts(&c), read);
    b.fail(5, &["push", "later"]);
    assert_eq!(texts(&a), [""; 0]);
}

#[test]
fn a_new_member_is_told_by_every_device_that_looks() {
    let setup = RelaySetup::sqlite();
    let (_relay, homes, a, b) = pair(&setup);
    let (late, later) = (homes.device("late"), homes.device("later"));
    a.succeed(&["push", "before"]);
    let mut following = Following::start(&b, &["--json"], &[]);
    assert!(following.line().contains("before"));
    a.let_in(&late);
    let told: serde_json::Value = serde_json::from_str(&following.line()).expect("an object a line");
    assert_eq!(told, serde_json::json!({ "event": "joined", "device": id_of(&late), "name": "late", "paper": false }));
    drop(following);

    a.let_in(&later);
    let told = b.run(&["status"]).stderr;
    assert!(told.contains(&format!("later joined the group ({})", id_of(&later))), "{told}");
    assert!(!told.contains("late joined"), "once: {told}");
    let told = late.run(&["pull"]).stderr;
    assert!(told.contains("later joined") && !told.contains("b joined"), "{told}");
}

#[test]
fn d_rev_01_a_device_revoked_while_it_is_away_is_told_and_the_others_go_on() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, [a, b, c]) = three(&setup);
    b.succeed(&["push", "from b"]);
    let gone = id_of(&b);

    let revoked = a.run(&["revoke", &gone[..10]]);
    assert_eq!(revoked.code, 0, "{}", revoked.stderr);
    assert!(
        revoked.stderr.contains("is removed") && revoked.stderr.contains("keeps what it had"),
        "{}",
        revoked.stderr
    );

    for command in [&["pull"][..], &["push", "too late"], &["rotate"]] {
        let said = b.fail(5, command);
        assert!(said.contains("removed from the group") && said.contains("stays readable"), "{said}");
    }
    assert!(b.run(&["pull", "--after", "0", "--own"]).stdout.contains("from b"), "what it had it keeps");
    c.succeed(&["push", "after"]);
    assert_eq!(texts(&a), ["from b", "after"]);
    for device in [&a, &c] {
        let listed = device.json(&["devices"]);
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert!(listed.iter().all(|row| row["device"] != gone.as_str() && row["joined_at"].as_u64() > Some(0)));
    }
}

#[test]
fn whom_a_name_means_is_never_guessed_and_nobody_revokes_itself() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, [a, b, c]) = three(&setup);
    b.succeed(&["rename", "phone"]);
    c.succeed(&["rename", "phone"]);
    let said = a.fail(2, &["revoke", "phone"]);
    assert!(said.contains(&id_of(&b)) && said.contains(&id_of(&c)) && said.contains("identity"), "{said}");
    assert!(a.fail(2, &["revoke", "nobody"]).contains("nobody"));
    assert!(a.fail(2, &["revoke", &id_of(&a)]).contains("leave"));
    assert_eq!(a.json(&["devices"]).len(), 3);
}

#[test]
fn a_device_that_has_left_is_removed_by_the_next_one_that_looks() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, [a, b, c]) = three(&setup);
    c.succeed(&["push", "last words"]);
    let left = c.run(&["leave"]);
    assert_eq!(left.code, 0, "{}", left.stderr);
    assert!(left.stderr.contains("stays readable"), "{}", left.stderr);
    assert!(c.fail(5, &["push", "more"]).contains("left"));

    a.succeed(&["rotate"]);
    assert_eq!(a.json(&["devices"]).len(), 2);
    assert_eq!(texts(&b), ["last words"]);
    assert_eq!(b.json(&["devices"]).len(), 2);
    assert_eq!(b.json(&["status"])[0]["problem"], serde_json::Value::Null);
}

#[test]
fn d_rev_02_of_two_devices_that_revoke_each_other_at_once_the_relay_keeps_one_and_all_agree_which() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, [a, b, c]) = three(&setup);
    let revoking = [(a.clone(), "b"), (b.clone(), "a")]
        .map(|(device, other)| std::thread::spawn(move || device.run(&["revoke", other])));
    let ended = revoking.map(|thread| thread.join().expect("ends"));
    let (stays, gone) = if ended[0].code == 0 { (&a, &b) } else { (&b, &a) };
    let mut codes = ended.each_ref().map(|ended| ended.code);
    codes.sort_unstable();
    assert_eq!(codes, [0, 5], "{ended:?}");

    let said = gone.fail(5, &["push", "by who is out"]);
    assert!(said.contains("removed from the group"), "{said}");
    stays.succeed(&["push", "by who stays"]);
    assert_eq!(texts(&c), ["by who stays"]);
    for device in [stays, &c] {
        let mut members: Vec<_> = device.json(&["devices"]).iter().map(|row| row["device"].clone()).collect();
        let mut expected = [id_of(stays), id_of(&c)].map(serde_json::Value::String);
        members.sort_by_key(ToString::to_string);
        expected.sort_by_key(ToString::to_string);
        assert_eq!(members, expected);
        device.succeed(&["verify"]);
    }
}
