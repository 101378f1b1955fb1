//! An operator written with kube-rs against a cluster: its kind, controller, finalizer, webhook and
//! leader election.

use std::{
    process::{Child, Command},
    time::Duration,
};

use e2e::{Cluster, eventually, program};

const SOON: Duration = Duration::from_secs(30);

/// A process of the operator; it is killed with the value.
struct Operator(Child);

impl Operator {
    fn start(cluster: &Cluster, name: &str) -> Self {
        let mut command: Command = cluster.sandbox.command(program("operator"));
        command.arg(cluster.kubeconfig()).arg(name);
        Self(command.spawn().expect("the operator starts"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks kubectl until it prints this.
#[track_caller]
fn until(cluster: &Cluster, arguments: &[&str], wanted: &str) {
    eventually(SOON, || {
        let output = cluster.kubectl(arguments);
        if output.stdout == wanted {
            Ok(())
        } else {
            Err(format!("{arguments:?}: {output:?}"))
        }
    });
}

fn greeting(cluster: &Cluster, message: &str) -> String {
    let text = format!(
        "apiVersion: demo.example.com/v1\nkind: Greeting\nmetadata: {{name: hello}}\nspec: {{message: {message}}}\n"
    );
    cluster.manifest("greeting.yaml", &text)
}

const HOLDER: [&str; 4] = [
    "get",
    "lease",
    "operator",
    "-ojsonpath={.spec.holderIdentity}",
];
const HOOK: [&str; 4] = [
    "get",
    "validatingwebhookconfigurations",
    "greetings",
    "-oname",
];
const MESSAGE: [&str; 4] = ["get", "configmap", "hello", "-ojsonpath={.data.message}"];
const STATUS: [&str; 4] = [
    "get",
    "greeting",
    "hello",
    "-ojsonpath={.status.phase} {.status.by} {.status.observedGeneration}",
];

#[test]
fn an_operator_written_with_kube_rs_works_and_its_second_process_takes_over() {
    let cluster = Cluster::start();
    let first = Operator::start(&cluster, "first");
    until(&cluster, &HOLDER, "first");
    let _second = Operator::start(&cluster, "second");
    let hook = "validatingwebhookconfiguration.admissionregistration.k8s.io/greetings\n";
    until(&cluster, &HOOK, hook);

    let file = greeting(&cluster, "hello");
    cluster
        .kubectl(&["apply", "--server-side", "-f", &file])
        .ok();
    until(&cluster, &MESSAGE, "hello!");
    until(&cluster, &STATUS, "Ready first 1");
    let refused = cluster.kubectl(&["apply", "--server-side", "-f", &greeting(&cluster, "HELLO")]);
    let words = refused.fails();
    let said = r#"admission webhook "greetings.demo.example.com" denied the request: a greeting may not shout"#;
    assert!(words.contains(said), "{words}");
    // What it owns comes back.
    cluster.kubectl(&["delete", "configmap", "hello"]).ok();
    until(&cluster, &MESSAGE, "hello!");

    drop(first);
    until(&cluster, &HOLDER, "second");
    until(&cluster, &STATUS, "Ready second 1");
    let change = r#"{"spec":{"mark":"?"}}"#;
    // The webhook's address is the first one's until the second has said its own.
    eventually(SOON, || {
        let patch = ["patch", "greeting", "hello", "--type=merge", "-p", change];
        let output = cluster.kubectl(&patch);
        if output.code == 0 {
            Ok(())
        } else {
            Err(output.stderr)
        }
    });
    until(&cluster, &MESSAGE, "hello?");
    until(&cluster, &STATUS, "Ready second 2");

    // Its finalizer runs before it goes, and what it owns goes with it.
    cluster
        .kubectl(&["delete", "greeting", "hello", "--timeout=20s"])
        .ok();
    let left = [
        "get",
        "configmap",
        "hello-farewell",
        "-ojsonpath={.data.by}",
    ];
    assert_eq!(cluster.kubectl(&left).ok(), "second");
    until(
        &cluster,
        &["get", "configmap", "hello", "--ignore-not-found"],
        "",
    );
}
