//! What a process holds, as the kernel counts it (Linux).

use std::path::PathBuf;

/// Memory, threads and open files of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Resident memory that belongs to it alone, in bytes: files it has mapped are not counted.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors, sockets among them.
    pub fds: u64,
}

impl Vitals {
    /// Those of a process; `None` if it is gone or the kernel is another one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let status = std::fs::read_to_string(proc.join("status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            rss_bytes: number("RssAnon")? * 1024,
            threads: number("Threads")?,
            fds: std::fs::read_dir(proc.join("fd")).ok()?.count() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_and_a_large_buffer_are_counted() {
        let own = || Vitals::of(std::process::id()).expect("this process runs");
        let before = own();
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").expect("it is there")).collect();
        let buffer = vec![1_u8; 64 << 20];
        let during = own();
        assert!(during.fds >= before.fds + 30, "{before:?} {during:?}");
        assert!(during.rss_bytes >= before.rss_bytes + (32 << 20), "{before:?} {during:?}");
        assert!(during.threads >= 1);
        drop((files, buffer));
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert_eq!(Vitals::of(u32::MAX), None);
    }
}
