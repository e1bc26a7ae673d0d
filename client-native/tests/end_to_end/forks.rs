//! A relay with two databases that go different ways, and a device with two homes that do: told by
//! whoever hears of the other, with exit code 4.

use crate::membership::id_of;
use crate::support::Device;
use crate::tampering::{Group, change};

#[test]
fn b_fork_two_copies_that_two_devices_wrote_to_are_told_when_both_meet_one() {
    let mut group = Group::new();
    let before = group.copy();
    group.a.succeed(&["push", "to one copy"]);
    let one = group.copy();
    group.put_back(&before);
    group.b.succeed(&["push", "to the other"]);

    group.put_back(&one);
    let said = group.b.fail(4, &["pull"]);
    assert!(said.contains("no longer has what it had"), "{said}");
    group.b.succeed(&["repair"]);
    group.a.succeed(&["pull"]);
    group.assert_holds(&["one", "three", "to one copy", "to the other", "two"]);
}

#[test]
fn b_fork_entries_moved_from_one_copy_to_the_other_say_what_their_author_was_shown() {
    let mut group = Group::new();
    let told = format!("showed device {} another order than this one", id_of(&group.a));
    let before = group.copy();
    // The second of them says in which order its author read the first.
    for text in ["to one copy", "and again"] {
        group.a.succeed(&["push", text]);
    }
    let one = group.copy();
    group.put_back(&before);
    group.b.succeed(&["push", "to the other"]);
    group.tamper_with_rows(|database| {
        let copy = one.path().join("relay.db");
        database.execute("ATTACH ?1 AS one", [copy.to_str().expect("UTF-8")]).unwrap();
        let moved = "INSERT INTO entries SELECT group_id, cursor + 1, blob_id, received_at, envelope FROM one.entries WHERE cursor >= (SELECT head FROM groups)";
        assert_eq!(database.execute(moved, []), Ok(2));
        let head = "UPDATE groups SET head = head + 2, head_blob_id = (SELECT head_blob_id FROM one.groups)";
        change(database, head, []);
    });

    let ended = group.b.run(&["pull"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (4, "to one copy\nand again\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    group.b.succeed(&["repair"]);
    group.a.fail(4, &["pull"]);
    group.assert_holds(&["and again", "one", "three", "to one copy", "to the other", "two"]);
}

fn copy_home(from: &Device, to: &Device) {
    std::fs::create_dir(&to.home).unwrap();
    for file in std::fs::read_dir(&from.home).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.home.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_proto_03_the_second_of_two_copies_of_a_home_that_write_is_stopped_before_it_forks_the_chain() {
    let group = Group::new();
    let clone = group.homes.device("clone");
    copy_home(&group.b, &clone);
    group.b.succeed(&["push", "by the original"]);
    let said = clone.fail(5, &["push", "by the copy"]);
    assert!(said.contains("restored from an older copy, or copied"), "{said}");
    let read = group.a.succeed(&["pull"]);
    assert_eq!(read, "by the original\n");
    group.b.succeed(&["push", "again"]);
    assert_eq!(group.a.succeed(&["pull"]), "again\n");
    group.a.succeed(&["verify"]);
}

#[test]
fn a_proto_03_two_copies_of_a_home_whose_writing_a_relay_hid_from_each_other_are_told_of_by_all() {
    let mut group = Group::new();
    let clone = group.homes.device("clone");
    copy_home(&group.b, &clone);
    let before = group.copy();
    group.b.succeed(&["push", "by the original"]);
    assert_eq!(group.a.succeed(&["pull"]), "by the original\n");
    group.put_back(&before);
    clone.succeed(&["push", "by the copy"]);

    let told = "wrote two different entries 2";
    let said = group.a.fail(4, &["pull"]);
    assert!(said.contains(told), "{said}");
    let said = group.b.fail(4, &["pull"]);
    assert!(said.contains(told), "{said}");
    // The relay lost what the original wrote; put back, it reaches the copy, too.
    group.a.succeed(&["repair"]);
    let said = clone.fail(4, &["pull"]);
    assert!(said.contains(told), "{said}");
    for copy in [&group.b, &clone] {
        copy.fail(5, &["push", "more"]);
    }
    assert_eq!(group.a.succeed(&["pull", "--after", "0"]), "by the original\n", "the branch that came first counts");
}
