//! A release's objects as one write, and the definitions of custom kinds that a chart brings.

use std::process::Command;

use e2e::Cluster;

use super::{config_map, file, revisions};

pub(super) fn objects_go_in_as_one_write(cluster: &Cluster) {
    let chart = file("demo");
    let wkctl = |arguments: &[&str]| cluster.wkctl(&[&["chart"], arguments].concat());
    let word = || {
        let path = "jsonpath={.data.word}";
        cluster
            .kubectl(&["get", "secret", "one-kept", "-o", path])
            .ok()
    };
    wkctl(&["install", "one", &chart, "--atomic-apply"]).ok();
    assert_eq!(config_map(cluster, "one"), "hello");
    let before = word();
    // The Secret comes before the ConfigMap, which is refused: it stays as it was all the same.
    let patch = r#"{"data":{"text":"other"}}"#;
    cluster
        .kubectl(&["patch", "configmap", "one", "-p", patch])
        .ok();
    let upgrade = ["upgrade", "one", &chart, "--set", "text=two"];
    let together = [&upgrade[..], &["--atomic-apply"]].concat();
    let refused = wkctl(&together).fails();
    assert!(refused.contains("(none was changed)"), "{refused}");
    assert!(
        refused.contains("conflict with \"kubectl-patch\""),
        "{refused}"
    );
    assert_eq!(word(), before);
    wkctl(&[&together[..], &["--force-conflicts"]].concat()).ok();
    assert_eq!(config_map(cluster, "one"), "two");
    assert_ne!(word(), before);
    assert_eq!(
        revisions(cluster, "one"),
        "1 superseded, 2 failed, 3 deployed"
    );
    wkctl(&["uninstall", "one"]).ok();
    cluster.kubectl(&["delete", "secret", "one-kept"]).ok();
}

pub(super) fn definitions_change_by_choice(cluster: &Cluster) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let copied = Command::new("cp")
        .args(["-r", &file("demo")])
        .arg(dir.path())
        .status()
        .expect("cp runs");
    assert!(copied.success());
    let chart = dir.path().join("demo");
    let path = chart.join("crds/toys.yaml");
    let keep = "x-kubernetes-preserve-unknown-fields: true";
    let text = std::fs::read_to_string(&path).expect("the demonstration has it");
    let text = text.replace(keep, "properties: {colour: {type: string}}");
    std::fs::write(&path, text).expect("it can be written");
    let chart = chart.display().to_string();
    let wkctl = |arguments: &[&str]| cluster.wkctl(&[&["chart"], arguments].concat());
    wkctl(&["install", "crd", &file("demo")]).ok();
    let refused = wkctl(&["upgrade", "crd", &chart, "--crds=upgrade"]).fails();
    assert!(
        refused.contains("version \"v1\": objects: fields that are not described go"),
        "{refused}"
    );
    assert!(refused.contains("--crds=force"), "{refused}");
    wkctl(&["upgrade", "crd", &chart, "--crds=force"]).ok();
    let schema = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.colour.type}";
    let crd = ["get", "crd", "toys.demo.example.com", "-o", schema];
    assert_eq!(cluster.kubectl(&crd).ok(), "string");
    wkctl(&["upgrade", "crd", &file("demo"), "--crds=upgrade"]).ok();
    assert_eq!(cluster.kubectl(&crd).ok(), "");
    wkctl(&["uninstall", "crd"]).ok();
    cluster.kubectl(&["delete", "secret", "crd-kept"]).ok();
}
