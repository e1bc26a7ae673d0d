//! Which `zerok-relay` is run: the one of the same build as this program, as new as its sources.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// Where the workspace lies from which this program was built.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What goes into the relay's binary.
const SOURCES: [&str; 2] = ["relay/src", "protocol/src"];

/// The relay's binary: the one beside this program if it is newer than its sources, else built now.
///
/// # Errors
/// If it cannot be built.
pub fn relay_binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| find_or_build().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

fn find_or_build() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    // Test binaries lie one folder deeper than programs.
    let folders = own.ancestors().skip(1).take(2);
    let beside = folders.map(|folder| folder.join("zerok-relay")).find(|path| path.is_file());
    let newest_source = SOURCES.map(|folder| newest(&Path::new(WORKSPACE).join(folder))).into_iter().max().flatten();
    match beside {
        Some(path) if modified(&path) > newest_source => Ok(path),
        _ => build(own.components().any(|part| part.as_os_str() == "release")),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// When the newest file below a folder was modified.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}

fn build(release: bool) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "zerok-sync-relay", "--bin", "zerok-relay"])
        .args(release.then_some("--release"))
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(WORKSPACE)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo, which builds the relay")?;
    if !built.status.success() {
        bail!("the relay does not build");
    }
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("cargo did not say where it put the relay")
}
