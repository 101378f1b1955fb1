//! Container images in the image store, from a registry that misbehaves as the test says.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod fake_registry;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use expect_test::{Expect, expect};
use fake_registry::{Answer, FakeRegistry, GZIP, OCI_INDEX, OCI_MANIFEST, PLAIN, Request, ZSTD};
use runtimes::{
    Credentials, Image, ImageError, ImageKind, Images as _, PullPolicy,
    images::{Config, ContainerImage, ImageStore, digest_of},
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

/// This host, as images name its architecture.
const HOST: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

struct Node {
    registry: FakeRegistry,
    dir: tempfile::TempDir,
    store: ImageStore,
}

impl Node {
    async fn new() -> Node {
        Node::with(Config::default()).await
    }

    async fn with(config: Config) -> Node {
        let dir = tempfile::tempdir().unwrap();
        Node {
            registry: FakeRegistry::start().await,
            store: ImageStore::open(dir.path(), config).unwrap(),
            dir,
        }
    }

    async fn pull(&self, name: &str) -> Result<Image, ImageError> {
        self.pull_as(name, &[]).await
    }

    async fn pull_as(&self, name: &str, accounts: &[Credentials]) -> Result<Image, ImageError> {
        let reference = self.registry.reference(name);
        self.store
            .ensure(&reference, PullPolicy::Always, accounts)
            .await
    }

    /// A pull's refusal, the registry's address and the store's directory left out.
    async fn refusal(&self, name: &str) -> String {
        let error = self.pull(name).await.expect_err(name).to_string();
        error
            .replace(&self.registry.host, "REGISTRY")
            .replace(&self.dir.path().display().to_string(), "DIR")
    }

    async fn check_refusal(&self, name: &str, want: Expect) {
        want.assert_eq(&self.refusal(name).await);
    }

    fn files(&self, dir: &str) -> usize {
        std::fs::read_dir(self.dir.path().join(dir))
            .unwrap()
            .count()
    }

    fn blob(&self, bytes: &[u8]) -> std::path::PathBuf {
        let digest = digest_of(bytes);
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.dir.path().join("blobs/sha256").join(hex)
    }
}

fn is_blob(request: &Request) -> bool {
    request.path.contains("/blobs/")
}

#[tokio::test]
async fn a_container_images_layers_are_kept_packed_and_shared() {
    let node = Node::new().await;
    let base: (&str, &[u8]) = (GZIP, b"base");
    let (digest, _) = node.registry.image(
        "app",
        "v1",
        HOST,
        &[base, (ZSTD, b"own"), (PLAIN, b"plain")],
    );
    let image = node.pull("app:v1").await.unwrap();
    assert_eq!(image.kind, ImageKind::Oci);
    assert_eq!(image.digest, digest);
    let read = ContainerImage::read(&image).unwrap();
    let mut layers = Vec::new();
    for layer in &read.layers {
        layers.push(String::from_utf8(std::fs::read(&layer.path).unwrap()).unwrap());
    }
    assert_eq!(layers, ["base", "own", "plain"]);
    let blobs = std::fs::read_dir(node.dir.path().join("blobs/sha256")).unwrap();
    let sizes: u64 = blobs
        .map(|blob| blob.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(image.size_bytes, sizes);
    assert_eq!(
        node.store.list().await.unwrap(),
        std::slice::from_ref(&image)
    );

    // Another image of the same base fetches only what is its own, and twice the same layer once.
    node.registry.requests();
    let twice = (PLAIN, &b"twice"[..]);
    node.registry
        .image("app", "v2", HOST, &[base, twice, twice]);
    let other = node.pull("app:v2").await.unwrap();
    let blobs: Vec<_> = node.registry.requests();
    assert_eq!(blobs.iter().filter(|request| is_blob(request)).count(), 2);
    assert_eq!(ContainerImage::read(&other).unwrap().layers.len(), 3);

    // Again, after a restart: only the manifest is asked for.
    let again = ImageStore::open(node.dir.path(), Config::default()).unwrap();
    let reference = node.registry.reference("app:v1");
    let pulled = again.ensure(&reference, PullPolicy::Always, &[]).await;
    assert_eq!(pulled.unwrap(), image);
    assert_eq!(node.registry.requests().len(), 1);

    // What one needs stays when the other goes.
    assert_eq!(
        again.remove(&reference).await.unwrap(),
        sizes - "base".len() as u64
    );
    ContainerImage::read(&other).unwrap();
    assert!(node.blob(b"base").exists());
    let reference = node.registry.reference("app:v2");
    again.remove(&reference).await.unwrap();
    assert_eq!(node.files("blobs/sha256"), 0);
}

#[tokio::test]
async fn of_a_list_the_image_for_this_host_is_pulled() {
    let node = Node::new().await;
    let registry = &node.registry;
    let entry = |platform: &str, tag: &str| {
        let (os, architecture) = platform.split_once('/').unwrap();
        let (digest, manifest) = registry.image("app", tag, architecture, &[(PLAIN, b"x")]);
        json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.to_string().len(),
            "platform": {"os": os, "architecture": architecture}})
    };
    let list = |tag: &str, entries: &[serde_json::Value]| {
        let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        registry.manifest("app", tag, OCI_INDEX, &list)
    };
    let own = entry(&format!("linux/{HOST}"), "own");
    let other = entry("linux/s390x", "other");
    let list_digest = list("v1", &[other.clone(), own.clone()]);
    let image = node.pull("app:v1").await.unwrap();
    assert_eq!(image.digest, own["digest"]);

    // By the list's digest and by the image's it is here without asking.
    for digest in [&list_digest, &image.digest] {
        let reference = format!("{}@{digest}", registry.reference("app"));
        let found = node.store.ensure(&reference, PullPolicy::Never, &[]).await;
        assert_eq!(found.unwrap().reference, reference);
    }

    list("v2", &[other, entry("windows/amd64", "windows")]);
    let refusal = node.refusal("app:v2").await;
    expect![[
        r#"failed to pull image "REGISTRY/app:v2": no match for platform linux/HOST in its manifest list, which offers linux/s390x, windows/amd64"#
    ]]
    .assert_eq(&refusal.replace(&format!("linux/{HOST}"), "linux/HOST"));

    let refusal = node.refusal("app:other").await;
    assert!(
        refusal.ends_with(&format!(
            "is an image for linux/s390x, and this node is linux/{HOST}"
        )) || refusal.contains("and this node is linux/"),
        "{refusal}"
    );
}

#[tokio::test]
async fn names_that_mean_the_same_are_the_same_image() {
    let node = Node::new().await;
    node.registry.image("app", "latest", HOST, &[]);
    let image = node.pull("app").await.unwrap();
    assert_eq!(image.reference, node.registry.reference("app"));
    let latest = node.registry.reference("app:latest");
    let found = node.store.find(&latest).await.unwrap();
    assert_eq!((&found.reference, &found.digest), (&latest, &image.digest));
    let listed = node.store.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].reference, latest);
    assert!(node.store.remove(&latest).await.unwrap() > 0);
    assert_eq!(node.store.find(&image.reference).await, None);
}

#[tokio::test]
async fn what_is_no_image_for_this_node_is_refused_in_words() {
    let node = Node::with(Config {
        max_image_bytes: 1000,
        ..Config::default()
    })
    .await;
    let registry = &node.registry;
    let (_, manifest) = registry.image("app", "ok", HOST, &[(PLAIN, b"x")]);
    let put = |tag: &str, path: &str, value: serde_json::Value| {
        let mut manifest = manifest.clone();
        *manifest.pointer_mut(path).unwrap() = value;
        registry.manifest("app", tag, OCI_MANIFEST, &manifest);
    };
    node.pull("app:ok").await.unwrap();
    put("type", "/layers/0/mediaType", "application/x-7z".into());
    let refusal = node.refusal("app:type").await;
    assert!(
        refusal.contains("is of unknown media type application/x-7z"),
        "{refusal}"
    );
    put("schema", "/schemaVersion", 1.into());
    node.check_refusal(
        "app:schema",
        expect![[
            r#"failed to pull image "REGISTRY/app:schema": its manifest is of Docker's schema 1, which is no longer supported: push the image again with a current tool"#
        ]],
    )
    .await;
    put("big", "/layers/0/size", 2000.into());
    node.check_refusal(
        "app:big",
        expect![[
            r#"failed to pull image "REGISTRY/app:big": is 2000 bytes; this node takes images of at most 1000"#
        ]],
    )
    .await;
    put("config", "/config/size", (5 << 20).into());
    node.check_refusal(
        "app:config",
        expect![[
            r#"failed to pull image "REGISTRY/app:config": its configuration is 5242880 bytes; this node takes at most 4194304"#
        ]],
    )
    .await;
    let layer = manifest["layers"][0].clone();
    put("layers", "/layers", vec![layer.clone(), layer].into());
    node.check_refusal(
        "app:layers",
        expect![[
            r#"failed to pull image "REGISTRY/app:layers": has 2 layers, but its configuration tells of 1"#
        ]],
    )
    .await;
    put("long", "/mediaType", "x".repeat(5 << 20).into());
    node.check_refusal(
        "app:long",
        expect![[
            r#"failed to pull image "REGISTRY/app:long": REGISTRY: answered more than 4194304 bytes"#
        ]],
    )
    .await;
    node.check_refusal(
        "app:absent",
        expect![[r#"failed to pull image "REGISTRY/app:absent": REGISTRY: manifest unknown"#]],
    )
    .await;
}

#[tokio::test]
async fn a_registrys_refusals_name_it_and_say_why() {
    let node = Node::new().await;
    node.registry.image("app", "v1", HOST, &[]);
    let answer = |status: u16, headers: &[(&'static str, &str)], body: &str| {
        let mut answer = Answer::new(status, body);
        for (name, value) in headers {
            answer = answer.with(name, *value);
        }
        node.registry.rule(move |_, _| answer.clone());
    };
    answer(401, &[("www-authenticate", "Basic realm=\"x\"")], "");
    node.check_refusal(
        "app:v1",
        expect![[
            r#"failed to pull image "REGISTRY/app:v1": REGISTRY: unauthorized: authentication required"#
        ]],
    )
    .await;
    answer(403, &[], r#"{"errors": [{"code": "DENIED"}]}"#);
    node.check_refusal(
        "app:v1",
        expect![[r#"failed to pull image "REGISTRY/app:v1": REGISTRY: denied: DENIED"#]],
    )
    .await;
    // Longer than any pull may take: not waited for.
    answer(429, &[("retry-after", "100000")], "slow down");
    node.check_refusal(
        "app:v1",
        expect![[
            r#"failed to pull image "REGISTRY/app:v1": REGISTRY: too many requests: slow down; try again in 100000 s"#
        ]],
    )
    .await;
    node.registry.requests();
    answer(503, &[], "starting");
    node.check_refusal(
        "app:v1",
        expect![[
            r#"failed to pull image "REGISTRY/app:v1": REGISTRY: 503 Service Unavailable: starting"#
        ]],
    )
    .await;
    assert_eq!(node.registry.requests().len(), 4);
}

#[tokio::test]
async fn a_registry_that_asks_for_patience_gets_it() {
    let node = Node::new().await;
    node.registry.image("app", "v1", HOST, &[(PLAIN, b"x")]);
    let mut left = 2;
    node.registry.rule(move |_, usual| {
        if left == 0 {
            return usual;
        }
        left -= 1;
        Answer::new(429, "").with("retry-after", "1")
    });
    let began = Instant::now();
    node.pull("app:v1").await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_token_is_fetched_where_the_registry_wants_one() {
    let node = Node::new().await;
    node.registry.image("app", "v1", HOST, &[(PLAIN, b"x")]);
    let host = node.registry.host.clone();
    node.registry.rule(move |request, usual| {
        if request.path.starts_with("/token") {
            // ann:secret
            return match request.authorization.as_deref() {
                Some("Basic YW5uOnNlY3JldA==") => Answer::new(200, r#"{"token": "t0ken"}"#),
                _ => Answer::new(401, r#"{"details": "incorrect username or password"}"#),
            };
        }
        match request.authorization.as_deref() {
            Some("Bearer t0ken") => usual,
            _ => Answer::new(401, "").with(
                "www-authenticate",
                format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:app:pull\""),
            ),
        }
    });
    node.check_refusal(
        "app:v1",
        expect![[r#"failed to pull image "REGISTRY/app:v1": REGISTRY: unauthorized: authentication required: incorrect username or password"#]],
    )
    .await;
    let account = |password: &str| Credentials::Basic {
        username: "ann".to_owned(),
        password: password.to_owned(),
    };
    let accounts = [account("wrong"), account("secret")];
    node.pull_as("app:v1", &accounts).await.unwrap();
    let token = node.registry.requests();
    let token = token
        .iter()
        .find(|request| request.path.starts_with("/token"));
    let path = &token.unwrap().path;
    assert!(path.contains("scope=repository%3Aapp%3Apull"), "{path}");
}

#[tokio::test]
async fn a_broken_pull_goes_on_where_it_ended_even_after_a_restart() {
    let node = Node::new().await;
    let layer = b"0123456789".repeat(1000);
    node.registry.image("app", "v1", HOST, &[(PLAIN, &layer)]);
    let size = layer.len();
    node.registry.rule(move |request, mut usual| {
        match (usual.body.len() == size, request.from) {
            (true, _) => usual.sent = size / 2,
            (_, 0) => {}
            _ => return Answer::new(404, "gone"),
        }
        usual
    });
    let refusal = node.refusal("app:v1").await;
    assert!(refusal.ends_with("REGISTRY: gone"), "{refusal}");
    assert_eq!(node.files("partial"), 1);
    assert!(!node.blob(&layer).exists());

    node.registry.requests();
    node.registry.rule(|_, usual| usual);
    let store = ImageStore::open(node.dir.path(), Config::default()).unwrap();
    let reference = node.registry.reference("app:v1");
    store
        .ensure(&reference, PullPolicy::Always, &[])
        .await
        .unwrap();
    let from: Vec<usize> = node
        .registry
        .requests()
        .iter()
        .map(|request| request.from)
        .collect();
    assert!(from.contains(&(size / 2)), "{from:?}");
    assert_eq!(std::fs::read(node.blob(&layer)).unwrap(), layer);
    assert_eq!(node.files("partial"), 0);
}

#[tokio::test]
async fn what_an_earlier_pull_left_wrong_is_fetched_anew() {
    let node = Node::new().await;
    let layer = b"right";
    node.registry.image("app", "v1", HOST, &[(PLAIN, layer)]);
    for left in ["wr", "wrong", "wrong and too long"] {
        let partial = node.dir.path().join("partial");
        let name = node.blob(layer);
        std::fs::write(partial.join(name.file_name().unwrap()), left).unwrap();
        node.pull("app:v1").await.unwrap();
        assert_eq!(std::fs::read(&name).unwrap(), layer);
        let reference = node.registry.reference("app:v1");
        node.store.remove(&reference).await.unwrap();
    }
}

#[tokio::test]
async fn a_layer_that_is_not_what_its_digest_says_never_gets_its_name() {
    let node = Node::new().await;
    node.registry.image("app", "v1", HOST, &[(PLAIN, b"right")]);
    for (content, want) in [
        (&b"wrong"[..], "content is not what sha256:"),
        (b"right and more", "is longer than the 5 bytes"),
        (b"r", "ended after 1 of 5 bytes"),
    ] {
        node.registry.rule(move |request, usual| {
            match (usual.body.as_slice(), request.from) {
                (b"right", _) => Answer::new(200, content),
                // Nothing comes after what came.
                (b"ight", 1) => Answer::new(206, ""),
                _ => usual,
            }
        });
        let refusal = node.refusal("app:v1").await;
        assert!(refusal.contains(want), "{refusal}");
        assert!(!node.blob(b"right").exists());
        // Whatever is left of it does not spoil the next.
        node.registry.rule(|_, usual| usual);
        node.pull("app:v1").await.unwrap();
        let reference = node.registry.reference("app:v1");
        node.store.remove(&reference).await.unwrap();
    }
}

#[tokio::test]
async fn layers_come_three_at_a_time_and_progress_is_told() {
    let node = Node::new().await;
    let contents: Vec<Vec<u8>> = (0..8_u8).map(|n| vec![n; 1000]).collect();
    let layers: Vec<(&str, &[u8])> = contents
        .iter()
        .map(|content| (PLAIN, content.as_slice()))
        .collect();
    node.registry.image("app", "v1", HOST, &layers);
    let held = Arc::new(AtomicUsize::new(0));
    let counter = held.clone();
    node.registry.rule(move |_, mut usual| {
        if usual.body.len() == 1000 {
            counter.fetch_add(1, Ordering::SeqCst);
            usual.held = true;
        }
        usual
    });
    let reference = node.registry.reference("app:v1");
    assert_eq!(node.store.progress(&reference), None);
    let watch = async {
        let deadline = Instant::now() + SOON;
        loop {
            let progress = node.store.progress(&reference).unwrap_or_default();
            if progress.received_bytes == 1500 {
                assert_eq!(progress.total_bytes, 8000);
                assert_eq!(held.load(Ordering::SeqCst), 3);
                break;
            }
            assert!(Instant::now() < deadline, "{progress:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.registry.release();
    };
    let (pulled, ()) = tokio::join!(node.pull("app:v1"), watch);
    pulled.unwrap();
    assert_eq!(node.store.progress(&reference), None);
}

#[tokio::test]
async fn an_image_that_goes_takes_nothing_from_a_pull_under_way() {
    let node = Node::new().await;
    let base: (&str, &[u8]) = (PLAIN, b"base");
    node.registry.image("app", "v1", HOST, &[base]);
    node.pull("app:v1").await.unwrap();
    node.registry
        .image("app", "v2", HOST, &[base, (PLAIN, b"held back")]);
    node.registry.rule(move |_, mut usual| {
        usual.held = usual.body == b"held back";
        usual
    });
    let remove = async {
        let deadline = Instant::now() + SOON;
        let v2 = node.registry.reference("app:v2");
        while node.store.progress(&v2).unwrap_or_default().received_bytes == 0 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let v1 = node.registry.reference("app:v1");
        node.store.remove(&v1).await.unwrap();
        node.store.tidy(Duration::ZERO).await.unwrap();
        assert!(node.blob(b"base").exists());
        node.registry.release();
    };
    let (pulled, ()) = tokio::join!(node.pull("app:v2"), remove);
    for layer in ContainerImage::read(&pulled.unwrap()).unwrap().layers {
        assert!(layer.path.exists());
    }
    // Now nothing is left over.
    assert_eq!(node.store.tidy(Duration::ZERO).await.unwrap(), 0);
}

/// A file system of 1 MiB in memory, while it lives.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(at: &Path) -> SmallDisk<'_> {
        let options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
        let mount = std::process::Command::new("mount")
            .args(options)
            .arg(at)
            .status();
        assert!(mount.unwrap().success(), "mounting needs root");
        SmallDisk(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(dir.path());
    let registry = FakeRegistry::start().await;
    let layer = vec![7; 2 << 20];
    registry.image("app", "v1", HOST, &[(PLAIN, &layer)]);
    let store = ImageStore::open(dir.path(), Config::default()).unwrap();
    let reference = registry.reference("app:v1");
    let pull = store.ensure(&reference, PullPolicy::Always, &[]).await;
    let error = pull.unwrap_err().to_string();
    let want = format!(
        "write to the content store {}: no space left on device",
        dir.path().display()
    );
    assert!(error.ends_with(&want), "{error}");
    for kept in ["blobs/sha256", "partial"] {
        assert_eq!(std::fs::read_dir(dir.path().join(kept)).unwrap().count(), 0);
    }
    drop(disk);
}
