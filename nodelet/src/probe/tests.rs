//! Probes against real sockets on loopback, and against the fake runtime.

mod attempts;
mod handlers;
mod servers;
mod watches;

use std::{net::Ipv4Addr, path::PathBuf};

use runtimes::{
    ContainerSpec, Protocol,
    fake::{FakeImages, FakeRuntime, Script},
};

use super::*;

/// A container that runs, at 127.0.0.1; its port `http` is the given one.
async fn target(port: u16) -> Target {
    let runtime = FakeRuntime::new();
    runtime.script("img", Script::runs());
    let log = tempfile::NamedTempFile::new().expect("a file");
    let ports = vec![Port {
        name: Some("http".to_owned()),
        number: port,
        protocol: Protocol::Tcp,
    }];
    let target = Target {
        pod: PodRef {
            namespace: "ns".to_owned(),
            name: "p".to_owned(),
            uid: "u".to_owned(),
        },
        address: PodAddress {
            ip: Ipv4Addr::LOCALHOST.into(),
            loopback: Ipv4Addr::LOCALHOST.into(),
        },
        container: "c".to_owned(),
        init: false,
        id: ContainerId("u/c/0".into()),
        runtime: Arc::new(runtime),
        ports,
    };
    let spec = ContainerSpec {
        ports: target.ports.clone(),
        ..ContainerSpec::new(
            target.id.clone(),
            target.pod.clone(),
            FakeImages::image("img"),
            target.address,
            PathBuf::from(log.path()),
        )
    };
    target.runtime.create(spec).await.expect("create");
    target.runtime.start(&target.id).await.expect("start");
    target
}

/// A probe as YAML's JSON has it; missing fields are as the API defaults them.
fn probe(json: serde_json::Value) -> Probe {
    serde_json::from_value(json).expect("a probe")
}
