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

/// Processor time of a process's living threads so far, in nanoseconds, by the kernel's number.
#[derive(Debug, Clone)]
pub struct Threads(BTreeMap<String, (String, u64)>);

/// What the threads of a process have used so far.
#[must_use]
pub fn threads(pid: u32) -> Threads {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let used = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let on_cpu_ns = schedstat.split_whitespace().next()?.parse().ok()?;
        Some((task.file_name().to_str()?.to_owned(), (name.trim().to_owned(), on_cpu_ns)))
    };
    Threads(tasks.filter_map(used).collect())
}

impl Threads {
    /// Nanoseconds used since `before` by those that live now, by name: threads that work together
    /// have one name. One that ended meanwhile does not count, and takes nothing from its successor.
    #[must_use]
    pub fn since(self, before: &Self) -> BTreeMap<String, u64> {
        let mut by_name = BTreeMap::new();
        for (number, (name, ns)) in self.0 {
            let before_ns = before.0.get(&number).map_or(0, |(_, ns)| *ns);
            *by_name.entry(name).or_default() += ns.saturating_sub(before_ns);
        }
        by_name
    }
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
    }

    #[test]
    fn what_a_thread_used_is_counted_under_its_name_and_not_against_a_later_one() {
        let used = |threads: &[(&str, &str, u64)]| {
            Threads(threads.iter().map(|(number, name, ns)| ((*number).into(), ((*name).into(), *ns))).collect())
        };
        let before = used(&[("1", "app", 5), ("2", "storage", 90)]);
        let after = used(&[("1", "app", 7), ("3", "storage", 20), ("4", "storage", 1)]);
        assert_eq!(after.since(&before), BTreeMap::from([("app".into(), 2), ("storage".into(), 21)]));

        let nothing = Threads(BTreeMap::new());
        assert!(threads(std::process::id()).since(&nothing).values().sum::<u64>() > 0);
    }
}
