//! Makes a component of whatever a module file holds. Pure.
//!
//! Takes components and core modules of WASI preview 1, each in binary or text.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

use crate::{exit_code, go, module::HEADER};

/// Counted up when the same file becomes another component: code in caches is then made anew.
pub(crate) const VERSION: u32 = 3;

/// The binary component that `bytes` are or can be made into; else why not.
pub(crate) fn to_component(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let binary = wat::parse_bytes(bytes).map_err(|error| text_error(&error.to_string()))?;
    if !binary.starts_with(HEADER) {
        return Ok(binary.into_owned());
    }
    let roomy = go::make_room(&binary);
    let module = roomy.as_deref().unwrap_or(&binary);
    let exiting = exit_code::keep(module);
    encode(exiting.as_deref().unwrap_or(module)).map_err(|reason| {
        format!("{reason} (it is a core module, which must be of WASI preview 1 and export _start)")
    })
}

/// A syntax error on one line: the parser's own has the place on the second of several.
fn text_error(error: &str) -> String {
    let mut lines = error.lines();
    let what = lines.next().unwrap_or_default();
    let place = lines.find_map(|line| line.trim_start().strip_prefix("--> "));
    let mut place = place.unwrap_or_default().rsplitn(3, ':');
    match (place.next(), place.next()) {
        (Some(column), Some(line)) => format!("line {line}, column {column}: {what}"),
        _ => what.to_owned(),
    }
}

fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let in_words = |error: &dyn std::fmt::Display| format!("{error:#}");
    let encoder = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .map_err(|error| in_words(&error))?;
    let mut encoder = encoder
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        )
        .map_err(|error| in_words(&error))?;
    encoder.encode().map_err(|error| in_words(&error))
}
