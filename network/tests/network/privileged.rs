//! Privileged: the Wasm pods' namespace and nftables.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use runtimes::{PodNetwork, Protocol};

use crate::{cluster::Cluster, host::*, sockets::*};

/// Two pods that serve TCP and UDP at 8080, behind `web` at 10.43.0.9:80 and `dns` at 10.43.0.11:53.
async fn start_with_two_pods() -> Running {
    let running = start(&Cluster::new()).await;
    for name in ["a", "b"] {
        let ip = running.handle.add(&pod(name), None).await.unwrap().ip;
        serve_tcp(&running.handle, (ip, 8080).into());
        serve_udp(&running.handle, (ip, 8080).into());
    }
    let cluster = &running.cluster;
    cluster.put_service("web", "10.43.0.9", 80, "TCP");
    cluster.put_endpoints("web", &["10.64.0.4", "10.64.0.5"], 8080, "TCP");
    cluster.put_service("dns", "10.43.0.11", 53, "UDP");
    cluster.put_endpoints("dns", &["10.64.0.4"], 8080, "UDP");
    running
}

/// What the watch says is in the kernel's tables within milliseconds; a busy machine gets more.
#[track_caller]
fn check_prompt(what: &str, since: Instant) {
    let elapsed = since.elapsed();
    eprintln!("{what} after {elapsed:?}");
    assert!(
        elapsed < Duration::from_secs(10),
        "{what} only after {elapsed:?}"
    );
}

#[test]
fn the_host_reaches_a_pod_by_its_address() {
    in_private_host(
        "privileged::the_host_reaches_a_pod_by_its_address",
        || async {
            let running = start_with_two_pods().await;
            assert_eq!(
                ask(address("10.64.0.4:8080")).await.unwrap(),
                "10.64.0.4 10.64.0.1"
            );
            assert_eq!(
                ask_udp(address("10.64.0.5:8080")).await.unwrap(),
                "10.64.0.5 10.64.0.1"
            );
            drop(running);
        },
    );
}

#[test]
fn the_host_reaches_a_service_and_every_ready_endpoint_takes_part() {
    in_private_host(
        "privileged::the_host_reaches_a_service_and_every_ready_endpoint_takes_part",
        || async {
            let running = start_with_two_pods().await;
            let listed = || async { running.handle.host_address("default", "web", 80) };
            let web = eventually(listed, Option::is_some).await.unwrap();
            assert_eq!(web, address("10.43.0.9:80"));
            eventually(|| ask(web), answered).await.unwrap();
            for wanted in ["10.64.0.4 10.64.0.1", "10.64.0.5 10.64.0.1"] {
                eventually(
                    || ask(web),
                    |seen| seen.as_ref().is_ok_and(|seen| seen == wanted),
                )
                .await
                .unwrap();
            }
            let dns = address("10.43.0.11:53");
            assert_eq!(
                eventually(|| ask_udp(dns), answered).await.unwrap(),
                "10.64.0.4 10.64.0.1"
            );
        },
    );
}

#[test]
fn a_service_without_ready_endpoints_or_such_a_port_is_refused_at_once() {
    in_private_host(
        "privileged::a_service_without_ready_endpoints_or_such_a_port_is_refused_at_once",
        || async {
            let running = start_with_two_pods().await;
            let web = address("10.43.0.9:80");
            eventually(|| ask(web), answered).await.unwrap();
            let started = Instant::now();
            running.cluster.put_endpoints("web", &[], 8080, "TCP");
            eventually(|| ask(web), refused).await.unwrap_err();
            check_prompt("the last endpoint was gone", started);
            for text in ["10.43.0.9:81", "10.43.77.1:80"] {
                assert!(refused(&ask(address(text)).await), "{text}");
            }
            let started = Instant::now();
            running
                .cluster
                .put_endpoints("web", &["10.64.0.5"], 8080, "TCP");
            eventually(|| ask(web), answered).await.unwrap();
            check_prompt("an endpoint was there", started);
            for _ in 0..4 {
                assert_eq!(ask(web).await.unwrap(), "10.64.0.5 10.64.0.1");
            }
        },
    );
}

#[test]
fn pods_reach_each_other_the_host_and_services() {
    in_private_host(
        "privileged::pods_reach_each_other_the_host_and_services",
        || async {
            let running = start_with_two_pods().await;
            eventually(|| ask(address("10.43.0.9:80")), answered)
                .await
                .unwrap();
            let from = |server: &str| {
                let source: IpAddr = "10.64.0.4".parse().unwrap();
                ask_from_pod(&running.handle, source, address(server)).unwrap()
            };
            assert_eq!(from("10.64.0.5:8080"), "10.64.0.5 10.64.0.4");
            let host = std::net::TcpListener::bind("10.64.0.1:0").unwrap();
            let host = serve_on_host(host);
            assert_eq!(from(&host.to_string()), "host 10.64.0.4");
            // By way of the host's rules: the endpoint, perhaps the client itself, sees the host.
            for _ in 0..4 {
                let answer = from("10.43.0.9:80");
                assert!(answer.ends_with(" 10.64.0.1"), "{answer}");
            }
            let routed = running
                .handle
                .route(&pod("a"), address("10.43.0.9:80"), Protocol::Tcp)
                .unwrap();
            assert_eq!(
                from(&routed.to_string()),
                format!("{} 10.64.0.4", routed.ip())
            );
        },
    );
}

#[test]
fn the_outside_sees_a_pod_as_the_host() {
    in_private_host("privileged::the_outside_sees_a_pod_as_the_host", || async {
        let outside = neighbour();
        let outside = serve_on_host(within(&outside, || {
            std::net::TcpListener::bind("192.0.2.2:0").unwrap()
        }));
        let running = start_with_two_pods().await;
        eventually(|| ask(address("10.43.0.9:80")), answered)
            .await
            .unwrap();
        let answer = ask_from_pod(&running.handle, "10.64.0.4".parse().unwrap(), outside);
        assert_eq!(answer.unwrap(), "host 192.0.2.1");
    });
}

#[test]
fn a_pods_loopback_is_its_own_and_the_hosts_ports_stay_out() {
    in_private_host(
        "privileged::a_pods_loopback_is_its_own_and_the_hosts_ports_stay_out",
        || async {
            run("ip link set lo up");
            let running = start(&Cluster::new()).await;
            let a = running.handle.add(&pod("a"), None).await.unwrap();
            let b = running.handle.add(&pod("b"), None).await.unwrap();
            assert_ne!(a.loopback, b.loopback);
            let host = std::net::TcpListener::bind("0.0.0.0:9000").unwrap();
            serve_tcp(&running.handle, (a.loopback, 9000).into());
            serve_tcp(&running.handle, (b.loopback, 9000).into());
            serve_tcp(&running.handle, (a.ip, 9000).into());
            let answer =
                ask_from_pod(&running.handle, a.loopback, (b.loopback, 9000).into()).unwrap();
            assert_eq!(answer, format!("{} {}", b.loopback, a.loopback));
            assert_eq!(
                ask((a.ip, 9000).into()).await.unwrap(),
                format!("{} 10.64.0.1", a.ip)
            );
            assert!(
                refused(&ask((b.ip, 9000).into()).await),
                "nobody listens there"
            );
            drop(host);
        },
    );
}

#[test]
fn the_next_start_adopts_what_is_there_and_teardown_leaves_nothing() {
    in_private_host(
        "privileged::the_next_start_adopts_what_is_there_and_teardown_leaves_nothing",
        || async {
            let running = start_with_two_pods().await;
            let cluster = running.cluster.clone();
            let web = address("10.43.0.9:80");
            eventually(|| ask(web), answered).await.unwrap();
            let links = run("ip link");
            drop(running);
            assert!(
                ask(web).await.is_ok(),
                "pods keep serving while nothing runs"
            );
            let running = start(&cluster).await;
            assert_eq!(run("ip link"), links);
            assert!(ask(web).await.is_ok());
            assert!(
                ask(address("10.64.0.4:8080")).await.is_ok(),
                "the old namespace is the new one"
            );

            running.handle.teardown().await.unwrap();
            network::teardown("a")
                .await
                .expect("a second time does nothing");
            assert_eq!(run("nft list tables"), "");
            assert!(!run("ip link").contains("wk"), "{}", run("ip link"));
            assert_eq!(run("ip route"), "");
            assert_eq!(std::fs::read_dir("/run/netns").unwrap().count(), 0);
            start(&cluster).await;
        },
    );
}

#[test]
fn two_nodes_share_a_host() {
    in_private_host("privileged::two_nodes_share_a_host", || async {
        let one = start_with_two_pods().await;
        let two = start_node(&one.cluster, "b", "10.64.64.0/18").await;
        let ip = two.handle.add(&pod("c"), None).await.unwrap().ip;
        assert_eq!(ip.to_string(), "10.64.64.4");
        serve_tcp(&two.handle, (ip, 8080).into());
        assert_eq!(
            ask((ip, 8080).into()).await.unwrap(),
            "10.64.64.4 10.64.64.1"
        );
        let source: IpAddr = "10.64.0.4".parse().unwrap();
        let across = ask_from_pod(&one.handle, source, (ip, 8080).into());
        assert_eq!(across.unwrap(), "10.64.64.4 10.64.0.4");

        one.cluster
            .put_endpoints("web", &["10.64.64.4"], 8080, "TCP");
        let web = address("10.43.0.9:80");
        let moved = |seen: &io::Result<String>| {
            seen.as_ref()
                .is_ok_and(|seen| seen.starts_with("10.64.64.4 "))
        };
        eventually(|| ask(web), moved).await.unwrap();
        drop(two);
        network::teardown("b").await.unwrap();
        assert!(
            ask(address("10.64.0.4:8080")).await.is_ok(),
            "the other node is untouched"
        );
    });
}

#[test]
fn rules_that_somebody_flushed_come_back_with_the_next_change() {
    in_private_host(
        "privileged::rules_that_somebody_flushed_come_back_with_the_next_change",
        || async {
            let running = start_with_two_pods().await;
            let web = address("10.43.0.9:80");
            eventually(|| ask(web), answered).await.unwrap();
            run("nft flush ruleset");
            running
                .cluster
                .put_endpoints("web", &["10.64.0.5"], 8080, "TCP");
            let listed = || async { run("nft list ruleset") };
            eventually(listed, |rules| rules.contains("dnat to 10.64.0.5:8080")).await;
            assert_eq!(ask(web).await.unwrap(), "10.64.0.5 10.64.0.1");
        },
    );
}

#[test]
fn a_node_that_is_given_another_range_says_that_a_restart_is_needed() {
    in_private_host(
        "privileged::a_node_that_is_given_another_range_says_that_a_restart_is_needed",
        || async {
            let running = start(&Cluster::new()).await;
            let same = running
                .handle
                .set_pod_range("10.64.0.0/18".parse().unwrap())
                .await;
            assert!(same.is_ok());
            for (range, reason) in [("10.64.64.0/18", "restart"), ("192.168.0.0/18", "part of")] {
                let other = running.handle.set_pod_range(range.parse().unwrap()).await;
                let error = format!("{:#}", other.unwrap_err());
                assert!(error.contains(reason), "{error}");
            }
        },
    );
}
