//! Makes a component of a core module: of what a compiler for WASI preview 1 made, and of the project's WIT.
//!
//! The tool `wasm-tools component embed` and `new` would do the same; a project needs neither.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::{BUILD, CORE, MADE};

/// What the project is to the outside.
const WORLD: &str = "function";

/// Makes the directory where the core module goes.
pub(super) fn make_directory(directory: &Path) -> Result<()> {
    let build = directory.join(BUILD);
    std::fs::create_dir_all(&build).with_context(|| format!("create {}", build.display()))
}

/// Makes the project's component of its core module; answers the file.
pub(super) fn make(directory: &Path) -> Result<PathBuf> {
    let (core, made) = (directory.join(CORE), directory.join(MADE));
    let module = std::fs::read(&core).with_context(|| format!("read {}", core.display()))?;
    let component = component(module, &directory.join("wit"))
        .with_context(|| format!("make a component of {}", core.display()))?;
    std::fs::write(&made, component).with_context(|| format!("write {}", made.display()))?;
    Ok(made)
}

/// The component of a module, for the world `function` of a directory of WIT.
fn component(mut module: Vec<u8>, wit: &Path) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(wit)
        .with_context(|| format!("read {}", wit.display()))?;
    let world = resolve.select_world(&[package], Some(WORLD))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        // The adapter must not call an allocator that is not set up yet: Go's would be, when the adapter first needs it.
        .realloc_via_memory_grow(true)
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )?
        .encode()
        .map_err(|error| anyhow!("{error:#}"))
}
