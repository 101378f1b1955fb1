//! The scheduler as its configuration says.

use std::time::Duration;

use e2e::{Cluster, Options, eventually};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

const PROFILES: &str = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 2
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: cpu, weight: 1}]
        requestedToCapacityRatio:
          shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]
  plugins:
    multiPoint: {disabled: [{name: NodeResourcesBalancedAllocation}]}
- schedulerName: fenced
  pluginConfig:
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [fence]}]}]
";

/// A cluster without nodes of its own, with a scheduler that does as a file says.
fn configured(text: &str) -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("scheduler.yaml");
    std::fs::write(&file, text).expect("a file can be written");
    let options = Options {
        arguments: vec![
            "--no-node".to_owned(),
            "--scheduler-config".to_owned(),
            file.display().to_string(),
        ],
        ..Options::default()
    };
    (dir, Cluster::prepare(options))
}

fn create(cluster: &Cluster, object: &serde_json::Value) {
    let path = cluster.manifest("object.json", &object.to_string());
    cluster.kubectl(&["create", "-f", &path]).ok();
}

/// Creates a pod that asks for CPU. Nobody looks after its nodes, whose taints it tolerates.
fn create_pod(cluster: &Cluster, name: &str, scheduler: &str) {
    let requests = json!({"requests": {"cpu": "1"}});
    let spec = json!({
        "schedulerName": scheduler,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "none", "resources": requests}],
    });
    let metadata = json!({"name": name});
    create(
        cluster,
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
    );
}

/// Where such a pod goes.
fn placed(cluster: &Cluster, name: &str, scheduler: &str) -> String {
    create_pod(cluster, name, scheduler);
    eventually(SOON, || {
        let node = "jsonpath={.spec.nodeName}";
        let node = cluster.kubectl(&["get", "pod", name, "-o", node]).ok();
        match node.is_empty() {
            true => Err(cluster.kubectl(&["describe", "pod", name]).stdout),
            false => Ok(node),
        }
    })
}

#[test]
fn pods_are_placed_by_the_profile_that_they_name() {
    let (_dir, mut cluster) = configured(PROFILES);
    cluster.up();
    for name in ["a", "b"] {
        let room = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let status = json!({"capacity": room, "allocatable": room, "conditions": ready});
        create(
            &cluster,
            &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}),
        );
    }
    let first = placed(&cluster, "first", "packing");
    for name in ["second", "third"] {
        assert_eq!(placed(&cluster, name, "packing"), first);
    }
    let other = placed(&cluster, "fourth", "default-scheduler");
    assert_ne!(other, first);

    create_pod(&cluster, "fenced", "fenced");
    let message = "jsonpath={.status.conditions[0].message}";
    eventually(SOON, || {
        let said = cluster.kubectl(&["get", "pod", "fenced", "-o", message]);
        match said.stdout.as_str() {
            "0/2 nodes are available: 2 node(s) didn't match scheduler-enforced node affinity. no new claims to \
             deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling." => {
                Ok(())
            }
            other => Err(other.to_owned()),
        }
    });
    cluster
        .kubectl(&["label", "node", &other, "pool=fence"])
        .ok();
    eventually(SOON, || {
        let node = "jsonpath={.spec.nodeName}";
        let node = cluster.kubectl(&["get", "pod", "fenced", "-o", node]).ok();
        if node == other { Ok(()) } else { Err(node) }
    });
    let events = cluster.kubectl(&[
        "get",
        "events",
        "--field-selector=involvedObject.name=fenced",
    ]);
    let events = events.ok();
    assert!(
        events.contains("Successfully assigned default/fenced"),
        "{events}"
    );
}

#[test]
fn what_a_configuration_can_not_say_is_told_before_anything_starts() {
    let refused = |text: &str| {
        let (dir, cluster) = configured(text);
        let output = cluster.up_command().output().expect("wk starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let file = dir.path().join("scheduler.yaml").display().to_string();
        let said = String::from_utf8_lossy(&output.stderr);
        said.replace(&file, "FILE").trim_end().to_owned()
    };
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    assert_eq!(
        refused(&format!("{head}extenders: [{{urlPrefix: http://x}}]")),
        "error: --scheduler-config FILE: extenders: Forbidden: wk's scheduler calls no extenders"
    );
    assert_eq!(
        refused(&format!(
            "{head}profiles: [{{pluginConfig: [{{name: InterPodAffinity, args: {{hardPodAffinityWeight: 101}}}}]}}]"
        )),
        "error: --scheduler-config FILE: profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: \
         not in valid range [0, 100]"
    );
    assert_eq!(
        refused("apiVersion: v1\nkind: ConfigMap\n"),
        "error: --scheduler-config FILE: no kind \"ConfigMap\" is registered for version \"v1\"; it must be \
         KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1"
    );
}
