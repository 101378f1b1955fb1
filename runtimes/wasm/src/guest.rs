//! What one instance holds: its WASI state, its limits, its way out.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use runtimes::log::Stream;
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView, sockets::SocketAddrUse};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    container::Container, engine, filesystem::Files, outgoing::Outgoing, output::Output, pod::Pod,
};

/// The state of one instance.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outgoing: Outgoing,
    memory: Memory,
    pub(crate) files: Files,
    pub(crate) pod: Arc<Pod>,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outgoing,
        }
    }
}

/// Memory of all of a container's instances together.
#[derive(Default)]
pub(crate) struct MemoryUse(AtomicU64);

impl MemoryUse {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A container went over its memory limit.
#[derive(Debug)]
pub(crate) struct OutOfMemory {
    limit: u64,
}

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "out of memory: the limit is {} bytes", self.limit)
    }
}

impl std::error::Error for OutOfMemory {}

/// Counts an instance's memory against its container's limit.
struct Memory {
    limit: u64,
    held: u64,
    total: Arc<MemoryUse>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.total.0.fetch_sub(self.held, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Memory {
    /// Asked only for linear memories; going over the limit ends the instance, as a kernel would end
    /// the process.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let before = self.total.0.fetch_add(more, Ordering::Relaxed);
        self.held += more;
        if before + more > self.limit || desired > engine::MAX_MEMORY {
            let limit = self.limit.min(engine::MAX_MEMORY as u64);
            return Err(OutOfMemory { limit }.into());
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        _desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A table is bounded by its slot in the pool.
        Ok(true)
    }
}

/// A store for one instance of a container.
pub(crate) fn new_store(engine: &Engine, container: &Container) -> Store<Guest> {
    let guest = Guest {
        wasi: wasi(container),
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
        outgoing: Outgoing::new(container.pod.clone()),
        memory: Memory {
            limit: container.spec.limits.memory_bytes.unwrap_or(u64::MAX),
            held: 0,
            total: container.memory.clone(),
        },
        files: Files::new(container.mounts.clone()),
        pod: container.pod.clone(),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.memory);
    store.set_epoch_deadline(1);
    let meter = container.meter.clone();
    store.epoch_deadline_callback(move |_| {
        Ok(match meter.debt() {
            None => UpdateDeadline::Yield(1),
            Some(rest) => UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(rest))),
        })
    });
    store
}

fn wasi(container: &Container) -> WasiCtx {
    let spec = &container.spec;
    let mut wasi = WasiCtx::builder();
    wasi.envs(&spec.env)
        .arg(&spec.name)
        .stdout(Output::new(container.log.clone(), Stream::Stdout))
        .stderr(Output::new(container.log.clone(), Stream::Stderr))
        .allow_ip_name_lookup(true)
        .allow_tcp(true)
        .allow_udp(false);
    // A component has no entry point to replace: what would is its first arguments.
    wasi.args(&spec.command).args(&spec.args);
    if let Some(dir) = &spec.working_dir {
        wasi.initial_cwd(dir);
    }
    // `sockets` has put every address through the pod already; this is the second lock on the door.
    let address = container.pod.address;
    wasi.socket_addr_check(move |socket, usage| {
        let own = socket.ip() == address.ip || socket.ip() == address.loopback;
        let allowed = match usage {
            SocketAddrUse::TcpBind | SocketAddrUse::TcpListen | SocketAddrUse::UdpBind => own,
            _ => true,
        };
        Box::pin(async move { allowed })
    });
    wasi.build()
}
