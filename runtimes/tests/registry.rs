//! The image store against Debian's docker-registry, over loopback HTTP.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod docker_registry;
mod umoci;

use std::{net::TcpListener, str::FromStr as _, time::Duration};

use docker_registry::Registry;
use expect_test::{Expect, expect};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    secrets::RegistryAuth,
};
use runtimes::{
    Credentials, ImageKind, Images as _, PullPolicy,
    images::{Config as StoreConfig, ContainerImage, ImageStore},
};

const MODULE: &[u8] = b"\0asm\x0d\0\x01\0";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM_LAYER: &str = "application/wasm";

#[tokio::test]
async fn a_wasm_artifact_is_pulled_and_kept_by_digest() {
    let registry = Registry::start(None);
    registry
        .push("hello:v1", WASM_CONFIG, WASM_LAYER, MODULE)
        .await;
    let store = registry.store(StoreConfig::default());
    let reference = registry.reference("hello:v1");
    let image = store
        .ensure(&reference, PullPolicy::IfNotPresent, &[])
        .await
        .unwrap();
    assert_eq!(image.kind, ImageKind::Wasm);
    assert_eq!(image.digest, runtimes::images::digest_of(MODULE));
    assert_eq!(std::fs::read(&image.path).unwrap(), MODULE);
    assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&image));

    let again = ImageStore::open(registry.dir.path().join("store"), StoreConfig::default());
    let again = again.unwrap();
    let never = again.ensure(&reference, PullPolicy::Never, &[]).await;
    assert_eq!(never.unwrap(), image);
}

#[tokio::test]
async fn always_asks_again_and_if_not_present_does_not() {
    let registry = Registry::start(None);
    let other = [MODULE, b"\0\x01\0"].concat();
    let store = registry.store(StoreConfig::default());
    let reference = registry.reference("hello:latest");
    let mut digests = Vec::new();
    for (module, policy) in [
        (MODULE, PullPolicy::IfNotPresent),
        (&other, PullPolicy::IfNotPresent),
        (&other, PullPolicy::Always),
    ] {
        registry
            .push("hello:latest", WASM_CONFIG, WASM_LAYER, module)
            .await;
        digests.push(store.ensure(&reference, policy, &[]).await.unwrap().digest);
    }
    let digest = runtimes::images::digest_of;
    assert_eq!(digests, [digest(MODULE), digest(MODULE), digest(&other)]);
}

#[tokio::test]
async fn an_account_is_needed_where_the_registry_asks_for_one() {
    let registry = Registry::start(Some("ann"));
    let account = |password: &str| Credentials::Basic {
        username: "ann".to_owned(),
        password: password.to_owned(),
    };
    let push = RegistryAuth::Basic("ann".to_owned(), "secret".to_owned());
    registry
        .push_as(push, "hello:v1", WASM_CONFIG, WASM_LAYER, MODULE)
        .await;
    let store = registry.store(StoreConfig::default());
    let reference = registry.reference("hello:v1");
    for credentials in [vec![], vec![account("wrong")]] {
        let refused = store
            .ensure(&reference, PullPolicy::IfNotPresent, &credentials)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.ends_with("unauthorized: authentication required"),
            "{refused}"
        );
    }
    let credentials = [account("wrong"), account("secret")];
    let image = store.ensure(&reference, PullPolicy::IfNotPresent, &credentials);
    assert_eq!(
        image.await.unwrap().digest,
        runtimes::images::digest_of(MODULE)
    );
}

/// Pulls `name` and shows the refusal, the registry's address left out.
#[track_caller]
fn refusal(
    registry: &Registry,
    name: &str,
    result: Result<runtimes::Image, runtimes::ImageError>,
    want: Expect,
) {
    let error = result.expect_err(name).to_string();
    want.assert_eq(&error.replace(&registry.host, "REGISTRY"));
}

#[tokio::test]
async fn a_refused_pull_says_why() {
    let registry = Registry::start(None);
    let container = "application/vnd.oci.image.config.v1+json";
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    registry.push("nginx:v1", container, gzip, b"layer").await;
    registry
        .push(
            "chart:v1",
            "application/vnd.cncf.helm.config.v1+json",
            gzip,
            b"chart",
        )
        .await;
    registry
        .push("text:v1", WASM_CONFIG, WASM_LAYER, b"no module at all")
        .await;
    let store = registry.store(StoreConfig::default());
    let pull = async |name: &str| {
        store
            .ensure(&registry.reference(name), PullPolicy::IfNotPresent, &[])
            .await
    };
    for (name, want) in [
        (
            "nginx:v1",
            expect![[
                r#"failed to pull image "REGISTRY/nginx:v1": its configuration cannot be read: missing field `architecture` at line 1 column 2"#
            ]],
        ),
        (
            "chart:v1",
            expect![[
                r#"failed to pull image "REGISTRY/chart:v1": neither a container image nor a Wasm artifact: media type application/vnd.cncf.helm.config.v1+json"#
            ]],
        ),
        (
            "text:v1",
            expect![[
                r#"failed to pull image "REGISTRY/text:v1": neither a WebAssembly component nor a module (binary or text)"#
            ]],
        ),
        (
            "absent:v1",
            expect![[r#"failed to pull image "REGISTRY/absent:v1": REGISTRY: manifest unknown"#]],
        ),
    ] {
        refusal(&registry, name, pull(name).await, want);
    }
}

#[tokio::test]
async fn a_module_over_the_size_limit_is_refused() {
    let registry = Registry::start(None);
    registry
        .push("hello:v1", WASM_CONFIG, WASM_LAYER, MODULE)
        .await;
    let store = registry.store(StoreConfig {
        max_bytes: 4,
        ..StoreConfig::default()
    });
    let reference = registry.reference("hello:v1");
    let pull = store.ensure(&reference, PullPolicy::Always, &[]).await;
    refusal(
        &registry,
        "hello:v1",
        pull,
        expect![[
            r#"failed to pull image "REGISTRY/hello:v1": is 8 bytes or more; this node takes modules of at most 4"#
        ]],
    );
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_connection_refused() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = free.local_addr().unwrap();
    drop(free);
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path(), StoreConfig::default()).unwrap();
    let reference = format!("{host}/hello:v1");
    let error = store
        .ensure(&reference, PullPolicy::IfNotPresent, &[])
        .await;
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with(": connection refused"), "{error}");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/hello:v1", silent.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        pull_deadline: Duration::from_millis(100),
        ..StoreConfig::default()
    };
    let store = ImageStore::open(dir.path(), config).unwrap();
    let error = store
        .ensure(&reference, PullPolicy::IfNotPresent, &[])
        .await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("took longer than"), "{error}");
}

#[tokio::test]
async fn a_mirror_is_asked_before_the_registry_that_is_away() {
    let mirror = Registry::start(None);
    mirror
        .push("team/hello:v1", WASM_CONFIG, WASM_LAYER, MODULE)
        .await;
    let hosts = mirror.dir.path().join("certs.d");
    // A name that leads nowhere, as RFC 2606 has it.
    let registry = hosts.join("registry.invalid");
    std::fs::create_dir_all(&registry).unwrap();
    let text = format!("[host.\"http://{}\"]\n", mirror.host);
    std::fs::write(registry.join("hosts.toml"), text).unwrap();
    let store = mirror.store(StoreConfig {
        hosts_dir: Some(hosts),
        ..StoreConfig::default()
    });
    let pull = |reference| store.ensure(reference, PullPolicy::Always, &[]);
    let image = pull("registry.invalid/team/hello:v1").await.unwrap();
    assert_eq!(image.digest, runtimes::images::digest_of(MODULE));
    pull("registry.invalid/team/absent:v1").await.unwrap_err();
    std::fs::write(registry.join("hosts.toml"), "mirror = true").unwrap();
    let error = pull("registry.invalid/team/hello:v1").await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("\"mirror\" is not supported"), "{error}");
}

#[tokio::test]
async fn a_container_image_that_starts_a_module_is_that_module() {
    let registry = Registry::start(None);
    let archive = |path: &str, bytes: &[u8]| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append_data(&mut header, path, bytes).unwrap();
        archive.into_inner().unwrap()
    };
    let config_type = "application/vnd.oci.image.config.v1+json";
    let layer_type = "application/vnd.oci.image.layer.v1.tar";
    let client = Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    });
    for (name, entry_point) in [("packed:v1", "/main.wasm"), ("lost:v1", "/other.wasm")] {
        let reference = Reference::from_str(&registry.reference(name)).unwrap();
        let layers = [
            archive("etc/motd", b"hello"),
            archive("main.wasm", MODULE),
            archive("x", b"y"),
        ];
        let layers = layers.map(|layer| ImageLayer::new(layer, layer_type.to_owned(), None));
        let config = format!(r#"{{"config": {{"Entrypoint": ["{entry_point}"]}}}}"#);
        let config = Config::new(config.into_bytes(), config_type.to_owned(), None);
        let pushed = client
            .push(&reference, &layers, config, &RegistryAuth::Anonymous, None)
            .await;
        pushed.unwrap();
    }
    let store = registry.store(StoreConfig::default());
    let pull = async |name: &str| {
        let reference = registry.reference(name);
        store.ensure(&reference, PullPolicy::Always, &[]).await
    };
    for _ in 0..2 {
        let image = pull("packed:v1").await.unwrap();
        assert_eq!(image.digest, runtimes::images::digest_of(MODULE));
        assert_eq!(std::fs::read(&image.path).unwrap(), MODULE);
    }
    let error = pull("lost:v1").await.unwrap_err().to_string();
    assert!(
        error.ends_with("its entry point /other.wasm is in none of its layers"),
        "{error}"
    );
}

/// Serves one artifact, whose blob breaks off halfway the first times; counts the requests for it.
async fn serve_breaking(listener: tokio::net::TcpListener, module: Vec<u8>, breaks: usize) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let digest = runtimes::images::digest_of(&module);
    let size = module.len();
    let manifest = format!(
        r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {{"mediaType": "{WASM_CONFIG}", "digest": "{digest}", "size": {size}}},
        "layers": [{{"mediaType": "{WASM_LAYER}", "digest": "{digest}", "size": {size}}}]}}"#
    );
    let mut blobs = 0;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let (status, kind, body, sent) = if head.contains("/manifests/") {
            let body = manifest.clone().into_bytes();
            (
                "200 OK",
                "application/vnd.oci.image.manifest.v1+json",
                body.clone(),
                body.len(),
            )
        } else if head.contains("/blobs/") {
            let from = head
                .lines()
                .find_map(|line| line.strip_prefix("range: bytes="));
            let from = from
                .and_then(|range| range.split('-').next()?.parse().ok())
                .unwrap_or(0);
            let body = module[from..].to_vec();
            blobs += 1;
            let sent = if blobs <= breaks {
                body.len() / 2
            } else {
                body.len()
            };
            let status = if from == 0 {
                "200 OK"
            } else {
                "206 Partial Content"
            };
            (status, "application/octet-stream", body, sent)
        } else {
            ("200 OK", "text/plain", Vec::new(), 0)
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        // A client that has left is no matter.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.write_all(&body[..sent]).await;
        let _ = stream.shutdown().await;
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_is_taken_up_where_it_broke_and_given_up_in_the_end() {
    let module = [MODULE, &[0; 4096][..]].concat();
    for (breaks, whole) in [(2, true), (100, false)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reference = format!("{}/hello:v1", listener.local_addr().unwrap());
        let mut server = tokio::task::JoinSet::new();
        server.spawn(serve_breaking(listener, module.clone(), breaks));
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path(), StoreConfig::default()).unwrap();
        let pulled = store.ensure(&reference, PullPolicy::Always, &[]).await;
        match pulled {
            Ok(image) => {
                assert!(whole);
                assert_eq!(std::fs::read(&image.path).unwrap(), module);
            }
            Err(error) => {
                assert!(!whole, "{error}");
                assert!(error.to_string().contains("download of sha256:"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn images_that_skopeo_pushes_in_every_form_are_pulled() {
    let registry = Registry::start(None);
    let image = umoci::image(registry.dir.path());
    let store = registry.store(StoreConfig::default());
    for (name, options) in [
        ("oci:v1", &["--format=oci"][..]),
        ("docker:v1", &["--format=v2s2"]),
        ("zstd:v1", &["--format=oci", "--dest-compress-format=zstd"]),
    ] {
        let reference = registry.reference(name);
        let target = format!("docker://{reference}");
        umoci::copy(
            &[options, &["--dest-tls-verify=false"]].concat(),
            &image,
            &target,
        );
        let pull = store.ensure(&reference, PullPolicy::IfNotPresent, &[]);
        let pulled = pull.await.unwrap();
        assert_eq!(pulled.kind, ImageKind::Oci, "{name}");
        let read = ContainerImage::read(&pulled).unwrap();
        assert_eq!(read.layers.len(), 2, "{name}");
        for layer in read.layers {
            let bytes = std::fs::read(&layer.path).unwrap();
            assert_eq!(runtimes::images::digest_of(&bytes), layer.digest);
        }
    }
}
