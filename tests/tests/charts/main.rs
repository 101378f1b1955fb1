//! `wkctl chart` and real Helm 4 on the same releases, and ChartReleases.
//!
//! - [`kept`]: ChartReleases. [`registry`]: charts in the cluster's own registry. [`together`]: objects as one write, and
//!   definitions of custom kinds.
//!
//! Helm is the Python package `helm-python-sdk`, whose interpreter `WK_HELM` names; `cargo xtask test` installs it. Without
//! it Helm's part is skipped, saying so.

mod kept;
mod registry;
mod together;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use e2e::{Cluster, Output, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(120);

fn file(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("charts")
        .join(name);
    path.display().to_string()
}

/// Helm on a cluster, if it is here.
struct Helm<'a> {
    cluster: &'a Cluster,
    python: std::ffi::OsString,
}

impl Helm<'_> {
    fn call(&self, calls: &[Value]) -> Output {
        let output = self
            .cluster
            .sandbox
            .command("timeout")
            .arg("120")
            .arg(&self.python)
            .arg(file("helm.py"))
            .arg(self.cluster.kubeconfig())
            .arg("default")
            .args(calls.iter().map(Value::to_string))
            .output()
            .expect("nsenter (util-linux) runs");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The answers to some calls, all of which succeed.
    fn ok(&self, calls: &[Value]) -> Vec<Value> {
        let lines = self.call(calls).ok();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }
}

fn config_map(cluster: &Cluster, name: &str) -> String {
    let path = "jsonpath={.data.text}";
    let output = cluster.kubectl(&["get", "configmap", name, "-o", path]);
    output.ok()
}

/// `1 superseded, 2 deployed`.
fn revisions(cluster: &Cluster, name: &str) -> String {
    let history = cluster
        .wkctl(&["chart", "history", name, "-o", "json"])
        .ok();
    let history: Vec<Value> = serde_json::from_str(&history).expect("history is JSON");
    let revisions: Vec<String> = history
        .iter()
        .map(|r| {
            format!(
                "{} {}",
                r["revision"],
                r["status"].as_str().unwrap_or_default()
            )
        })
        .collect();
    revisions.join(", ")
}

#[test]
fn wkctl_and_helm_take_turns_and_releases_keep_themselves() {
    let cluster = Cluster::start();
    wkctl_alone(&cluster);
    an_interrupted_upgrade_is_taken_up(&cluster);
    registry::charts_are_pushed_pulled_and_installed(&cluster);
    together::objects_go_in_as_one_write(&cluster);
    together::definitions_change_by_choice(&cluster);
    kept::a_chart_release_is_kept(&cluster);
    kept::what_is_wrong_is_said(&cluster);
    kept::a_failed_upgrade_is_rolled_back(&cluster);
    kept::what_cannot_be_uninstalled_goes_by_choice(&cluster);
    match std::env::var_os("WK_HELM") {
        Some(python) => turns(&Helm {
            cluster: &cluster,
            python,
        }),
        None => eprintln!("skipped: WK_HELM names no interpreter with helm-python-sdk"),
    }
}

fn wkctl_alone(cluster: &Cluster) {
    let chart = file("demo");
    let wkctl = |arguments: &[&str]| cluster.wkctl(&[&["chart"], arguments].concat());
    let said = wkctl(&["install", "web", &chart, "--set", "text=one", "--wait"]).ok();
    assert!(said.contains("STATUS: deployed"), "{said}");
    assert!(said.ends_with("NOTES:\nweb says one.\n"), "{said}");
    assert_eq!(config_map(cluster, "web"), "one");
    let again = wkctl(&["install", "web", &chart]).fails();
    assert!(
        again.contains("cannot reuse a name that is still in use"),
        "{again}"
    );

    let diff = wkctl(&["diff", "web", &chart, "--set", "text=two,extra=true"]).ok();
    assert!(diff.contains("\n-  text: one\n"), "{diff}");
    assert!(diff.contains("\n+  text: two\n"), "{diff}");
    assert!(
        diff.contains("Service \"web-extra\" in namespace \"default\" (added)"),
        "{diff}"
    );
    assert!(diff.contains("<hidden "), "{diff}");
    wkctl(&["upgrade", "web", &chart, "--set", "text=two,extra=true"]).ok();
    assert_eq!(config_map(cluster, "web"), "two");
    assert_eq!(revisions(cluster, "web"), "1 superseded, 2 deployed");

    let patch = r#"{"data":{"text":"other"}}"#;
    cluster
        .kubectl(&["patch", "configmap", "web", "-p", patch])
        .ok();
    let drift = wkctl(&["drift", "web", "--exit-code"]);
    assert_eq!(drift.code, 2, "{drift:?}");
    assert!(
        drift.stdout.contains("-  text: two\n+  text: other\n"),
        "{drift:?}"
    );
    let conflict = wkctl(&["rollback", "web"]).fails();
    assert!(
        conflict.contains("conflict with \"kubectl-patch\""),
        "{conflict}"
    );
    wkctl(&["rollback", "web", "1", "--force-conflicts"]).ok();
    assert_eq!(config_map(cluster, "web"), "one");
    assert_eq!(
        revisions(cluster, "web"),
        "1 superseded, 2 superseded, 3 failed, 4 deployed"
    );
    cluster.kubectl(&["get", "service", "web-extra"]).fails();

    let gone = wkctl(&["uninstall", "web", "--wait"]).ok();
    assert!(gone.contains("[Secret] web-kept"), "{gone}");
    cluster.kubectl(&["get", "configmap", "web"]).fails();
    cluster.kubectl(&["get", "secret", "web-kept"]).ok();
    cluster.kubectl(&["delete", "secret", "web-kept"]).ok();
}

fn an_interrupted_upgrade_is_taken_up(cluster: &Cluster) {
    let chart = file("demo");
    cluster.wkctl(&["chart", "install", "cut", &chart]).ok();
    let endless = [
        "chart",
        "upgrade",
        "cut",
        &chart,
        "--set",
        "endless=true,extra=true",
    ];
    let program = e2e::program("wkctl");
    let mut process = cluster
        .client_command(&program, &endless)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nsenter (util-linux) runs");
    eventually(SOON, || match revisions(cluster, "cut").as_str() {
        "1 deployed, 2 pending-upgrade" => Ok(()),
        other => Err(other.to_owned()),
    });
    eventually(SOON, || {
        let job = cluster.kubectl(&["get", "job", "cut-endless"]);
        if job.code == 0 {
            Ok(())
        } else {
            Err(format!("{job:?}"))
        }
    });
    process.kill().expect("the process is ours");
    process.wait().expect("the process ends");
    // What nsenter started is another process: it is the one that holds the lease.
    kill_holder(cluster);
    let next = cluster.wkctl(&["chart", "upgrade", "cut", &chart, "--set", "text=next"]);
    assert_eq!(next.code, 0, "{next:?}");
    assert!(
        next.stderr.contains("upgrade to revision 2 did not finish"),
        "{next:?}"
    );
    assert_eq!(
        revisions(cluster, "cut"),
        "1 superseded, 2 failed, 3 deployed"
    );
    assert_eq!(config_map(cluster, "cut"), "next");
    cluster.wkctl(&["chart", "uninstall", "cut"]).ok();
}

/// Kills the process that a lease's holder names, if it still runs.
fn kill_holder(cluster: &Cluster) {
    let path = "jsonpath={.spec.holderIdentity}";
    let lease = cluster.kubectl(&["get", "lease", "sh.helm.release.v1.cut", "-o", path]);
    let Some((_, rest)) = lease.stdout.split_once("(pid ") else {
        return;
    };
    let pid = rest.split(',').next().unwrap_or_default();
    let _ = Command::new("kill").args(["-9", pid]).output();
}

fn turns(helm: &Helm<'_>) {
    let (cluster, chart) = (helm.cluster, file("demo"));
    let wkctl = |arguments: &[&str]| cluster.wkctl(&[&["chart"], arguments].concat()).ok();
    // Ours, then Helm's.
    wkctl(&["install", "ours", &chart, "--set", "text=one"]);
    let status = helm.ok(&[json!(["status", "ours"])]);
    assert_eq!(status[0]["status"], "deployed");
    assert_eq!(status[0]["chart_version"], "0.1.0");
    helm.ok(&[
        json!(["upgrade", chart, "ours", {"values": {"text": "two", "extra": true}}]),
        json!(["rollback", "ours"]),
    ]);
    assert_eq!(config_map(cluster, "ours"), "one");
    assert_eq!(
        revisions(cluster, "ours"),
        "1 superseded, 2 superseded, 3 deployed"
    );
    wkctl(&[
        "upgrade",
        "ours",
        &chart,
        "--reuse-values",
        "--set",
        "extra=true",
    ]);
    assert_eq!(config_map(cluster, "ours"), "one");
    helm.ok(&[json!(["uninstall", "ours"])]);
    cluster.kubectl(&["get", "service", "ours-extra"]).fails();

    // Helm's, then ours.
    helm.ok(&[json!(["install", chart, "theirs", {"values": {"text": "one"}}])]);
    let listed = wkctl(&["list", "-q"]);
    assert_eq!(listed, "theirs\n");
    assert!(wkctl(&["get", "notes", "theirs"]).contains("theirs says one."));
    wkctl(&["upgrade", "theirs", &chart, "--set", "text=two"]);
    wkctl(&["rollback", "theirs"]);
    let history = helm.ok(&[
        json!(["history", "theirs"]),
        json!(["get_values", "theirs"]),
    ]);
    let statuses: Vec<&str> = history[0]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|revision| revision["status"].as_str())
        .collect();
    assert_eq!(statuses, ["superseded", "superseded", "deployed"]);
    assert_eq!(history[1], json!({"text": "one"}));
    // What both render and keep is the same, byte for byte.
    let made = helm.ok(&[
        json!(["install", chart, "same", {"values": {"text": "one"}}]),
        json!(["uninstall", "same"]),
    ]);
    wkctl(&["install", "same", &chart, "--set", "text=one"]);
    let kept = wkctl(&["get", "manifest", "same"]);
    let made = made[0]["manifest"].as_str().unwrap_or_default();
    assert_eq!(format!("{made}\n"), kept);
    wkctl(&["uninstall", "same"]);
    wkctl(&["uninstall", "theirs"]);
    let listed = helm.ok(&[json!(["list"])]);
    assert_eq!(listed[0], json!([]));
}
