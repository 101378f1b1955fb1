//! A node for tests: the real runtime and image store over a pod network on the loopback.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses its part of it"
)]
#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use runtime_wasm::{Config, WasmRuntime};
use runtimes::{
    ContainerId, ContainerSpec, Exit, Image, Images as _, PodAddress, PodNetwork as _, PodRef,
    Port, Protocol, PullPolicy, Runtime, RuntimeError,
    fake::FakeNetwork,
    images::{Config as StoreConfig, ImageStore},
};

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) images: ImageStore,
    pub(crate) runtime: Arc<WasmRuntime>,
}

impl Node {
    /// `net` is the second byte of its pods' addresses; tests that run side by side differ in it.
    pub(crate) fn new(net: u8) -> Node {
        Node::with(FakeNetwork::loopback(net))
    }

    pub(crate) fn with(network: FakeNetwork) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let network = Arc::new(network);
        let runtime = WasmRuntime::new(Config {
            code_cache: dir.path().join("code"),
            network: network.clone(),
        });
        Node {
            images: ImageStore::open(dir.path().join("images"), StoreConfig::default()).unwrap(),
            runtime: Arc::new(runtime.unwrap()),
            network,
            dir,
        }
    }

    pub(crate) async fn image(&self, path: &Path) -> Image {
        let reference = format!("file://{}", path.display());
        let policy = PullPolicy::IfNotPresent;
        self.images.ensure(&reference, policy, &[]).await.unwrap()
    }

    /// A container of its own pod, named `name`, that serves on 8080.
    pub(crate) async fn spec(&self, name: &str, path: &Path) -> ContainerSpec {
        let pod = PodRef {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
        };
        let id = ContainerId(format!("{}/main/0", pod.uid).into());
        let address = self.network.add(&pod, None).await.unwrap();
        let log = self.dir.path().join(format!("{name}.log"));
        ContainerSpec {
            env: vec![("HOSTNAME".to_owned(), name.to_owned())],
            ports: vec![Port {
                name: None,
                number: 8080,
                protocol: Protocol::Tcp,
            }],
            ..ContainerSpec::new(id, pod, self.image(path).await, address, log)
        }
    }

    pub(crate) async fn start(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        self.runtime.create(spec.clone()).await?;
        self.runtime.start(&spec.id).await
    }

    /// Starts it and waits for its end.
    pub(crate) async fn run(&self, spec: &ContainerSpec) -> Exit {
        self.start(spec).await.unwrap();
        let exit = tokio::time::timeout(SOON, self.runtime.wait(&spec.id)).await;
        exit.expect("it ends soon").unwrap()
    }

    /// The container's log without times.
    pub(crate) fn log(&self, spec: &ContainerSpec) -> String {
        let text = std::fs::read_to_string(&spec.log).unwrap_or_default();
        let entry = |line: &str| line.split_once(' ').unwrap().1.to_owned() + "\n";
        text.lines().map(entry).collect()
    }
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name)
}

pub(crate) fn at(address: PodAddress) -> SocketAddr {
    SocketAddr::new(address.ip, 8080)
}

/// `GET path` over HTTP/1.1: status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let get = async {
        let stream = tokio::net::TcpStream::connect(address).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(std::io::Error::other)?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(connection);
        let request = http::Request::get(path)
            .header("host", "test")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await;
        let response = response.map_err(std::io::Error::other)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        let body = body.map_err(std::io::Error::other)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(SOON, get).await?
}
