//! What a process costs, as Linux counts it in `/proc`. Elsewhere there are no figures.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Clock ticks of `/proc/PID/stat` in a second: fixed in Linux's interface (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Resident bytes of a process.
#[must_use]
pub fn rss_bytes(pid: u32) -> Option<u64> {
    status_kib(pid, "VmRSS:").map(|kib| kib * 1024)
}

/// The most it ever had resident.
#[must_use]
pub fn rss_peak_bytes(pid: u32) -> Option<u64> {
    status_kib(pid, "VmHWM:").map(|kib| kib * 1024)
}

fn status_kib(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Processor time of a process so far.
#[must_use]
pub fn cpu(pid: u32) -> Option<Duration> {
    stat(pid).map(|stat| stat.cpu)
}

/// Processor time of a process and of its living children, such as a Postgres and its backends.
#[must_use]
pub fn cpu_of_family(pid: u32) -> Option<Duration> {
    let own = cpu(pid)?;
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Some(own + processes.filter_map(stat).filter(|stat| stat.parent == pid).map(|stat| stat.cpu).sum::<Duration>())
}

/// Processor time of a process's living threads so far, by name, in nanoseconds: threads that work
/// together have one name.
#[must_use]
pub fn cpu_ns_by_thread(pid: u32) -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks.map(|task| task.path()) {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let on_cpu_ns = schedstat.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok());
        *threads.entry(name.trim().to_owned()).or_default() += on_cpu_ns.unwrap_or_default();
    }
    threads
}

struct Stat {
    parent: u32,
    cpu: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; behind it come state, parent, …
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)?;
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND) })
}

/// Processor time of everything on this machine so far, waiting excluded.
#[must_use]
pub fn cpu_of_machine() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq, steal
    let ticks: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|&index| fields.get(index)).sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_used_time() {
        let pid = std::process::id();
        assert!(rss_bytes(pid).expect("VmRSS") <= rss_peak_bytes(pid).expect("VmHWM"));
        assert!(cpu(pid).expect("stat") <= cpu_of_machine().expect("stat"));
        assert!(cpu_ns_by_thread(pid).values().sum::<u64>() > 0);
    }
}
