//! Functions whose images are components: from zero, with what pods have, held to their limits, each alone in its faults.

use e2e::{Cluster, eventually, example};
use serde_json::{Value, json};

use super::{ROOT, apply, ask, field, function, has, is_ready, log, until};

/// Where the source of a server that never answers says what it does.
const LOOPS: &str = r#"(func (export "handle") (param i32 i32) (loop $again (br $again)))"#;

/// The server that never answers, made to do something else.
fn server(cluster: &Cluster, name: &str, code: &str) -> String {
    let path = format!("{ROOT}/runtimes/wasm/tests/fixtures/http-loop.wat");
    let text = std::fs::read_to_string(path).expect("the fixture can be read");
    assert!(text.contains(LOOPS));
    let written = cluster.manifest(&format!("{name}.wat"), &text.replace(LOOPS, code));
    format!("file://{written}")
}

/// A server that fetches `http://$UPSTREAM/`, prints what it got, and answers nothing.
fn fetcher(cluster: &Cluster) -> String {
    let path = format!("{ROOT}/runtimes/wasm/tests/fixtures/fetch.wat");
    let mut text = std::fs::read_to_string(path).expect("the fixture can be read");
    for (old, new) in [
        (
            r#"(export "fields" (type $fields (sub resource)))"#,
            r#"(export "fields" (type $fields (sub resource)))
               (export "incoming-request" (type $incoming-request (sub resource)))
               (export "response-outparam" (type $response-outparam (sub resource)))"#,
        ),
        (
            r#"(alias export $http "outgoing-request" (type $outgoing-request))"#,
            r#"(alias export $http "outgoing-request" (type $outgoing-request))
               (alias export $http "incoming-request" (type $incoming-request))
               (alias export $http "response-outparam" (type $response-outparam))"#,
        ),
        (
            r#"(func (export "run") (result i32)"#,
            r#"(func (export "handle") (param i32 i32) (drop (call $run)))
               (func $run (result i32)"#,
        ),
        (
            r#"(func $run (result (result)) (canon lift (core func $main "run")))"#,
            r#"(func $run
                 (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
                 (canon lift (core func $main "handle")))"#,
        ),
        (
            r#"(export "run" (func $run)))"#,
            r#"(export "handle" (func $run)))"#,
        ),
        ("wasi:cli/run@0.2.0", "wasi:http/incoming-handler@0.2.0"),
    ] {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    format!("file://{}", cluster.manifest("fetcher.wat", &text))
}

/// What `status.nodes` of a revision says, by a jsonpath.
fn node(cluster: &Cluster, revision: &str, path: &str) -> String {
    let path = format!(".status.nodes[0]{path}");
    field(cluster, "functionrevision", revision, &path)
}

fn is_idle(cluster: &Cluster, revision: &str) {
    let name = "jsonpath={.items[0].metadata.name}";
    let name = cluster.kubectl(&["get", "nodes", "-o", name]).ok();
    let usage = format!("/api/v1/nodes/{name}/proxy/functionUsage");
    eventually(super::SOON, || {
        let said = cluster.kubectl(&["get", "--raw", &usage]).ok();
        let usage: Value = serde_json::from_str(&said).expect("it is JSON");
        let mut all = usage["items"].as_array().into_iter().flatten();
        let own = all.find(|one| one["revision"] == revision);
        let idle = own.is_some_and(|own| own["instances"] == 0);
        if idle { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_function_answers_from_zero_fails_alone_and_leaves_nothing() {
    let cluster = Cluster::start();
    let hello = format!("file://{}", example("hello.wat"));
    // Of the tests of the runtime: a server that executes `unreachable` at every request.
    let trap = format!("file://{ROOT}/runtimes/wasm/tests/fixtures/http-trap.wat");
    let takes = r#"(memory 1) (func (export "handle") (param i32 i32)
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable)"#;
    let silent = r#"(func (export "handle") (param i32 i32))"#;
    let scale = json!({"min": 0, "max": 4, "idleSeconds": 1});
    let with = |image: &str| json!({"image": image, "scale": scale});
    let mut takes = with(&server(&cluster, "takes", takes));
    takes["resources"] = json!({"limits": {"memory": "16Mi"}});
    let mut loops = with(&server(&cluster, "loops", LOOPS));
    loops["timeoutSeconds"] = 1.into();
    apply(
        &cluster,
        &[
            function("hello", &with(&hello)),
            function("absent", &with(&format!("{hello}.absent"))),
            function("trap", &with(&trap)),
            function("takes", &takes),
            function("loops", &loops),
            function("silent", &with(&server(&cluster, "silent", silent))),
        ],
    );
    until(&cluster, "hello", "200", "Hello from hello-00001");
    assert_eq!(node(&cluster, "hello-00001", ".ready"), "true");
    assert_eq!(node(&cluster, "hello-00001", ".runtime"), "wasm");
    has(
        &cluster,
        "functionrevision",
        "absent-00001",
        ".status.nodes[0].reason",
        |reason| matches!(reason, "ErrImagePull" | "ImagePullBackOff"),
    );

    // Nobody asks for it: nothing of it is left, and it answers again.
    is_idle(&cluster, "hello-00001");
    until(&cluster, "hello", "200", "Hello from hello-00001");

    // What one does is no other's trouble; its client and its log are told.
    for (name, code, told, logged) in [
        (
            "trap",
            "502",
            "function default/trap failed",
            "wasm `unreachable` instruction executed",
        ),
        (
            "takes",
            "502",
            "function default/takes needed more memory than it may have",
            "out of memory: the limit is 16777216 bytes",
        ),
        (
            "loops",
            "504",
            "function default/loops had no answer within 1 s",
            "a request failed: it was not done in 1s",
        ),
        ("silent", "502", "function default/silent failed", "without"),
    ] {
        is_ready(&cluster, name);
        let answer = ask(&cluster, name);
        let said = log(&cluster, &format!("{name}-00001"));
        eprintln!("{name}: {answer:?}\n{said}");
        assert_eq!(answer.0, code, "{answer:?}");
        assert!(answer.1.contains(told), "{answer:?}");
        assert!(said.contains(logged), "{said}");
    }
    until(&cluster, "hello", "200", "Hello from hello-00001");
    cluster.kubectl(&["delete", "function", "hello"]).ok();
    until(&cluster, "hello", "404", "");
}

/// A policy is about a function by the labels of its revision, as about a pod by its own.
#[test]
fn a_function_is_kept_from_networks_by_its_labels() {
    let cluster = Cluster::start();
    let target = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "target"},
        "spec": {"containers": [{
            "name": "main",
            "image": format!("file://{}", example("hello.wat")),
            "ports": [{"containerPort": 8080}],
        }]},
    });
    apply(&cluster, &[target]);
    let until_ready = [
        "wait",
        "pod/target",
        "--for=condition=Ready",
        "--timeout=90s",
    ];
    cluster.kubectl(&until_ready).ok();
    let ip = field(&cluster, "pod", "target", ".status.podIP");
    let image = fetcher(&cluster);
    let fetches = |labels: Value| {
        json!({
            "image": image,
            "labels": labels,
            "env": [{"name": "UPSTREAM", "value": format!("{ip}:8080")}],
            "timeoutSeconds": 10,
        })
    };
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed"},
        "spec": {"podSelector": {"matchLabels": {"tier": "closed"}}, "policyTypes": ["Egress"]},
    });
    apply(
        &cluster,
        &[
            policy,
            function("open", &fetches(json!({"tier": "open"}))),
            function("closed", &fetches(json!({"tier": "closed"}))),
        ],
    );
    for name in ["open", "closed"] {
        is_ready(&cluster, name);
    }
    let got = "Hello from target";
    eventually(super::SOON, || {
        ask(&cluster, "open");
        let said = log(&cluster, "open-00001");
        if said.contains(got) {
            Ok(())
        } else {
            Err(said)
        }
    });
    // Policies are in force before anything else is said of it, so that once is enough.
    let answer = ask(&cluster, "closed");
    assert_ne!(answer.0, "503", "{answer:?}");
    let said = log(&cluster, "closed-00001");
    assert!(!said.contains(got), "{said}");
    cluster.kubectl(&["delete", "networkpolicy", "closed"]).ok();
    eventually(super::SOON, || {
        ask(&cluster, "closed");
        let said = log(&cluster, "closed-00001");
        if said.contains(got) {
            Ok(())
        } else {
            Err(said)
        }
    });
}
