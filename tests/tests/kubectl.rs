//! The real `kubectl` against a cluster, as a new user would use it.

use std::{io::Read as _, process::Stdio, time::Duration};

use e2e::{Cluster, Options, eventually, example};

const SOON: Duration = Duration::from_secs(30);

fn with_hello() -> Cluster {
    let cluster = Cluster::with(Options {
        arguments: vec!["-f".to_owned(), example("hello.yaml")],
        ..Options::default()
    });
    eventually(SOON, || {
        if cluster.log().contains("http://") {
            Ok(())
        } else {
            Err(cluster.log())
        }
    });
    cluster
}

/// The URL that `wk up -f` printed.
fn url(cluster: &Cluster) -> String {
    let log = cluster.log();
    let start = log.find("http://").expect("a URL is printed");
    log[start..]
        .split_whitespace()
        .next()
        .expect("a URL has text")
        .to_owned()
}

fn pods(cluster: &Cluster, column: &str) -> Vec<String> {
    let columns = format!("custom-columns=X:{column}");
    let output = cluster
        .kubectl(&["get", "pods", "-o", &columns, "--no-headers"])
        .ok();
    output.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn the_main_job_ends_with_a_url_that_answers_from_every_pod() {
    let cluster = with_hello();
    let url = url(&cluster);
    let mut answered = std::collections::BTreeSet::new();
    eventually(SOON, || {
        let body = cluster.curl(&[&url]).ok();
        answered.insert(body);
        if answered.len() == 2 {
            Ok(())
        } else {
            Err(format!("{answered:?}"))
        }
    });
    assert!(
        answered
            .iter()
            .all(|body| body.starts_with("Hello from hello-")),
        "{answered:?}"
    );
}

#[test]
fn pods_are_shown_described_and_logged() {
    let cluster = with_hello();
    let table = cluster
        .kubectl(&["get", "pods,deployments,services", "-o", "wide"])
        .ok();
    assert!(table.contains("Running"), "{table}");
    assert!(table.contains("2/2"), "{table}");
    let pod = pods(&cluster, ".metadata.name").remove(0);
    let text = cluster.kubectl(&["describe", "pod", &pod]).ok();
    for part in [
        "Status:           Running",
        "Controlled By:  ReplicaSet/hello-",
        "Scheduled",
        "Started",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    cluster.kubectl(&["logs", &pod]).ok();
    let text = cluster.kubectl(&["describe", "service", "hello"]).ok();
    assert!(text.contains("Endpoints:"), "{text}");
    let text = cluster.kubectl(&["get", "nodes"]).ok();
    assert!(text.contains(" Ready "), "{text}");
    cluster.kubectl(&["get", "events"]).ok();
}

#[test]
fn a_deployment_is_scaled_rolled_undone_and_deleted() {
    let cluster = with_hello();
    cluster
        .kubectl(&["scale", "deployment/hello", "--replicas=4"])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])
        .ok();
    assert_eq!(pods(&cluster, ".status.phase").len(), 4);

    cluster
        .kubectl(&["set", "env", "deployment/hello", "COLOUR=blue"])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])
        .ok();
    let history = cluster
        .kubectl(&["rollout", "history", "deployment/hello"])
        .ok();
    assert!(
        history.lines().any(|line| line.starts_with('2')),
        "{history}"
    );
    cluster
        .kubectl(&["rollout", "undo", "deployment/hello"])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])
        .ok();
    let env = cluster.kubectl(&[
        "get",
        "deployment",
        "hello",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].env}",
    ]);
    assert_eq!(env.ok(), "");
    cluster
        .kubectl(&["rollout", "restart", "deployment/hello"])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])
        .ok();

    cluster
        .kubectl(&["delete", "-f", &example("hello.yaml"), "--timeout=30s"])
        .ok();
    eventually(SOON, || {
        let left = cluster
            .kubectl(&[
                "get",
                "pods,replicasets,endpointslices",
                "-o",
                "name",
                "-l",
                "app=hello",
            ])
            .ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn apply_create_and_diff_follow_a_manifest() {
    let cluster = Cluster::start();
    let manifest = |value: &str| {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  colour: {value}\n"
        );
        cluster.manifest("settings.yaml", &text)
    };
    let path = manifest("red");
    assert_eq!(
        cluster.kubectl(&["apply", "-f", &path]).ok(),
        "configmap/settings created\n"
    );
    assert_eq!(
        cluster.kubectl(&["apply", "-f", &path]).ok(),
        "configmap/settings unchanged\n"
    );
    let path = manifest("blue");
    assert_eq!(
        cluster.kubectl(&["apply", "-f", &path]).ok(),
        "configmap/settings configured\n"
    );
    let taken = cluster.kubectl(&["create", "-f", &path]).fails();
    assert_eq!(
        taken.trim(),
        format!(
            "Error from server (AlreadyExists): error when creating {path:?}: configmaps \"settings\" already exists"
        )
    );
    assert_eq!(
        cluster
            .kubectl(&["label", "configmap", "settings", "a=b"])
            .ok(),
        "configmap/settings labeled\n"
    );
    assert_eq!(
        cluster
            .kubectl(&["get", "configmaps", "-l", "a=b", "-o", "name"])
            .ok(),
        "configmap/settings\n"
    );
    cluster
        .kubectl(&["create", "namespace", "shop", "--dry-run=server"])
        .ok();
    cluster
        .kubectl(&[
            "apply",
            "-f",
            &cluster.manifest(
                "ns.yaml",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n",
            ),
        ])
        .ok();
    cluster.kubectl(&["apply", "-n", "shop", "-f", &path]).ok();
    cluster
        .kubectl(&["delete", "namespace", "shop", "--timeout=30s"])
        .ok();
    let gone = cluster
        .kubectl(&["get", "configmap", "settings", "-n", "shop"])
        .fails();
    assert!(gone.contains("NotFound"), "{gone}");
}

#[test]
fn a_watch_shows_pods_as_they_come_and_go() {
    let cluster = Cluster::start();
    let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig().display());
    let mut watch = cluster
        .sandbox
        .command("kubectl")
        .args([&kubeconfig, "get", "pods", "-w", "--no-headers"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cluster
        .kubectl(&["apply", "-f", &example("count.yaml")])
        .ok();
    eventually(SOON, || {
        let phases = pods(&cluster, ".status.phase");
        if phases == ["Succeeded"] {
            Ok(())
        } else {
            Err(format!("{phases:?}"))
        }
    });
    cluster
        .kubectl(&["delete", "-f", &example("count.yaml"), "--timeout=30s"])
        .ok();
    watch.kill().unwrap();
    let mut seen = String::new();
    watch
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut seen)
        .unwrap();
    watch.wait().unwrap();
    assert!(
        seen.contains("Pending") || seen.contains("ContainerCreating"),
        "{seen}"
    );
    assert!(seen.contains("Completed"), "{seen}");
}

#[test]
fn a_component_that_ends_shows_its_output_and_is_not_started_again() {
    let cluster = Cluster::start();
    cluster
        .kubectl(&["apply", "-f", &example("count.yaml")])
        .ok();
    let logs = eventually(SOON, || {
        let phases = pods(&cluster, ".status.phase");
        if phases == ["Succeeded"] {
            Ok(cluster.kubectl(&["logs", "count"]).ok())
        } else {
            Err(format!("{phases:?}"))
        }
    });
    assert!(!logs.is_empty());
    let tail = cluster.kubectl(&["logs", "count", "--tail=1"]).ok();
    assert_eq!(Some(tail.trim_end()), logs.trim_end().lines().last());
}

#[test]
fn an_image_that_is_not_there_is_said_in_words() {
    let cluster = Cluster::start();
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: lost\nspec:\n  containers:\n  - name: main\n    image: file:///nowhere.wasm\n";
    cluster
        .kubectl(&["apply", "-f", &cluster.manifest("lost.yaml", text)])
        .ok();
    eventually(SOON, || {
        let table = cluster
            .kubectl(&["get", "pod", "lost", "--no-headers"])
            .ok();
        if table.contains("ErrImagePull") || table.contains("ImagePullBackOff") {
            Ok(())
        } else {
            Err(table)
        }
    });
    eventually(SOON, || {
        let text = cluster.kubectl(&["describe", "pod", "lost"]).ok();
        if text.contains("/nowhere.wasm") && text.contains("Failed") {
            Ok(())
        } else {
            Err(text)
        }
    });
}
