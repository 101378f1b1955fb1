//! What benchmarks ask of the runtime.

use std::time::{Duration, Instant};

use runtimes::{ContainerId, RuntimeError};

use crate::{code::Code, guest::new_store, runtime::WasmRuntime};

impl WasmRuntime {
    /// How long it takes to make an instance of a container's component, each of so many times: what a
    /// request pays before any of the component's own code runs.
    ///
    /// # Errors
    /// There is no such container, or an instance cannot be made.
    pub async fn instantiate(
        &self,
        id: &ContainerId,
        times: usize,
    ) -> Result<Vec<Duration>, RuntimeError> {
        let container = self.get(id)?;
        let engine = container.code.engine().clone();
        let measured = self.executor.spawn(async move {
            let mut measured = Vec::with_capacity(times);
            for _ in 0..times {
                let meter = container.meter.clone();
                let mut store = new_store(&engine, &container, meter, |_| None);
                let begun = Instant::now();
                let made = match &*container.code {
                    Code::Program(code) => code.instantiate_async(&mut store).await.map(|_| ()),
                    Code::Server(code, _) => code.instantiate_async(&mut store).await.map(|_| ()),
                };
                measured.push(begun.elapsed());
                made?;
            }
            Ok::<_, wasmtime::Error>(measured)
        });
        let measured = measured.await.map_err(wasmtime::Error::from);
        let measured = measured.and_then(|measured| measured);
        measured.map_err(|error| RuntimeError::Invalid(format!("make an instance: {error:#}")))
    }
}
