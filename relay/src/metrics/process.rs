//! What this process takes of its machine, under the names that every Prometheus client uses.
//! Read from `/proc` when it is asked for; where there is none, left out.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use serde::Serialize;

/// Ticks of `/proc/self/stat` in a second: the kernel's interface to programs has had this number
/// since its beginning, whatever the kernel itself counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// One look at the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Process {
    /// Resident memory.
    pub(crate) resident_bytes: Option<u64>,
    /// Processor time of all threads, user and system.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) threads: Option<u64>,
    /// Open file descriptors.
    pub(crate) open_fds: Option<u64>,
    /// How many there may be.
    pub(crate) max_fds: Option<u64>,
}

impl Process {
    pub(crate) fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            resident_bytes: resident(&status),
            threads: status_number(&status, "Threads:"),
            cpu_seconds: cpu_seconds(&stat),
            // The listing itself holds one.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: soft_limit(&limits, "Max open files"),
        }
    }
}

/// Resident memory alone: cheap enough for every second.
pub(crate) fn resident_bytes() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    status_number(status, "VmRSS:").map(|kibibytes| kibibytes * 1024)
}

fn status_number(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15. The second field is the program's name in parentheses and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Adds the process to a registry.
#[derive(Debug)]
pub(crate) struct ProcessCollector {
    started: Instant,
    started_unix_seconds: f64,
}

impl ProcessCollector {
    /// A relay is as old as this.
    pub(crate) fn new() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_unix_seconds: unix.as_secs_f64() }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Process { resident_bytes, cpu_seconds, threads, open_fds, max_fds } = Process::look();
        let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: Option<f64>| {
            let Some(gauge) = value.map(ConstGauge::new) else { return Ok(()) };
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)
        };
        let number = |number: Option<u64>| number.map(|number| number as f64);
        gauge("process_resident_memory", "Resident memory", Some(Unit::Bytes), number(resident_bytes))?;
        gauge("process_open_fds", "Open file descriptors", None, number(open_fds))?;
        gauge("process_max_fds", "File descriptors there may be", None, number(max_fds))?;
        gauge("process_threads", "Threads", None, number(threads))?;
        gauge(
            "process_start_time",
            "When the relay started, in seconds since 1970",
            Some(Unit::Seconds),
            Some(self.started_unix_seconds),
        )?;
        gauge(
            "zerok_relay_uptime",
            "Since the relay started",
            Some(Unit::Seconds),
            Some(self.started.elapsed().as_secs_f64()),
        )?;
        if let Some(cpu) = cpu_seconds.map(ConstCounter::new) {
            let help = "Processor time of all threads";
            cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 100";
        assert_eq!(cpu_seconds(stat), Some(3.0));
    }

    #[test]
    fn an_unlimited_or_missing_limit_is_left_out() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            unlimited            unlimited            files\n";
        assert_eq!(soft_limit(limits, "Max open files"), None);
        assert_eq!(soft_limit("", "Max open files"), None);
        assert_eq!(soft_limit(&limits.replacen("unlimited", "1024", 1), "Max open files"), Some(1024));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen_to_take_memory_threads_and_files() {
        let before = Process::look();
        let _file = fs::File::open("/proc/self/status").expect("Linux has it");
        let after = Process::look();
        assert!(before.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{before:?}");
        assert!(before.threads.is_some_and(|threads| threads > 0), "{before:?}");
        assert!(before.cpu_seconds.is_some() && before.max_fds.is_some(), "{before:?}");
        // Other tests of this process open and close files too: compare with zero only.
        assert!(after.open_fds.is_some_and(|fds| fds > 0), "{after:?}");
    }
}
