//! The wasmtime engine: one for all pods, with its instances from a pool.
//!
//! A slot of the pool is address space, not memory: it costs nothing until it is touched. The pool's
//! sizes are what bounds the process: instances at once, and memory of one instance.
//!
//! Guests are interrupted at every tick of the epoch clock, so that none keeps a thread for itself.

use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How many instances can live at once: programs that run, and requests that are served.
const INSTANCES: u32 = 10_000;

/// The most memory that an instance can have, whatever its pod's limit. 10,000 of these are 10 TiB of
/// the 128 TiB of address space that a process has.
pub(crate) const MAX_MEMORY: usize = 1 << 30;

/// How long a guest runs before others get their turn.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Makes the engine and starts its clock, which stops once the engine is dropped.
pub(crate) fn new() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 8)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * 2)
        .total_stacks(INSTANCES)
        .max_memory_size(MAX_MEMORY)
        .max_unused_warm_slots(256)
        .linear_memory_keep_resident(64 << 10)
        .async_stack_keep_resident(16 << 10);
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .memory_reservation(MAX_MEMORY as u64)
        .memory_guard_size(32 << 20)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    start_clock(&engine)?;
    Ok(engine)
}

/// A thread of its own: the threads that run guests may all be busy with guests.
fn start_clock(engine: &Engine) -> std::io::Result<()> {
    let weak = engine.weak();
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new()
        .name("wasm-epoch".to_owned())
        .spawn(tick)?;
    Ok(())
}
