//! How fast decisions are: no cluster, no API, one thread, the cases and counts of Kubernetes' scheduler_perf.
//!
//! A decision is `schedule` and `Snapshot::assume`; seconds are of the thread's CPU time. Beside each case is what Kubernetes asks of itself where it asks
//! something (pods a second, its bindings included), and our own goal. Everything is seeded. Names of cases as arguments run
//! only those.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use nix::time::{ClockId, clock_gettime};
use scheduler::{Decision, Node, Pod, Profile, Rotation, Snapshot, schedule};
use serde_json::{Value, json};

/// One row.
struct Case {
    name: &'static str,
    nodes: usize,
    /// Pods that are there before.
    there: (usize, fn(usize) -> Value),
    /// Pods that are decided.
    pods: (usize, fn(usize) -> Value),
    /// What a node is, by its number.
    node: fn(usize) -> Value,
    /// What changes before the pod of this number is decided.
    churn: fn(&mut Snapshot, usize),
    /// Pods a second, as Kubernetes has it.
    line: Option<u32>,
    goal: Option<u32>,
}

const CASES: &[Case] = &[
    Case {
        name: "basic 5,000 nodes 10,000 pods",
        nodes: 5_000,
        there: (1_000, basic),
        pods: (10_000, basic),
        node: zoned,
        churn: nothing,
        line: Some(680),
        goal: Some(10_000),
    },
    Case {
        name: "basic 5,000 nodes 50,000 pods",
        nodes: 5_000,
        there: (1_000, basic),
        pods: (50_000, basic),
        node: zoned,
        churn: nothing,
        line: Some(810),
        goal: Some(10_000),
    },
    Case {
        name: "daemonset 15,000 nodes 30,000 pods",
        nodes: 15_000,
        there: (0, basic),
        pods: (30_000, pinned),
        node: zoned,
        churn: nothing,
        line: Some(1_100),
        goal: Some(10_000),
    },
    Case {
        name: "mixed churn 5,000 nodes 10,000 pods",
        nodes: 5_000,
        there: (0, basic),
        pods: (10_000, basic),
        node: zoned,
        churn,
        line: Some(710),
        goal: Some(10_000),
    },
    Case {
        name: "spread by zone 5,000 nodes 10,000 pods",
        nodes: 5_000,
        there: (1_000, basic),
        pods: (10_000, spread),
        node: zoned,
        churn: nothing,
        line: None,
        goal: Some(3_000),
    },
    Case {
        name: "preferred spread 5,000 nodes 10,000 pods",
        nodes: 5_000,
        there: (1_000, basic),
        pods: (10_000, preferred_spread),
        node: zoned,
        churn: nothing,
        line: None,
        goal: Some(3_000),
    },
    Case {
        name: "affinity by zone 5,000 nodes 5,000 pods",
        nodes: 5_000,
        there: (5_000, affine),
        pods: (5_000, affine),
        node: zoned,
        churn: nothing,
        line: None,
        goal: Some(3_000),
    },
    Case {
        name: "anti-affinity by host 5,000 nodes 2,000 pods",
        nodes: 5_000,
        there: (1_000, averse),
        pods: (2_000, averse),
        node: zoned,
        churn: nothing,
        line: None,
        goal: Some(3_000),
    },
    Case {
        name: "preferred affinity 5,000 nodes 5,000 pods",
        nodes: 5_000,
        there: (5_000, fond),
        pods: (5_000, fond),
        node: zoned,
        churn: nothing,
        line: None,
        goal: Some(3_000),
    },
    Case {
        name: "preferred anti-affinity 5,000 nodes 5,000 pods",
        nodes: 5_000,
        there: (5_000, cool),
        pods: (5_000, cool),
        node: zoned,
        churn: nothing,
        line: None,
        goal: Some(3_000),
    },
    Case {
        name: "node affinity 5,000 nodes 10,000 pods",
        nodes: 5_000,
        there: (1_000, basic),
        pods: (10_000, selective),
        node: zoned,
        churn: nothing,
        line: None,
        goal: Some(10_000),
    },
    Case {
        name: "unschedulable 5,000 nodes 10,000 pods",
        nodes: 5_000,
        there: (1_000, basic),
        pods: (10_000, enormous),
        node: zoned,
        churn: nothing,
        line: None,
        goal: None,
    },
];

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    println!(
        "{:<48} {:>10} {:>10} {:>10} {:>10}   Kubernetes, goal",
        "decisions alone", "pods/s", "p50", "p99", "placed"
    );
    for case in CASES {
        if wanted.is_empty() || wanted.iter().any(|word| case.name.contains(word)) {
            case.run();
        }
    }
}

impl Case {
    fn run(&self) {
        let profile = Profile::default();
        let mut snapshot = Snapshot::default();
        for number in 0..self.nodes {
            snapshot.put_node(node((self.node)(number)));
        }
        let mut rotation = Rotation::new(1);
        let (count, make) = self.there;
        for number in 0..count {
            let pod = pod("there", number, make(number));
            if let Decision::Node(node) = schedule(&profile, &snapshot, &pod, &mut rotation) {
                snapshot.assume(&pod, &node);
            }
        }
        let (count, make) = self.pods;
        let pods: Vec<_> = (0..count)
            .map(|number| pod("new", number, make(number)))
            .collect();
        let mut times = Vec::with_capacity(count);
        let mut placed = 0;
        for (number, pod) in pods.iter().enumerate() {
            let begun = spent();
            (self.churn)(&mut snapshot, number);
            if let Decision::Node(node) = schedule(&profile, &snapshot, pod, &mut rotation) {
                snapshot.assume(pod, &node);
                placed += 1;
            }
            times.push(spent() - begun);
        }
        self.tell(&mut times, placed);
    }

    fn tell(&self, times: &mut [Duration], placed: usize) {
        let total: Duration = times.iter().sum();
        times.sort();
        let at = |percent: usize| micros(times[times.len() * percent / 100]);
        let rate = times.len() as f64 / total.as_secs_f64();
        let number = |number: Option<u32>| number.map_or("-".to_owned(), |n| n.to_string());
        println!(
            "{:<48} {rate:>10.0} {:>10} {:>10} {placed:>10}   {}, > {}",
            self.name,
            at(50),
            at(99),
            number(self.line),
            number(self.goal),
        );
    }
}

/// The CPU time of this thread: what else the machine does is not counted.
fn spent() -> Duration {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock");
    Duration::from(time)
}

fn micros(duration: Duration) -> String {
    format!("{} us", duration.as_micros())
}

fn node(value: Value) -> Node {
    let node: core::Node = serde_json::from_value(value).expect("a node");
    Node::from(&node)
}

fn pod(prefix: &str, number: usize, spec: Value) -> Pod {
    let mut labels = json!({});
    if let Some(color) = spec["labels"].as_str() {
        labels["color"] = color.into();
    }
    let name = format!("{prefix}-{number}");
    let mut value = json!({
        "metadata": { "name": name, "uid": name, "namespace": "default", "labels": labels },
        "spec": { "containers": [{
            "name": "pause",
            "image": "registry.k8s.io/pause:3.10",
            "resources": { "requests": { "cpu": "100m", "memory": "500Mi" } },
        }] },
    });
    for (key, part) in spec.as_object().expect("parts of a spec") {
        if key != "labels" {
            value["spec"][key] = part.clone();
        }
    }
    let pod: core::Pod = serde_json::from_value(value).expect("a pod");
    Pod::from(&pod)
}

fn zoned(number: usize) -> Value {
    let name = format!("node-{number}");
    json!({
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("moon-{}", number % 3),
        } },
        "status": { "allocatable": { "cpu": "4", "memory": "32Gi", "pods": "110" } },
    })
}

fn nothing(_: &mut Snapshot, _: usize) {}

/// Every few pods a node comes or goes, or a pod does.
fn churn(snapshot: &mut Snapshot, number: usize) {
    match number % 10 {
        0 => {
            snapshot.put_node(node(zoned(1_000_000 + number)));
        }
        3 => {
            let other = pod("churn", number, json!({}));
            snapshot.place(&other, &format!("node-{}", number % 5_000).into());
        }
        5 => {
            snapshot.remove_node(&format!("node-{}", 1_000_000 + number - 5));
        }
        8 => snapshot.remove_pod(&format!("churn-{}", number - 5)),
        _ => {}
    }
}

fn basic(_: usize) -> Value {
    json!({})
}

/// As a DaemonSet pins its pods.
fn pinned(number: usize) -> Value {
    let name = format!("node-{}", number % 15_000);
    json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchFields": [
            { "key": "metadata.name", "operator": "In", "values": [name] },
        ] }],
    } } } })
}

fn selective(_: usize) -> Value {
    json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["moon-0", "moon-1"] },
        ] }],
    } } } })
}

fn enormous(_: usize) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "9" } } }] })
}

fn spread(_: usize) -> Value {
    constrained("DoNotSchedule")
}

fn preferred_spread(_: usize) -> Value {
    constrained("ScheduleAnyway")
}

fn constrained(unsatisfiable: &str) -> Value {
    json!({ "labels": "blue", "topologySpreadConstraints": [{
        "maxSkew": 5,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": unsatisfiable,
        "labelSelector": { "matchLabels": { "color": "blue" } },
    }] })
}

fn term(key: &str, color: &str) -> Value {
    json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "color": color } } })
}

fn affine(_: usize) -> Value {
    let term = term("topology.kubernetes.io/zone", "blue");
    json!({ "labels": "blue", "affinity": { "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
    } } })
}

fn averse(_: usize) -> Value {
    let term = term("kubernetes.io/hostname", "green");
    json!({ "labels": "green", "affinity": { "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
    } } })
}

fn fond(_: usize) -> Value {
    let term = term("kubernetes.io/hostname", "red");
    json!({ "labels": "red", "affinity": { "podAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "podAffinityTerm": term }],
    } } })
}

fn cool(_: usize) -> Value {
    let term = term("kubernetes.io/hostname", "yellow");
    json!({ "labels": "yellow", "affinity": { "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "podAffinityTerm": term }],
    } } })
}
