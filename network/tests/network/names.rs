//! The DNS server, asked by containers and by the host.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    str::FromStr,
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use nix::mount::{MsFlags, mount};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{cluster::Cluster, host::*, isolation::*, sockets::*};

const SERVER: &str = "10.43.0.10:53";

fn question(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    if let Some(payload) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

/// The code, the records' data and what else a client looks at.
fn show(message: &Message) -> String {
    let mut text = format!("{:?}", message.metadata.response_code);
    if message.metadata.truncation {
        return text + " truncated";
    }
    for record in &message.answers {
        text += &format!(" {}", record.data);
    }
    if message
        .authorities
        .iter()
        .any(|each| each.record_type() == RecordType::SOA)
    {
        text += " soa";
    }
    text
}

async fn lookup_edns(name: &str, kind: RecordType, edns: Option<u16>) -> std::io::Result<String> {
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(SERVER).await?;
    socket.send(&question(name, kind, edns)).await?;
    let mut answer = [0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut answer));
    let length = read.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    Ok(show(&Message::from_vec(&answer[..length]).unwrap()))
}

async fn lookup(name: &str, kind: RecordType) -> std::io::Result<String> {
    lookup_edns(name, kind, None).await
}

async fn lookup_tcp(name: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(SERVER).await?;
    let question = question(name, RecordType::A, None);
    stream.write_u16(question.len().try_into().unwrap()).await?;
    stream.write_all(&question).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(show(&Message::from_vec(&answer).unwrap()))
}

/// A resolver of the host, which knows `known.example` alone.
fn serve_outside(address: SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let asked = message.queries[0].clone();
            match asked.name().to_ascii().to_ascii_lowercase().as_str() {
                "known.example." if asked.query_type() == RecordType::A => {
                    let data = RData::A(Ipv4Addr::new(192, 0, 2, 77).into());
                    message
                        .answers
                        .push(Record::from_rdata(asked.name().clone(), 60, data));
                }
                "known.example." => {}
                _ => message.metadata.response_code = ResponseCode::NXDomain,
            }
            socket.send_to(&message.to_vec().unwrap(), peer).unwrap();
        }
    });
}

#[test]
fn containers_and_the_host_find_names_of_the_cluster_and_others() {
    in_private_host(
        "names::containers_and_the_host_find_names_of_the_cluster_and_others",
        || async {
            run("ip link set lo up");
            fs::write("/run/resolv.conf", "nameserver 127.0.0.53\n").unwrap();
            let (from, to) = (Some("/run/resolv.conf"), "/etc/resolv.conf");
            mount(from, to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            serve_outside("127.0.0.53:53".parse().unwrap());

            let running = start(&Cluster::new()).await;
            let own = start_own(&running.handle, "own").await;
            let cluster = &running.cluster;
            cluster.put_service("web", "10.43.0.20", 80, "TCP");
            cluster.put_service("all", "None", 80, "TCP");
            let many: Vec<_> = (1..101).map(|each| format!("10.64.1.{each}")).collect();
            let many: Vec<&str> = many.iter().map(String::as_str).collect();
            cluster.put_endpoints("all", &many, 80, "TCP");
            let outside = serde_json::json!({
                "spec": {"type": "ExternalName", "externalName": "known.example"},
            });
            cluster.put("services", "default", "outside", outside);
            let inside = |name: &'static str, kind: RecordType| {
                within(&own.namespace, move || blocking(lookup(name, kind)))
            };
            let web = || async { inside("web.default.svc.cluster.local.", RecordType::A) };
            let found = |seen: &std::io::Result<String>| {
                seen.as_ref().is_ok_and(|seen| seen == "NoError 10.43.0.20")
            };
            eventually(web, found).await.unwrap();
            let alias = || async { inside("outside.default.svc.cluster.local.", RecordType::A) };
            let chased = "NoError known.example. 192.0.2.77";
            eventually(alias, |seen| seen.as_ref().is_ok_and(|seen| seen == chased))
                .await
                .unwrap();
            for (name, kind, expected) in [
                (
                    "WEB.default.svc.Cluster.Local.",
                    RecordType::A,
                    "NoError 10.43.0.20",
                ),
                (
                    "web.default.svc.cluster.local.",
                    RecordType::AAAA,
                    "NoError soa",
                ),
                (
                    "nobody.default.svc.cluster.local.",
                    RecordType::A,
                    "NXDomain soa",
                ),
                (
                    "20.0.43.10.in-addr.arpa.",
                    RecordType::PTR,
                    "NoError web.default.svc.cluster.local.",
                ),
                ("known.example.", RecordType::A, "NoError 192.0.2.77"),
                ("known.example.", RecordType::AAAA, "NoError"),
                ("unknown.example.", RecordType::A, "NXDomain"),
            ] {
                assert_eq!(inside(name, kind).unwrap(), expected, "{name} {kind}");
            }
            let all = "all.default.svc.cluster.local.";
            assert_eq!(
                lookup(all, RecordType::A).await.unwrap(),
                "NoError truncated"
            );
            let some = lookup_edns(all, RecordType::A, Some(1232)).await.unwrap();
            assert_eq!(some, "NoError truncated");
            let every = lookup_tcp(all).await.unwrap();
            assert_eq!(every.split(' ').count(), 101, "{every}");
            let every = within(&own.namespace, move || blocking(lookup_tcp(all)));
            assert_eq!(every.unwrap().split(' ').count(), 101);
            let host = lookup("web.default.svc.cluster.local.", RecordType::A).await;
            assert_eq!(host.unwrap(), "NoError 10.43.0.20");

            let mut registry = prometheus_client::registry::Registry::default();
            network::metrics::register(&mut registry);
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            assert!(
                text.contains(r#"wk_network_dns_responses_total{rcode="NXDOMAIN"} "#),
                "{text}"
            );
        },
    );
}

#[test]
fn the_next_start_answers_again_also_where_the_usual_port_is_taken() {
    in_private_host(
        "names::the_next_start_answers_again_also_where_the_usual_port_is_taken",
        || async {
            run("ip link set lo up");
            let running = start(&Cluster::new()).await;
            let own = start_own(&running.handle, "own").await;
            let cluster = running.cluster.clone();
            cluster.put_service("web", "10.43.0.20", 80, "TCP");
            let web = || async {
                let ask = || blocking(lookup("web.default.svc.cluster.local.", RecordType::A));
                within(&own.namespace, ask)
            };
            let found = |seen: &std::io::Result<String>| {
                seen.as_ref().is_ok_and(|seen| seen == "NoError 10.43.0.20")
            };
            eventually(web, found).await.unwrap();
            drop(running);
            let taken = || UdpSocket::bind("0.0.0.0:53");
            let _taken = eventually(|| async { taken() }, Result::is_ok)
                .await
                .unwrap();
            let _running = start(&cluster).await;
            eventually(web, found).await.unwrap();
        },
    );
}
