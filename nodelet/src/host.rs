//! What the host has and how much of it is free. Reads `/proc`, `/etc` and the file system; writes nothing.

use std::{fs, path::Path, time::Duration};

/// Total and available memory in bytes.
pub(crate) fn memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (
        memory_field(&text, "MemTotal"),
        memory_field(&text, "MemAvailable"),
    )
}

/// Total and free swap space in bytes.
pub(crate) fn swap() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (
        memory_field(&text, "SwapTotal"),
        memory_field(&text, "SwapFree"),
    )
}

/// A line of `/proc/meminfo`, in bytes; 0 if it is not there.
fn memory_field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.strip_prefix(':'));
    let kilobytes =
        number.and_then(|number| number.trim().trim_end_matches("kB").trim().parse().ok());
    kilobytes.unwrap_or(0_u64) << 10
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

/// The room of the file system that holds `path`; none if that cannot be told.
pub(crate) fn disk(path: &Path) -> Room {
    let existing = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let unit = stat.fragment_size();
            Room {
                bytes: stat.blocks() * unit,
                free_bytes: stat.blocks_available() * unit,
                inodes: stat.files(),
                free_inodes: stat.files_available(),
            }
        }
        Err(_) => Room::default(),
    }
}

/// When the host started, in seconds since 1970.
pub(crate) fn started() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// A file system's room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Room {
    pub(crate) bytes: u64,
    pub(crate) free_bytes: u64,
    /// 0 where the file system does not count them.
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
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
