//! Charts in the cluster's own registry, by each of its names.

use e2e::Cluster;

use super::{config_map, file};

pub(super) fn charts_are_pushed_pulled_and_installed(cluster: &Cluster) {
    let wkctl = |arguments: &[&str]| cluster.wkctl(&[&["chart"], arguments].concat());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let into = dir.path().display().to_string();
    wkctl(&["package", &file("demo"), "-d", &into]).ok();
    let archive = format!("{into}/demo-0.1.0.tgz");
    let pushed = wkctl(&["push", &archive, "oci://localhost:5000/default"]).ok();
    assert!(pushed.contains("Digest: sha256:"), "{pushed}");
    let digest = pushed
        .lines()
        .find_map(|line| line.strip_prefix("Digest: "))
        .unwrap_or_default();
    // The API's own port, as the kubeconfig has it.
    let path = "jsonpath={.clusters[0].cluster.server}";
    let server = cluster.kubectl(&["config", "view", "-o", path]).ok();
    let server = server.trim_start_matches("https://");
    for host in ["registry.wk.internal", "localhost:5000", server] {
        let below = dir.path().join(host).display().to_string();
        let pull = format!("oci://{host}/default/demo");
        let pulled = wkctl(&["pull", &pull, "--version", "0.1.x", "-d", &below]).ok();
        assert!(pulled.contains(digest), "{pulled}");
        let same = std::fs::read(format!("{below}/demo-0.1.0.tgz")).expect("it was pulled");
        assert_eq!(same, std::fs::read(&archive).expect("it was packed"));
    }
    let by_digest = format!("oci://{server}/default/demo@{digest}");
    wkctl(&["install", "pulled", &by_digest, "--set", "text=pulled"]).ok();
    assert_eq!(config_map(cluster, "pulled"), "pulled");
    wkctl(&["uninstall", "pulled"]).ok();
    let missing = wkctl(&["install", "none", "oci://localhost:5000/default/none"]).fails();
    assert!(missing.contains("default/none"), "{missing}");
    let elsewhere = wkctl(&["push", &archive, "oci://localhost:5000/nowhere"]).fails();
    assert!(elsewhere.contains("nowhere"), "{elsewhere}");
}
