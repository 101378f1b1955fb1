//! The real kubectl against discovery and OpenAPI: what it lists, explains and, above all, what
//! patches it plans from the documents. Skipped, saying so, where there is no kubectl.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

use std::{
    process::Output,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{catalog::Catalog, discovery, kinds::Registry, openapi};
use axum::{Json, Router, body::Bytes};
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinSet};

/// A server of discovery, OpenAPI and one Deployment; remembers the last patch.
struct Server {
    url: String,
    patch: Arc<Mutex<Option<Value>>>,
    home: tempfile::TempDir,
    /// Aborted with the server.
    _tasks: JoinSet<()>,
}

impl Server {
    /// `None` if there is no kubectl to try it with.
    async fn start(deployment: Value) -> Option<Self> {
        if Command::new("kubectl")
            .arg("version")
            .arg("--client")
            .output()
            .await
            .is_err()
        {
            eprintln!("skipped: there is no kubectl on PATH");
            return None;
        }
        let catalog = Catalog::new(&Registry::builtin());
        let patch = Arc::new(Mutex::new(None));
        let seen = patch.clone();
        let object = async move |method: Method, uri: Uri, body: Bytes| {
            if uri.path() != "/apis/apps/v1/namespaces/default/deployments/web"
                || deployment.is_null()
            {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotFound", "code": 404, "message": "not found",
                });
                return (StatusCode::NOT_FOUND, Json(status));
            }
            if method == Method::PATCH {
                *seen.lock().unwrap() = serde_json::from_slice(&body).ok();
            }
            (StatusCode::OK, Json(deployment.clone()))
        };
        let router = Router::new()
            .merge(discovery::router(catalog.clone()))
            .merge(openapi::router(catalog))
            .fallback(object);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let home = tempfile::tempdir().unwrap();
        Some(Self {
            url,
            patch,
            home,
            _tasks: tasks,
        })
    }

    async fn kubectl(&self, arguments: &[&str]) -> Output {
        let run = Command::new("kubectl")
            .args(["--server", &self.url])
            .args(arguments)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("none"))
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(60), run).await;
        output.expect("kubectl ends within a minute").unwrap()
    }

    #[track_caller]
    fn text(output: Output) -> String {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn manifest(&self, value: &Value) -> String {
        let path = self.home.path().join("manifest.json");
        std::fs::write(&path, value.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn deployment(containers: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": containers },
            },
        },
    })
}

#[tokio::test]
async fn it_lists_every_kind() {
    let Some(server) = Server::start(Value::Null).await else {
        return;
    };
    let arguments = ["api-resources", "--no-headers", "-o", "name"];
    let listed = Server::text(server.kubectl(&arguments).await);
    let mut listed: Vec<_> = listed.lines().collect();
    let registry = Registry::builtin();
    let names = registry.all().iter().map(|kind| kind.names());
    let mut served: Vec<_> = names
        .map(|names| format!("{}.{}", names.plural, names.group))
        .map(|name| name.trim_end_matches('.').to_owned())
        .collect();
    served.sort();
    served.dedup();
    listed.sort_unstable();
    assert_eq!(listed, served);
}

#[tokio::test]
async fn it_explains_a_field() {
    let Some(server) = Server::start(Value::Null).await else {
        return;
    };
    let arguments = ["explain", "pod.spec.containers.ports"];
    let explained = Server::text(server.kubectl(&arguments).await);
    assert!(
        explained.contains("containerPort\t<integer> -required-"),
        "{explained}"
    );
    let arguments = ["explain", "deployment.spec.strategy"];
    let explained = Server::text(server.kubectl(&arguments).await);
    assert!(
        explained.contains("rollingUpdate\t<RollingUpdateDeployment>"),
        "{explained}"
    );
}

#[tokio::test]
async fn it_applies_without_a_server_by_the_documents_alone() {
    let Some(server) = Server::start(Value::Null).await else {
        return;
    };
    let manifest = server.manifest(&deployment(&json!([{ "name": "a", "image": "i" }])));
    let applied = server
        .kubectl(&["apply", "--dry-run=client", "-f", &manifest])
        .await;
    assert_eq!(
        Server::text(applied),
        "deployment.apps/web created (dry run)\n"
    );
}

#[tokio::test]
async fn its_patch_deletes_the_container_that_is_gone() {
    let before = deployment(&json!([
        { "name": "a", "image": "i:1", "ports": [{ "containerPort": 80 }] },
        { "name": "b", "image": "i:1" },
    ]));
    let mut live = before.clone();
    live["metadata"]["annotations"] =
        json!({ "kubectl.kubernetes.io/last-applied-configuration": before.to_string() });
    let Some(server) = Server::start(live).await else {
        return;
    };
    let after = deployment(&json!([
        { "name": "a", "image": "i:2", "ports": [{ "containerPort": 80 }] },
    ]));
    let manifest = server.manifest(&after);
    Server::text(server.kubectl(&["apply", "-f", &manifest]).await);
    let patch = server
        .patch
        .lock()
        .unwrap()
        .take()
        .expect("a patch was sent");
    expect_test::expect![[r#"{"template":{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"image":"i:2","name":"a"},{"$patch":"delete","name":"b"}]}}}"#]].assert_eq(&patch["spec"].to_string());
}
