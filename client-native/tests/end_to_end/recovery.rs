//! Recovery words, as a person has them: made, checked, and used when every device is gone.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Device, Ended, Homes, RelaySetup, pair};

/// Makes words, as a script does.
pub fn words_of(device: &Device) -> String {
    let said = device.json(&["recovery", "create", "--yes"]);
    assert_eq!(said.last().expect("an end")["recovery"], "ready");
    said[0]["words"].as_str().expect("words").to_owned()
}

/// Runs a command with something typed into it.
fn typed(device: &Device, arguments: &[&str], input: &str) -> Ended {
    let mut command = device.command(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // It may have ended without reading.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("ends");
    Ended {
        code: output.status.code().expect("ended by itself"),
        stdout: String::from_utf8(output.stdout).expect("prints UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("prints UTF-8"),
    }
}

pub fn restore(device: &Device, relay: &str, words: &str) -> Ended {
    typed(device, &["recovery", "restore", "--relay", relay, "--name", "new"], words)
}

pub fn lose(device: &Device) {
    std::fs::remove_dir_all(&device.home).expect("it was there");
}

pub fn texts(device: &Device) -> Vec<String> {
    device.succeed(&["pull", "--after", "0", "--own"]).lines().map(Into::into).collect()
}

#[test]
fn d_rec_01_when_every_home_is_gone_the_words_bring_everything_back_also_after_rotations_and_a_removal() {
    let setup = RelaySetup::sqlite();
    let (relay, homes, a, b) = pair(&setup);
    a.succeed(&["push", "before the words"]);
    let words = words_of(&a);
    b.succeed(&["push", "behind the words"]);
    let c = homes.device("c");
    a.let_in(&c);
    c.succeed(&["push", "by a device that is removed"]);
    a.succeed(&["rotate"]);
    b.succeed(&["revoke", "c"]);
    b.succeed(&["push", "behind all of it"]);
    let expected = ["before the words", "behind the words", "by a device that is removed", "behind all of it"];
    [&a, &b, &c].into_iter().for_each(lose);

    let new = homes.device("new");
    let restored = restore(&new, &relay.url, &words);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    let told = ["a, b. Remove", "b, a. Remove"].iter().any(|names| restored.stderr.contains(names));
    assert!(told && restored.stderr.contains("zerok revoke"), "{}", restored.stderr);
    assert_eq!(texts(&new), expected);
    new.succeed(&["revoke", "a"]);
    new.succeed(&["revoke", "b"]);
    new.succeed(&["push", "in the new home"]);
    let devices = new.json(&["devices"]);
    let names: Vec<_> = devices.iter().map(|row| (row["name"].as_str().expect("a name"), &row["paper"])).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&("recovery words", &Value::Bool(true))) && names.contains(&("new", &Value::Bool(false))));
    new.succeed(&["verify"]);

    // The words stay good: once more, from a sheet as it was printed.
    lose(&new);
    let newer = homes.device("newer").over("ws");
    let numbered: Vec<String> =
        (1..).zip(words.split(' ')).map(|(n, word)| format!("{n}. {}", word.to_uppercase())).collect();
    let restored = restore(&newer, &relay.url, &numbered.join("\n"));
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(texts(&newer), [&expected[..], &["in the new home"]].concat());
}

#[test]
fn a_group_of_one_device_is_nagged_until_it_has_words() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    let founded = a.run(&["init", "--relay", &relay.url]);
    for said in [&founded, &a.run(&["status"]), &a.run(&["devices"]), &a.run(&["recovery", "status"])] {
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stderr.contains("zerok recovery create"), "{}", said.stderr);
    }
    assert_eq!(a.json(&["recovery", "status"])[0]["recovery"], "none");
    words_of(&a);
    for command in [&["status"][..], &["devices"], &["recovery", "status"]] {
        let said = a.run(command);
        assert!(!said.stderr.contains("recovery create"), "{}", said.stderr);
    }
    assert_eq!(a.json(&["recovery", "status"])[0]["recovery"], "ready");
    assert_eq!(a.json(&["status"])[0]["devices"], 1, "paper is no device");
}

#[test]
fn words_are_made_good_only_when_three_of_them_were_typed_back() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    a.init(&relay);
    let silent = a.run(&["recovery", "create"]);
    assert_eq!(silent.code, 2, "{}", silent.stderr);
    assert!(silent.stderr.contains("--yes") && silent.stderr.contains("no words were made"), "{}", silent.stderr);
    let wrong = typed(&a, &["recovery", "create"], "zebra\nzebra\nzebra\n");
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("That is not word"), "{}", wrong.stderr);
    assert_eq!(a.json(&["recovery", "status"])[0]["recovery"], "none");

    // A person: reads the table, is asked, types.
    let mut command = a.command(&["recovery", "create"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut table = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut shown = Vec::new();
    while shown.len() < 24 {
        let mut line = String::new();
        assert!(std::io::BufRead::read_line(&mut table, &mut line).expect("UTF-8") > 0, "{shown:?}");
        shown.extend(line.split_whitespace().filter(|it| it.chars().all(char::is_alphabetic)).map(String::from));
    }
    let mut asked = child.stderr.take().expect("piped");
    let mut typing = child.stdin.take().expect("piped");
    let mut said = String::new();
    for _ in 0..3 {
        let number: usize = loop {
            let mut byte = [0];
            std::io::Read::read_exact(&mut asked, &mut byte).expect("it asks");
            said.push(char::from(byte[0]));
            if let Some((_, number)) = said.rsplit_once("Type word ").filter(|(_, rest)| rest.ends_with(": ")) {
                break number.trim_end_matches(": ").parse().expect("a number");
            }
        };
        said.clear();
        writeln!(typing, "{}", shown[number - 1]).expect("it reads");
    }
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut asked, &mut rest).expect("UTF-8");
    assert!(child.wait().expect("ends").success(), "{rest}");
    assert!(rest.contains("the words are good"), "{rest}");
}

#[test]
fn a_sheet_names_words_relay_and_key_is_its_owners_and_replaces_no_file() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let a = homes.device("a");
    a.init(&relay);
    let key = a.json(&["status"])[0]["relay_key"].as_str().expect("hex").to_owned();
    for name in ["sheet.html", "sheet.txt"] {
        let file = a.home.with_file_name(name);
        let path = file.to_str().expect("UTF-8");
        let said = a.json(&["recovery", "create", "--yes", "--sheet", path]);
        let sheet = std::fs::read_to_string(&file).expect("written");
        let words = said[0]["words"].as_str().expect("words");
        assert!(words.split(' ').all(|word| sheet.contains(word)), "{name}");
        assert!(sheet.contains(&relay.url) && sheet.contains(&key), "{name}");
        assert_eq!(sheet.starts_with("<!doctype html>"), name.ends_with("html"));
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("there").permissions());
            assert_eq!(mode & 0o077, 0, "{name}");
        }
        let said = a.fail(2, &["recovery", "create", "--yes", "--sheet", path]);
        assert!(said.contains("there already"), "{said}");
    }
}

#[test]
fn d_rec_01_wrong_words_are_named_and_words_of_nobody_and_older_words_are_refused() {
    let setup = RelaySetup::sqlite();
    let relay = setup.start();
    let homes = Homes::new();
    let (a, new) = (homes.device("a"), homes.device("new"));
    a.init(&relay);
    let older = words_of(&a);
    let words = words_of(&a);
    assert_ne!(older, words);
    lose(&a);
    let list: Vec<&str> = words.split(' ').collect();

    let mut mistyped = list.clone();
    mistyped[6] = "abandom";
    let mut swapped = list.clone();
    let place = (0..23).find(|place| list[*place] != list[place + 1]).expect("24 words differ");
    swapped.swap(place, place + 1);
    for (typed, parts) in [
        (mistyped.join(" "), &["word 7", "abandom", "abandon"][..]),
        (list[..23].join(" "), &["24 words", "23"]),
        (String::new(), &["no words"]),
    ] {
        let refused = restore(&new, &relay.url, &typed);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(parts.iter().all(|part| refused.stderr.contains(part)), "{}", refused.stderr);
        assert!(!new.home.exists(), "nothing is left behind");
    }
    // One swap in 256 keeps the checksum: then they are nobody's words.
    let refused = restore(&new, &relay.url, &swapped.join(" "));
    assert!(matches!(refused.code, 2 | 5), "{}", refused.stderr);
    let nobody = "abandon ".repeat(23) + "art";
    for (typed, part) in [(&nobody, "knows no group"), (&older, "replaced by newer ones")] {
        let refused = restore(&new, &relay.url, typed);
        assert_eq!(refused.code, 5, "{}", refused.stderr);
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
        assert!(!new.home.exists(), "nothing is left behind");
    }
    assert_eq!(restore(&new, &relay.url, &words).code, 0);
}

#[test]
fn d_rec_01_a_relay_whose_database_was_tampered_with_is_refused_with_a_sentence() {
    let setup = RelaySetup::sqlite();
    let mut relay = setup.start();
    let homes = Homes::new();
    let (a, new) = (homes.device("a"), homes.device("new"));
    a.init(&relay);
    a.succeed(&["push", "early"]);
    let words = words_of(&a);
    a.succeed(&["push", "late"]);
    lose(&a);
    for (spoil, part) in [
        ("UPDATE devices SET slot = x''", "lost what a restore is checked against"),
        ("UPDATE devices SET slot = zeroblob(length(slot))", "not your group"),
        ("UPDATE entries SET envelope = zeroblob(length(envelope)) WHERE cursor = 1", "does not begin as your group's"),
        ("DELETE FROM entries WHERE cursor = 3", "lacks entries"),
    ] {
        relay.kill();
        let files = database_files(&setup);
        rusqlite::Connection::open(setup.directory().join("relay.db")).unwrap().execute(spoil, []).expect(spoil);
        relay = setup.restart(&relay);
        let refused = restore(&new, &relay.url, &words);
        assert_eq!(refused.code, 4, "{spoil}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{spoil}: {}", refused.stderr);
        assert!(!new.home.exists(), "{spoil}: nothing is left behind");
        relay.kill();
        for (path, content) in files {
            std::fs::write(path, content).unwrap();
        }
        relay = setup.restart(&relay);
    }
    let restored = restore(&new, &relay.url, &words);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(texts(&new), ["early", "late"]);
}

/// The database of a relay that does not run.
fn database_files(setup: &RelaySetup) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(setup.directory()).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("relay.db"));
    files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

#[test]
fn no_floor_waits_for_the_words() {
    let setup = RelaySetup::sqlite();
    let (_relay, _homes, a, b) = pair(&setup);
    words_of(&a);
    for text in ["one", "two", "three"] {
        a.succeed(&["push", text]);
    }
    b.succeed(&["pull"]);
    let file = a.home.join("state");
    std::fs::write(&file, "one, two and three").expect("there is room");
    a.succeed(&["compact", "--file", file.to_str().expect("UTF-8")]);

    b.succeed(&["pull"]);

    let status = &b.json(&["status"])[0];
    assert!(status["floors"][0]["floor"].as_u64().expect("a number") > 5, "{status}");
}
