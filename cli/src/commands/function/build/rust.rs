//! Rust: cargo, for the target `wasm32-wasip2`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::tool::Tool;

const TARGET: &str = "wasm32-wasip2";
const INSTALL: &str =
    "install Rust from https://rustup.rs, then run\n  rustup target add wasm32-wasip2";

pub(super) async fn build(directory: &Path) -> Result<PathBuf> {
    let cargo = Tool::new("cargo", INSTALL);
    let makes = artifact(&cargo, directory).await?;
    // Cargo says of a missing target that it can't find `core`.
    let rustc = Tool::new("rustc", INSTALL);
    let question = ["--print", "target-libdir", "--target", TARGET];
    let library = rustc.ask(directory, &question).await?;
    if !Path::new(&library).is_dir() {
        bail!("Rust's target {TARGET} is not installed: run\n  rustup target add {TARGET}");
    }
    let arguments = ["build", "--release", "--target", TARGET];
    cargo.run(directory, &arguments, &[]).await?;
    Ok(makes)
}

/// Where cargo puts the component: asked of cargo, which knows workspaces and target directories.
async fn artifact(cargo: &Tool, directory: &Path) -> Result<PathBuf> {
    let question = ["metadata", "--format-version", "1", "--no-deps"];
    let metadata = cargo.ask(directory, &question).await?;
    let metadata: Value = serde_json::from_str(&metadata).context("read cargo metadata")?;
    let manifest = directory.join("Cargo.toml");
    let manifest = manifest.canonicalize().context("find Cargo.toml")?;
    let names = targets(&metadata, &manifest);
    let [name] = names.as_slice() else {
        bail!(
            "{}: it must have one target, a binary or a library with crate-type cdylib; it has {}",
            manifest.display(),
            names.len()
        );
    };
    let target = metadata["target_directory"].as_str().unwrap_or("target");
    let makes = Path::new(target).join(TARGET).join("release");
    Ok(makes.join(format!("{name}.wasm")))
}

/// The file names, without their ends, of what a package has that may be a component. Pure.
fn targets(metadata: &Value, manifest: &Path) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let own = packages.filter(|package| {
        manifest == Path::new(package["manifest_path"].as_str().unwrap_or_default())
    });
    let is = |target: &Value, wanted: &str| {
        let mut kinds = target["kind"].as_array().into_iter().flatten();
        kinds.any(|kind| kind == wanted)
    };
    own.filter_map(|package| package["targets"].as_array())
        .flatten()
        .filter_map(|target| {
            let name = target["name"].as_str()?;
            match (is(target, "bin"), is(target, "cdylib")) {
                (true, _) => Some(name.to_owned()),
                // A library's file has underscores.
                (false, true) => Some(name.replace('-', "_")),
                (false, false) => None,
            }
        })
        .collect()
}
