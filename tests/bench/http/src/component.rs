//! The component that is measured: `examples/hello.wat` served by the Wasm runtime on its pod's address,
//! an instance a request, under a memory and a CPU limit that it does not reach.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use runtime_wasm::{Config, WasmRuntime};
use runtimes::{
    ContainerId, ContainerSpec, Images as _, Limits, PodNetwork as _, PodRef, Port, Protocol,
    PullPolicy, Runtime as _,
    fake::FakeNetwork,
    images::{Config as StoreConfig, ImageStore},
};

use crate::child::{self, Core};

/// The second byte of its pod's address.
const NET: u8 = 190;
const PORT: u16 = 8080;
const INSTANCES: usize = 20_000;

/// Serves until it is killed; says where, and how long it takes to make an instance.
pub(crate) fn run(component: &Path) -> Result<()> {
    child::pin(Core::Server)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(serve(component))
}

async fn serve(component: &Path) -> Result<()> {
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
    let pod = PodRef {
        namespace: "default".to_owned(),
        name: "hello".to_owned(),
        uid: "hello".to_owned(),
    };
    let address = network.add(&pod, None).await?;
    let id = ContainerId("hello/main/0".into());
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
        ..ContainerSpec::new(
            id.clone(),
            pod,
            image.await?,
            address,
            directory.path().join("log"),
        )
    };
    runtime.create(spec).await?;
    runtime.start(&id).await?;
    let mut times = runtime.instantiate(&id, INSTANCES).await?;
    times.sort_unstable();
    let micros = |share: usize| {
        times
            .get(INSTANCES * share / 100)
            .map_or(0, Duration::as_nanos)
    };
    let address = SocketAddr::new(address.ip, PORT);
    println!("{address} {address} {} {}", micros(50), micros(99));
    std::future::pending().await
}
