//! A group at a relay whose database somebody edits by hand while the relay does not run.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{Device, Homes, RelayProcess, RelaySetup, pair};

pub struct Group {
    pub setup: RelaySetup,
    pub relay: RelayProcess,
    pub homes: Homes,
    pub a: Device,
    pub b: Device,
}

impl Group {
    /// Device `a` pushed `one`, `two` and `three`, and device `b` has read them.
    pub fn new() -> Self {
        let group = Self::empty();
        for text in ["one", "two", "three"] {
            group.a.succeed(&["push", text]);
        }
        group.b.succeed(&["pull"]);
        group
    }

    /// Devices `a` and `b`, and nothing pushed.
    pub fn empty() -> Self {
        let setup = RelaySetup::sqlite();
        let (relay, homes, a, b) = pair(&setup);
        Self { setup, relay, homes, a, b }
    }

    /// Another device of the group.
    pub fn third(&self, name: &str) -> Device {
        let device = self.homes.device(name);
        self.a.let_in(&device);
        device
    }

    /// Does something to the relay's files while it does not run.
    pub fn tamper(&mut self, change: impl FnOnce(&Path)) {
        self.relay.kill();
        change(self.setup.directory());
        self.relay = self.setup.restart(&self.relay);
    }

    /// Does something to the relay's database while it does not run.
    pub fn tamper_with_rows(&mut self, change: impl FnOnce(&Connection)) {
        self.tamper(|directory| change(&Connection::open(directory.join("relay.db")).unwrap()));
    }

    /// The database as it is now.
    pub fn copy(&mut self) -> TempDir {
        let copy = TempDir::new().unwrap();
        self.tamper(|directory| copy_database(directory, copy.path()));
        copy
    }

    /// Puts the database back to a copy.
    pub fn put_back(&mut self, copy: &TempDir) {
        self.tamper(|directory| copy_database(copy.path(), directory));
    }

    /// What a question to the database of the running relay is answered with.
    pub fn count(&self, question: &str) -> i64 {
        let database = Connection::open(self.setup.directory().join("relay.db")).unwrap();
        database.query_row(question, [], |row| row.get(0)).expect(question)
    }

    /// A device that joins now has everything and hears no alarm.
    pub fn assert_whole(&self) {
        self.assert_holds(&["one", "three", "two"]);
    }

    /// Likewise, with these texts, sorted.
    pub fn assert_holds(&self, texts: &[&str]) {
        let later = self.third("later");
        assert_eq!(sorted(&later.succeed(&["pull"])), texts);
        for device in [&later, &self.b] {
            device.succeed(&["verify"]);
        }
    }
}

/// The lines that were printed, sorted.
pub fn sorted(printed: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    lines
}

/// The cursor of the newest but one entry.
pub fn second_newest(database: &Connection) -> i64 {
    database.query_row("SELECT max(cursor) - 1 FROM entries", [], |row| row.get(0)).unwrap()
}

/// One row, no more and no less.
pub fn change(database: &Connection, statement: &str, parameters: impl rusqlite::Params) {
    assert_eq!(database.execute(statement, parameters).unwrap(), 1, "{statement}");
}

/// Puts one database in the place of another.
pub fn copy_database(from: &Path, to: &Path) {
    remove_database(to);
    for file in database_files(from) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

pub fn remove_database(directory: &Path) {
    for file in database_files(directory) {
        std::fs::remove_file(file).unwrap();
    }
}

fn database_files(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("relay.db")).collect()
}
