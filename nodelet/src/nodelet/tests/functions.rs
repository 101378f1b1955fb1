//! Functions: deployed, opened by requests, closed, what is kept and told of them.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use http::Response;
use http_body_util::Full;
use runtimes::{
    Body as StreamBody, ContainerSpec, RevisionRef, RuntimeError, ServeError, ServeOptions,
    ServeUsage, Served,
};
use tokio::sync::Semaphore;

use super::*;

/// Answers each request with a component's environment.
#[derive(Default)]
struct FakeServe {
    opened: Mutex<Vec<(ContainerSpec, ServeOptions)>>,
    closed: Arc<AtomicU64>,
    refused: Mutex<Option<String>>,
    /// Openings wait for a permit, if there is one to wait for.
    gate: Mutex<Option<Arc<Semaphore>>>,
}

struct FakeServed {
    spec: ContainerSpec,
    requests: AtomicU64,
    closed: Arc<AtomicU64>,
}

#[async_trait]
impl Serve for FakeServe {
    async fn open(
        &self,
        spec: ContainerSpec,
        options: ServeOptions,
    ) -> Result<Arc<dyn Served>, RuntimeError> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        if let Some(message) = self.refused.lock().unwrap().take() {
            return Err(RuntimeError::Invalid(message));
        }
        self.opened.lock().unwrap().push((spec.clone(), options));
        Ok(Arc::new(FakeServed {
            spec,
            requests: AtomicU64::new(0),
            closed: self.closed.clone(),
        }))
    }
}

#[async_trait]
impl Served for FakeServed {
    async fn serve(&self, _: Request<StreamBody>) -> Result<Response<StreamBody>, ServeError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        std::fs::write(&self.spec.log, "2026-01-01T00:00:00Z stdout F served\n").unwrap();
        let env = self
            .spec
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"));
        let body = Full::new(env.collect::<String>().into());
        Ok(Response::new(StreamBody::new(
            body.map_err(|never| match never {}),
        )))
    }

    fn usage(&self) -> ServeUsage {
        let requests = self.requests.load(Ordering::Relaxed);
        ServeUsage {
            requests,
            cpu: Duration::from_millis(requests),
            egress_bytes: 10 * requests,
            ..ServeUsage::default()
        }
    }

    async fn close(&self, _: bool) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Node {
    bench: Bench,
    serve: Arc<FakeServe>,
    running: Running,
    invoke: Arc<dyn Invoke>,
}

impl Node {
    fn new() -> Node {
        Node::on(Bench::new())
    }

    fn on(bench: Bench) -> Node {
        bench.runtime.script("img", Script::serves());
        let serve = Arc::new(FakeServe::default());
        let (mut nodelet, handle) = bench.make(|_| {});
        let invoke = nodelet.serve_functions(serve.clone());
        Node {
            running: Bench::start(nodelet, handle),
            bench,
            serve,
            invoke,
        }
    }

    fn revision(&self, name: &str, spec: Value) {
        let mut all = json!({ "image": "img" });
        for (name, value) in spec.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        self.bench.api.create(
            "functionrevisions",
            json!({
                "apiVersion": "functions.wk.dev/v1", "kind": "FunctionRevision",
                "metadata": {"namespace": "ns", "name": name, "labels": {"functions.wk.dev/function": "hello"}},
                "spec": all,
            }),
        );
    }

    /// This node's entry, once it is so.
    async fn entry(&self, name: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let find = |api: &FakeApi| {
            let entry = api.get("functionrevisions", "ns", name)?["status"]["nodes"][0].clone();
            seen(&entry).then_some(entry)
        };
        self.bench
            .api
            .wait(&format!("the entry of {name}"), find)
            .await
    }

    async fn deploy(&self, name: &str, spec: Value) {
        self.revision(name, spec);
        self.hold(name).await;
    }

    /// Holds a revision to what its image means to this node, as the controller does.
    async fn hold(&self, name: &str) {
        let entry = self.entry(name, |entry| entry["ready"] == true).await;
        let edit = |revision: &mut Value| {
            revision["status"]["digest"] = entry["resolved"].clone();
        };
        self.bench.api.edit("functionrevisions", "ns", name, edit);
    }

    async fn ask(&self, name: &str) -> Result<String, ServeError> {
        let revision = RevisionRef {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        };
        let body = Full::new(bytes::Bytes::new()).map_err(|never| match never {});
        let request = Request::get("/").body(StreamBody::new(body)).unwrap();
        let response = self.invoke.invoke(&revision, request).await?;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok(String::from_utf8(body.into()).unwrap())
    }

    fn opened(&self) -> usize {
        self.serve.opened.lock().unwrap().len()
    }

    async fn until(&self, what: &str, is: impl Fn(&Node) -> bool) {
        let wait = async {
            while !is(self) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(600), wait).await;
        assert!(done.is_ok(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revision_is_made_ready_when_it_comes_and_opened_by_its_first_request() {
    let node = Node::new();
    node.bench.api.create(
        "secrets",
        json!({"metadata": {"namespace": "ns", "name": "s"}, "data": {"key": "b25l"}}),
    );
    let env = json!([
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['team']"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
    ]);
    let spec = json!({
        "env": env,
        "labels": {"team": "red"},
        "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
        "scale": {"min": 0, "max": 7, "idleSeconds": 30},
        "timeoutSeconds": 5,
        "isolation": "pooled",
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
        "volumeMounts": [{"name": "v", "mountPath": "/secret"}],
    });
    node.deploy("hello-1", spec).await;
    let entry = node.entry("hello-1", |_| true).await;
    assert_eq!(entry["name"], "n1");
    assert_eq!(entry["runtime"], "wasm");
    assert_eq!(entry["digest"], FakeImages::image("img").digest);
    assert_eq!(node.opened(), 0);
    assert!(node.bench.network.held().is_empty());

    let said = node.ask("hello-1").await.unwrap();
    let want = "HOSTNAME=hello-1\nKEY=one\nIP=10.64.0.1\nLABEL=red\nMEMORY=67108864\n";
    assert_eq!(said, want);
    let (spec, options) = node.serve.opened.lock().unwrap()[0].clone();
    assert_eq!((options.max, options.pooled), (7, true));
    assert_eq!(options.timeout, Duration::from_secs(5));
    assert_eq!(options.idle, Duration::from_secs(30));
    assert_eq!(spec.limits.memory_bytes, Some(64 << 20));
    assert_eq!(spec.limits.cpu_millis, Some(500));
    let secret = std::fs::read(spec.mounts[0].source.join("key")).unwrap();
    assert_eq!(secret, b"one");
    let labels = node.bench.network.declared(&spec.pod.uid).unwrap();
    assert_eq!(labels["functions.wk.dev/function"], "hello");
    assert_eq!(labels["functions.wk.dev/revision"], "hello-1");
    assert_eq!(labels["team"], "red");

    // Nobody asks: everything is given back, and the next opening sees what changed.
    node.until("it is closed", |node| node.bench.network.held().is_empty())
        .await;
    assert_eq!(node.serve.closed.load(Ordering::Relaxed), 1);
    assert!(!spec.mounts[0].source.exists());
    let two = json!({"data": {"key": "dHdv"}});
    node.bench.api.edit("secrets", "ns", "s", |secret| {
        secret["data"] = two["data"].clone();
    });
    let said = node.ask("hello-1").await.unwrap();
    assert!(said.contains("KEY=two\n"), "{said}");
    node.running.stop().await;
    assert_eq!(node.serve.closed.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn first_requests_that_come_together_share_one_opening() {
    let node = Node::new();
    node.deploy("hello-1", json!({})).await;
    let gate = Arc::new(Semaphore::new(0));
    *node.serve.gate.lock().unwrap() = Some(gate.clone());
    let asks = futures::future::join_all((0..20).map(|_| node.ask("hello-1")));
    let open = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        gate.add_permits(20);
    };
    let (answers, ()) = tokio::join!(asks, open);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(node.opened(), 1);
    node.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_revision_from_opening_is_told_and_tried_again() {
    let node = Node::new();
    let env = json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    node.deploy("hello-1", json!({ "env": env })).await;
    let error = node.ask("hello-1").await.unwrap_err();
    let want = "CreateContainerConfigError: configmap \"c\" not found";
    assert_eq!(error.to_string(), want);
    assert!(matches!(error, ServeError::Unavailable(_)));
    let event = node.bench.event("Failed").await;
    assert_eq!(event["involvedObject"]["kind"], "FunctionRevision");
    assert_eq!(event["involvedObject"]["apiVersion"], "functions.wk.dev/v1");
    assert_eq!(event["involvedObject"]["uid"], "hello-1-uid");
    node.bench.api.create(
        "configmaps",
        json!({"metadata": {"namespace": "ns", "name": "c"}, "data": {"k": "v"}}),
    );
    // A failure stands for a moment, so that a flood of requests is no flood of openings.
    assert!(node.ask("hello-1").await.is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    *node.serve.refused.lock().unwrap() = Some("no".to_owned());
    assert_eq!(node.ask("hello-1").await.unwrap_err().to_string(), "no");
    node.until("it is given back", |node| {
        node.bench.network.held().is_empty()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(node.ask("hello-1").await.unwrap().contains("K=v\n"));
    node.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_come_is_said_in_the_words_of_pods() {
    let node = Node::new();
    node.bench.images.refuse("gone", "not found");
    node.revision("hello-1", json!({"image": "gone"}));
    let entry = node
        .entry("hello-1", |entry| entry["reason"] == "ErrImagePull")
        .await;
    assert_eq!(entry["ready"], false);
    let entry = node
        .entry("hello-1", |entry| entry["reason"] == "ImagePullBackOff")
        .await;
    let message = entry["message"].as_str().unwrap();
    assert!(
        message.starts_with("Back-off pulling image \"gone\": ErrImagePull: "),
        "{message}"
    );
    let error = node.ask("hello-1").await.unwrap_err();
    assert!(
        error.to_string().starts_with("ImagePullBackOff: "),
        "{error}"
    );
    node.bench.images.allow("gone");
    node.bench.runtime.script("gone", Script::serves());
    node.hold("hello-1").await;
    assert!(node.ask("hello-1").await.is_ok());

    node.bench.runtime.script("program", Script::runs());
    node.revision("program-1", json!({"image": "program"}));
    let entry = node
        .entry("program-1", |entry| entry["ready"] == false)
        .await;
    assert_eq!(entry["reason"], "CreateContainerError");
    let error = node.ask("nobody-1").await.unwrap_err();
    assert!(matches!(error, ServeError::Unknown(_)), "{error}");
    node.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_of_a_container_is_ready_once_it_is_here_and_answers_nothing() {
    let node = Node::new();
    node.bench.images.contain("web");
    node.deploy("web-1", json!({"image": "web"})).await;
    let entry = node.entry("web-1", |_| true).await;
    assert_eq!(entry["runtime"], "oci");
    let error = node.ask("web-1").await.unwrap_err();
    assert!(matches!(error, ServeError::Unknown(_)), "{error}");
    node.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_with_a_least_scale_is_open_without_being_asked_for() {
    let node = Node::new();
    node.deploy(
        "hello-1",
        json!({"scale": {"min": 1, "max": 2, "idleSeconds": 1}}),
    )
    .await;
    node.until("it is open", |node| node.opened() == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.serve.closed.load(Ordering::Relaxed), 0);
    node.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_is_what_it_is_held_to_whatever_its_tag_means() {
    let node = Node::new();
    // Another node was first, and the tag has moved since.
    node.bench.runtime.script("img:1", Script::serves());
    node.revision("hello-1", json!({"image": "img:1"}));
    let found = node.entry("hello-1", |entry| entry["ready"] == true).await;
    assert_eq!(found["resolved"], FakeImages::image("img:1").digest);
    let ask = node.ask("hello-1");
    let hold = async {
        // Nothing is served until it is known what.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(node.opened(), 0);
        node.bench
            .runtime
            .script("img@sha256:first", Script::serves());
        let edit = |revision: &mut Value| revision["status"]["digest"] = "sha256:first".into();
        node.bench
            .api
            .edit("functionrevisions", "ns", "hello-1", edit);
    };
    let (answer, ()) = tokio::join!(ask, hold);
    answer.unwrap();
    let runs = node.serve.opened.lock().unwrap()[0].0.image.digest.clone();
    assert_eq!(runs, FakeImages::image("img@sha256:first").digest);
    let said = |entry: &Value| entry["resolved"] == "sha256:first" && entry["digest"] == *runs;
    node.entry("hello-1", said).await;
    node.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_revision_is_closed_and_its_log_goes_with_it() {
    let node = Node::new();
    node.deploy("hello-1", json!({})).await;
    node.ask("hello-1").await.unwrap();
    let handle = node.running.handle.clone();
    let (code, text) = get(&handle, "/functionLogs/ns/hello-1").await;
    assert_eq!((code, text.as_str()), (200, "served\n"));
    let log = node.serve.opened.lock().unwrap()[0].0.log.clone();
    assert!(log.exists());
    node.bench
        .api
        .delete("functionrevisions", "ns", "hello-1", 0);
    node.until("it is closed", |node| {
        node.bench.network.held().is_empty() && !log.exists()
    })
    .await;
    assert!(matches!(
        node.ask("hello-1").await,
        Err(ServeError::Unknown(_))
    ));
    assert_eq!(get(&handle, "/functionLogs/ns/hello-1").await.0, 404);
    node.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_nothing_is_pulled_or_said_again_and_no_sum_is_lost() {
    let node = Node::new();
    node.deploy("hello-1", json!({})).await;
    node.ask("hello-1").await.unwrap();
    node.ask("hello-1").await.unwrap();
    let (_, usage) = get(&node.running.handle, "/functionUsage").await;
    let usage: Value = serde_json::from_str(&usage).unwrap();
    assert_eq!(usage["items"][0]["requests"], 2);
    assert_eq!(usage["items"][0]["function"], "hello");
    let (_, metrics) = get(&node.running.handle, "/metrics").await;
    let labels = r#"{namespace="ns",function="hello",revision="hello-1"}"#;
    let line = format!("wk_function_egress_bytes_total{labels} 20");
    assert!(
        metrics.lines().any(|one| one.starts_with(&line)),
        "{metrics}"
    );
    let (pulls, writes) = (
        node.bench.images.pulls().len(),
        node.bench.api.patches("functionrevisions", "hello-1"),
    );
    node.running.stop().await;

    let node = Node::on(node.bench);
    node.until("it is known again", |_| true).await;
    let wait = async {
        while node.ask("hello-1").await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap();
    assert_eq!(node.bench.images.pulls().len(), pulls);
    assert_eq!(
        node.bench.api.patches("functionrevisions", "hello-1"),
        writes
    );
    let (_, usage) = get(&node.running.handle, "/functionUsage").await;
    let usage: Value = serde_json::from_str(&usage).unwrap();
    assert_eq!(usage["items"][0]["requests"], 3);
    assert_eq!(usage["items"][0]["cpuNanoseconds"], 3_000_000);
    node.running.stop().await;
}
