//! A `wasi:cli/run` component as a process: it runs once, and its result is the exit code.
//!
//! WebAssembly has no signals: a program that is asked to stop is ended at once.

use std::sync::Arc;

use runtimes::log::Stream;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{
    I32Exit,
    cli::{IsTerminal as _, StdoutStream as _},
    p2::bindings::CommandPre,
};

use crate::{
    container::{Container, End},
    guest::{Guest, OutOfMemory, new_store, own_streams},
    process::Streams,
    terminal,
};

/// Runs the program until it ends or is stopped, and records how.
pub(crate) async fn run(container: Arc<Container>, engine: Engine, program: CommandPre<Guest>) {
    let store = new_store(&engine, &container, container.meter.clone(), |wasi| {
        own_streams(&container, wasi)
    });
    let run = async {
        let (end, note) = execute(store, &program).await;
        if let Some(note) = note {
            container.log.note(&note);
            container.audience.write(Stream::Stderr, note.as_bytes());
        }
        end
    };
    let end = tokio::select! {
        end = container.meter.measure(run) => {
            if let Some(reason) = end.event() {
                container.notices.tell(&container.spec, reason, end.message.clone());
            }
            end
        }
        () = container.kill.cancelled() => End::killed("killed"),
        () = container.stop.cancelled() => End::stopped(),
        // 128 + SIGINT
        () = container.interrupt.cancelled() => End::code(130),
    };
    container.set_exited(end);
}

/// Runs a second instance with a command as its arguments, and answers its exit code.
pub(crate) async fn exec(
    container: Arc<Container>,
    engine: Engine,
    program: CommandPre<Guest>,
    command: Vec<String>,
    streams: Streams,
) -> i32 {
    let errors = streams.stderr.clone();
    let store = new_store(&engine, &container, container.meter.clone(), |wasi| {
        wasi.args(&command);
        if let Some(stdin) = streams.stdin {
            wasi.stdin(stdin);
        }
        if let Some(stdout) = streams.stdout {
            wasi.stdout(stdout);
        }
        let stderr = streams.stderr?;
        wasi.stderr(stderr.clone());
        Some(stderr.p2_stream())
    });
    let (end, note) = execute(store, &program).await;
    let note = note.unwrap_or_else(|| end.message.clone() + "\n");
    if let Some(errors) = errors
        && !note.trim().is_empty()
    {
        errors.push(&terminal::shown(errors.is_terminal(), note.as_bytes()));
    }
    end.code
}

/// How the program ended, and what there is to say about it.
async fn execute(mut store: Store<Guest>, program: &CommandPre<Guest>) -> (End, Option<String>) {
    let result = async {
        let program = program.instantiate_async(&mut store).await?;
        program.wasi_cli_run().call_run(&mut store).await
    };
    match result.await {
        Ok(Ok(())) => (End::code(0), None),
        Ok(Err(())) => (End::code(1), None),
        Err(error) if error.is::<I32Exit>() => (End::error(&error), None),
        Err(error) if error.downcast_ref::<OutOfMemory>().is_some() => (End::error(&error), None),
        Err(error) => (End::error(&error), Some(format!("{error:?}\n"))),
    }
}
