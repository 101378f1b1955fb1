//! What a revision is, whatever its tag comes to mean; which of them answer; and what keeps one from coming.

use std::collections::BTreeSet;

use e2e::example;
use serde_json::json;

use super::{Bench, SOON, apply, ask, field, function, has, is_ready, patch, serves, until};

const IMAGE: &str = "127.0.0.1:5001/greet:1";

impl Bench {
    /// Makes the tag mean a component that says this.
    fn push_greeting(&self, greeting: &str) {
        let text = std::fs::read_to_string(example("hello.wat")).expect("the example can be read");
        assert_eq!(greeting.len(), "Hello".len());
        let text = text.replace("\"Hello from ", &format!("\"{greeting} from "));
        let module = wat::parse_str(text).expect("it is WebAssembly text");
        assert_eq!(self.registry.push_component("greet", &module), IMAGE);
    }

    fn ask_host(&self, host: &str) -> String {
        let host = format!("Host: {host}");
        let url = "http://127.0.0.1:8080/";
        self.cluster
            .curl(&["--max-time", "30", "-H", &host, url])
            .stdout
    }

    /// Everything that a Function answers, asked often enough.
    fn answers(&self, function: &str) -> BTreeSet<String> {
        // By chance, one of two halves is not seen once in 2^39 times.
        (0..40).map(|_| ask(&self.cluster, function).1).collect()
    }
}

fn all(answers: &[&str]) -> BTreeSet<String> {
    answers.iter().map(|answer| format!("{answer}\n")).collect()
}

#[test]
fn a_revision_stays_what_it_was_and_traffic_goes_where_it_is_sent() {
    let mut bench = Bench::start();
    bench.push_greeting("Hello");
    apply(
        &bench.cluster,
        &[function(
            "greet",
            &json!({"image": IMAGE, "scale": {"max": 4, "idleSeconds": 1}}),
        )],
    );
    is_ready(&bench.cluster, "greet");
    until(&bench.cluster, "greet", "200", "Hello from greet-00001");
    let digest = field(
        &bench.cluster,
        "functionrevision",
        "greet-00001",
        ".status.digest",
    );
    assert!(digest.starts_with("sha256:"), "{digest}");
    let wide = bench
        .cluster
        .kubectl(&["get", "fnrev", "greet-00001", "-o", "wide"])
        .ok();
    assert!(wide.contains(&digest) && wide.contains(IMAGE), "{wide}");

    // The tag moves, and the node starts anew: the revision is what it was. The next one is what the tag means then.
    bench.push_greeting("Howdy");
    bench.cluster.kill();
    bench.cluster.up();
    until(&bench.cluster, "greet", "200", "Hello from greet-00001");
    let cluster = &bench.cluster;
    patch(cluster, "greet", &json!({"timeoutSeconds": 7}));
    serves(cluster, "greet", "greet-00002");
    until(cluster, "greet", "200", "Howdy from greet-00002");
    let changed = json!({"status": {"digest": "sha256:0"}}).to_string();
    let change = [
        "patch",
        "fnrev",
        "greet-00002",
        "--subresource=status",
        "--type=merge",
        "-p",
        &changed,
    ];
    let refused = cluster.kubectl(&change).fails();
    assert!(
        refused.contains("status.digest: Invalid value"),
        "{refused}"
    );

    // By shares, by tag, and back.
    let shares = json!({"traffic": [
        {"revision": "greet-00001", "percent": 50},
        {"percent": 50},
        {"revision": "greet-00001", "tag": "old"},
    ]});
    patch(cluster, "greet", &shares);
    serves(cluster, "greet", "greet-00001 greet-00002 greet-00001");
    e2e::eventually(SOON, || {
        let both = all(&["Hello from greet-00001", "Howdy from greet-00002"]);
        let answers = bench.answers("greet");
        if answers == both {
            Ok(())
        } else {
            Err(format!("{answers:?}"))
        }
    });
    let tagged = bench.ask_host("old---greet.default.localhost");
    assert_eq!(tagged, "Hello from greet-00001\n");
    let back = json!({"traffic": [{"revision": "greet-00001", "percent": 100}]});
    patch(cluster, "greet", &back);
    serves(cluster, "greet", "greet-00001");
    e2e::eventually(SOON, || {
        let answers = bench.answers("greet");
        let only = answers == all(&["Hello from greet-00001"]);
        if only {
            Ok(())
        } else {
            Err(format!("{answers:?}"))
        }
    });
    patch(cluster, "greet", &json!({"traffic": null}));
    serves(cluster, "greet", "greet-00002");

    one_that_does_not_come_takes_nothing_over(&bench);
    routes_have_one_owner(&bench);
    quotas_hold(&bench);
}

fn one_that_does_not_come_takes_nothing_over(bench: &Bench) {
    let cluster = &bench.cluster;
    let absent = json!({"image": "127.0.0.1:5001/greet:absent", "progressDeadlineSeconds": 3});
    patch(cluster, "greet", &absent);
    let path = r#".status.conditions[?(@.type=="Ready")]"#;
    let (status, message) = (format!("{path}.status"), format!("{path}.message"));
    has(cluster, "function", "greet", &status, |status| {
        status == "False"
    });
    has(cluster, "function", "greet", &message, |message| {
        message.contains("greet:absent") && message.contains("requests still go to greet-00002")
    });
    let table = cluster.kubectl(&["get", "fn", "greet"]).ok();
    assert!(
        table.contains("False") && table.contains("ImagePull"),
        "{table}"
    );
    assert_eq!(
        ask(cluster, "greet"),
        ("200".to_owned(), "Howdy from greet-00002\n".to_owned())
    );
    patch(cluster, "greet", &json!({"image": IMAGE}));
    is_ready(cluster, "greet");
}

fn routes_have_one_owner(bench: &Bench) {
    let cluster = &bench.cluster;
    let routes = json!([{"host": "greet.example.com", "path": "/a"}]);
    patch(cluster, "greet", &json!({ "routes": routes }));
    let second = function("second", &json!({"image": IMAGE, "routes": routes}));
    let manifest = cluster.manifest("second.json", &second.to_string());
    let refused = cluster.kubectl(&["apply", "-f", &manifest]).fails();
    assert!(
        refused.contains("is already a route of Function default/greet"),
        "{refused}"
    );
}

fn quotas_hold(bench: &Bench) {
    let cluster = &bench.cluster;
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"limits.memory": "1Gi"}},
    });
    let with = |max: u32| {
        json!({
            "image": IMAGE,
            "scale": {"max": max},
            "resources": {"limits": {"memory": "64Mi"}},
        })
    };
    cluster.kubectl(&["delete", "function", "greet"]).ok();
    apply(cluster, &[quota, function("poor", &with(8))]);
    is_ready(cluster, "poor");
    let path = r#".status.used.limits\.memory"#;
    has(cluster, "resourcequota", "small", path, |used| {
        used == "512Mi"
    });
    patch(cluster, "poor", &with(100));
    let path = r#".status.conditions[?(@.type=="Ready")].message"#;
    has(cluster, "function", "poor", path, |message| {
        message.contains("exceeded quota: small")
            && message.contains("requests still go to poor-00001")
    });
    assert_eq!(ask(cluster, "poor").0, "200");
    patch(cluster, "poor", &with(7));
    is_ready(cluster, "poor");
}
