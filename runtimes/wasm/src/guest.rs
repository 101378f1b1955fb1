//! What one instance holds: its WASI state, its limits, its way out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use runtimes::{ContainerSpec, log::Stream};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{
    ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, cli::StdoutStream as _,
    p2::OutputStream,
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    bounds::{self, MAX_RESOURCES},
    container::Container,
    datagrams::Flows,
    engine,
    filesystem::Files,
    gate::Gate,
    meter::Meter,
    outgoing::Outgoing,
    output::Output,
    pod::Pod,
};

/// The state of one instance.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outgoing: Outgoing,
    memory: Memory,
    sockets_held: bounds::Held,
    pub(crate) files: Files,
    pub(crate) flows: Flows,
    /// Its stderr, for messages that come by `wasi:logging`.
    pub(crate) errors: Option<Box<dyn OutputStream>>,
    pub(crate) spec: Arc<ContainerSpec>,
    pub(crate) pod: Arc<Pod>,
}

impl Guest {
    /// Its sockets count, and the table that they are in.
    pub(crate) fn sockets_and_table(&mut self) -> (&mut bounds::Held, &mut ResourceTable) {
        (&mut self.sockets_held, &mut self.table)
    }
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

/// Memory of all of a container's instances together, now and over time.
pub(crate) struct MemoryUse(Mutex<Held>);

struct Held {
    bytes: u64,
    since: Instant,
    /// Until then, in byte-nanoseconds.
    integral: u128,
}

impl Default for MemoryUse {
    fn default() -> Self {
        MemoryUse(Mutex::new(Held {
            bytes: 0,
            since: Instant::now(),
            integral: 0,
        }))
    }
}

impl MemoryUse {
    pub(crate) fn bytes(&self) -> u64 {
        self.held().bytes
    }

    /// Bytes times the milliseconds that they were held.
    pub(crate) fn byte_ms(&self) -> u128 {
        let mut held = self.held();
        held.advance();
        held.integral / 1_000_000
    }

    /// The sum after it.
    fn add(&self, more: u64) -> u64 {
        let mut held = self.held();
        held.advance();
        held.bytes += more;
        held.bytes
    }

    fn subtract(&self, less: u64) {
        let mut held = self.held();
        held.advance();
        held.bytes -= less;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn advance(&mut self) {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.since).as_nanos();
        self.integral += u128::from(self.bytes) * passed;
        self.since = now;
    }
}

/// A container went over its memory limit.
#[derive(Debug)]
pub(crate) struct OutOfMemory {
    bytes: u64,
    /// It is the limit of a container that sets none itself.
    default: bool,
}

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "out of memory: the limit is {} bytes", self.bytes)?;
        if self.default {
            f.write_str(" an instance without resources.limits.memory")?;
        }
        Ok(())
    }
}

impl std::error::Error for OutOfMemory {}

/// Bytes that an element of a table takes.
const TABLE_ELEMENT: u64 = 16;

/// The most elements of a table outside of the pool, where a slot bounds it.
const MAX_TABLE: usize = 1_000_000;

/// Counts an instance's memory against its container's limit.
struct Memory {
    limit: Option<u64>,
    /// The limit is each instance's, rather than that of all of them together.
    each: bool,
    held: u64,
    /// What is not counted of a linear memory: see `go`.
    uncounted: u64,
    total: Arc<MemoryUse>,
}

impl Memory {
    /// Going over the limit ends the instance, as a kernel would end the process.
    fn take(&mut self, more: u64) -> wasmtime::Result<()> {
        let total = self.total.add(more);
        self.held += more;
        // Of a container without a limit, each instance has one; of others in pods, all of them together.
        let (used, bytes) = match self.limit {
            Some(limit) if self.each => (self.held, limit),
            Some(limit) => (total, limit),
            None => (self.held, engine::MAX_MEMORY),
        };
        if used > bytes {
            let default = self.limit.is_none();
            return Err(OutOfMemory { bytes, default }.into());
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.total.subtract(self.held);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let free = more.min(self.uncounted);
        self.uncounted -= free;
        self.take(more - free)?;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE {
            return Ok(false);
        }
        self.take(desired.saturating_sub(current) as u64 * TABLE_ELEMENT)?;
        Ok(true)
    }

    fn instances(&self) -> usize {
        1_000
    }

    fn tables(&self) -> usize {
        1_000
    }

    fn memories(&self) -> usize {
        100
    }
}

/// A store for one instance of a container; `streams` gives it its streams and arguments, and answers its
/// stderr. `meter` says when it rests.
pub(crate) fn new_store(
    engine: &Engine,
    container: &Container,
    meter: Arc<Meter>,
    streams: impl FnOnce(&mut WasiCtxBuilder) -> Option<Box<dyn OutputStream>>,
) -> Store<Guest> {
    let mut wasi = wasi(container);
    let errors = streams(&mut wasi);
    let guest = Guest {
        wasi: wasi.build(),
        errors,
        spec: container.spec.clone(),
        http: WasiHttpCtx::new(),
        table: {
            let mut table = ResourceTable::new();
            table.set_max_capacity(MAX_RESOURCES);
            table
        },
        outgoing: Outgoing::new(container.pod.clone()),
        memory: Memory {
            limit: container.spec.limits.memory_bytes,
            each: container.limits_each,
            held: 0,
            uncounted: container.uncounted,
            total: container.memory.clone(),
        },
        sockets_held: bounds::Held::new(container.sockets.clone()),
        files: Files::new(container.mounts.clone()),
        flows: Flows::default(),
        pod: container.pod.clone(),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        Ok(match meter.debt() {
            // Behind whatever else is ready, sockets too.
            None => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            Some(rest) => UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(rest))),
        })
    });
    store
}

/// The container's own streams and arguments: output goes to its log and to those attached.
pub(crate) fn own_streams(
    container: &Container,
    wasi: &mut WasiCtxBuilder,
) -> Option<Box<dyn OutputStream>> {
    let output = |stream| Output::new(container.log.clone(), container.audience.clone(), stream);
    let errors = output(Stream::Stderr);
    wasi.stdout(output(Stream::Stdout)).stderr(errors.clone());
    if let Some((_, input)) = &container.stdin {
        wasi.stdin(input.clone());
    }
    // A component has no entry point to replace: what would is its first arguments.
    wasi.args(&container.spec.command)
        .args(&container.spec.args);
    Some(errors.p2_stream())
}

fn wasi(container: &Container) -> WasiCtxBuilder {
    let spec = &container.spec;
    let mut wasi = WasiCtx::builder();
    wasi.envs(&spec.env)
        .arg(&spec.name)
        .allow_ip_name_lookup(true)
        .allow_tcp(true)
        .allow_udp(true);
    if let Some(dir) = &spec.working_dir {
        wasi.initial_cwd(dir);
    }
    let gate = Gate::new(container.pod.clone());
    wasi.socket_addr_check(move |address, usage| {
        let admitted = gate.admits(address, usage);
        Box::pin(async move { admitted })
    });
    wasi
}
