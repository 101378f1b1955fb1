//! The component that is measured: `examples/hello.wat` served by the Wasm runtime on its pod's address,
//! an instance a request, under a memory and a CPU limit that it does not reach.
//!
//! Once, to be asked for requests a second; or many times, for what the runtime alone holds of each.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use runtime_wasm::{Config, WasmRuntime};
use runtimes::{
    ContainerId, ContainerSpec, Image, Images as _, Limits, PodNetwork as _, PodRef, Port,
    Protocol, PullPolicy, Runtime as _,
    fake::FakeNetwork,
    images::{Config as StoreConfig, ImageStore},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::child::{self, Core};

/// The second byte of its pod's address.
const NET: u8 = 190;
const PORT: u16 = 8080;
const INSTANCES: usize = 20_000;

/// Containers whose memory is measured. Each has a listening socket.
const CONTAINERS: u32 = 4_000;

/// Serves until it is killed; says where, and how long it takes to make an instance.
pub(crate) fn run(component: &Path) -> Result<()> {
    child::pin(Core::Server)?;
    block_on(serve(component))
}

/// Measures what a container takes in the runtime, and prints it.
pub(crate) fn rest(component: &Path) -> Result<()> {
    block_on(hold(component))
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(work)
}

async fn serve(component: &Path) -> Result<()> {
    let node = Node::new(component).await?;
    let (id, address) = node.start("hello").await?;
    let mut times = node.runtime.instantiate(&id, INSTANCES).await?;
    times.sort_unstable();
    let micros = |share: usize| {
        times
            .get(INSTANCES * share / 100)
            .map_or(0, Duration::as_nanos)
    };
    println!("{address} {address} {} {}", micros(50), micros(99));
    std::future::pending().await
}

async fn hold(component: &Path) -> Result<()> {
    let node = Node::new(component).await?;
    // What is made once and for all is there before the first figure.
    ask(node.start("first").await?.1).await?;
    let before = resident_kib()?;
    let mut addresses = Vec::new();
    for number in 0..CONTAINERS {
        addresses.push(node.start(&format!("pod-{number}")).await?.1);
    }
    let started = resident_kib()?;
    for address in addresses {
        ask(address).await?;
    }
    let served = resident_kib()?;
    let each = |now: u32| f64::from(now.saturating_sub(before)) / f64::from(CONTAINERS);
    println!(
        "{:<44} {:>10.1}   goal 64; {:.1} once each has served a request",
        format!("KiB a container at rest, {CONTAINERS} in the runtime"),
        each(started),
        each(served)
    );
    Ok(())
}

/// The runtime, and what it works with.
struct Node {
    directory: tempfile::TempDir,
    network: Arc<FakeNetwork>,
    runtime: WasmRuntime,
    image: Image,
}

impl Node {
    async fn new(component: &Path) -> Result<Node> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let network = Arc::new(FakeNetwork::loopback(NET));
        let runtime = WasmRuntime::new(Config {
            code_cache: directory.path().join("code"),
            network: network.clone(),
        })?;
        let images = ImageStore::open(directory.path().join("images"), StoreConfig::default())
            .context("open the image store")?;
        let reference = format!("file://{}", component.display());
        let image = images.ensure(&reference, PullPolicy::IfNotPresent, &[]);
        Ok(Node {
            image: image.await?,
            directory,
            network,
            runtime,
        })
    }

    /// Starts the component in a pod of its own.
    async fn start(&self, name: &str) -> Result<(ContainerId, SocketAddr)> {
        let pod = PodRef {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
        };
        let address = self.network.add(&pod, None).await?;
        let id = ContainerId(format!("{name}/main/0").into());
        let log = self.directory.path().join(name);
        let spec = ContainerSpec {
            env: vec![("HOSTNAME".to_owned(), pod.name.clone())],
            ports: vec![Port {
                name: None,
                number: PORT,
                protocol: Protocol::Tcp,
            }],
            limits: Limits {
                memory_bytes: Some(1 << 30),
                cpu_millis: Some(64_000),
            },
            ..ContainerSpec::new(id.clone(), pod, self.image.clone(), address, log)
        };
        self.runtime.create(spec).await?;
        self.runtime.start(&id).await?;
        Ok((id, SocketAddr::new(address.ip, PORT)))
    }
}

async fn ask(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address).await.context("connect")?;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.context("ask")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("listen")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{address}: {answer:?}");
    Ok(())
}

/// Memory of this process.
fn resident_kib() -> Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status").context("read memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("read memory")
}
