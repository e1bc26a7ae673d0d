//! Removing devices, leaving, other names and new keys, as a person does it.

use crate::support::{Device, Homes, RelayProcess, RelaySetup};

fn three(setup: &RelaySetup) -> (RelayProcess, Homes, [Device; 3]) {
    let relay = setup.start();
    let homes = Homes::new();
    let devices = ["a", "b", "c"].map(|name| homes.device(name));
    devices[0].init(&relay);
    devices[0].let_in(&devices[1]);
    devices[0].let_in(&devices[2]);
    (relay, homes, devices)
}

fn id_of(device: &Device) -> String {
    let own = device.json(&["devices"]).into_iter().find(|row| row["own"] == true).expect("itself");
    own["device"].as_str().expect("hex").to_owned()
}

#[test]
fn d_rev_01_a_revoked_device_is_told_and_the_others_go_on() {
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
    let texts: Vec<_> = a.json(&["pull"]).into_iter().map(|row| row["text"].clone()).collect();
    assert_eq!(texts, ["from b", "after"]);
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
    let texts: Vec<_> = b.json(&["pull"]).into_iter().map(|row| row["text"].clone()).collect();
    assert_eq!(texts, ["last words"]);
    assert_eq!(b.json(&["devices"]).len(), 2);
    assert_eq!(b.json(&["status"])[0]["problem"], serde_json::Value::Null);
}
