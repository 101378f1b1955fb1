//! The official Python client (`tests/python/client.py`) against a cluster.
//!
//! `cargo xtask test` installs the client into an environment of its own and names its interpreter in
//! `WK_PYTHON`. Skipped, saying so, without it.

use std::path::Path;

use e2e::Cluster;

#[test]
fn the_python_client_works() {
    let Some(python) = std::env::var_os("WK_PYTHON") else {
        eprintln!("skipped: WK_PYTHON names no interpreter; `cargo xtask test` installs one");
        return;
    };
    let cluster = Cluster::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py");
    let output = cluster
        .sandbox
        .command("timeout")
        .arg("120")
        .arg(python)
        .arg(script)
        .arg(cluster.kubeconfig())
        .output()
        .expect("nsenter (util-linux) runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
}
