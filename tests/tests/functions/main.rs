//! Functions on a running cluster, through its gateway and by their Services' names.
//!
//! - [`components`]: from zero, held to their limits, misbehaving, kept from networks.
//! - [`containers`]: from zero, under load, rolled, drained, streaming; called by pods and by the clock.
//! - [`revisions`]: what a revision is, which of them answer, and what keeps one from coming.

mod components;
mod containers;
mod revisions;

use std::time::Duration;

use e2e::{Cluster, Options, Registry, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(90);
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A cluster with a registry of images.
struct Bench {
    cluster: Cluster,
    registry: Registry,
}

impl Bench {
    fn start() -> Bench {
        let mut cluster = Cluster::prepare(Options::default());
        // A host with an address, where pods reach the API.
        let device = "ip link add outside type veth peer beyond && ip address add 192.0.2.2/24 dev outside && \
                      ip link set outside up && ip link set beyond up && ip route add default via 192.0.2.1";
        cluster.sandbox.run("sh", &["-c", device]).ok();
        cluster.up();
        let registry = Registry::start(&cluster.sandbox);
        Bench { cluster, registry }
    }
}

/// A Function with a part of its spec.
fn function(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "functions.wk.dev/v1",
        "kind": "Function",
        "metadata": {"name": name},
        "spec": spec,
    })
}

fn apply(cluster: &Cluster, items: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let manifest = cluster.manifest("objects.json", &list.to_string());
    cluster.kubectl(&["apply", "-f", &manifest]).ok();
}

fn patch(cluster: &Cluster, function: &str, spec: &Value) {
    let patch = json!({ "spec": spec }).to_string();
    let arguments = ["patch", "function", function, "--type=merge", "-p", &patch];
    cluster.kubectl(&arguments).ok();
}

/// A field of an object, by a jsonpath.
fn field(cluster: &Cluster, kind: &str, name: &str, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    cluster.kubectl(&["get", kind, name, "-o", &path]).stdout
}

/// Waits until a field of an object is as it should be.
#[track_caller]
fn has(cluster: &Cluster, kind: &str, name: &str, path: &str, wanted: impl Fn(&str) -> bool) {
    eventually(SOON, || {
        let found = field(cluster, kind, name, path);
        if wanted(&found) {
            return Ok(());
        }
        let described = cluster.kubectl(&["describe", kind, name]).stdout;
        Err(format!("{path} is {found:?}\n{described}"))
    });
}

/// Waits until a Function is ready.
#[track_caller]
fn is_ready(cluster: &Cluster, function: &str) {
    let path = r#".status.conditions[?(@.type=="Ready")].status"#;
    has(cluster, "function", function, path, |status| {
        status == "True"
    });
}

/// Waits until all requests go to a revision.
#[track_caller]
fn serves(cluster: &Cluster, function: &str, revision: &str) {
    let path = ".status.traffic[*].revision";
    has(cluster, "function", function, path, |found| {
        found == revision
    });
}

/// Asks a function by its own name; the status and the body.
fn ask(cluster: &Cluster, function: &str) -> (String, String) {
    let host = format!("Host: {function}.default.localhost");
    let url = "http://127.0.0.1:8080/";
    let answer = cluster.curl(&["--max-time", "30", "-w", "\n%{http_code}", "-H", &host, url]);
    let (body, code) = answer.stdout.rsplit_once('\n').unwrap_or_default();
    (code.to_owned(), body.to_owned())
}

#[track_caller]
fn until(cluster: &Cluster, function: &str, code: &str, body: &str) {
    eventually(SOON, || {
        let answer = ask(cluster, function);
        if answer.0 == code && answer.1.contains(body) {
            Ok(())
        } else {
            Err(format!("{function} answered {answer:?}"))
        }
    });
}

/// What a revision's instances wrote.
fn log(cluster: &Cluster, revision: &str) -> String {
    let path =
        format!("/apis/functions.wk.dev/v1/namespaces/default/functionrevisions/{revision}/log");
    cluster.kubectl(&["get", "--raw", &path]).stdout
}
