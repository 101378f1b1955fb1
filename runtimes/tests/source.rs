//! Images of a registry in the same process: pulled without a socket, and asked for at each use.
#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use runtimes::{
    Credentials, ImageError, ImageKind, Images, PullPolicy,
    images::{Config, ImageStore, REGISTRY, Source, SourceError, digest_of},
};

const MODULE: &[u8] = b"\0asm\x0d\0\x01\0";

/// Has one component, in `a/hello`; pods of `a` may have it.
#[derive(Debug, Default)]
struct Registry {
    blobs: HashMap<String, Bytes>,
    manifest: Bytes,
    asked: Mutex<Vec<String>>,
}

impl Registry {
    fn new(served: &[u8]) -> Arc<Registry> {
        let (config, module) = (b"{}", MODULE);
        let part = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": digest_of(bytes), "size": bytes.len()});
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("application/vnd.wasm.config.v0+json", config),
            "layers": [part("application/wasm", module)],
        });
        Arc::new(Registry {
            blobs: [(digest_of(module), Bytes::copy_from_slice(served))].into(),
            manifest: manifest.to_string().into(),
            asked: Mutex::default(),
        })
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

#[async_trait]
impl Source for Registry {
    fn is(&self, registry: &str) -> bool {
        registry == REGISTRY
    }

    async fn allow(&self, repository: &str, accounts: &[Credentials]) -> Result<(), SourceError> {
        self.note(format!("allow {repository}"));
        let own = |account: &Credentials| matches!(account, Credentials::ServiceAccount { namespace, .. } if namespace == "a");
        match accounts.is_empty() || accounts.iter().any(own) {
            true => Ok(()),
            false => Err(SourceError::Denied("denied: it is a's".to_owned())),
        }
    }

    async fn manifest(&self, repository: &str, reference: &str) -> Result<Bytes, SourceError> {
        self.note(format!("manifest {repository} {reference}"));
        match repository {
            "a/hello" => Ok(self.manifest.clone()),
            _ => Err(SourceError::NotFound("manifest unknown".to_owned())),
        }
    }

    async fn blob(
        &self,
        _: &str,
        digest: &str,
        offset: u64,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, SourceError> {
        self.note(format!("blob from {offset}"));
        let blob = self.blobs.get(digest).cloned();
        let blob = blob.ok_or_else(|| SourceError::NotFound("blob unknown".to_owned()))?;
        let rest = blob.slice(usize::try_from(offset).unwrap().min(blob.len())..);
        Ok(futures::stream::iter([Ok(rest)]).boxed())
    }
}

fn store(dir: &std::path::Path, registry: &Arc<Registry>) -> ImageStore {
    let config = Config {
        source: Some(registry.clone()),
        ..Config::default()
    };
    ImageStore::open(dir, config).unwrap()
}

fn pod_of(namespace: &str) -> [Credentials; 1] {
    [Credentials::ServiceAccount {
        namespace: namespace.to_owned(),
        name: "default".to_owned(),
    }]
}

#[tokio::test]
async fn an_image_that_is_here_is_for_those_who_may_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(MODULE);
    let store = store(dir.path(), &registry);
    let name = format!("{REGISTRY}/a/hello:v1");
    let ensure = |policy, namespace: &str| {
        let (store, name, accounts) = (store.clone(), name.clone(), pod_of(namespace));
        async move { store.ensure(&name, policy, &accounts).await }
    };
    let image = ensure(PullPolicy::IfNotPresent, "a").await.unwrap();
    assert_eq!(
        (image.kind, image.digest),
        (ImageKind::Wasm, digest_of(MODULE))
    );
    assert_eq!(
        *registry.asked.lock().unwrap(),
        ["allow a/hello", "manifest a/hello v1", "blob from 0"]
    );
    for policy in [
        PullPolicy::IfNotPresent,
        PullPolicy::Never,
        PullPolicy::Always,
    ] {
        let ImageError::Pull { message, .. } = ensure(policy, "b").await.unwrap_err() else {
            panic!("it is refused");
        };
        assert_eq!(message, "registry.wk.internal: denied: it is a's");
        ensure(policy, "a").await.unwrap();
    }
    // The node itself, when it brings back what ran.
    store.ensure(&name, PullPolicy::Never, &[]).await.unwrap();
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = MODULE.to_vec();
    other[4] = 1;
    let store = store(dir.path(), &Registry::new(&other));
    let name = format!("{REGISTRY}/a/hello:v1");
    let pulled = store.ensure(&name, PullPolicy::Always, &pod_of("a")).await;
    let why = pulled.unwrap_err().to_string();
    assert!(why.contains("content is not what sha256:"), "{why}");
    assert!(store.find(&name).await.is_none());
    let unknown = format!("{REGISTRY}/a/other:v1");
    let pulled = store
        .ensure(&unknown, PullPolicy::Always, &pod_of("a"))
        .await;
    assert_eq!(
        pulled.unwrap_err().to_string(),
        "failed to pull image \"registry.wk.internal/a/other:v1\": registry.wk.internal: manifest unknown"
    );
}
