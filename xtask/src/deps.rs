//! Which of our crates may depend on which, and which crate alone knows a technology.
//!
//! Reads `cargo metadata`. Widening a table is a design change: the commit says why.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Crate → our crates that it may name. `wk` wires everything and is not listed.
const EDGES: &[(&str, &[&str])] = &[
    ("store", &[]),
    ("store-sqlite", &["store"]),
    ("store-postgres", &["store"]),
    ("metrics", &[]),
    // What a cron expression means: the apiserver refuses wrong ones, a controller goes by them.
    ("cron", &[]),
    // What every control loop is made of, whatever it looks after.
    ("reconcile", &[]),
    ("api", &["store", "metrics", "cron", "function-kinds"]),
    ("runtimes", &["runtimes-log"]),
    // What a container's own process needs of the log: no more than std.
    ("runtimes-log", &[]),
    ("runtime-wasm", &["runtimes"]),
    ("runtime-oci", &["runtimes", "wk-shim"]),
    ("wk-shim", &["runtimes-log"]),
    // Go templates and what surrounds them: pure.
    ("charts", &[]),
    ("registry", &[]),
    // The kinds of functions as values: below everything that reads or writes them.
    ("function-kinds", &[]),
    (
        "functions",
        &["function-kinds", "runtimes", "metrics", "cron", "reconcile"],
    ),
    ("controllers", &["metrics", "cron", "charts", "reconcile"]),
    ("scheduler", &["metrics"]),
    ("streaming", &["runtimes"]),
    (
        "nodelet",
        &["runtimes", "metrics", "streaming", "function-kinds"],
    ),
    ("network", &["runtimes", "metrics", "function-kinds"]),
    ("cli", &["scheduler", "charts", "function-kinds"]),
    ("e2e", &[]),
    (
        "http-bench",
        &[
            "api",
            "metrics",
            "runtime-wasm",
            "runtimes",
            "store",
            "store-sqlite",
            "store-postgres",
            "postgres-server",
        ],
    ),
    ("postgres-server", &[]),
    // Nodes without work, for tests alone.
    ("hollow", &["nodelet", "runtimes"]),
    ("xtask", &[]),
];

/// Technology → the only crates that may name it (tests may use what they test against).
const TECHNOLOGIES: &[(&str, &[&str])] = &[
    ("sqlx", &["store-sqlite", "store-postgres"]),
    ("wasmtime", &["runtime-wasm"]),
    ("axum", &["api", "http-bench", "nodelet", "registry", "wk"]),
    ("oci-client", &["runtimes"]),
    ("object_store", &["registry"]),
    ("rtnetlink", &["network"]),
    ("clap", &["cli", "wk", "xtask"]),
];

pub(crate) fn run() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let faults = faults(&metadata);
    if !faults.is_empty() {
        bail!(
            "dependencies that the design does not allow (xtask/src/deps.rs):\n{}",
            faults.join("\n")
        );
    }
    println!("dependencies: as designed");
    Ok(())
}

/// Every edge that is not allowed, one line each. Pure.
fn faults(metadata: &Value) -> Vec<String> {
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    let names: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let edges: BTreeMap<_, _> = EDGES.iter().copied().collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().unwrap_or(&empty) {
            let target = dependency["name"].as_str().unwrap_or_default();
            let only_for_tests = dependency["kind"] == "dev";
            if names.contains(&target) && name != "wk" {
                let allowed = edges
                    .get(name)
                    .is_some_and(|allowed| allowed.contains(&target));
                if !allowed && !only_for_tests {
                    faults.push(format!("  {name} -> {target}"));
                }
            }
            let technology = TECHNOLOGIES
                .iter()
                .find(|(technology, _)| *technology == target);
            if let Some((_, knows)) = technology
                && !knows.contains(&name)
                && !only_for_tests
            {
                faults.push(format!(
                    "  {name} -> {target} (only {} may)",
                    knows.join(", ")
                ));
            }
        }
        if name != "wk" && !edges.contains_key(name) {
            faults.push(format!("  {name}: not in the table"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sideways_edge_is_a_fault() {
        let metadata = json!({"packages": [
            {"name": "store", "dependencies": []},
            {"name": "nodelet", "dependencies": [{"name": "store", "kind": null}, {"name": "serde", "kind": null}]},
        ]});
        assert_eq!(faults(&metadata), ["  nodelet -> store"]);
    }

    #[test]
    fn a_technology_belongs_to_its_crate() {
        let metadata = json!({"packages": [{"name": "api", "dependencies": [{"name": "sqlx", "kind": null}]}]});
        assert_eq!(
            faults(&metadata),
            ["  api -> sqlx (only store-sqlite, store-postgres may)"]
        );
    }

    #[test]
    fn a_test_may_use_what_it_tests_against() {
        let metadata = json!({"packages": [
            {"name": "store", "dependencies": []},
            {"name": "nodelet", "dependencies": [{"name": "store", "kind": "dev"}]},
        ]});
        assert_eq!(faults(&metadata), Vec::<String>::new());
    }
}
