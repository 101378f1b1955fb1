//! Makes a component of whatever a module file holds. Pure.
//!
//! Takes components and core modules of WASI preview 1, each in binary or text.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

/// The first eight bytes of a core module: the magic word and version 1.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// The binary component that `bytes` are or can be made into; else why not.
pub(crate) fn to_component(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let binary = wat::parse_bytes(bytes).map_err(|error| error.to_string())?;
    if !binary.starts_with(CORE_MODULE) {
        return Ok(binary.into_owned());
    }
    encode(&binary).map_err(|reason| {
        format!("{reason} (it is a core module, which must be of WASI preview 1 and export _start)")
    })
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
