//! How the API is asked: bodies as text, many at once, answers unread where nobody looks at them.

use std::{
    fmt::Debug,
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use hyper::{Method, Request};
use kube::{
    Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

/// Requests under way at once.
const AT_ONCE: usize = 64;
/// How often one that the server has no room for is sent.
const TRIES: usize = 100;
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The administrator's way into the API.
#[derive(Clone)]
pub(super) struct Client(pub(super) kube::Client);

impl Client {
    pub(super) async fn new(kubeconfig: &Path) -> Client {
        // There may be one already: the process' own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await;
        let config = config.expect("it is complete");
        Client(kube::Client::try_from(config).expect("a client"))
    }

    /// Sends one request; refusals are answers.
    pub(super) async fn send(&self, method: Method, path: &str, body: String) -> (u16, String) {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(Body::from(body.into_bytes()))
            .expect("a request");
        let answer = self.0.send(request).await.expect("the API answers");
        let code = answer.status().as_u16();
        let body = answer.into_body().collect_bytes().await;
        let text = String::from_utf8_lossy(&body.expect("the answer ends")).into_owned();
        (code, text)
    }

    /// Sends one request that must succeed; again when the server says that it has too many.
    pub(super) async fn write(&self, method: Method, path: &str, body: String) {
        for _ in 0..TRIES {
            match self.send(method.clone(), path, body.clone()).await {
                (429, _) => tokio::time::sleep(LOOK).await,
                (200..300, _) => return,
                (code, answer) => panic!("{method} {path}: {code} {answer}"),
            }
        }
        panic!("{method} {path}: the server has too many requests");
    }

    /// Creates objects, many at once.
    pub(super) async fn create_all(&self, path: &str, bodies: impl Iterator<Item = String>) {
        stream::iter(bodies)
            .for_each_concurrent(AT_ONCE, |body| self.write(Method::POST, path, body))
            .await;
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let (code, text) = self.send(Method::GET, path, String::new()).await;
        assert_eq!(code, 200, "GET {path}: {text}");
        serde_json::from_str(&text).expect("the answer is JSON")
    }

    pub(super) async fn list(&self, path: &str) -> Vec<Value> {
        match self.get(path).await["items"].take() {
            Value::Array(items) => items,
            other => panic!("{path}: {other}"),
        }
    }

    /// What `/metrics` says.
    pub(super) async fn metrics(&self) -> String {
        self.send(Method::GET, "/metrics", String::new()).await.1
    }

    /// Looks until what is waited for is there; says what was last seen when it takes too long.
    pub(super) async fn until<S: Debug>(
        &self,
        deadline: Duration,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<(), S>,
    ) {
        let end = Instant::now() + deadline;
        while let Err(seen) = look().await {
            assert!(Instant::now() < end, "{what}: {seen:?} after {deadline:?}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether a Node or a Pod is Ready.
pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}
