//! Nodes that fall silent and come back, and what becomes of their pods.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::{Cluster, template};
use crate::fake_api::{FakeApi, Faults};

const GRACE: Duration = Duration::from_secs(50);

/// Nodes that write their status every ten seconds, while their names are here.
struct Hearts {
    beating: Arc<Mutex<BTreeSet<String>>>,
    _task: JoinSet<()>,
}

impl Hearts {
    /// Of node `n` and so many more: `n1`, `n2`, ….
    fn of(cluster: &Cluster, nodes: usize) -> Self {
        let mut names = BTreeSet::from(["n".to_owned()]);
        for number in 1..nodes {
            let name = format!("n{number}");
            cluster.add_node(&name, json!({}));
            names.insert(name);
        }
        let beating = Arc::new(Mutex::new(names));
        let mut task = JoinSet::new();
        task.spawn(beat(cluster.api.clone(), beating.clone()));
        Self {
            beating,
            _task: task,
        }
    }

    fn stop(&self, names: &[&str]) {
        let mut beating = self.beating.lock().unwrap();
        beating.retain(|name| !names.contains(&name.as_str()));
    }

    fn start(&self, names: &[&str]) {
        let mut beating = self.beating.lock().unwrap();
        beating.extend(names.iter().map(|name| (*name).to_owned()));
    }
}

async fn beat(api: FakeApi, beating: Arc<Mutex<BTreeSet<String>>>) {
    for second in 0.. {
        let time = jiff::Timestamp::from_second(second).unwrap();
        let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": time});
        let names = beating.lock().unwrap().clone();
        for name in names
            .iter()
            .filter(|name| api.find("nodes", name).is_some())
        {
            api.patch("nodes", name, json!({"status": {"conditions": [ready]}}));
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// The taints of a node, without what all have in common.
fn taints(api: &FakeApi, node: &str) -> String {
    let node = api.find("nodes", node).unwrap();
    let taints = node["spec"]["taints"].as_array().cloned();
    let mut taints: Vec<String> = taints
        .unwrap_or_default()
        .iter()
        .map(|taint| {
            let text = |field: &str| taint[field].as_str().unwrap().to_owned();
            format!("{}:{}", text("key"), text("effect"))
        })
        .collect();
    taints.sort();
    taints.join(" ").replace("node.kubernetes.io/", "")
}

const LOST: &str = "unreachable:NoExecute unreachable:NoSchedule";

fn is_going(api: &FakeApi, pod: &str) -> bool {
    let pod = api.find("pods", pod);
    pod.is_none_or(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
}

/// A pod on a node, with tolerations.
fn run_pod(cluster: &Cluster, name: &str, node: &str, tolerations: Value) {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns"}, "spec": template("one")["spec"],
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["tolerations"] = tolerations;
    cluster.api.create("pods", pod);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_beats_is_left_and_a_silent_one_is_lost_with_its_pods() {
    let cluster = Cluster::with_node_grace(0, GRACE);
    let hearts = Hearts::of(&cluster, 3);
    cluster.ending.store(false, Ordering::SeqCst);
    run_pod(&cluster, "p", "n", json!([]));
    let exists = json!([{"operator": "Exists"}]);
    run_pod(&cluster, "tough", "n", exists);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(taints(&cluster.api, "n"), "");
    let registered = cluster.messages("RegisteredNode");
    assert_eq!(registered[0], "Registered Node n in Controller");
    hearts.stop(&["n"]);
    let begun = Instant::now();
    cluster.wait("taints", |api| taints(api, "n") == LOST).await;
    assert!(begun.elapsed() >= Duration::from_secs(40));
    assert!(begun.elapsed() <= Duration::from_secs(60));
    cluster.wait("an eviction", |api| is_going(api, "p")).await;
    let pod = cluster.api.find("pods", "p").unwrap();
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let disrupted = conditions.iter().find(|c| c["type"] == "DisruptionTarget");
    let disrupted = disrupted.unwrap();
    assert_eq!(disrupted["reason"], "DeletionByTaintManager");
    let marked = |api: &FakeApi| {
        let pod = api.find("pods", "tough").unwrap();
        pod["status"]["conditions"][0]["status"] == "False"
    };
    cluster.wait("pods that are not ready", marked).await;
    for (reason, message) in [
        ("NodeNotReady", "Node n status is now: NodeNotReady"),
        ("NodeNotReady", "Node is not ready"),
        ("TaintManagerEviction", "Marking for deletion Pod ns/p"),
    ] {
        let said = |_: &FakeApi| cluster.messages(reason).iter().any(|said| said == message);
        cluster.wait(message, said).await;
    }
    // Nobody can say that it has ended: it stays until the node comes back.
    tokio::time::sleep(Duration::from_secs(3000)).await;
    assert!(cluster.api.find("pods", "p").is_some());
    assert!(!is_going(&cluster.api, "tough"));
    hearts.start(&["n"]);
    cluster
        .wait("no taints", |api| taints(api, "n").is_empty())
        .await;
    cluster.ending.store(true, Ordering::SeqCst);
    let gone = |api: &FakeApi| api.find("pods", "p").is_none();
    cluster.wait("its end", gone).await;
    cluster.api.purge("nodes", "n2");
    let said = |_: &FakeApi| {
        let said = cluster.messages("RemovingNode");
        said == ["Removing Node n2 from Controller"]
    };
    cluster.wait("an Event", said).await;
}

#[tokio::test(start_paused = true)]
async fn lost_nodes_lose_their_pods_one_after_another() {
    let cluster = Cluster::with_node_grace(0, GRACE);
    let hearts = Hearts::of(&cluster, 9);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lost = ["n1", "n2", "n3"];
    hearts.stop(&lost);
    let so_many = |count: usize| {
        move |api: &FakeApi| {
            let tainted = lost.iter().filter(|name| taints(api, name) == LOST);
            tainted.count() == count
        }
    };
    cluster.wait("one", so_many(1)).await;
    for count in [2, 3] {
        let begun = Instant::now();
        cluster.wait("one more", so_many(count)).await;
        assert!(begun.elapsed() >= Duration::from_secs(9));
        assert!(begun.elapsed() <= Duration::from_secs(16));
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_nodes_are_lost_no_pod_is_deleted() {
    let mut cluster = Cluster::with_node_grace(0, GRACE);
    let hearts = Hearts::of(&cluster, 2);
    run_pod(&cluster, "p", "n", json!([]));
    tokio::time::sleep(Duration::from_secs(60)).await;
    hearts.stop(&["n", "n1"]);
    let lost = "unreachable:NoSchedule";
    let both = |api: &FakeApi| taints(api, "n") == lost && taints(api, "n1") == lost;
    cluster.wait("both lost", both).await;
    tokio::time::sleep(Duration::from_secs(3000)).await;
    cluster.restart().await;
    tokio::time::sleep(Duration::from_secs(3000)).await;
    assert!(both(&cluster.api) && !is_going(&cluster.api, "p"));
    hearts.start(&["n1"]);
    cluster.wait("an eviction", |api| is_going(api, "p")).await;
    assert_eq!(taints(&cluster.api, "n1"), "");
}

#[tokio::test(start_paused = true)]
async fn a_taint_gives_pods_the_time_that_they_tolerate() {
    let mut cluster = Cluster::new(0);
    let seconds = |seconds: u64| {
        json!([{"key": "mine", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": seconds}])
    };
    run_pod(&cluster, "short", "n", seconds(30));
    run_pod(&cluster, "long", "n", seconds(300));
    let taint = json!([{"key": "mine", "effect": "NoExecute"}]);
    let begun = Instant::now();
    cluster
        .api
        .patch("nodes", "n", json!({"spec": {"taints": taint}}));
    cluster
        .wait("the first", |api| is_going(api, "short"))
        .await;
    assert!(begun.elapsed() >= Duration::from_secs(29));
    run_pod(&cluster, "late", "n", json!([]));
    cluster
        .wait("the late one", |api| is_going(api, "late"))
        .await;
    assert!(begun.elapsed() <= Duration::from_secs(40));
    cluster
        .api
        .patch("nodes", "n", json!({"spec": {"taints": []}}));
    let said = |_: &FakeApi| {
        let said = cluster.messages("TaintManagerEviction");
        said.iter()
            .any(|m| m == "Cancelling deletion of Pod ns/long")
    };
    cluster.wait("an Event", said).await;
    cluster.restart().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!is_going(&cluster.api, "long"));
}

#[tokio::test(start_paused = true)]
async fn lost_nodes_are_told_from_others_whatever_goes_wrong() {
    for seed in 0..16 {
        let mut cluster = Cluster::with_node_grace(seed, GRACE);
        let hearts = Hearts::of(&cluster, 5);
        let (request, watch) = (8, 8);
        cluster.api.set_faults(Faults { request, watch });
        run_pod(&cluster, "p1", "n1", json!([]));
        run_pod(&cluster, "p2", "n2", json!([]));
        tokio::time::sleep(Duration::from_secs(30 + seed)).await;
        hearts.stop(&["n1"]);
        tokio::time::sleep(Duration::from_secs(30 + seed * 3)).await;
        cluster.restart().await;
        hearts.stop(&["n3"]);
        tokio::time::sleep(Duration::from_secs(seed * 7)).await;
        cluster.restart().await;
        let lost = |api: &FakeApi| {
            let of = |node| taints(api, node);
            of("n1") == LOST && of("n3") == LOST && of("n2").is_empty() && of("n").is_empty()
        };
        cluster.wait("two lost", lost).await;
        let gone = |api: &FakeApi| api.find("pods", "p1").is_none();
        cluster.wait("one pod gone", gone).await;
        hearts.start(&["n1", "n3"]);
        let back = |api: &FakeApi| {
            let all = api.all("nodes");
            let names = all.iter().map(|node| node["metadata"]["name"].as_str());
            names
                .into_iter()
                .all(|name| taints(api, name.unwrap()).is_empty())
        };
        cluster.wait("all back", back).await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(back(&cluster.api), "seed {seed} did not stay so");
        assert!(!is_going(&cluster.api, "p2"), "seed {seed}");
        assert!(cluster.api.faulty() > 5, "seed {seed} was untroubled");
    }
}
