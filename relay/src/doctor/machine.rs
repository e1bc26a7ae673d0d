//! The machine under the relay.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{StatVfs, statfs, statvfs};
use rustix::process::{Resource, getrlimit};

use super::{Findings, size};
use crate::config::{Config, StoreConfig};

/// Flushes that are timed.
const FLUSHES: usize = 20;
/// What each of them writes.
const FLUSHED_BYTES: usize = 4096;
/// A push waits for one flush: beyond this a person notices.
const FLUSH_SLOW: Duration = Duration::from_millis(20);
/// No disk that really writes is faster than this; what answers so soon has only taken note.
const FLUSH_IMPLAUSIBLE: Duration = Duration::from_micros(10);
/// Below this a relay soon refuses everything.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// File descriptors besides those of connections: store, listeners, keys, logs.
const OWN_DESCRIPTORS: u64 = 64;
/// 2026-01-01, before the first release: no clock that is right says less.
const EARLIEST_UNIX_S: u64 = 1_767_225_600;

pub(super) fn examine(config: &Config, findings: &mut Findings) {
    if let Some(dir) = data_dir(config, findings) {
        disk(config, &dir, findings);
        flushes(&dir, findings);
    }
    clock(findings);
    descriptors(config, findings);
}

/// The data directory, or the folder that it would be made in.
fn data_dir(config: &Config, findings: &mut Findings) -> Option<PathBuf> {
    const NAME: &str = "data directory";
    let wanted = &config.data_dir;
    let there = wanted.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let dir = there.into_iter().find(|dir| dir.exists())?.to_owned();
    let shown = wanted.display();
    match probe(&dir) {
        Ok(_) if dir == *wanted => findings.ok(NAME, format!("{shown} can be written to")),
        Ok(_) => findings.ok(NAME, format!("{shown} is made at the first start")),
        Err(error) => {
            findings.fail(NAME, format!("cannot write to {}: {error}; the relay's user must own it", dir.display()));
            return None;
        }
    }
    Some(dir)
}

/// A file that is gone when it is dropped.
struct Probe {
    path: PathBuf,
    file: File,
}

fn probe(dir: &Path) -> io::Result<Probe> {
    let path = dir.join(format!(".zerok-relay-doctor-{}", std::process::id()));
    let file = File::create_new(&path)?;
    Ok(Probe { path, file })
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It was made a moment ago; a folder that lets files be made lets them be removed.
        let _ = fs::remove_file(&self.path);
    }
}

fn disk(config: &Config, dir: &Path, findings: &mut Findings) {
    const NAME: &str = "disk";
    match statvfs(dir) {
        Ok(StatVfs { f_bavail, f_frsize, .. }) => {
            let free = f_bavail.saturating_mul(f_frsize);
            let log = config.limits.group_bytes_max;
            let shown = size(free);
            if free < FREE_BYTES_MIN {
                findings.fail(NAME, format!("only {shown} free in {}: free some space", dir.display()));
            } else if matches!(config.store, StoreConfig::Sqlite(_)) && free < log {
                let log = size(log);
                findings.warn(
                    NAME,
                    format!("{shown} free, and one log alone may take {log}: add space or lower group_bytes_max"),
                );
            } else {
                findings.ok(NAME, format!("{shown} free"));
            }
        }
        Err(error) => findings.warn(NAME, format!("cannot tell how much is free: {error}")),
    }
    if let Some(complaint) = statfs(dir).ok().and_then(|stat| unfit(stat.f_type as u64)) {
        findings.warn("file system", format!("{} is {complaint}", dir.display()));
    }
}

/// What is wrong with a kind of file system, by its number in Linux's `magic.h`.
fn unfit(kind: u64) -> Option<&'static str> {
    match kind & 0xffff_ffff {
        0x0102_1994 | 0x8584_58f6 => {
            Some("kept in memory: everything is lost with the power; choose another --data-dir")
        }
        0x794c_7630 => Some("a container's own layer: everything is lost with the container; mount a volume"),
        0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b | 0x0102_1997 => Some(
            "on the network: locks and flushes of SQLite are not to be trusted there; use a local disk or Postgres",
        ),
        _ => None,
    }
}

/// Times what every commit waits for.
fn flushes(dir: &Path, findings: &mut Findings) {
    const NAME: &str = "flush to disk";
    let timed = || -> io::Result<Vec<Duration>> {
        let mut probe = probe(dir)?;
        let mut times = Vec::with_capacity(FLUSHES);
        for _ in 0..FLUSHES {
            probe.file.write_all(&[0; FLUSHED_BYTES])?;
            let began = Instant::now();
            probe.file.sync_data()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(times)
    };
    match timed() {
        Ok(times) => {
            let (median, worst) = (times[FLUSHES / 2], times[FLUSHES - 1]);
            let shown = format!("{} at the median, {} at worst", millis(median), millis(worst));
            if median > FLUSH_SLOW {
                findings.warn(NAME, format!("{shown}: every push waits for one; use an SSD"));
            } else if median < FLUSH_IMPLAUSIBLE {
                findings.warn(
                    NAME,
                    format!("{shown}: too fast for a disk; after a power cut acknowledged pushes may be gone"),
                );
            } else {
                findings.ok(NAME, shown);
            }
        }
        Err(error) => findings.fail(NAME, format!("failed in {}: {error}; check the disk", dir.display())),
    }
}

pub(super) fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

fn clock(findings: &mut Findings) {
    const NAME: &str = "clock";
    const NAP: Duration = Duration::from_millis(20);
    let began = Instant::now();
    std::thread::sleep(NAP);
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if began.elapsed() < NAP {
        findings.fail(NAME, "the monotonic clock stands still: no deadline works on this machine");
    } else if unix_s < EARLIEST_UNIX_S {
        findings.fail(NAME, "the clock is years behind: set it, and keep it set with NTP");
    } else {
        findings.ok(NAME, "runs, and says a year that can be");
    }
}

fn descriptors(config: &Config, findings: &mut Findings) {
    const NAME: &str = "file descriptors";
    let wanted = config.limits.connections_max + OWN_DESCRIPTORS;
    // The relay raises the soft limit to the hard one when it starts.
    match getrlimit(Resource::Nofile).maximum {
        Some(allowed) if allowed < wanted => findings.warn(
            NAME,
            format!(
                "{allowed} allowed, {wanted} needed for connections_max: raise the limit (systemd: LimitNOFILE={wanted}; \
                 a shell: ulimit -n {wanted}) or lower connections_max"
            ),
        ),
        Some(allowed) => findings.ok(NAME, format!("{allowed} allowed, at most {wanted} needed")),
        None => findings.ok(NAME, "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn verdict(findings: &Findings, name: &str) -> Option<Verdict> {
        findings.0.iter().find(|check| check.name == name).map(|check| check.verdict)
    }

    #[test]
    fn looking_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut findings = Findings::default();
        examine(&Config::in_dir(dir.path().join("data")), &mut findings);
        assert_eq!(verdict(&findings, "data directory"), Some(Verdict::Ok));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn what_cannot_be_written_to_fails() {
        let mut findings = Findings::default();
        let mut config = Config::in_dir("/proc/zerok-relay");
        config.limits.connections_max = 1_000_000_000;
        examine(&config, &mut findings);
        assert_eq!(verdict(&findings, "data directory"), Some(Verdict::Fail));
        assert_eq!(verdict(&findings, "file descriptors"), Some(Verdict::Warn));
    }

    #[test]
    fn a_disk_that_one_log_can_fill_is_warned_about() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::in_dir(dir.path());
        config.limits.group_bytes_max = u64::MAX;
        let mut findings = Findings::default();
        disk(&config, dir.path(), &mut findings);
        assert_eq!(verdict(&findings, "disk"), Some(Verdict::Warn));
    }

    #[test]
    fn memory_network_and_container_layers_are_no_place_for_a_log() {
        assert!([0x0102_1994, 0x6969, 0x794c_7630].map(unfit).iter().all(Option::is_some));
        assert_eq!(unfit(0xef53), None, "ext4");
    }
}
