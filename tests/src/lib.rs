//! End-to-end tests: real `wk` processes in network namespaces of their own, the real `kubectl`,
//! `wkctl` and `curl` against them.
//!
//! - [`Sandbox`]: a network (and mount) namespace, so that tests run in parallel and never touch the host's network.
//! - [`Cluster`]: a `wk up` in a sandbox.
//! - [`Kubectl`]: the kubectl of a version; [`Client`]: its commands, with input and output, or in a terminal.
//! - [`Image`]: container images made of Debian's packages; [`Registry`]: where pods pull them from.
//! - [`eventually`]: waits for a value with a deadline and says what was last seen.

mod client;
mod cluster;
mod images;
mod kubectl;
mod leftovers;
mod registry;
mod sandbox;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

pub use client::{Client, Forward, Terminal};
pub use cluster::{Cluster, Options, example};
pub use images::{Image, Part};
pub use kubectl::Kubectl;
pub use registry::Registry;
pub use sandbox::{Output, Sandbox};

/// Tries until `attempt` gives a value; after `deadline`, fails with the last reason.
///
/// # Panics
/// When the deadline passes.
#[track_caller]
pub fn eventually<T>(deadline: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + deadline;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) if Instant::now() > end => {
                panic!("not within {deadline:?}; last seen: {last}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A program that this workspace builds, beside the running test.
///
/// # Panics
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.ancestors().find(|dir| dir.join(name).is_file());
    let dir = profile.unwrap_or_else(|| {
        panic!("{name} is not built: run `cargo build --workspace --all-targets`")
    });
    dir.join(name)
}
