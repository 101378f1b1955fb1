//! Bodies in protobuf: by hand, and as the real kubectl sends them (skipped, saying so, where there
//! is no kubectl that does).

use std::{
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Request, middleware};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    process::Command,
    task::JoinSet,
    time::{Duration, timeout},
};

use crate::harness::{Cluster, DEPLOYMENTS, MAPS, PODS, Reply, TOKEN};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A field of text, or of other fields; shorter than 128 bytes, so it is text as well.
fn part(number: u8, content: &str) -> String {
    let length = u8::try_from(content.len()).expect("a short field");
    assert!(length < 128, "{content}");
    let mut part = String::from(char::from(number << 3 | 2));
    part.push(char::from(length));
    part + content
}

/// A field with a number below 128.
fn number(field: u8, value: u8) -> String {
    String::from_iter([char::from(field << 3), char::from(value)])
}

fn body(version: &str, kind: &str, raw: &str) -> String {
    let identity = part(1, version) + &part(2, kind);
    format!("k8s\0{}{}", part(1, &identity), part(2, raw))
}

async fn send(cluster: &Cluster, line: &str, body: &str) -> Reply {
    cluster
        .send_with(line, body, &[("content-type", PROTOBUF)])
        .await
}

#[tokio::test]
async fn creates_updates_and_deletes_are_read() {
    let cluster = Cluster::start().await;
    let map = |value: &str| {
        let metadata = part(1, &part(1, "a"));
        let entry = part(2, &(part(1, "k") + &part(2, value)));
        body("v1", "ConfigMap", &(metadata + &entry))
    };
    let created = send(&cluster, &format!("POST {MAPS}"), &map("1")).await;
    assert_eq!(created.code, 201, "{}", created.text);
    assert_eq!(created.json()["data"], json!({"k": "1"}));
    let line = format!("{MAPS}/a");
    let updated = send(&cluster, &format!("PUT {line}"), &map("2")).await;
    assert_eq!(updated.json()["data"], json!({"k": "2"}));
    let precondition = part(2, &part(1, "another"));
    let options = body("v1", "DeleteOptions", &precondition);
    let refused = send(&cluster, &format!("DELETE {line}"), &options).await;
    assert_eq!(refused.code, 409, "{}", refused.text);
    let options = body("v1", "DeleteOptions", &part(5, "All"));
    let tried = send(&cluster, &format!("DELETE {line}"), &options).await;
    assert_eq!(tried.code, 200, "{}", tried.text);
    let options = body("v1", "DeleteOptions", &part(4, "Background"));
    let deleted = send(&cluster, &format!("DELETE {line}"), &options).await;
    assert_eq!(deleted.code, 200, "{}", deleted.text);
    assert_eq!(cluster.send(&format!("GET {line}"), "").await.code, 404);
}

#[tokio::test]
async fn scales_and_bindings_are_read() {
    let cluster = Cluster::start().await;
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let mut pod = template.clone();
    pod["metadata"]["name"] = "p".into();
    cluster.ok(&format!("POST {PODS}"), &pod.to_string()).await;
    let web = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    let line = format!("POST {DEPLOYMENTS}");
    cluster.ok(&line, &web.to_string()).await;
    let scale = part(1, &part(1, "web")) + &part(2, &number(1, 3));
    let line = format!("PUT {DEPLOYMENTS}/web/scale");
    let scaled = send(&cluster, &line, &body("autoscaling/v1", "Scale", &scale)).await;
    assert_eq!(scaled.json()["spec"]["replicas"], 3, "{}", scaled.text);
    let binding = part(1, &part(1, "p")) + &part(2, &(part(1, "Node") + &part(3, "n")));
    let line = format!("POST {PODS}/p/binding");
    let bound = send(&cluster, &line, &body("v1", "Binding", &binding)).await;
    assert_eq!(bound.code, 201, "{}", bound.text);
    let pod = cluster.ok(&format!("GET {PODS}/p"), "").await;
    assert_eq!(pod["spec"]["nodeName"], "n");
}

#[tokio::test]
async fn what_cannot_be_read_is_a_bad_request() {
    let cluster = Cluster::start().await;
    let line = format!("POST {MAPS}");
    let failure = send(&cluster, &line, &body("v1", "ConfigMap", &number(1, 1))).await;
    assert_eq!(
        failure.failure(),
        "400 BadRequest: the object provided is unrecognized (must be of type application/vnd.kubernetes.protobuf): \
         core.v1.ConfigMap.metadata: is not written as bytes"
    );
    let failure = send(&cluster, &line, &body("v1", "Secret", "")).await;
    assert!(
        failure
            .failure()
            .starts_with("400 BadRequest: Secret in version"),
        "{}",
        failure.text
    );
    let failure = send(&cluster, &line, "{}").await;
    assert_eq!(failure.code, 400, "{}", failure.text);
    let line = "POST /api/v1/namespaces/nope/configmaps?dryRun=All&fieldManager=kubectl-create";
    let metadata = part(1, &part(1, "a"));
    let failure = send(&cluster, line, &body("v1", "ConfigMap", &metadata)).await;
    assert_eq!(
        failure.failure(),
        r#"404 NotFound: namespaces "nope" not found"#
    );
}

/// The kubectls that create in protobuf, if they are beside the one on PATH.
fn kubectls() -> Vec<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&paths)
        .filter_map(|directory| directory.join("kubectl").canonicalize().ok())
        .filter_map(|kubectl| kubectl.parent().map(Path::to_owned))
        .collect();
    let found = ["kubectl.1.32", "kubectl.1.33"]
        .into_iter()
        .filter_map(|name| {
            let mut paths = directories.iter().map(|directory| directory.join(name));
            paths.find(|path| path.is_file())
        });
    found.collect()
}

/// A cluster on a port, without TLS: kubectl then sends no credentials, so they are added here.
struct Listening {
    url: String,
    home: tempfile::TempDir,
    /// The content types of the bodies that came.
    seen: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Listening {
    async fn start(cluster: &Cluster) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        let admit = move |mut request: Request| {
            let headers = request.headers_mut();
            if let Some(kind) = headers.get(header::CONTENT_TYPE) {
                let kind = kind.to_str().expect("a media type").to_owned();
                notes.lock().expect("a lock").push(kind);
            }
            let token = HeaderValue::from_str(&format!("Bearer {TOKEN}")).expect("a header");
            headers.insert(header::AUTHORIZATION, token);
            std::future::ready(request)
        };
        let router = Router::new()
            .fallback_service(cluster.router.clone())
            .layer(middleware::map_request(admit));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, router).await.expect("a server");
        });
        Self {
            url,
            home: tempfile::tempdir().expect("a directory"),
            seen,
            _server: server,
        }
    }

    async fn kubectl(&self, program: &Path, arguments: &[&str]) -> Value {
        let run = Command::new(program)
            .args(["--server", &self.url, "--output=json"])
            .args(arguments)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("none"))
            .kill_on_drop(true)
            .output();
        let output: Output = timeout(Duration::from_secs(60), run)
            .await
            .expect("kubectl ends within a minute")
            .expect("kubectl runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).expect("kubectl prints JSON")
    }
}

/// An object without what differs from one to the next.
fn plain(mut object: Value) -> Value {
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        object["metadata"][field] = Value::Null;
    }
    let entries = object["metadata"]["managedFields"].as_array_mut();
    for entry in entries.into_iter().flatten() {
        entry["time"] = Value::Null;
    }
    for field in ["clusterIP", "clusterIPs"] {
        if !object["spec"][field].is_null() {
            object["spec"][field] = Value::Null;
        }
    }
    object
}

#[tokio::test]
async fn kubectl_creates_the_same_in_protobuf_as_in_json() {
    let kubectls = kubectls();
    if kubectls.is_empty() {
        eprintln!("skipped: there is neither kubectl.1.32 nor kubectl.1.33 beside kubectl");
    }
    for program in kubectls {
        let cluster = Cluster::start().await;
        let listening = Listening::start(&cluster).await;
        for (path, command) in [
            (MAPS, "configmap a --from-literal=k=v --from-literal=empty="),
            (
                "/api/v1/namespaces/default/secrets",
                "secret generic s --from-literal=p=x",
            ),
            (
                "/api/v1/namespaces/default/serviceaccounts",
                "serviceaccount robot",
            ),
            (
                "/api/v1/namespaces/default/services",
                "service clusterip web --tcp=80:8080",
            ),
            ("/api/v1/namespaces", "namespace shop"),
            (
                DEPLOYMENTS,
                "deployment web --image=i --replicas=2 --port=80",
            ),
        ] {
            let arguments: Vec<&str> = ["create"].into_iter().chain(command.split(' ')).collect();
            let dry = [&arguments[..], &["--dry-run=client"]].concat();
            let sent = listening.kubectl(&program, &dry).await;
            let line = format!("POST {path}?dryRun=All&fieldManager=kubectl-create");
            let by_json = cluster.ok(&line, &sent.to_string()).await;
            listening.seen.lock().expect("a lock").clear();
            listening.kubectl(&program, &arguments).await;
            let name = sent["metadata"]["name"].as_str().expect("a name");
            let by_protobuf = cluster.ok(&format!("GET {path}/{name}"), "").await;
            assert_eq!(plain(by_protobuf), plain(by_json), "{command}");
            let seen = listening.seen.lock().expect("a lock").clone();
            assert_eq!(seen, [PROTOBUF], "{} {command}", program.display());
        }
    }
}
