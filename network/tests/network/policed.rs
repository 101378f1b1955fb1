//! NetworkPolicies of isolated pods, which the kernel enforces.

use std::{
    io,
    net::{IpAddr, TcpListener},
};

use runtimes::PodNetwork;
use serde_json::{Value, json};

use crate::{cluster::Cluster, host::*, isolation::*, sockets::*};

/// Not answered, and not refused by a server.
fn forbidden(seen: &io::Result<String>) -> bool {
    seen.as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::HostUnreachable)
}

fn put_pod(cluster: &Cluster, name: &str, ip: Option<IpAddr>) {
    let ports = json!([{"name": "http", "containerPort": 8080}]);
    let object = json!({
        "metadata": {"uid": format!("uid-{name}"), "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "ports": ports}]},
        "status": {"podIP": ip},
    });
    cluster.put("pods", "default", name, object);
}

fn put_policy(cluster: &Cluster, spec: Value) {
    cluster.put(
        "networkpolicies",
        "default",
        "policy",
        json!({"spec": spec}),
    );
}

/// `web` is reached by `tool` alone, at its port `http`, and reaches nobody.
fn only_tool() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"app": "tool"}}}],
            "ports": [{"port": "http"}],
        }],
    })
}

#[test]
fn policies_are_in_force_for_isolated_pods_while_they_are_there() {
    in_private_host(
        "policed::policies_are_in_force_for_isolated_pods_while_they_are_there",
        || async {
            let running = start(&Cluster::new()).await;
            let handle = &running.handle;
            let (web, tool) = (
                start_own(handle, "web").await,
                start_own(handle, "tool").await,
            );
            let other = start_own(handle, "other").await;
            let wasm = start_wasm(handle, "wasm").await;
            let host = serve_on_host(TcpListener::bind("10.64.0.1:0").unwrap());
            let cluster = &running.cluster;
            for (name, ip) in [
                ("web", web.ip),
                ("tool", tool.ip),
                ("other", other.ip),
                ("wasm", wasm),
            ] {
                put_pod(cluster, name, Some(ip));
            }
            web.serve(web.at(9000));
            cluster.put_service("web", "10.43.0.20", 80, "TCP");
            cluster.put_endpoints("web", &[&web.ip.to_string()], 8080, "TCP");
            let service = address("10.43.0.20:80");
            eventually(|| async { other.ask(service) }, answered)
                .await
                .unwrap();
            assert!(web.ask(tool.at(8080)).is_ok());

            put_policy(cluster, only_tool());
            let other_asks = || async { other.ask(web.at(8080)) };
            eventually(other_asks, forbidden).await.unwrap_err();
            assert_eq!(
                tool.ask(web.at(8080)).unwrap(),
                format!("{} {}", web.ip, tool.ip)
            );
            assert_eq!(
                tool.ask(service).unwrap(),
                format!("{} {}", web.ip, tool.ip)
            );
            assert!(forbidden(&tool.ask(web.at(9000))));
            assert!(forbidden(&other.ask(service)));
            assert!(forbidden(&ask_from_pod(handle, wasm, web.at(8080))));
            assert!(ask(web.at(8080)).await.is_ok(), "the node's probes pass");
            assert!(web.ask(web.at(9000)).is_ok() && web.ask(service).is_ok());
            for server in [tool.at(8080), (wasm, 8080).into(), host] {
                assert!(forbidden(&web.ask(server)), "{server}");
            }
            assert!(tool.ask(other.at(8080)).is_ok());

            // Who may is decided anew as labels come and go.
            cluster.put(
                "pods",
                "default",
                "other",
                json!({
                    "metadata": {"uid": "uid-other", "labels": {"app": "tool"}},
                    "spec": {"containers": [{"name": "main"}]},
                    "status": {"podIP": other.ip},
                }),
            );
            eventually(other_asks, answered).await.unwrap();

            cluster.remove("networkpolicies", "default", "policy");
            eventually(|| async { web.ask(host) }, answered)
                .await
                .unwrap();
            assert!(ask_from_pod(handle, wasm, web.at(8080)).is_ok());
        },
    );
}

#[test]
fn what_may_leave_is_still_asked_whether_it_may_enter() {
    in_private_host(
        "policed::what_may_leave_is_still_asked_whether_it_may_enter",
        || async {
            let running = start(&Cluster::new()).await;
            let handle = &running.handle;
            let (web, tool) = (
                start_own(handle, "web").await,
                start_own(handle, "tool").await,
            );
            let cluster = &running.cluster;
            put_pod(cluster, "web", Some(web.ip));
            put_pod(cluster, "tool", Some(tool.ip));
            let leaves = json!({
                "podSelector": {},
                "policyTypes": ["Ingress", "Egress"],
                "egress": [{}],
            });
            put_policy(cluster, leaves);
            eventually(|| async { tool.ask(web.at(8080)) }, forbidden)
                .await
                .unwrap_err();
            let host = serve_on_host(TcpListener::bind("10.64.0.1:0").unwrap());
            assert!(tool.ask(host).is_ok());
        },
    );
}

#[test]
fn a_pod_is_not_isolated_before_its_policies_are_in_place() {
    in_private_host(
        "policed::a_pod_is_not_isolated_before_its_policies_are_in_place",
        || async {
            let running = start(&Cluster::new()).await;
            let (handle, cluster) = (&running.handle, &running.cluster);
            put_policy(cluster, only_tool());
            for name in ["web", "tool", "other"] {
                put_pod(cluster, name, None);
            }
            let other = start_own(handle, "other").await;
            for round in 0..3 {
                let web = start_own(handle, "web").await;
                let seen = other.ask(web.at(8080));
                assert!(forbidden(&seen), "round {round}: {seen:?}");
                assert!(forbidden(&web.ask(other.at(8080))), "round {round}");
                handle.remove("uid-web").await.unwrap();
            }
            let tool = start_own(handle, "tool").await;
            let web = start_own(handle, "web").await;
            assert!(tool.ask(web.at(8080)).is_ok());
        },
    );
}

#[test]
fn policies_stay_in_force_over_a_restart() {
    in_private_host("policed::policies_stay_in_force_over_a_restart", || async {
        let running = start(&Cluster::new()).await;
        let cluster = running.cluster.clone();
        put_policy(&cluster, only_tool());
        for name in ["web", "tool", "other"] {
            put_pod(&cluster, name, None);
        }
        let handle = &running.handle;
        let (web, tool) = (
            start_own(handle, "web").await,
            start_own(handle, "tool").await,
        );
        let other = start_own(handle, "other").await;
        let rules = run("nft list ruleset");
        assert!(forbidden(&other.ask(web.at(8080))), "{rules}");
        put_pod(&cluster, "web", Some(web.ip));
        put_pod(&cluster, "tool", Some(tool.ip));
        put_pod(&cluster, "other", Some(other.ip));
        drop(running);
        assert!(forbidden(&other.ask(web.at(8080))));
        let running = start(&cluster).await;
        for name in ["web", "tool", "other"] {
            assert!(forbidden(&other.ask(web.at(8080))));
            running.handle.add(&pod(name), None).await.unwrap();
        }
        eventually(|| async { tool.ask(web.at(8080)) }, answered)
            .await
            .unwrap();
        assert!(forbidden(&other.ask(web.at(8080))));
        cluster.remove("networkpolicies", "default", "policy");
        eventually(|| async { other.ask(web.at(8080)) }, answered)
            .await
            .unwrap();
        network::teardown("a").await.unwrap();
        assert_eq!(run("nft list tables"), "");
    });
}
