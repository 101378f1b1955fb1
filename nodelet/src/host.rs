//! What the host has and how much of it is free. Reads `/proc`, `/etc` and the file system; writes nothing.

use std::{fs, path::Path, time::Duration};

/// Total and available memory in bytes.
pub(crate) fn memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line
            .trim_start_matches(':')
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .ok()?;
        Some(kilobytes << 10)
    };
    (
        field("MemTotal").unwrap_or(0),
        field("MemAvailable").unwrap_or(0),
    )
}

/// CPU time that the host has spent on anything but waiting, all cores together, since it started.
pub(crate) fn cpu_time() -> Option<Duration> {
    busy(&fs::read_to_string("/proc/stat").ok()?)
}

/// Adds up what the first line of `/proc/stat` counts in hundredths of a second: all but `idle`, `iowait`, what
/// other hosts took (`steal`), and guests, which are in `user` already.
fn busy(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else {
        return None;
    };
    Some(Duration::from_millis(
        10 * (user + nice + system + irq + softirq),
    ))
}

/// Total and available bytes of the file system that holds `path`.
pub(crate) fn disk(path: &Path) -> (u64, u64) {
    let existing = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let unit = stat.fragment_size();
            (stat.blocks() * unit, stat.blocks_available() * unit)
        }
        Err(_) => (0, 0),
    }
}

/// Threads that run and that the kernel allows.
pub(crate) fn threads() -> (u64, u64) {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = load
        .split_whitespace()
        .nth(3)
        .and_then(|pair| pair.split_once('/'))
        .and_then(|(_, total)| total.parse().ok())
        .unwrap_or(0);
    let limit = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"]
        .iter()
        .filter_map(|path| line(path).parse().ok())
        .min()
        .unwrap_or(u64::MAX);
    (running, limit)
}

/// Cores that this process may use.
pub(crate) fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// A one-line file, trimmed; empty if it cannot be read.
pub(crate) fn line(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The distribution's name for itself.
pub(crate) fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(
        || "Linux".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

/// The processor, as `kubernetes.io/arch` names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_work() {
        let stat = "cpu  10 20 30 4000 500 6 7 80 9 1\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(busy(stat), Some(Duration::from_millis(730)));
        assert_eq!(busy("cpu  1 2\n"), None);
        assert!(cpu_time().is_some_and(|time| !time.is_zero()));
    }
}
