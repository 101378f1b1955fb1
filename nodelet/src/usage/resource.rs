//! `/metrics/resource`: what is used, in Prometheus' format under Kubernetes' names. Pure.
//!
//! The one place where metrics carry the names of pods: it is the contract of those who ask.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{NodeUsage, Used};

/// A value and when it was seen.
type Value = (f64, jiff::Timestamp);

/// The text, families in the order of their names.
pub(crate) fn text(usage: &NodeUsage) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &BTreeMap<String, Value>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, (value, time)) in samples {
            let _ = writeln!(text, "{name}{labels} {value} {}", time.as_millisecond());
        }
    };
    let containers = |value: fn(&super::ContainerUsage) -> f64| -> BTreeMap<String, Value> {
        let all = usage.containers.iter().map(|container| {
            let place = &container.place;
            let labels = format!(
                "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
                place.container, place.namespace, place.pod
            );
            (labels, (value(container), container.used.time))
        });
        all.collect()
    };
    let pods = |value: fn(&Used) -> f64| {
        let mut sums: BTreeMap<String, Value> = BTreeMap::new();
        for container in &usage.containers {
            let place = &container.place;
            let labels = format!(
                "{{namespace=\"{}\",pod=\"{}\"}}",
                place.namespace, place.pod
            );
            let sum = sums.entry(labels).or_insert((0.0, container.used.time));
            sum.0 += value(&container.used);
            sum.1 = sum.1.min(container.used.time);
        }
        sums
    };
    let node = |value: fn(&Used) -> f64| -> BTreeMap<String, Value> {
        let used = usage.node.iter();
        used.map(|used| (String::new(), (value(used), used.time)))
            .collect()
    };
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        &containers(|container| cpu(&container.used)),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        &containers(|container| memory(&container.used)),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        &containers(|container| container.started_at.as_duration().as_secs_f64()),
    );
    family(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
        &node(cpu),
    );
    family(
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
        &node(memory),
    );
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        &pods(cpu),
    );
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
        &pods(memory),
    );
    text.push_str(
        "# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise\n\
         # TYPE resource_scrape_error gauge\n\
         resource_scrape_error 0\n",
    );
    text
}

fn cpu(used: &Used) -> f64 {
    used.cpu.as_secs_f64()
}

/// Exact up to 2^53 bytes; the format has floating-point numbers only.
fn memory(used: &Used) -> f64 {
    used.memory_bytes as f64
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::usage::summary::tests::{container, used};

    #[test]
    fn containers_pods_and_the_node_are_told_with_their_time() {
        let usage = NodeUsage {
            node: Some(used(9500, 4096, None)),
            containers: vec![
                container("a", "c", used(10, 100, None)),
                container("a", "d", used(20, 200, None)),
            ],
        };
        let lines = text(&usage);
        let lines: Vec<&str> = lines
            .lines()
            .filter(|line| !line.starts_with("# HELP"))
            .collect();
        expect![[r#"
            # TYPE container_cpu_usage_seconds_total counter
            container_cpu_usage_seconds_total{container="c",namespace="ns",pod="a"} 0.01 0
            container_cpu_usage_seconds_total{container="d",namespace="ns",pod="a"} 0.02 0
            # TYPE container_memory_working_set_bytes gauge
            container_memory_working_set_bytes{container="c",namespace="ns",pod="a"} 100 0
            container_memory_working_set_bytes{container="d",namespace="ns",pod="a"} 200 0
            # TYPE container_start_time_seconds gauge
            container_start_time_seconds{container="c",namespace="ns",pod="a"} 0 0
            container_start_time_seconds{container="d",namespace="ns",pod="a"} 0 0
            # TYPE node_cpu_usage_seconds_total counter
            node_cpu_usage_seconds_total 9.5 0
            # TYPE node_memory_working_set_bytes gauge
            node_memory_working_set_bytes 4096 0
            # TYPE pod_cpu_usage_seconds_total counter
            pod_cpu_usage_seconds_total{namespace="ns",pod="a"} 0.03 0
            # TYPE pod_memory_working_set_bytes gauge
            pod_memory_working_set_bytes{namespace="ns",pod="a"} 300 0
            # TYPE resource_scrape_error gauge
            resource_scrape_error 0"#]]
        .assert_eq(&lines.join("\n"));
    }
}
