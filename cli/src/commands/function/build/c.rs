//! C: clang makes a core module of the directory's `.c` files; [`component`] makes the component of it.
//!
//! `WASI_SDK_PATH` names a WASI SDK, as its own makefiles have it; else it is the clang on the path, with wasi-libc.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{CORE, component, tool::Tool};

const INSTALL: &str = "run\n  apt-get install clang lld wasi-libc libclang-rt-dev-wasm32\nor set WASI_SDK_PATH to a WASI SDK from https://github.com/WebAssembly/wasi-sdk/releases";
/// The name that every clang knows, old ones too.
const TARGET: &str = "--target=wasm32-wasi";

pub(super) async fn build(directory: &Path) -> Result<PathBuf> {
    let sdk = std::env::var_os("WASI_SDK_PATH");
    let clang = match sdk {
        Some(sdk) => Tool::new(Path::new(&sdk).join("bin/clang"), INSTALL),
        None => Tool::new("clang", INSTALL),
    };
    // Without them clang says of its first `#include` or of its linker that it is not there, and not why.
    let parts = [
        ("wasm-ld", "-print-prog-name=wasm-ld"),
        ("wasi-libc", "-print-file-name=crt1-reactor.o"),
        ("clang's runtime for wasm32", "-print-libgcc-file-name"),
    ];
    for (part, question) in parts {
        let found = clang.ask(directory, &[TARGET, question]).await?;
        if !Path::new(&found).is_file() {
            bail!("{part} is not installed: {INSTALL}");
        }
    }
    component::make_directory(directory)?;
    let sources = sources(directory)?;
    let mut arguments = vec![TARGET, "-mexec-model=reactor", "-Os", "-Wall", "-Wextra"];
    arguments.extend(["-o", CORE]);
    arguments.extend(sources.iter().map(String::as_str));
    clang.run(directory, &arguments, &[]).await?;
    component::make(directory)
}

/// The `.c` files of the directory itself, sorted.
fn sources(directory: &Path) -> Result<Vec<String>> {
    let shown = directory.display();
    let entries = std::fs::read_dir(directory).with_context(|| format!("read {shown}"))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("read {shown}"))?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".c")) {
            // One that begins with a dash would be an option.
            names.push(format!("./{name}"));
        }
    }
    names.sort();
    Ok(names)
}
