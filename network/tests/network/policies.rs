//! NetworkPolicies, from their objects to a verdict.

use std::net::IpAddr;

use futures::FutureExt as _;
use runtimes::{Direction, PodNetwork, Protocol, Traffic};
use serde_json::json;

use crate::{
    rootless::start,
    sockets::{eventually, pod},
};

fn from(peer: IpAddr) -> Traffic {
    Traffic {
        direction: Direction::Ingress,
        peer,
        port: 8080,
        protocol: Protocol::Tcp,
    }
}

#[tokio::test]
async fn a_policy_is_in_force_while_it_is_there_and_the_node_reaches_its_pods() {
    let running = start().await;
    let (cluster, handle) = (&running.cluster, &running.handle);
    let (web, tool) = (pod("web"), pod("tool"));
    let web_ip = handle.add(&web, None).await.unwrap().ip;
    let tool_ip = handle.add(&tool, None).await.unwrap().ip;
    assert!(handle.allows(&web, from(tool_ip)));

    for (name, ip) in [("web", web_ip), ("tool", tool_ip)] {
        let object = json!({
            "metadata": {"uid": format!("uid-{name}"), "labels": {"app": name}},
            "spec": {"containers": [{"name": "main"}]},
            "status": {"podIP": ip},
        });
        cluster.put("pods", "default", name, object);
    }
    let closed = json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}}});
    cluster.put("networkpolicies", "default", "closed", closed);
    let closes = || async { handle.allows(&web, from(tool_ip)) };
    eventually(closes, |passes| !passes).await;
    assert!(handle.allows(&tool, from(web_ip)));
    assert!(handle.allows(&web, from("127.0.0.1".parse().unwrap())));

    cluster.remove("networkpolicies", "default", "closed");
    eventually(closes, |passes| *passes).await;
}

#[tokio::test]
async fn a_new_pod_waits_until_what_would_isolate_it_is_known() {
    let running = start().await;
    let (cluster, handle) = (&running.cluster, &running.handle);
    let closed = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}});
    cluster.put("networkpolicies", "default", "closed", closed);
    let known = |name: &str| {
        let metadata = json!({"uid": format!("uid-{name}")});
        let object = json!({"metadata": metadata, "spec": {"containers": [{"name": "main"}]}});
        cluster.put("pods", "default", name, object);
    };
    known("early");
    let early = pod("early");
    handle.add(&early, None).await.unwrap();
    let outside = from("1.2.3.4".parse().unwrap());
    let closes = || async { handle.allows(&early, outside) };
    eventually(closes, |passes| !passes).await;

    let late = pod("late");
    let mut added = handle.add(&late, None);
    assert!(
        (&mut added).now_or_never().is_none(),
        "it was added unknown"
    );
    known("late");
    added.await.unwrap();
    assert!(!handle.allows(&late, outside));
}
