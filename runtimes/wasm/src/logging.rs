//! `wasi:logging`: messages as lines of the guest's stderr, `LEVEL context: message`.

use wasmtime::{
    Result, StoreContextMut,
    component::{ComponentType, Lift, Linker, Lower},
};
use wasmtime_wasi::p2::StreamError;

use crate::guest::Guest;

/// Every name that the interface has had.
pub(crate) const INTERFACES: &[&str] =
    &["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

/// How much a message matters.
#[expect(dead_code, reason = "they are made of what guests send")]
#[derive(ComponentType, Lift, Lower, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Critical => "CRITICAL",
        }
    }
}

/// Offers the interface.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    for interface in INTERFACES {
        let mut instance = linker.instance(interface)?;
        instance.func_wrap_async("log", |store, params: (Level, String, String)| {
            Box::new(log(store, params))
        })?;
    }
    Ok(())
}

async fn log(
    mut store: StoreContextMut<'_, Guest>,
    (level, context, message): (Level, String, String),
) -> Result<()> {
    let (level, message) = (level.name(), message.trim_end_matches('\n'));
    let line = if context.is_empty() {
        format!("{level} {message}\n")
    } else {
        format!("{level} {context}: {message}\n")
    };
    let Some(errors) = &mut store.data_mut().errors else {
        return Ok(());
    };
    match errors.blocking_write_and_flush(line.into()).await {
        Err(StreamError::Trap(error)) => Err(error),
        // The interface has no errors: a message that nobody takes is lost.
        _ => Ok(()),
    }
}
