//! Functions whose images are containers: started by their first request, scaled by load, rolled and drained without a
//! request that fails, streaming both ways; called by pods of both kinds by name, and by the clock.

use std::time::Duration;

use e2e::{Image, eventually};
use serde_json::{Value, json};

use super::{Bench, ROOT, SOON, apply, field, function, has, is_ready, patch, serves};

const PYTHON: &str = "127.0.0.1:5001/python:1";
const BUSYBOX: &str = "127.0.0.1:5001/busybox:1";
const SERVER: &str = include_str!("server.py");
const LOAD: &str = include_str!("load.py");
const WEBSOCKET: &str = include_str!("websocket.py");
const URL: &str = "http://web.default.svc.cluster.local";

fn server(scale: &Value, version: &str) -> Value {
    json!({
        "image": PYTHON,
        "command": ["python3", "-u", "-c", SERVER],
        "env": [{"name": "VERSION", "value": version}],
        "port": 8080,
        "concurrency": 2,
        "scale": scale,
        "timeoutSeconds": 15,
    })
}

/// A pod that waits to be told what to do.
fn idle_pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "command": ["sleep", "100000"]}],
        },
    })
}

impl Bench {
    /// What a command in a pod prints.
    #[track_caller]
    fn exec(&self, pod: &str, command: &[&str]) -> String {
        let exec = [&["exec", pod, "--"][..], command].concat();
        self.cluster.kubectl(&exec).ok()
    }

    /// The pods of a revision that are not about to go: all, and those that are ready.
    fn pods(&self, revision: &str) -> (usize, usize) {
        let label = format!("functions.wk.dev/revision={revision}");
        let list = self
            .cluster
            .kubectl(&["get", "pods", "-l", &label, "-o", "json"]);
        let list: Value = serde_json::from_str(&list.ok()).expect("it is JSON");
        let pods = list["items"].as_array().into_iter().flatten();
        let here: Vec<&Value> = pods
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect();
        let is_ready = |pod: &&&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        (here.len(), here.iter().filter(is_ready).count())
    }

    #[track_caller]
    fn has_pods(&self, revision: &str, wanted: impl Fn((usize, usize)) -> bool) {
        eventually(SOON, || {
            let pods = self.pods(revision);
            if wanted(pods) {
                return Ok(());
            }
            let all = self
                .cluster
                .kubectl(&["get", "fn,fnrev,rs,pods", "-o", "wide"]);
            Err(format!("{revision} has {pods:?}\n{}", all.stdout))
        });
    }
}

#[test]
fn a_container_follows_its_requests_and_loses_none() {
    let bench = Bench::start();
    let cluster = &bench.cluster;
    bench.registry.push("python", &Image::python());
    bench.registry.push("busybox", &Image::busybox());
    let scale = json!({"min": 0, "max": 3, "targetConcurrency": 1, "idleSeconds": 2});
    apply(
        cluster,
        &[
            function("web", &server(&scale, "one")),
            idle_pod("client", PYTHON),
        ],
    );
    is_ready(cluster, "web");
    let digest = field(cluster, "functionrevision", "web-00001", ".status.digest");
    let image = field(
        cluster,
        "replicaset",
        "web-00001",
        ".spec.template.spec.containers[0].image",
    );
    assert_eq!(image, format!("127.0.0.1:5001/python@{digest}"));
    let until = [
        "wait",
        "pod/client",
        "--for=condition=Ready",
        "--timeout=90s",
    ];
    cluster.kubectl(&until).ok();

    // Nobody asks: there is no pod. The tag means something else by now; that is nothing to this revision.
    bench.has_pods("web-00001", |pods| pods == (0, 0));
    bench.registry.push("python", &Image::busybox());
    for url in [format!("{URL}/"), "http://web/".to_owned()] {
        let said = bench.exec("client", &["wget", "-qO-", &url]);
        assert!(said.starts_with("one web-00001-"), "{said}");
    }
    let fetch = format!("{ROOT}/runtimes/wasm/tests/fixtures/fetch.wat");
    let component = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "fetch"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "main",
            "image": format!("file://{fetch}"),
            "env": [{"name": "UPSTREAM", "value": "web.default.svc.cluster.local:80"}],
        }]},
    });
    apply(cluster, &[component]);
    has(cluster, "pod", "fetch", ".status.phase", |phase| {
        phase == "Succeeded"
    });
    let said = cluster.kubectl(&["logs", "fetch"]).ok();
    assert!(said.starts_with("one web-00001-"), "{said}");

    // Both ways at once, and piece by piece.
    let said = bench.exec("client", &["python3", "-c", WEBSOCKET, "web", "ping"]);
    assert_eq!(said.trim(), "101 ping");
    let said = bench.exec("client", &["python3", "-c", LOAD, "pieces", URL]);
    assert_eq!(said.trim(), "first, and later second");

    // As many pods as the load asks for; another revision in their place; and none. No request fails.
    let asked = ["python3", "-c", LOAD, "load", URL, "8"];
    std::thread::scope(|scope| {
        let load = scope.spawn(|| bench.exec("client", &asked));
        bench.has_pods("web-00001", |(_, ready)| ready == 3);
        let broken = json!({"image": BUSYBOX, "command": ["false"], "progressDeadlineSeconds": 5});
        // One that does not get ready takes nothing over, and says why.
        patch(cluster, "web", &broken);
        let path = r#".status.conditions[?(@.type=="Ready")].message"#;
        has(cluster, "function", "web", path, |message| {
            message.contains("last exit code 1")
                && message.contains("requests still go to web-00001")
        });
        // The good image again, whose tag has to be it again too.
        bench.registry.push("python", &Image::python());
        let mut good = server(&scale, "two");
        good["progressDeadlineSeconds"] = Value::Null;
        patch(cluster, "web", &good);
        serves(cluster, "web", "web-00003");
        bench.has_pods("web-00001", |pods| pods == (0, 0));
        bench.has_pods("web-00003", |(_, ready)| ready == 3);
        bench.exec("client", &["touch", "/tmp/stop"]);
        let said = load.join().expect("the load ends");
        eprintln!("{said}");
        let said: Value = serde_json::from_str(&said).expect("it is JSON");
        assert_eq!(said["failed"], json!([]), "{said}");
        assert_eq!(said["versions"], json!(["one", "two"]), "{said}");
        assert!(said["most_pods"].as_u64() >= Some(3), "{said}");
    });
    bench.has_pods("web-00003", |pods| pods == (0, 0));
}

#[test]
fn the_clock_calls_at_least_once_and_what_fails_is_sent_elsewhere() {
    let bench = Bench::start();
    let cluster = &bench.cluster;
    bench.registry.push("python", &Image::python());
    let cron = |path: &str| json!({"schedule": "@every 1s", "path": path, "body": "{}"});
    let mut spec = server(&json!({"max": 1}), "one");
    spec["triggers"] = json!([
        {"name": "tick", "cron": cron("/tick")},
        {"name": "flaky", "cron": cron("/flaky")},
        {"name": "gone", "cron": cron("/gone"), "deadLetter": {"function": "letters", "path": "/dead"}},
    ]);
    let letters = server(&json!({"max": 1}), "one");
    apply(
        cluster,
        &[function("worker", &spec), function("letters", &letters)],
    );
    is_ready(cluster, "worker");
    is_ready(cluster, "letters");
    let uid = field(cluster, "function", "worker", ".metadata.uid");
    let posts = |function: &str, path: &str| {
        let label = format!("functions.wk.dev/function={function}");
        let said = cluster.kubectl(&["logs", "-l", &label, "--tail=-1"]).stdout;
        let lines = said.lines().filter_map(|line| {
            let post: Value = serde_json::from_str(line).ok()?;
            (post["path"] == path).then_some(post)
        });
        lines.collect::<Vec<_>>()
    };
    let first = |function: &str, path: &str, least: usize| {
        eventually(SOON, || {
            let posts = posts(function, path);
            if posts.len() >= least {
                return Ok(posts);
            }
            let described = cluster.kubectl(&["describe", "function", "worker"]).stdout;
            Err(format!("{path}: {posts:?}\n{described}"))
        })
    };
    let tick = &first("worker", "/tick", 2);
    let key = |post: &Value| {
        post["headers"]["idempotency-key"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        key(&tick[0]).starts_with(&format!("\"{uid}/tick/")),
        "{tick:?}"
    );
    assert_ne!(key(&tick[0]), key(&tick[1]));
    assert_eq!(tick[0]["headers"]["wk-trigger"], "tick");

    // It refused twice, and was asked the same again, each time later than before.
    let flaky = first("worker", "/flaky", 3);
    assert_eq!(key(&flaky[0]), key(&flaky[1]));
    assert_eq!(key(&flaky[1]), key(&flaky[2]));
    let at = |post: &Value| Duration::from_secs_f64(post["at"].as_f64().unwrap_or_default());
    // The waits are a second and two, less up to half.
    assert!(
        at(&flaky[1]) - at(&flaky[0]) >= Duration::from_millis(400),
        "{flaky:?}"
    );
    assert!(
        at(&flaky[2]) - at(&flaky[1]) >= Duration::from_millis(900),
        "{flaky:?}"
    );

    let gone = first("worker", "/gone", 1);
    let dead = first("letters", "/dead", 1);
    assert_eq!(key(&gone[0]), key(&dead[0]));
    let headers = &dead[0]["headers"];
    assert_eq!(headers["wk-failed-function"], "default/worker");
    assert_eq!(headers["wk-failure"], "HTTP 410");
    assert_eq!(dead[0]["body"], "{}");
    let events = eventually(SOON, || {
        let events = cluster
            .kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"])
            .ok();
        let told = events.contains("HTTP 410; Function default/letters took it");
        if told { Ok(events) } else { Err(events) }
    });
    assert!(
        events.contains("Trigger gone gave up its request for "),
        "{events}"
    );
    let path = r#".status.triggers[?(@.name=="gone")].failed"#;
    has(cluster, "function", "worker", path, |failed| {
        !failed.is_empty()
    });
    let path = r#".status.triggers[?(@.name=="tick")].lastSuccessfulTime"#;
    has(cluster, "function", "worker", path, |time| !time.is_empty());
}
