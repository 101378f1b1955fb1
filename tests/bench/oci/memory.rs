//! What processes and the machine have in use, from `/proc`.

use std::{fs, path::Path};

/// Bytes that the machine could give.
pub(super) fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("the kernel tells");
    kibibytes(&text, "MemAvailable:") << 10
}

/// Bytes that only it has, of each process of a program whose arguments name `marker`.
pub(super) fn private(program: &str, marker: &str) -> Vec<u64> {
    let processes = fs::read_dir("/proc").expect("the kernel tells");
    processes
        .flatten()
        .filter_map(|entry| of(&entry.path(), program, marker))
        .collect()
}

/// `None` for another process, or one that has ended.
fn of(process: &Path, program: &str, marker: &str) -> Option<u64> {
    let path = fs::read_link(process.join("exe")).ok()?;
    let arguments = fs::read(process.join("cmdline")).ok()?;
    let arguments = String::from_utf8_lossy(&arguments);
    if path.file_name()? != program || !arguments.contains(marker) {
        return None;
    }
    let text = fs::read_to_string(process.join("smaps_rollup")).ok()?;
    let parts = ["Private_Clean:", "Private_Dirty:"];
    Some(parts.iter().map(|part| kibibytes(&text, part) << 10).sum())
}

fn kibibytes(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}
