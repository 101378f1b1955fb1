//! This process' memory, CPU time and files: `process_*`, read from `/proc` when asked.
//!
//! What cannot be read is left out.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks a second in `/proc`: the same on every Linux that we run on.
const TICKS: f64 = 100.0;
/// A page of memory, as `/proc` counts it.
const PAGE: f64 = 4096.0;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub struct Process;

/// What `/proc/self/stat` says.
#[derive(PartialEq, Debug)]
struct Stat {
    cpu_seconds: f64,
    /// After the host's start.
    started_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    /// Reads the line; the command in parentheses may hold anything. Pure.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(") ")?;
        // Counted from the state, which is the third field.
        let fields: Vec<f64> = rest
            .split_whitespace()
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            started_seconds: field(22)? / TICKS,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * PAGE,
        })
    }
}

/// When the host started, in seconds since 1970.
fn boot_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn most_files() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|line| Stat::parse(&line));
        if let Some(stat) = &stat {
            let counter = ConstCounter::new(stat.cpu_seconds);
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "Total user and system CPU time spent in seconds.",
                None,
                prometheus_client::metrics::MetricType::Counter,
            )?)?;
        }
        let files = fs::read_dir("/proc/self/fd")
            .ok()
            .and_then(|files| u32::try_from(files.count()).ok());
        let started = stat
            .as_ref()
            .and_then(|stat| Some(stat.started_seconds + boot_seconds()?));
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
                stat.as_ref().map(|stat| stat.resident_bytes),
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
                stat.as_ref().map(|stat| stat.virtual_bytes),
            ),
            (
                "process_open_fds",
                "Number of open file descriptors.",
                files.map(f64::from),
            ),
            (
                "process_max_fds",
                "Maximum number of open file descriptors.",
                most_files(),
            ),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                started,
            ),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                prometheus_client::metrics::MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_whatever_the_command_is_called() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 3 0 1200 8192 2 184";
        assert_eq!(
            Stat::parse(line),
            Some(Stat {
                cpu_seconds: 2.0,
                started_seconds: 12.0,
                virtual_bytes: 8192.0,
                resident_bytes: 8192.0,
            })
        );
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let text = crate::Metrics::new().text();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_max_fds ",
            "process_start_time_seconds ",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(name)),
                "{name} in {text}"
            );
        }
    }
}
