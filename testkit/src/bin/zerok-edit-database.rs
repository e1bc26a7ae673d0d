//! `zerok-edit-database FILE STATEMENT`: changes a relay's SQLite database by hand, for tests that are
//! not written in Rust. Prints how many rows it changed.

use std::process::ExitCode;

use rusqlite::{Connection, OpenFlags};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, statement] = arguments.as_slice() else {
        eprintln!("usage: zerok-edit-database FILE STATEMENT");
        return ExitCode::from(2);
    };
    // A wrong path is an error, and not a new database.
    let changed =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|it| it.execute(statement, []));
    match changed {
        Ok(rows) => {
            println!("{rows}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}
