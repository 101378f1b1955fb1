//! What nothing names is removed, and nothing else; also while others push.
#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod fake_cluster;

use std::time::Duration;

use fake_cluster::{Client, OCI};
use registry::{Config, Digest, Storage};
use serde_json::json;

fn client(dir: &std::path::Path, config: Config) -> Client {
    Client::new(Storage::directory(dir).unwrap(), config)
}

fn at_once() -> Config {
    Config {
        grace: Duration::ZERO,
        upload_expiry: Duration::ZERO,
        ..Config::default()
    }
}

#[tokio::test]
async fn only_what_nothing_names_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let ann = client(dir.path(), at_once());
    let kept = ann.push_image("a/x", "v1", "kept").await;
    let gone = ann.push_image("a/x", "v2", "gone").await;
    ann.push("a/x", "named by nothing").await;
    let upload = ann.begin("a/x").await;
    ann.send(&format!("PATCH {upload}"), &[], "half").await;
    assert_eq!(
        ann.status(&format!("DELETE /v2/a/x/manifests/{gone}"))
            .await,
        202
    );
    // Manifests without a tag stay: a pod may name them by their digest.
    assert_eq!(ann.status("DELETE /v2/a/x/manifests/v1").await, 202);

    let collected = ann.registry.collect().await.unwrap();
    // Two layers and a manifest.
    assert_eq!(
        (collected.uploads, collected.links, collected.blobs),
        (1, 2, 3)
    );
    assert_eq!((collected.kept_blobs, collected.manifests), (3, 0));
    for (path, status) in [
        (format!("manifests/{kept}"), 200),
        (format!("blobs/{}", Digest::of(b"kept")), 200),
        (format!("blobs/{}", Digest::of(b"gone")), 404),
        (format!("blobs/{}", Digest::of(b"named by nothing")), 404),
    ] {
        assert_eq!(
            ann.status(&format!("GET /v2/a/x/{path}")).await,
            status,
            "{path}"
        );
    }
    assert_eq!(ann.status(&format!("GET {upload}")).await, 404);
    let again = ann.registry.collect().await.unwrap();
    assert_eq!((again.links, again.blobs, again.kept_blobs), (0, 0, 3));
}

#[tokio::test]
async fn what_is_young_stays() {
    let dir = tempfile::tempdir().unwrap();
    let ann = client(dir.path(), Config::default());
    let digest = ann.push("a/x", "a manifest follows").await;
    let upload = ann.begin("a/x").await;
    let collected = ann.registry.collect().await.unwrap();
    assert_eq!(
        (collected.uploads, collected.links, collected.blobs),
        (0, 0, 0)
    );
    assert_eq!(
        ann.status(&format!("HEAD /v2/a/x/blobs/{digest}")).await,
        200
    );
    assert_eq!(ann.status(&format!("GET {upload}")).await, 204);
}

#[tokio::test]
async fn manifests_without_a_name_go_if_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let ann = client(
        dir.path(),
        Config {
            untagged: Some(Duration::ZERO),
            ..at_once()
        },
    );
    let old = ann.push_image("a/x", "v1", "old").await;
    let new = ann.push_image("a/x", "v1", "new").await;
    // What is attached to a manifest that stays, stays.
    let config = ann.push("a/x", "{}").await;
    let signature = json!({"schemaVersion": 2, "mediaType": OCI,
        "config": {"mediaType": "a/b", "digest": config, "size": 2}, "layers": [],
        "subject": {"mediaType": OCI, "digest": new, "size": 1}})
    .to_string();
    let signed = Digest::of(signature.as_bytes());
    let put = format!("PUT /v2/a/x/manifests/{signed}");
    assert_eq!(
        ann.send(&put, &[("Content-Type", OCI)], signature)
            .await
            .status,
        201
    );
    let collected = ann.registry.collect().await.unwrap();
    assert_eq!(collected.manifests, 1);
    assert_eq!(
        ann.status(&format!("GET /v2/a/x/manifests/{old}")).await,
        404
    );
    assert_eq!(
        ann.status(&format!("GET /v2/a/x/manifests/{new}")).await,
        200
    );
    assert_eq!(
        ann.status(&format!("GET /v2/a/x/manifests/{signed}")).await,
        200
    );
}

#[tokio::test]
async fn a_namespace_that_is_gone_takes_its_images_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let ann = client(dir.path(), at_once());
    ann.push_image("a/x", "v1", "layer").await;
    let ben = ann.with("ben");
    ben.push_image("b/y", "v1", "other").await;
    ann.cluster.namespaces.lock().unwrap().remove("a");
    ann.registry.collect().await.unwrap();
    // Another of that name begins empty.
    let make = |uid: &str| {
        let mut namespaces = ann.cluster.namespaces.lock().unwrap();
        namespaces.insert("a".to_owned(), uid.to_owned());
    };
    make("2");
    assert_eq!(ann.status("GET /v2/a/x/tags/list").await, 404);
    // Also if nobody collected between the two.
    ann.push_image("a/x", "v1", "layer").await;
    make("3");
    assert_eq!(ann.status("GET /v2/a/x/manifests/v1").await, 404);
    ann.push_image("a/x", "v2", "layer").await;
    assert_eq!(ann.status("GET /v2/a/x/manifests/v1").await, 404);
    assert_eq!(ann.status("GET /v2/a/x/manifests/v2").await, 200);
    assert_eq!(ben.status("GET /v2/b/y/manifests/v1").await, 200);
}

#[tokio::test]
async fn pushes_and_collections_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ann = client(
        dir.path(),
        Config {
            grace: Duration::from_secs(300),
            ..Config::default()
        },
    );
    let pushes = async {
        let push = async |tag: usize| {
            let (tag, layer) = (format!("t{tag}"), format!("layer {}", tag % 3));
            ann.push_image("a/x", &tag, &layer).await
        };
        futures::future::join_all((0..12).map(push)).await
    };
    let collections = async {
        loop {
            ann.registry.collect().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let pushed = tokio::select! {
        pushed = pushes => pushed,
        () = collections => unreachable!("it never ends"),
    };
    ann.registry.collect().await.unwrap();
    for (tag, digest) in pushed.iter().enumerate() {
        let got = ann
            .send(&format!("GET /v2/a/x/manifests/t{tag}"), &[], "")
            .await;
        assert_eq!(got.header("docker-content-digest"), *digest);
        let layer = Digest::of(format!("layer {}", tag % 3).as_bytes());
        assert_eq!(ann.status(&format!("GET /v2/a/x/blobs/{layer}")).await, 200);
    }
}

#[tokio::test]
async fn two_writers_of_one_tag_leave_one_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let ann = client(dir.path(), Config::default());
    let push = |layer: &'static str| ann.push_image("a/x", "v1", layer);
    for _ in 0..5 {
        let (one, other) = tokio::join!(push("one"), push("other"));
        let got = ann.send("GET /v2/a/x/manifests/v1", &[], "").await;
        let got_digest = got.header("docker-content-digest");
        assert!([&one, &other].contains(&&got_digest));
        assert_eq!(Digest::of(&got.body).to_string(), got_digest);
    }
}
