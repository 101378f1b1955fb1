//! A node whose process is killed, with many pods on it: components end with the process, pods do not.

use std::{collections::BTreeMap, time::Duration};

use e2e::{Cluster, eventually, example};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);
const SERVERS: usize = 42;
const SLEEPS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../runtimes/wasm/tests/fixtures/sleeps.wat"
);
/// Programs that run for a day, by what is to be done when they end.
const PROGRAMS: [(&str, &str); 8] = [
    ("always-0", "Always"),
    ("always-1", "Always"),
    ("always-2", "Always"),
    ("failure-0", "OnFailure"),
    ("failure-1", "OnFailure"),
    ("never-0", "Never"),
    ("never-1", "Never"),
    ("never-2", "Never"),
];

fn manifest() -> String {
    let mut text = String::new();
    let mut pod = |name: &str, policy: &str, image: &str, ports: &str| {
        text += &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: many}}}}\nspec:\n  \
             restartPolicy: {policy}\n  terminationGracePeriodSeconds: 0\n  containers:\n  \
             - {{name: main, image: \"file://{image}\"{ports}}}\n---\n"
        );
    };
    for number in 0..SERVERS {
        let ports = ", ports: [{containerPort: 8080}]";
        pod(
            &format!("web-{number}"),
            "Always",
            &example("hello.wat"),
            ports,
        );
    }
    for (name, policy) in PROGRAMS {
        pod(name, policy, SLEEPS, "");
    }
    text
}

/// Every pod by its name.
fn pods(cluster: &Cluster) -> BTreeMap<String, Value> {
    let list = cluster.wkctl(&["get", "pods", "-o", "json"]).ok();
    let mut list: Value = serde_json::from_str(&list).expect("JSON is printed");
    let items = list["items"].take();
    let items = items.as_array().expect("a list has items").clone();
    let named = |pod: Value| Some((pod["metadata"]["name"].as_str()?.to_owned(), pod));
    items.into_iter().filter_map(named).collect()
}

/// Waits until all pods are as wanted, and answers them.
fn await_pods(cluster: &Cluster, wanted: impl Fn(&str, &Value) -> bool) -> BTreeMap<String, Value> {
    eventually(SOON, || {
        let pods = pods(cluster);
        let late = pods.iter().find(|(name, pod)| !wanted(name, pod));
        match late {
            Some((name, pod)) => Err(format!("{name}: {}", pod["status"])),
            None if pods.len() == SERVERS + PROGRAMS.len() => Ok(pods),
            None => Err(format!("{} pods", pods.len())),
        }
    })
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    conditions.is_some_and(|conditions| conditions.iter().any(ready))
}

/// What must be the same before and after: the object, its address, its container and its starts.
fn identity(pod: &Value) -> [&Value; 5] {
    let status = &pod["status"];
    let container = &status["containerStatuses"][0];
    [
        &pod["metadata"]["uid"],
        &status["podIP"],
        &container["containerID"],
        &container["restartCount"],
        &container["state"]["running"]["startedAt"],
    ]
}

/// Waits until every server answers at its own IP: what the API says of it may be from before.
fn all_answer(cluster: &Cluster, pods: &BTreeMap<String, Value>) {
    let servers = pods.iter().filter(|(name, _)| name.starts_with("web-"));
    let (urls, wanted): (Vec<_>, String) = servers
        .map(|(name, pod)| {
            let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
            (format!("http://{ip}:8080/"), format!("Hello from {name}\n"))
        })
        .unzip();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    eventually(SOON, || {
        let answers = cluster.curl(&urls);
        if answers.stdout == wanted {
            Ok(())
        } else {
            Err(format!("{answers:?}"))
        }
    });
}

#[test]
fn a_kill_of_the_node_loses_no_pod_and_restart_policies_decide_over_programs() {
    let mut cluster = Cluster::start();
    let path = cluster.manifest("pods.yaml", &manifest());
    cluster.wkctl(&["apply", "-f", &path]).ok();
    let before = await_pods(&cluster, |_, pod| is_ready(pod));
    all_answer(&cluster, &before);

    cluster.kill();
    cluster.up();
    let after = await_pods(&cluster, |name, pod| {
        let container = &pod["status"]["containerStatuses"][0];
        match name.split('-').next() {
            Some("web") => is_ready(pod),
            Some("never") => pod["status"]["phase"] == "Failed",
            _ => is_ready(pod) && container["restartCount"] == 1,
        }
    });
    all_answer(&cluster, &after);
    for (name, pod) in &after {
        let was = &before[name];
        assert_eq!(pod["metadata"]["uid"], was["metadata"]["uid"], "{name}");
        let container = &pod["status"]["containerStatuses"][0];
        let ended = match name.split('-').next() {
            Some("web") => {
                assert_eq!(identity(pod), identity(was), "{name}");
                continue;
            }
            Some("never") => &container["state"]["terminated"],
            _ => &container["lastState"]["terminated"],
        };
        assert_eq!(
            (&ended["exitCode"], &ended["reason"]),
            (&137.into(), &"ContainerStatusUnknown".into()),
            "{name}: {container}"
        );
    }
}
