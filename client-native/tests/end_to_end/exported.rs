//! A group in a file: read as an archive, or the device put back; and files that are not what they
//! should be.

use crate::support::{Device, RelaySetup, pair};

const FILE: &str = "ZEROK_EXPORT_PASSPHRASE";

/// With the passphrase of the export file.
fn knowing(device: &Device) -> Device {
    device.clone().with(FILE, "correct horse")
}

/// Where this device's file is.
fn file_of(device: &Device) -> String {
    device.home.with_extension("export").to_str().unwrap().to_owned()
}

#[test]
fn an_archive_is_read_without_a_home_and_shows_what_the_device_had() {
    let setup = RelaySetup::sqlite();
    let (relay, homes, a, b) = pair(&setup);
    a.succeed(&["push", "one"]);
    b.succeed(&["push", "two"]);
    let has = a.json(&["pull", "--own"]);
    assert_eq!(has.len(), 2);
    drop(relay);

    let file = file_of(&a);
    knowing(&a).succeed(&["export", &file]);
    let sealed = std::fs::read(&file).unwrap();
    assert!(!sealed.windows(3).any(|window| window == b"one"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let nobody = homes.device("nobody");
    assert_eq!(knowing(&nobody).json(&["import", "--read", &file]), has);
    assert!(!nobody.home.exists());
    let said = knowing(&nobody).fail(2, &["import", &file]);
    assert!(said.contains("--identity"), "{said}");
    knowing(&a).fail(2, &["export", &file]);
    assert_eq!(std::fs::read(&file).unwrap(), sealed, "it was not overwritten");
}

#[test]
fn files_that_are_not_whole_are_refused_with_the_reason_and_leave_nothing() {
    let setup = RelaySetup::sqlite();
    let (_relay, homes, a, _b) = pair(&setup);
    let large = homes.device("large").home;
    std::fs::write(&large, vec![b'x'; 200_000]).unwrap();
    a.succeed(&["push", "--file", large.to_str().unwrap()]);
    let file = file_of(&a);
    knowing(&a).succeed(&["export", &file, "--identity"]);
    let whole = std::fs::read(&file).unwrap();

    let target = homes.device("c");
    let said = target.clone().with(FILE, "battery staple").fail(5, &["import", &file]);
    assert!(said.contains("wrong passphrase"), "{said}");
    let mut edited = whole.clone();
    edited[100_000] ^= 1;
    let chunk = 65_536 + 16;
    let mut moved = whole.clone();
    moved[96..96 + 2 * chunk].rotate_left(chunk);
    for (content, reason) in [
        (&whole[..150_000], "cut off"),
        (&whole[..96 + chunk], "cut off"),
        (&edited, "damaged"),
        (&moved, "damaged"),
        (b"a letter", "no export file"),
    ] {
        std::fs::write(&file, content).unwrap();
        for arguments in [&["import", &file][..], &["import", "--read", &file]] {
            let ended = knowing(&target).run(arguments);
            assert!(matches!(ended.code, 1 | 2), "{ended:?}");
            assert!(ended.stderr.contains(reason) || ended.stderr.contains("damaged"), "{reason}: {ended:?}");
            assert_eq!(ended.stdout, "", "nothing of it is shown");
        }
        let left: Vec<_> = std::fs::read_dir(target.home.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 4, "two homes, two files: {left:?}");
    }
    std::fs::write(&file, &whole).unwrap();
    knowing(&target).succeed(&["import", &file]);
}

#[test]
fn a_device_whose_disk_died_goes_on_from_its_export() {
    let setup = RelaySetup::sqlite();
    let (relay, homes, a, b) = pair(&setup);
    a.succeed(&["push", "before"]);
    a.succeed(&["push", "never sent", "--wait", "local"]);
    let was = a.json(&["status"])[0]["device"].clone();
    let file = file_of(&a);
    knowing(&a).succeed(&["export", &file, "--identity"]);
    std::fs::remove_dir_all(&a.home).unwrap();

    let again = homes.device("again").with("ZEROK_PASSPHRASE", "another one");
    knowing(&again).succeed(&["import", &file, "--passphrase"]);
    assert_eq!(again.json(&["status"])[0]["device"], was);
    again.succeed(&["push", "after"]);
    assert_eq!(b.succeed(&["pull"]), "before\nnever sent\nafter\n");
    again.succeed(&["verify"]);
    b.succeed(&["verify"]);
    knowing(&again).fail(1, &["import", &file]);
    drop(relay);
}

#[test]
fn s_cur_03_a_device_put_back_from_an_older_export_reads_and_does_not_fork_its_chain() {
    let setup = RelaySetup::sqlite();
    let (_relay, homes, a, b) = pair(&setup);
    let file = file_of(&a);
    knowing(&a).succeed(&["export", &file, "--identity"]);
    a.succeed(&["push", "since then"]);
    std::fs::remove_dir_all(&a.home).unwrap();

    let older = homes.device("older");
    knowing(&older).succeed(&["import", &file]);
    let said = older.fail(5, &["push", "would fork", "--timeout", "5s"]);
    assert!(said.contains("older copy"), "{said}");
    b.succeed(&["push", "hello"]);
    assert_eq!(older.succeed(&["pull"]), "hello\n", "it reads");
    assert_eq!(b.succeed(&["pull"]), "since then\n");
    b.succeed(&["verify"]);
}
