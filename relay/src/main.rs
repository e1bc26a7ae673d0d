//! The `zerok-relay` binary: runs the relay, and everything an operator does around it.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
