//! Services of isolated pods: ClusterIPs and node ports by the host's rules.

use std::net::{IpAddr, TcpListener};

use runtimes::{HostPort, PodNetwork, Protocol};

use crate::{cluster::Cluster, host::*, isolation::*, sockets::*};

#[test]
fn isolated_pods_reach_services_and_themselves_by_them() {
    in_private_host(
        "services::isolated_pods_reach_services_and_themselves_by_them",
        || async {
            let running = start(&Cluster::new()).await;
            let handle = &running.handle;
            let (one, two) = (
                start_own(handle, "one").await,
                start_own(handle, "two").await,
            );
            let wasm = start_wasm(handle, "wasm").await;
            let cluster = &running.cluster;
            let service = |name: &str, ip: &str, endpoint: IpAddr, protocol: &str| {
                cluster.put_service(name, ip, 80, protocol);
                cluster.put_endpoints(name, &[&endpoint.to_string()], 8080, protocol);
            };
            service("own", "10.43.0.20", two.ip, "TCP");
            service("datagrams", "10.43.0.21", two.ip, "UDP");
            service("wasm", "10.43.0.22", wasm, "TCP");
            let own = address("10.43.0.20:80");
            eventually(|| ask(address("10.43.0.22:80")), answered)
                .await
                .unwrap();
            eventually(|| ask(own), answered).await.unwrap();

            assert_eq!(one.ask(own).unwrap(), format!("{} {}", two.ip, one.ip));
            let datagrams = one.ask_udp(address("10.43.0.21:80"));
            assert_eq!(datagrams.unwrap(), format!("{} {}", two.ip, one.ip));
            let to_wasm = one.ask(address("10.43.0.22:80"));
            assert_eq!(to_wasm.unwrap(), format!("{wasm} {}", one.ip));
            let hairpin = two.ask(own);
            assert_eq!(hairpin.unwrap(), format!("{} 10.64.0.1", two.ip));
            let hairpin = two.ask_udp(address("10.43.0.21:80"));
            assert_eq!(hairpin.unwrap(), format!("{} 10.64.0.1", two.ip));
            let by_rules = ask_from_pod(handle, wasm, own);
            assert_eq!(by_rules.unwrap(), format!("{} {wasm}", two.ip));
            assert_eq!(ask(own).await.unwrap(), format!("{} 10.64.0.1", two.ip));
            assert!(refused(&one.ask(address("10.43.0.20:81"))));

            cluster.put_endpoints("own", &[&one.ip.to_string()], 8080, "TCP");
            let moved = format!("{} {}", one.ip, two.ip);
            let ask = || async { two.ask(own) };
            eventually(ask, |seen| seen.as_ref().is_ok_and(|seen| *seen == moved))
                .await
                .unwrap();
        },
    );
}

#[test]
fn a_service_of_the_host_is_reached_from_an_isolated_pod() {
    in_private_host(
        "services::a_service_of_the_host_is_reached_from_an_isolated_pod",
        || async {
            neighbour();
            let running = start(&Cluster::new()).await;
            let own = start_own(&running.handle, "own").await;
            let host = serve_on_host(TcpListener::bind("0.0.0.0:0").unwrap());
            let cluster = &running.cluster;
            cluster.put_service("kubernetes", "10.43.0.1", 443, "TCP");
            for endpoint in ["192.0.2.1", "127.0.0.1"] {
                cluster.put_endpoints("kubernetes", &[endpoint], host.port(), "TCP");
                let api = || async { own.ask(address("10.43.0.1:443")) };
                let seen = eventually(api, answered).await.unwrap();
                assert_eq!(seen, format!("host {}", own.ip));
            }
            let seen = ask(address("10.43.0.1:443")).await.unwrap();
            assert_eq!(seen, "host 10.64.0.1");
            let routed = || async {
                let service = address("10.43.0.1:443");
                let route = running.handle.route(&pod("wasm"), service, Protocol::Tcp);
                route.map(|endpoint| endpoint.ip().to_string())
            };
            eventually(routed, |seen| seen.as_deref() == Some("10.64.0.1")).await;
        },
    );
}

#[test]
fn the_outside_sees_an_isolated_pod_as_its_host_and_reaches_node_ports() {
    in_private_host(
        "services::the_outside_sees_an_isolated_pod_as_its_host_and_reaches_node_ports",
        || async {
            let outside = neighbour();
            let server = within(&outside, || TcpListener::bind("192.0.2.2:0").unwrap());
            let server = serve_on_host(server);
            let running = start(&Cluster::new()).await;
            let own = start_own(&running.handle, "own").await;
            assert_eq!(own.ask(server).unwrap(), "host 192.0.2.1");

            let wasm = start_wasm(&running.handle, "wasm").await;
            let cluster = &running.cluster;
            cluster.put_node_port("web", "10.43.0.20", 30080, "Cluster");
            cluster.put_endpoints("web", &[&own.ip.to_string()], 8080, "TCP");
            cluster.put_node_port("wasm", "10.43.0.21", 30081, "Local");
            cluster.put_endpoints("wasm", &[&wasm.to_string(), "10.65.0.9"], 8080, "TCP");
            let at = |port: u16| -> std::net::SocketAddr { ([192, 0, 2, 1], port).into() };
            let from_outside = |port: u16| within(&outside, move || blocking(ask(at(port))));
            let web = || async { from_outside(30080) };
            let seen = eventually(web, answered).await.unwrap();
            assert_eq!(seen, format!("{} 192.0.2.2", own.ip));
            let near = || async { from_outside(30081) };
            let seen = eventually(near, answered).await.unwrap();
            assert_eq!(seen, format!("{wasm} 192.0.2.2"));
            assert!(refused(&from_outside(30082)));
            assert_eq!(
                ask(at(30080)).await.unwrap(),
                format!("{} 192.0.2.1", own.ip)
            );
            let hairpin = own.ask(at(30080));
            assert_eq!(hairpin.unwrap(), format!("{} 10.64.0.1", own.ip));
            cluster.remove("services", "default", "web");
            eventually(web, refused).await.unwrap_err();
        },
    );
}

#[test]
fn what_a_pod_sends_by_another_address_is_dropped() {
    in_private_host(
        "services::what_a_pod_sends_by_another_address_is_dropped",
        || async {
            let running = start(&Cluster::new()).await;
            let handle = &running.handle;
            let (one, two) = (
                start_own(handle, "one").await,
                start_own(handle, "two").await,
            );
            let wasm = start_wasm(handle, "wasm").await;
            let listener = std::net::UdpSocket::bind("10.64.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let host = listener.local_addr().unwrap();
            let listener = tokio::net::UdpSocket::from_std(listener).unwrap();
            let namespace = one.namespace.clone();
            let send_as = move |source: IpAddr| {
                within(&namespace, move || {
                    run(&format!("ip address replace {source}/32 dev eth0"));
                    let socket = std::net::UdpSocket::bind((source, 0)).unwrap();
                    socket.send_to(source.to_string().as_bytes(), host).unwrap();
                });
            };
            for stranger in [two.ip, wasm, "10.65.0.9".parse().unwrap()] {
                send_as(stranger);
            }
            // What comes first was sent last.
            send_as(one.ip);
            let mut seen = [0; 32];
            let (length, _) = listener.recv_from(&mut seen).await.unwrap();
            assert_eq!(seen[..length], *one.ip.to_string().as_bytes());
        },
    );
}

#[test]
fn a_port_of_the_node_leads_to_the_pod_that_has_it_until_it_goes() {
    in_private_host(
        "services::a_port_of_the_node_leads_to_the_pod_that_has_it_until_it_goes",
        || async {
            let outside = neighbour();
            let running = start(&Cluster::new()).await;
            let own = start_own(&running.handle, "own").await;
            let wasm = start_wasm(&running.handle, "wasm").await;
            let port = |address: [u8; 4], port: u16| HostPort {
                address: address.into(),
                protocol: Protocol::Tcp,
                port,
                to: 8080,
            };
            let open = |name: &str, ports: &[HostPort]| {
                running.handle.open(&pod(name).uid, ports).unwrap();
            };
            open("own", &[port([0, 0, 0, 0], 80)]);
            open("wasm", &[port([192, 0, 2, 1], 81), port([10, 9, 9, 9], 82)]);
            let at = |port: u16| -> std::net::SocketAddr { ([192, 0, 2, 1], port).into() };
            let from_outside = |port: u16| within(&outside, move || blocking(ask(at(port))));
            let seen = eventually(|| async { from_outside(80) }, answered).await;
            assert_eq!(seen.unwrap(), format!("{} 192.0.2.2", own.ip));
            let seen = eventually(|| async { from_outside(81) }, answered).await;
            assert_eq!(seen.unwrap(), format!("{wasm} 192.0.2.2"));
            assert!(refused(&from_outside(82)));
            assert_eq!(own.ask(at(80)).unwrap(), format!("{} 10.64.0.1", own.ip));

            running.handle.remove(&pod("own").uid).await.unwrap();
            eventually(|| async { from_outside(80) }, refused)
                .await
                .unwrap_err();
        },
    );
}
