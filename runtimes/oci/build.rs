//! Builds the shim and hands it to the crate as a file to include, so that users have one program.
//!
//! The shim is a program of its own because it is to be small: one runs for every container. Cargo cannot
//! depend on another package's program yet, hence a cargo inside; it has a target directory of its own, needs no network
//! (this crate depends on all that the shim does), and takes the profile `shim`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What cargo and its drivers (clippy, nextest, coverage) tell the build that runs this one, and not that of the shim.
const NOT_INHERITED: &[&str] = &[
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "CARGO_RESOLVER_FEATURE_UNIFICATION",
];
const NOT_INHERITED_PREFIXES: &[&str] = &[
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_UNSTABLE_",
    "CLIPPY_",
];

fn main() {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let here = variable("CARGO_MANIFEST_DIR");
    for path in [
        "build.rs",
        "shim/Cargo.toml",
        "shim/src",
        "../log/src",
        "../../Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", here.join(path).display());
    }
    let target = env::var("TARGET").expect("cargo sets it");
    let directory = variable("OUT_DIR").join("shim");
    build(&here, &target, &directory);
    let program = directory.join(target).join("shim").join("wk-shim");
    println!("cargo::rustc-env=WK_SHIM={}", program.display());
}

fn build(here: &Path, target: &str, directory: &Path) {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let prefixed = NOT_INHERITED_PREFIXES.iter().any(|p| text.starts_with(p));
        if prefixed || NOT_INHERITED.contains(&&*text) {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(here)
        .args(["build", "--quiet", "--locked", "--offline"])
        .args(["--package", "wk-shim", "--bin", "wk-shim"])
        .args(["--profile", "shim", "--target", target])
        .arg("--target-dir")
        .arg(directory);
    let status = cargo.status().expect("cargo runs this build too");
    assert!(status.success(), "the shim could not be built: {cargo:?}");
}
