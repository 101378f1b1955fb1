//! Functions whose images are components, through the gateway: from zero, with what pods have, held to their limits.

use std::time::Duration;

use e2e::{Cluster, eventually, example};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// Asks a function by its own name; the status and the body.
fn ask(cluster: &Cluster, function: &str) -> (String, String) {
    let host = format!("Host: {function}.default.localhost");
    let url = "http://127.0.0.1:8080/";
    let answer = cluster.curl(&["--max-time", "20", "-w", "\n%{http_code}", "-H", &host, url]);
    let (body, code) = answer.stdout.rsplit_once('\n').unwrap_or_default();
    (code.to_owned(), body.to_owned())
}

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

/// What `status.nodes` of a revision says, by a jsonpath.
fn node(cluster: &Cluster, revision: &str, path: &str) -> String {
    let path = format!("jsonpath={{.status.nodes[0]{path}}}");
    cluster
        .kubectl(&["get", "functionrevision", revision, "-o", &path])
        .stdout
}

#[test]
fn a_function_answers_from_zero_fails_alone_and_leaves_nothing() {
    let cluster = Cluster::start();
    let hello = example("hello.wat");
    // Of the tests of the runtime: a server that executes `unreachable` at every request.
    let trap = hello.replace(
        "examples/hello.wat",
        "runtimes/wasm/tests/fixtures/http-trap.wat",
    );
    let function = |name: &str, image: &str| {
        json!({
            "apiVersion": "functions.wk.dev/v1",
            "kind": "Function",
            "metadata": {"name": name},
            "spec": {"image": format!("file://{image}"), "scale": {"min": 0, "max": 4, "idleSeconds": 1}},
        })
    };
    let functions = [
        function("hello", &hello),
        function("absent", &format!("{hello}.absent")),
        function("trap", &trap),
    ];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": functions});
    let manifest = cluster.manifest("functions.json", &list.to_string());
    cluster.kubectl(&["apply", "-f", &manifest]).ok();
    until(&cluster, "hello", "200", "Hello from hello-00001");
    assert_eq!(node(&cluster, "hello-00001", ".ready"), "true");
    assert_eq!(node(&cluster, "hello-00001", ".runtime"), "wasm");
    eventually(SOON, || {
        match node(&cluster, "absent-00001", ".reason").as_str() {
            "ErrImagePull" | "ImagePullBackOff" => Ok(()),
            other => Err(format!("the reason is {other:?}")),
        }
    });

    // Nobody asks for it: nothing of it is left, and it answers again.
    let name = "jsonpath={.items[0].metadata.name}";
    let name = cluster.kubectl(&["get", "nodes", "-o", name]).ok();
    let usage = format!("/api/v1/nodes/{name}/proxy/functionUsage");
    eventually(SOON, || {
        let said = cluster.kubectl(&["get", "--raw", &usage]).ok();
        let idle =
            said.contains("\"instances\":0") && said.contains("\"revision\":\"hello-00001\"");
        if idle { Ok(()) } else { Err(said) }
    });
    until(&cluster, "hello", "200", "Hello from hello-00001");

    // What one does is no other's trouble, and its log says it.
    until(&cluster, "trap", "502", "");
    let log = "/apis/functions.wk.dev/v1/namespaces/default/functionrevisions/trap-00001/log";
    let said = cluster.kubectl(&["get", "--raw", log]).ok();
    assert!(
        said.contains("wasm `unreachable` instruction executed"),
        "{said}"
    );
    until(&cluster, "hello", "200", "Hello from hello-00001");
    cluster.kubectl(&["delete", "function", "hello"]).ok();
    until(&cluster, "hello", "404", "");
}
