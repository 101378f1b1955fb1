//! NodeMetrics and PodMetrics, but for their metadata. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::summary::{Cpu, Memory, Node, Pod};
use crate::{quantity::Quantity, time};

/// What something uses, and when and over how long that was seen.
struct Usage {
    cpu: Quantity,
    memory: Quantity,
    time: Timestamp,
    window: Duration,
}

impl Usage {
    /// None if a part of it is not known.
    fn read(cpu: Option<Cpu>, memory: Option<Memory>) -> Option<Self> {
        let cpu = cpu?;
        Some(Self {
            cpu: Quantity::from_nanos(cpu.usage_nano_cores?),
            memory: Quantity::from_bytes(memory?.working_set_bytes?),
            time: cpu.time,
            window: Duration::try_from_secs_f64(cpu.window_seconds).ok()?,
        })
    }

    fn show(&self) -> Value {
        json!({"cpu": self.cpu.to_string(), "memory": self.memory.to_string()})
    }
}

/// A node's; none if its usage is not known.
pub(super) fn node(node: &Node) -> Option<Value> {
    let usage = Usage::read(node.cpu, node.memory)?;
    Some(json!({
        "timestamp": time::seconds(usage.time),
        "window": duration(usage.window),
        "usage": usage.show(),
    }))
}

/// A pod's, of the containers whose usage is known; none if there are none.
pub(super) fn pod(pod: &Pod) -> Option<Value> {
    let known: Vec<_> = pod
        .containers
        .iter()
        .filter_map(|container| {
            let usage = Usage::read(container.cpu, container.memory)?;
            Some((container.name.as_str(), usage))
        })
        .collect();
    let time = known.iter().map(|(_, usage)| usage.time).min()?;
    let window = known.iter().map(|(_, usage)| usage.window).max()?;
    let containers: Vec<Value> = known
        .iter()
        .map(|(name, usage)| json!({"name": name, "usage": usage.show()}))
        .collect();
    Some(json!({
        "timestamp": time::seconds(time),
        "window": duration(window),
        "containers": containers,
    }))
}

/// As Go writes a duration: `1m5.25s`. To the millisecond.
fn duration(duration: Duration) -> String {
    let millis = (duration.as_micros() + 500) / 1000;
    if millis < 1000 {
        return match millis {
            0 => "0s".to_owned(),
            millis => format!("{millis}ms"),
        };
    }
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let fraction = match millis % 1000 {
        0 => String::new(),
        fraction => format!(".{fraction:03}"),
    };
    let seconds = format!("{}{}s", millis / 1000, fraction.trim_end_matches('0'));
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check_pod(containers: &str, expected: Expect) {
        let text = format!(
            r#"{{"podRef":{{"name":"a","namespace":"ns","uid":"1"}},"containers":[{containers}]}}"#
        );
        let told: Pod = serde_json::from_str(&text).expect("a test's JSON reads");
        let object = pod(&told).map_or("nothing".to_owned(), |object| object.to_string());
        expected.assert_eq(&object);
    }

    #[test]
    fn a_pod_has_the_containers_that_are_known() {
        let whole = r#"{"name":"c","cpu":{"time":"2026-01-01T00:00:05.5Z","usageNanoCores":2500000,"usageCoreNanoSeconds":7,"windowSeconds":15.0004},"memory":{"workingSetBytes":2097152}}"#;
        let other = r#"{"name":"d","cpu":{"time":"2026-01-01T00:00:03Z","usageNanoCores":0,"windowSeconds":5},"memory":{"workingSetBytes":1000}}"#;
        let young = r#"{"name":"e","cpu":{"time":"2026-01-01T00:00:03Z"},"memory":{"workingSetBytes":1000}}"#;
        check_pod(
            &format!("{whole},{other},{young}"),
            expect![[
                r#"{"containers":[{"name":"c","usage":{"cpu":"2500u","memory":"2Mi"}},{"name":"d","usage":{"cpu":"0","memory":"1k"}}],"timestamp":"2026-01-01T00:00:03Z","window":"15s"}"#
            ]],
        );
        check_pod(young, expect!["nothing"]);
        check_pod("", expect!["nothing"]);
    }

    #[test]
    fn a_node_that_says_nothing_of_a_part_has_no_object() {
        let told = |text: &str| serde_json::from_str(text).expect("a test's JSON reads");
        assert!(node(&told("{}")).is_none());
        assert!(
            node(&told(
                r#"{"cpu":{"time":"2026-01-01T00:00:00Z","usageNanoCores":1,"windowSeconds":-1},"memory":{"workingSetBytes":1}}"#
            ))
            .is_none()
        );
    }

    #[test]
    fn durations_are_written_as_in_go() {
        for (millis, expected) in [
            (15_000, "15s"),
            (10_068, "10.068s"),
            (0, "0s"),
            (500, "500ms"),
            (59_999, "59.999s"),
            (65_250, "1m5.25s"),
            (3_600_000, "1h0m0s"),
            (7_385_001, "2h3m5.001s"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }
}
