//! The kubectl binaries that tests are made with.
//!
//! `cargo xtask test` puts one of each minor version into a directory, `kubectl-1.29` and so on, and names
//! it in `WK_KUBECTL`. Without it there are the kubectl on PATH and those beside it that bear their
//! version in their name, `kubectl.1.29` as the Google Cloud CLI has them or `kubectl-1.29`.

use std::{path::PathBuf, process::Command};

/// The minor versions that are supported, oldest first.
const MINORS: std::ops::RangeInclusive<u32> = 29..=33;

/// One kubectl.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub path: PathBuf,
    /// 29 for 1.29.
    pub minor: u32,
}

impl Kubectl {
    /// The newest; every one if `WK_KUBECTL_ALL` is set.
    ///
    /// # Panics
    /// When there is none.
    pub fn wanted() -> Vec<Self> {
        let found: Vec<_> = MINORS.rev().filter_map(Self::find).collect();
        let count = match std::env::var_os("WK_KUBECTL_ALL") {
            Some(_) => found.len(),
            None => 1,
        };
        assert!(
            !found.is_empty(),
            "there is no kubectl: run `cargo xtask test`, or put kubectl 1.29 or newer on PATH"
        );
        found.into_iter().take(count).collect()
    }

    /// The kubectl of a minor version; `None`, said aloud, if it is not installed.
    pub fn find(minor: u32) -> Option<Self> {
        let kubectl = match std::env::var_os("WK_KUBECTL") {
            Some(dir) => Some(Self {
                path: PathBuf::from(dir).join(format!("kubectl-1.{minor}")),
                minor,
            }),
            None => beside_path(minor).or_else(|| on_path().filter(|found| found.minor == minor)),
        };
        let kubectl = kubectl.filter(|kubectl| kubectl.path.is_file());
        if kubectl.is_none() {
            eprintln!("skipped: there is no kubectl 1.{minor}; `cargo xtask test` installs it");
        }
        kubectl
    }
}

/// The kubectl of a version that stands beside the one on PATH.
fn beside_path(minor: u32) -> Option<Kubectl> {
    let path = first_on_path()?.canonicalize().ok()?;
    let directory = path.parent()?;
    ["kubectl.1.", "kubectl-1."]
        .iter()
        .map(|start| directory.join(format!("{start}{minor}")))
        .find(|path| path.is_file())
        .map(|path| Kubectl { path, minor })
}

fn first_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.is_file())
}

/// The kubectl on PATH; one newer than those known counts as the newest known.
fn on_path() -> Option<Kubectl> {
    let path = first_on_path()?;
    let output = Command::new(&path)
        .args(["version", "--client", "--output=json"])
        .output()
        .ok()?;
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    let minor: u32 = minor.trim_end_matches('+').parse().ok()?;
    Some(Kubectl {
        path,
        minor: minor.min(*MINORS.end()),
    })
}
