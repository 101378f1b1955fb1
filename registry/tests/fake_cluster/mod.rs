//! A cluster of three users and two namespaces, and a client of the registry in it.
#![expect(dead_code, reason = "each test needs a part of it")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use registry::{
    Access, Action, Caller, Config, Registry, Repository, Scheme, Storage, Unavailable,
    metrics::RegistryMetrics,
};
use tower::ServiceExt as _;

/// `ann` may everything in `a` and pull from `b`, `bob` may pull from `a`, `pat` may push to `a` but not change tags.
pub(crate) struct Cluster {
    pub(crate) namespaces: Mutex<BTreeMap<String, String>>,
    pub(crate) quota: Mutex<Option<u64>>,
}

struct User(String);

impl Caller for User {
    fn name(&self) -> &str {
        &self.0
    }

    fn may(&self, action: Action, repository: &Repository) -> Result<(), String> {
        let namespace = repository.namespace();
        let may = match (self.0.as_str(), namespace) {
            ("ann", "a") => true,
            ("pat", "a") => matches!(action, Action::Pull | Action::Push),
            ("bob", "a") | ("ann", "b") => action == Action::Pull,
            ("ben", "b") => true,
            _ => false,
        };
        match may {
            true => Ok(()),
            false => Err(format!("{} cannot {} {repository}", self.0, action.verb())),
        }
    }
}

#[async_trait]
impl Access for Cluster {
    async fn identify(&self, _: &Extensions, token: Option<&str>) -> Option<Arc<dyn Caller>> {
        let name = token?.strip_suffix("-token")?;
        Some(Arc::new(User(name.to_owned())))
    }

    async fn namespace(&self, name: &str) -> Result<Option<String>, Unavailable> {
        Ok(self.namespaces.lock().unwrap().get(name).cloned())
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, String>, Unavailable> {
        Ok(self.namespaces.lock().unwrap().clone())
    }

    async fn quotas(&self, _: &str) -> Result<Vec<(String, u64)>, Unavailable> {
        let quota = *self.quota.lock().unwrap();
        Ok(quota
            .map(|bytes| ("images".to_owned(), bytes))
            .into_iter()
            .collect())
    }
}

/// A registry and whoever asks it.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) registry: Registry,
    pub(crate) cluster: Arc<Cluster>,
    router: Router,
    user: &'static str,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new(storage: Storage, config: Config) -> Client {
        let cluster = Arc::new(Cluster {
            namespaces: Mutex::new(
                ["a", "b"]
                    .map(|name| (name.to_owned(), "1".to_owned()))
                    .into(),
            ),
            quota: Mutex::default(),
        });
        let metrics = RegistryMetrics::default();
        let registry = Registry::new(storage, cluster.clone(), config, metrics);
        Client {
            router: registry.router(Scheme::Http),
            registry,
            cluster,
            user: "ann",
        }
    }

    /// In a directory.
    pub(crate) fn at(directory: &std::path::Path) -> Client {
        Client::new(Storage::directory(directory).unwrap(), Config::default())
    }

    /// The same as somebody else; the empty name is nobody.
    pub(crate) fn with(&self, user: &'static str) -> Client {
        Client {
            user,
            ..self.clone()
        }
    }

    /// Sends `METHOD PATH` with headers and a body.
    pub(crate) async fn send(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "registry.test:5000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !self.user.is_empty() {
            request = request.header("Authorization", format!("Bearer {}-token", self.user));
        }
        let request = request.body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Begins an upload; where it goes on.
    pub(crate) async fn begin(&self, repository: &str) -> String {
        let line = format!("POST /v2/{repository}/blobs/uploads/");
        let answer = self.send(&line, &[], "").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        answer.header("location")
    }

    /// Pushes a blob in one request; its digest.
    pub(crate) async fn push(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = registry::Digest::of(&bytes).to_string();
        let line = format!("POST /v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self.send(&line, &[], bytes).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        digest
    }

    /// Pushes an image of one layer; its manifest's digest.
    pub(crate) async fn push_image(&self, repository: &str, tag: &str, layer: &str) -> String {
        let config = self.push(repository, "{}").await;
        let layer_digest = self.push(repository, layer.to_owned()).await;
        let manifest = image(&config, 2, &layer_digest, layer.len());
        let line = format!("PUT /v2/{repository}/manifests/{tag}");
        let answer = self
            .send(&line, &[("Content-Type", OCI)], manifest.clone())
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        registry::Digest::of(manifest.as_bytes()).to_string()
    }

    pub(crate) async fn status(&self, line: &str) -> u16 {
        self.send(line, &[], "").await.status.as_u16()
    }
}

pub(crate) const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest of one layer.
pub(crate) fn image(config: &str, config_size: usize, layer: &str, layer_size: usize) -> String {
    format!(
        r#"{{"schemaVersion": 2, "mediaType": "{OCI}",
            "config": {{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "{config}", "size": {config_size}}},
            "layers": [{{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "{layer}", "size": {layer_size}}}]}}"#
    )
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> String {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status, the headers that matter, and the body; ids of uploads as `ID`.
    pub(crate) fn show(&self) -> String {
        let mut shown = self.status.as_u16().to_string();
        for name in [
            "location",
            "range",
            "content-range",
            "content-type",
            "content-length",
            "docker-content-digest",
            "oci-subject",
            "oci-filters-applied",
            "link",
            "www-authenticate",
        ] {
            let value = self.header(name);
            // Of bodies that are shown it says nothing new.
            let is_told = name == "content-length" && !self.body.is_empty()
                || name == "content-type" && value == "application/json";
            if !value.is_empty() && !is_told {
                shown.push_str(&format!("\n{name}: {value}"));
            }
        }
        if !self.body.is_empty() {
            shown.push_str(&format!("\n{}", self.text()));
        }
        without_ids(&shown)
    }
}

/// Ids of uploads are random.
fn without_ids(text: &str) -> String {
    let is_id = |word: &&str| {
        word.len() == 36
            && word
                .bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '-');
    let ids: Vec<&str> = words.filter(is_id).collect();
    ids.iter()
        .fold(text.to_owned(), |text, id| text.replace(id, "ID"))
}
