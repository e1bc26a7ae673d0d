//! Two real relays carry one group: either is enough, and neither stays behind.

use crate::support::{Homes, RelayProcess, RelaySetup, pair};

/// A group on two relays, which both devices know.
pub struct Group {
    pub setups: [RelaySetup; 2],
    pub relays: [RelayProcess; 2],
    _homes: Homes,
    pub a: crate::support::Device,
    pub b: crate::support::Device,
}

impl Group {
    pub fn new() -> Self {
        let setups = [RelaySetup::sqlite(), RelaySetup::sqlite()];
        let (first, homes, a, b) = pair(&setups[0]);
        let second = setups[1].start();
        a.succeed(&["push", "before"]);
        let listed = a.json(&["relays", "add", &second.url]);
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert!(listed[0]["home"] == true && listed[1]["has_everything"] == true, "{listed:?}");
        assert_eq!(b.succeed(&["pull"]), "before\n");
        Self { setups, relays: [first, second], _homes: homes, a, b }
    }
}

#[test]
fn mr_01_with_either_relay_killed_what_is_pushed_arrives_and_the_other_gets_it_when_it_is_back() {
    let mut group = Group::new();
    for killed in 0..2 {
        group.relays[killed].kill();
        let text = format!("while {killed} is away");
        group.a.succeed(&["push", &text]);
        assert_eq!(group.b.succeed(&["pull"]), format!("{text}\n"));
        group.relays[killed] = group.setups[killed].restart(&group.relays[killed]);
        let listed = group.a.json(&["relays", "list"]);
        assert!(listed.iter().all(|relay| relay["has_everything"] == true), "{listed:?}");
    }
    assert_eq!(group.b.succeed(&["pull"]), "", "nothing comes twice");
    group.b.succeed(&["verify"]);
}

#[test]
fn mr_03_without_any_relay_it_is_said_and_what_was_pushed_is_kept() {
    let mut group = Group::new();
    group.relays.iter_mut().for_each(RelayProcess::kill);
    let said = group.a.fail(3, &["push", "kept", "--timeout", "2s"]);
    assert!(said.contains("safely queued"), "{said}");
    assert_eq!(group.a.json(&["status"])[0]["outbox"], 1);
    let back = group.setups[1].restart(&group.relays[1]);
    assert_eq!(group.b.succeed(&["pull"]), "");
    group.a.succeed(&["pull"]);
    assert_eq!(group.a.json(&["status"])[0]["outbox"], 0);
    assert_eq!(group.b.succeed(&["pull"]), "kept\n");
    drop(back);
}

#[test]
fn a_relay_that_is_none_is_not_listed_and_the_only_one_is_not_removed() {
    let setup = RelaySetup::sqlite();
    let (relay, _homes, a, _b) = pair(&setup);
    let said = a.fail(3, &["relays", "add", "http://127.0.0.1:9", "--timeout", "2s"]);
    assert!(said.contains("no relay reachable"), "{said}");
    let said = a.fail(2, &["relays", "add", "http://192.0.2.1"]);
    assert!(said.contains("give its key"), "{said}");
    assert_eq!(a.json(&["relays", "list"]).len(), 1);
    let said = a.fail(2, &["relays", "remove", &relay.url]);
    assert!(said.contains("only relay"), "{said}");
}
