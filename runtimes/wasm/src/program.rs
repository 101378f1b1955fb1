//! A `wasi:cli/run` component as a process: it runs once, and its result is the exit code.
//!
//! WebAssembly has no signals: a program that is asked to stop is ended at once.

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime_wasi::{I32Exit, p2::bindings::CommandPre};

use crate::{
    container::{Container, End},
    guest::{Guest, OutOfMemory, new_store},
};

/// Runs the program until it ends or is stopped, and records how.
pub(crate) async fn run(container: Arc<Container>, engine: Engine, program: CommandPre<Guest>) {
    let end = tokio::select! {
        end = container.meter.measure(execute(&container, &engine, &program)) => end,
        () = container.kill.cancelled() => End::killed("killed"),
        () = container.stop.cancelled() => End::stopped(),
    };
    container.set_exited(end);
}

async fn execute(container: &Container, engine: &Engine, program: &CommandPre<Guest>) -> End {
    let mut store = new_store(engine, container);
    let result = async {
        let program = program.instantiate_async(&mut store).await?;
        program.wasi_cli_run().call_run(&mut store).await
    };
    match result.await {
        Ok(Ok(())) => End::code(0),
        Ok(Err(())) => End::code(1),
        Err(error) => {
            if !error.is::<I32Exit>() && !error.is::<OutOfMemory>() {
                container.log.note(&format!("{error:?}"));
            }
            End::error(&error)
        }
    }
}
