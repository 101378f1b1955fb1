//! ChartReleases: kept as they say, and what they say when they cannot be.

use std::process::Command;

use e2e::{Cluster, eventually};

use super::{SOON, config_map, file, revisions};

/// Puts the demonstration into a ConfigMap.
fn pack(cluster: &Cluster) {
    let archive = cluster.manifest("chart.tgz", "");
    let packed = Command::new("tar")
        .args(["-czf", &archive, "-C", &file(""), "demo"])
        .status()
        .expect("tar runs");
    assert!(packed.success());
    let entry = format!("--from-file=chart.tgz={archive}");
    let create = ["create", "configmap", "demo-chart", &entry];
    cluster.kubectl(&create).ok();
}

/// Applies a ChartRelease of the demonstration with more of a spec.
fn apply(cluster: &Cluster, name: &str, more: &str) {
    let text = format!(
        "apiVersion: charts.wk.dev/v1\nkind: ChartRelease\nmetadata: {{name: {name}}}\nspec:\n  chart: {{archive: {{kind: ConfigMap, name: demo-chart}}}}\n  serviceAccountName: deployer\n  {more}\n"
    );
    let path = cluster.manifest(&format!("{name}.yaml"), &text);
    cluster.kubectl(&["apply", "-f", &path]).ok();
}

/// Gives the account of all ChartReleases here every right.
fn grant(cluster: &Cluster) {
    let subject = "--serviceaccount=default:deployer";
    let role = "--clusterrole=cluster-admin";
    let create = ["create", "clusterrolebinding", "deployer", role, subject];
    cluster.kubectl(&create).ok();
}

fn condition(cluster: &Cluster, name: &str, field: &str) -> String {
    let path = format!("jsonpath={{.status.conditions[0].{field}}}");
    let get = ["get", "chartrelease", name, "-o", &path];
    cluster.kubectl(&get).stdout
}

/// Waits until the condition has a reason and says something.
fn told(cluster: &Cluster, name: &str, reason: &str, wanted: &str) {
    eventually(SOON, || {
        let message = condition(cluster, name, "message");
        let seen = condition(cluster, name, "reason");
        match seen == reason && message.contains(wanted) {
            true => Ok(()),
            false => Err(format!("{seen}: {message}")),
        }
    });
}

/// Waits for an Event about a ChartRelease.
fn event(cluster: &Cluster, name: &str, reason: &str) {
    let selector = format!("--field-selector=involvedObject.name={name},reason={reason}");
    eventually(SOON, || {
        let get = ["get", "events", &selector, "-o", "name"];
        let found = cluster.kubectl(&get).ok();
        match found.is_empty() {
            true => Err(format!("no Event {reason} about {name}")),
            false => Ok(()),
        }
    });
}

pub(super) fn a_chart_release_is_kept(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).ok();
    pack(cluster);
    kubectl(&["create", "serviceaccount", "deployer"]);
    apply(
        cluster,
        "own",
        "interval: 5s\n  correctDrift: true\n  atomicApply: true\n  values: {text: kept}",
    );
    // An account without rights makes nothing.
    let condition = |field: &str| condition(cluster, "own", field);
    eventually(SOON, || {
        let message = condition("message");
        if message.contains("system:serviceaccount:default:deployer") && message.contains("cannot")
        {
            Ok(())
        } else {
            Err(message)
        }
    });
    cluster.kubectl(&["get", "configmap", "own"]).fails();
    event(cluster, "own", "NotPossible");
    grant(cluster);
    eventually(SOON, || match condition("status").as_str() {
        "True" => Ok(()),
        _ => Err(condition("message")),
    });
    let status = "jsonpath={.status.deployed.revision} {.status.lastAttemptTime}";
    let status = kubectl(&["get", "chartrelease", "own", "-o", status]);
    assert!(status.starts_with("1 20"), "{status}");
    assert_eq!(config_map(cluster, "own"), "kept");
    assert_eq!(revisions(cluster, "own"), "1 deployed");

    kubectl(&[
        "patch",
        "configmap",
        "own",
        "-p",
        r#"{"data":{"text":"drifted"}}"#,
    ]);
    eventually(SOON, || match config_map(cluster, "own").as_str() {
        "kept" => Ok(()),
        other => Err(other.to_owned()),
    });
    kubectl(&[
        "patch",
        "chartrelease",
        "own",
        "--type=merge",
        "-p",
        r#"{"spec":{"values":{"text":"new"}}}"#,
    ]);
    eventually(SOON, || match config_map(cluster, "own").as_str() {
        "new" => Ok(()),
        other => Err(other.to_owned()),
    });
    let shown = kubectl(&["get", "chartreleases"]);
    assert!(shown.contains("own") && shown.contains("0.1.0"), "{shown}");
    kubectl(&["delete", "chartrelease", "own", "--timeout=60s"]);
    cluster.kubectl(&["get", "configmap", "own"]).fails();
}

pub(super) fn what_is_wrong_is_said(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).ok();
    let patch = |patch: &str| {
        let merge = ["patch", "chartrelease", "bad", "--type=merge", "-p", patch];
        cluster.kubectl(&merge).ok();
    };
    apply(
        cluster,
        "bad",
        "interval: 1h\n  valuesFrom: [{kind: ConfigMap, name: nowhere}]",
    );
    let missing = "spec.valuesFrom[0]: ConfigMap \"nowhere\" with entry \"values.yaml\" not found";
    told(cluster, "bad", "NotPossible", missing);
    event(cluster, "bad", "NotPossible");
    patch(r#"{"spec":{"valuesFrom":null,"chart":{"archive":{"kind":"ConfigMap","name":"none"}}}}"#);
    let missing = "spec.chart.archive: ConfigMap \"none\" with entry \"chart.tgz\" not found";
    told(cluster, "bad", "NotPossible", missing);
    let nonsense = "--from-literal=chart.tgz=nonsense";
    kubectl(&["create", "configmap", "nonsense", nonsense]);
    patch(r#"{"spec":{"chart":{"archive":{"name":"nonsense"}}}}"#);
    let unreadable = "spec.chart: it cannot be installed: ";
    told(cluster, "bad", "NotPossible", unreadable);
    patch(
        r#"{"spec":{"chart":{"archive":null,"ref":"oci://registry.wk.internal/default/demo","version":"9.x"}}}"#,
    );
    let unread = "ChartReleases cannot read the built-in registry yet";
    told(cluster, "bad", "NotPossible", unread);
    kubectl(&["delete", "chartrelease", "bad", "--timeout=60s"]);
}

pub(super) fn a_failed_upgrade_is_rolled_back(cluster: &Cluster) {
    apply(
        cluster,
        "back",
        "interval: 1h\n  timeout: 3s\n  rollbackOnFailure: true\n  values: {text: good}",
    );
    told(cluster, "back", "InstallSucceeded", "Install complete");
    apply(
        cluster,
        "back",
        "interval: 1h\n  timeout: 3s\n  rollbackOnFailure: true\n  values: {text: bad, endless: true}",
    );
    told(cluster, "back", "ReleaseFailed", "has been rolled back");
    event(cluster, "back", "ReleaseFailed");
    assert_eq!(config_map(cluster, "back"), "good");
    assert_eq!(
        revisions(cluster, "back"),
        "1 superseded, 2 failed, 3 deployed"
    );
    let delete = ["delete", "chartrelease", "back", "--timeout=60s"];
    cluster.kubectl(&delete).ok();
    let delete = ["delete", "job", "back-endless", "--ignore-not-found"];
    cluster.kubectl(&delete).ok();
}

pub(super) fn what_cannot_be_uninstalled_goes_by_choice(cluster: &Cluster) {
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).ok();
    apply(cluster, "stuck", "interval: 1h\n  values: {text: stays}");
    told(cluster, "stuck", "InstallSucceeded", "Install complete");
    kubectl(&["delete", "clusterrolebinding", "deployer"]);
    kubectl(&["delete", "chartrelease", "stuck", "--wait=false"]);
    told(cluster, "stuck", "UninstallFailed", "cannot");
    event(cluster, "stuck", "UninstallFailed");
    let orphan = "charts.wk.dev/orphan=true";
    kubectl(&["annotate", "chartrelease", "stuck", orphan]);
    kubectl(&[
        "wait",
        "--for=delete",
        "chartrelease/stuck",
        "--timeout=60s",
    ]);
    assert_eq!(config_map(cluster, "stuck"), "stays");
    assert_eq!(revisions(cluster, "stuck"), "1 deployed");
    cluster.wkctl(&["chart", "uninstall", "stuck"]).ok();
}
