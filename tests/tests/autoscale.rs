//! A workload that grows with its load, and that a drain leaves as many pods as its budget wants.

use std::time::Duration;

use e2e::{Cluster, Options, eventually, example};

const SOON: Duration = Duration::from_secs(120);

/// What the manifest of the example becomes: one pod that requests little.
fn manifest() -> String {
    let text = std::fs::read_to_string(example("hello.yaml")).expect("an example");
    let image = format!("file://{}", example("hello.wat"));
    let requests = format!("image: {image}\n          resources: {{requests: {{cpu: 5m}}}}");
    text.replace("replicas: 2", "replicas: 1")
        .replace("image: file://examples/hello.wat", &requests)
}

#[test]
fn a_deployment_under_load_grows_and_a_drain_keeps_to_its_budget() {
    let flag = "--horizontal-pod-autoscaler-sync-period=1s".to_owned();
    let cluster = Cluster::with(Options {
        arguments: vec![flag],
        ..Options::default()
    });
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).ok();
    kubectl(&["apply", "-f", &cluster.manifest("hello", &manifest())]);
    kubectl(&["rollout", "status", "deployment", "hello", "--timeout=120s"]);
    let said = kubectl(&[
        "autoscale",
        "deployment",
        "hello",
        "--min=1",
        "--max=3",
        "--cpu-percent=50",
    ]);
    assert_eq!(
        said.trim(),
        "horizontalpodautoscaler.autoscaling/hello autoscaled"
    );

    let url = format!("{}?[1-500]", cluster.service_url("hello"));
    let row = eventually(SOON, || {
        cluster.curl(&["-o", "/dev/null", &url]);
        let row = cluster.kubectl(&["get", "hpa", "hello"]).stdout;
        let words: Vec<&str> = row.split_whitespace().collect();
        let columns = [
            "NAME",
            "REFERENCE",
            "TARGETS",
            "MINPODS",
            "MAXPODS",
            "REPLICAS",
            "AGE",
        ];
        match words.split_at_checked(7) {
            Some((header, ["hello", "Deployment/hello", "cpu:", share, "1", "3", "3", _])) => {
                assert_eq!(header, columns);
                Ok((*share).to_owned())
            }
            _ => Err(row),
        }
    });
    assert!(row.ends_with("%/50%"), "{row}");
    let described = eventually(SOON, || {
        let described = kubectl(&["describe", "hpa", "hello"]);
        let reason =
            "New size: 3; reason: cpu resource utilization (percentage of request) above target";
        if described.contains(reason) {
            Ok(described)
        } else {
            Err(described)
        }
    });
    for part in [
        "ScalingActive   True    ValidMetricFound",
        "SuccessfulRescale",
        "Deployment pods:",
    ] {
        assert!(described.contains(part), "{part}: {described}");
    }

    kubectl(&["rollout", "status", "deployment", "hello", "--timeout=120s"]);
    kubectl(&[
        "create",
        "pdb",
        "hello",
        "--selector=app=hello",
        "--min-available=2",
    ]);
    let allowed = [
        "get",
        "pdb",
        "hello",
        "-o",
        "jsonpath={.status.disruptionsAllowed}",
    ];
    eventually(SOON, || match cluster.kubectl(&allowed).stdout.as_str() {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    });
    let node = kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let drain = ["drain", &node, "--timeout=3s", "--delete-emptydir-data"];
    let refused = cluster.kubectl(&drain);
    let reason = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert!(refused.stderr.contains(reason), "{refused:?}");
    let running = [
        "get",
        "pods",
        "-l",
        "app=hello",
        "--field-selector",
        "status.phase=Running",
        "-o",
        "name",
    ];
    eventually(SOON, || {
        let running = kubectl(&running);
        if running.lines().count() == 2 {
            Ok(())
        } else {
            Err(running)
        }
    });
    kubectl(&["delete", "pdb", "hello"]);
    let drained = kubectl(&["drain", &node, "--timeout=60s", "--delete-emptydir-data"]);
    assert!(drained.trim_end().ends_with("drained"), "{drained}");
}
