//! The wasmtime engines: one with its instances from a pool, and one for what does not fit there.
//!
//! A slot of the pool is address space, not memory: it costs nothing until it is touched. The pool's
//! sizes bound the process: instances at once, and what one component may take of it, so that none can
//! use the pool up. Components that need more, or whose limit lets them have more memory than a slot,
//! are given memory as they ask for it, which takes several times as long for each instance.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How many instances can live at once in the pool: programs that run, and requests that are served.
const INSTANCES: u32 = 10_000;

/// What one component's instance may take of the pool.
const CORE_INSTANCES_EACH: u32 = 64;
const MEMORIES_EACH: u32 = 8;
const TABLES_EACH: u32 = 32;

/// The most memory that an instance of the pool can have. 10,000 of these are 10 TiB of the 128 TiB of
/// address space that a process has.
pub(crate) const MAX_MEMORY: u64 = 1 << 30;

/// The engines.
pub(crate) struct Engines {
    pub(crate) pool: Engine,
    pub(crate) on_demand: Engine,
}

impl Engines {
    pub(crate) fn new() -> wasmtime::Result<Engines> {
        Ok(Engines {
            pool: Engine::new(config().allocation_strategy(pool()))?,
            on_demand: Engine::new(
                config().allocation_strategy(InstanceAllocationStrategy::OnDemand),
            )?,
        })
    }
}

fn pool() -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 8)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * 2)
        .total_stacks(INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES_EACH)
        .max_memories_per_component(MEMORIES_EACH)
        .max_tables_per_component(TABLES_EACH)
        .max_memory_size(usize::try_from(MAX_MEMORY).unwrap_or(usize::MAX))
        .max_unused_warm_slots(256)
        .linear_memory_keep_resident(64 << 10)
        .async_stack_keep_resident(16 << 10);
    InstanceAllocationStrategy::Pooling(pool)
}

/// What both have in common, so that code that was compiled for one runs under the other.
fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .memory_reservation(MAX_MEMORY)
        .memory_guard_size(32 << 20);
    config
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use super::*;

    #[test]
    fn code_for_one_engine_runs_under_the_other() {
        let engines = Engines::new().unwrap();
        let hash = |engine: &Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&engines.pool), hash(&engines.on_demand));
    }
}
