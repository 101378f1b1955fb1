//! What a large Deployment costs: API calls a pod, whatever their number.

use std::collections::HashMap;

use serde_json::json;

use crate::cluster::{Cluster, template};
use crate::fake_api::FakeApi;

const PODS: usize = 400;

/// Waits for so many pods of an image, cheaply.
async fn has(cluster: &Cluster, image: &str, pods: usize) {
    let image = image.to_owned();
    let done = |api: &FakeApi| {
        let deployment = api.find("deployments", "web").unwrap();
        let counts = ["replicas", "updatedReplicas", "availableReplicas"];
        let counts = counts.map(|count| deployment["status"][count].as_u64().unwrap_or(0));
        let observed =
            deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"];
        observed
            && deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image
            && counts.iter().all(|count| *count == pods as u64)
            && api.count("pods") == pods
    };
    cluster.wait("all pods", done).await;
}

/// The calls since they were last counted, by what they do, without those that every pod needs.
struct Bill {
    counted: HashMap<String, usize>,
}

impl Bill {
    /// Demands so many calls of a kind, and at most a hundred of any other.
    fn pay(&mut self, cluster: &Cluster, needed: &[(&str, usize)]) {
        let now = cluster.api.calls();
        for (call, count) in &now {
            let count = count - self.counted.get(call).copied().unwrap_or(0);
            match needed.iter().find(|(needed, _)| call == needed) {
                Some((_, needed)) => assert_eq!(count, *needed, "{call}"),
                None => assert!(count <= 100, "{count} times {call}"),
            }
        }
        self.counted = now;
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_deployment_costs_a_call_a_pod_to_make_to_roll_and_to_delete() {
    let cluster = Cluster::new(0);
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    let service = json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec});
    cluster.api.create("services", service);
    let mut bill = Bill {
        counted: cluster.api.calls(),
    };
    cluster.deploy(i32::try_from(PODS).unwrap(), json!({}));
    has(&cluster, "one", PODS).await;
    bill.pay(&cluster, &[("create pods", PODS)]);
    let patch = json!({"spec": {"template": template("two")}});
    cluster.api.patch("deployments", "web", patch);
    has(&cluster, "two", PODS).await;
    bill.pay(&cluster, &[("create pods", PODS), ("delete pods", PODS)]);
    cluster.api.delete("deployments", "web", "Background");
    cluster.wait("none", |api| api.count("pods") == 0).await;
    // The garbage collector looks at each pod before it deletes it.
    bill.pay(&cluster, &[("get pods", PODS), ("delete pods", PODS)]);
}
