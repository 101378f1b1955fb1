//! The OCI distribution specification 1.1, request by request.

mod fake_cluster;

use expect_test::{Expect, expect};
use fake_cluster::{Answer, Client, INDEX, OCI, image};
use registry::Digest;
use serde_json::{Value, json};

fn client() -> (tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::at(dir.path());
    (dir, client)
}

#[track_caller]
fn check(answer: &Answer, want: Expect) {
    want.assert_eq(&answer.show());
}

#[tokio::test]
async fn a_client_learns_the_version_and_how_to_get_in() {
    let (_dir, ann) = client();
    check(&ann.send("GET /v2/", &[], "").await, expect![]);
    check(&ann.with("").send("GET /v2/", &[], "").await, expect![]);
    check(
        &ann.with("").send("PUT /v2/a/x/manifests/v1", &[], "").await,
        expect![],
    );
    // A password is a token, whatever the name.
    let account = [("Authorization", "Basic YW55Ym9keTphbm4tdG9rZW4=")];
    check(
        &ann.with("")
            .send("GET /v2/token?scope=x", &account, "")
            .await,
        expect![],
    );
    let wrong = [("Authorization", "Basic YW55Ym9keTpub25l")];
    assert_eq!(
        ann.with("").send("GET /v2/token", &wrong, "").await.status,
        401
    );
    assert_eq!(ann.status("POST /v2/token").await, 405);
    assert_eq!(
        ann.send("GET /v2/", &[("Impersonate-User", "ben")], "")
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn a_blob_is_pushed_in_one_request_or_two() {
    let (_dir, ann) = client();
    let digest = Digest::of(b"hello").to_string();
    let path = format!("/v2/a/x/blobs/{digest}");
    check(&ann.send(&format!("HEAD {path}"), &[], "").await, expect![]);
    let location = ann.begin("a/x").await;
    let put = format!("PUT {location}?digest={digest}");
    check(
        &ann.send(&put, &[("Content-Length", "5")], "hello").await,
        expect![],
    );
    check(&ann.send(&format!("HEAD {path}"), &[], "").await, expect![]);
    check(&ann.send(&format!("GET {path}"), &[], "").await, expect![]);
    // The upload is over.
    check(
        &ann.send(&format!("GET {location}"), &[], "").await,
        expect![],
    );
    // Once more, in one request; and nothing at all.
    assert_eq!(ann.push("a/x", "hello").await, digest);
    ann.push("a/x", "").await;
    let encoded = path.replace(':', "%3A");
    assert_eq!(ann.status(&format!("GET {encoded}")).await, 200);
}

#[tokio::test]
async fn parts_of_a_blob_are_pulled() {
    let (_dir, ann) = client();
    let get = format!("GET /v2/a/x/blobs/{}", ann.push("a/x", "0123456789").await);
    check(
        &ann.send(&get, &[("Range", "bytes=2-4")], "").await,
        expect![],
    );
    check(
        &ann.send(&get, &[("Range", "bytes=-2")], "").await,
        expect![],
    );
    check(
        &ann.send(&get, &[("Range", "bytes=10-")], "").await,
        expect![],
    );
}

#[tokio::test]
async fn a_blob_is_pushed_in_chunks() {
    let (_dir, ann) = client();
    let location = ann.begin("a/x").await;
    let patch = format!("PATCH {location}");
    let range = |range| [("Content-Range", range)];
    check(&ann.send(&patch, &range("0-2"), "012").await, expect![]);
    // Out of order, it is told where to go on.
    check(&ann.send(&patch, &range("5-6"), "56").await, expect![]);
    check(&ann.send(&patch, &range("3-4"), "3").await, expect![]);
    check(
        &ann.send(&format!("GET {location}"), &[], "").await,
        expect![],
    );
    check(&ann.send(&patch, &range("x"), "4").await, expect![]);
    assert_eq!(ann.send(&patch, &[], "45").await.status, 202);
    let digest = Digest::of(b"0123456").to_string();
    let put = format!("PUT {location}?digest={digest}");
    check(&ann.send(&put, &range("0-0"), "6").await, expect![]);
    check(&ann.send(&put, &range("6-6"), "6").await, expect![]);
    check(
        &ann.send(&format!("GET /v2/a/x/blobs/{digest}"), &[], "")
            .await,
        expect![],
    );
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_refused_and_leaves_nothing() {
    let (dir, ann) = client();
    let wrong = Digest::of(b"other").to_string();
    let location = ann.begin("a/x").await;
    ann.send(&format!("PATCH {location}"), &[], "hel").await;
    check(
        &ann.send(&format!("PUT {location}?digest={wrong}"), &[], "lo")
            .await,
        expect![],
    );
    assert_eq!(ann.status(&format!("GET {location}")).await, 404);
    assert_eq!(
        ann.status(&format!("HEAD /v2/a/x/blobs/{wrong}")).await,
        404
    );
    let location = ann.begin("a/x").await;
    check(
        &ann.send(&format!("PUT {location}"), &[], "hello").await,
        expect![],
    );
    check(
        &ann.send(&format!("PUT {location}?digest=sha256:12"), &[], "hello")
            .await,
        expect![],
    );
    check(
        &ann.send(&format!("DELETE {location}"), &[], "").await,
        expect![],
    );
    check(
        &ann.send(&format!("DELETE {location}"), &[], "").await,
        expect![],
    );
    check(
        &ann.send("PATCH /v2/a/x/blobs/uploads/..%2F..", &[], "x")
            .await,
        expect![],
    );
    let files = walk(dir.path());
    assert_eq!(files, Vec::<String>::new());
}

/// The files below a directory.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

#[tokio::test]
async fn sha512_is_taken_too() {
    let (_dir, ann) = client();
    let digest = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";
    let location = ann.begin("a/x").await;
    ann.send(&format!("PATCH {location}"), &[], "hel").await;
    let put = ann
        .send(&format!("PUT {location}?digest={digest}"), &[], "lo")
        .await;
    assert_eq!(put.status, 201);
    let got = ann
        .send(&format!("GET /v2/a/x/blobs/{digest}"), &[], "")
        .await;
    assert_eq!(got.text(), "hello");
}

#[tokio::test]
async fn a_blob_is_mounted_from_a_repository_that_may_be_pulled_from() {
    let (_dir, ann) = client();
    let ben = ann.with("ben");
    let digest = ben.push("b/y", "shared").await;
    let mount = |query: &str| format!("POST /v2/a/x/blobs/uploads/?mount={digest}{query}");
    check(&ann.send(&mount("&from=b/y"), &[], "").await, expect![]);
    assert_eq!(
        ann.status(&format!("HEAD /v2/a/x/blobs/{digest}")).await,
        200
    );
    // Of the own namespace also without its name.
    let other = format!("POST /v2/a/z/blobs/uploads/?mount={digest}");
    assert_eq!(ann.status(&other).await, 201);
    // Otherwise an upload begins.
    let hidden = ann.push("a/secret", "hidden").await;
    let steal = format!("POST /v2/b/y/blobs/uploads/?mount={hidden}&from=a/secret");
    check(&ben.send(&steal, &[], "").await, expect![]);
    let unknown = Digest::of(b"nothing").to_string();
    assert_eq!(
        ann.status(&format!("POST /v2/a/x/blobs/uploads/?mount={unknown}"))
            .await,
        202
    );
}

#[tokio::test]
async fn a_manifest_is_kept_byte_for_byte() {
    let (_dir, ann) = client();
    let (config, layer) = (ann.push("a/x", "{}").await, ann.push("a/x", "layer").await);
    let manifest = image(&config, 2, &layer, 5);
    let put = ann
        .send(
            "PUT /v2/a/x/manifests/v1",
            &[("Content-Type", OCI)],
            manifest.clone(),
        )
        .await;
    check(&put, expect![]);
    let digest = put.header("docker-content-digest");
    for reference in ["v1", &digest] {
        let got = ann
            .send(&format!("GET /v2/a/x/manifests/{reference}"), &[], "")
            .await;
        assert_eq!(
            (got.text(), got.header("content-type")),
            (manifest.clone(), OCI.to_owned())
        );
    }
    check(
        &ann.send("HEAD /v2/a/x/manifests/v1", &[], "").await,
        expect![],
    );
    check(
        &ann.send("GET /v2/a/x/manifests/v2", &[], "").await,
        expect![],
    );
    // By digest, it must be that.
    let wrong = Digest::of(b"other").to_string();
    let put = format!("PUT /v2/a/x/manifests/{wrong}");
    check(
        &ann.send(&put, &[("Content-Type", OCI)], manifest.clone())
            .await,
        expect![],
    );
    let put = format!("PUT /v2/a/x/manifests/{digest}");
    assert_eq!(
        ann.send(&put, &[("Content-Type", OCI)], manifest)
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn a_manifest_that_names_what_is_not_there_is_refused() {
    let (_dir, ann) = client();
    let digest = Digest::of(b"{}").to_string();
    let manifest = image(&digest, 2, &digest, 2);
    let put = "PUT /v2/a/x/manifests/v1";
    check(
        &ann.send(put, &[("Content-Type", OCI)], manifest).await,
        expect![],
    );
    check(
        &ann.send(put, &[("Content-Type", OCI)], "{").await,
        expect![],
    );
    let large = " ".repeat((4 << 20) + 1);
    check(
        &ann.send(put, &[("Content-Type", OCI)], large).await,
        expect![],
    );
    check(
        &ann.send("PUT /v2/a/x/manifests/-v", &[], "{}").await,
        expect![],
    );
    assert_eq!(ann.status("GET /v2/a/x/manifests/v1").await, 404);
}

#[tokio::test]
async fn a_list_of_platforms_names_manifests_that_are_there() {
    let (_dir, ann) = client();
    let child = ann.push_image("a/x", "amd64", "layer").await;
    let index = |digest: &str| {
        json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{"mediaType": OCI, "digest": digest, "size": 1}]})
        .to_string()
    };
    let put = |body| {
        ann.send(
            "PUT /v2/a/x/manifests/all",
            &[("Content-Type", INDEX)],
            body,
        )
    };
    assert_eq!(
        put(index(&Digest::of(b"none").to_string())).await.status,
        404
    );
    assert_eq!(put(index(&child)).await.status, 201);
    let got = ann
        .send("GET /v2/a/x/manifests/all", &[("Accept", OCI)], "")
        .await;
    assert_eq!(got.header("content-type"), INDEX);
}

#[tokio::test]
async fn tags_are_listed_in_parts() {
    let (_dir, ann) = client();
    check(&ann.send("GET /v2/a/x/tags/list", &[], "").await, expect![]);
    for tag in ["b", "a", "C", "d"] {
        ann.push_image("a/x", tag, "layer").await;
    }
    check(&ann.send("GET /v2/a/x/tags/list", &[], "").await, expect![]);
    check(
        &ann.send("GET /v2/a/x/tags/list?n=2", &[], "").await,
        expect![],
    );
    check(
        &ann.send("GET /v2/a/x/tags/list?n=2&last=a", &[], "").await,
        expect![],
    );
    check(
        &ann.send("GET /v2/a/x/tags/list?n=0", &[], "").await,
        expect![],
    );
    assert_eq!(ann.status("GET /v2/a/x/tags/list?n=two").await, 405);
    ann.with("ben").push_image("b/y", "v1", "other").await;
    ann.push_image("a/x/deep", "v1", "layer").await;
    check(&ann.send("GET /v2/_catalog", &[], "").await, expect![]);
    check(
        &ann.with("bob").send("GET /v2/_catalog?n=1", &[], "").await,
        expect![],
    );
}

#[tokio::test]
async fn what_names_a_subject_is_listed_under_it() {
    let (_dir, ann) = client();
    let subject = ann.push_image("a/x", "v1", "layer").await;
    let config = ann.push("a/x", "{}").await;
    let attached = |kind: &str, config_type: &str| {
        let mut manifest = json!({"schemaVersion": 2, "mediaType": OCI,
            "config": {"mediaType": config_type, "digest": config, "size": 2}, "layers": [],
            "subject": {"mediaType": OCI, "digest": subject, "size": 1},
            "annotations": {"who": "ann"}});
        if !kind.is_empty() {
            manifest["artifactType"] = kind.into();
        }
        manifest.to_string()
    };
    let signature = attached("example/signature", "application/vnd.oci.empty.v1+json");
    let put = |body: String| {
        let digest = Digest::of(body.as_bytes());
        let line = format!("PUT /v2/a/x/manifests/{digest}");
        let ann = ann.clone();
        async move { ann.send(&line, &[("Content-Type", OCI)], body).await }
    };
    check(&put(signature.clone()).await, expect![]);
    put(attached("", "example/sbom")).await;
    let list = format!("GET /v2/a/x/referrers/{subject}");
    let kinds = |answer: &Answer| -> Vec<String> {
        let list: Value = serde_json::from_slice(&answer.body).unwrap();
        let kinds = list["manifests"].as_array().unwrap().iter();
        let mut kinds: Vec<String> = kinds
            .map(|one| one["artifactType"].as_str().unwrap().to_owned())
            .collect();
        kinds.sort();
        kinds
    };
    let answer = ann.send(&list, &[], "").await;
    assert_eq!(kinds(&answer), ["example/sbom", "example/signature"]);
    assert_eq!(answer.header("content-type"), INDEX);
    let filtered = format!("{list}?artifactType=example%2Fsignature");
    check(&ann.send(&filtered, &[], "").await, expect![]);
    // Nothing names it, or it is not there: an empty list.
    let unknown = Digest::of(b"none");
    check(
        &ann.send(&format!("GET /v2/a/x/referrers/{unknown}"), &[], "")
            .await,
        expect![],
    );
    let delete = format!(
        "DELETE /v2/a/x/manifests/{}",
        Digest::of(signature.as_bytes())
    );
    assert_eq!(ann.status(&delete).await, 202);
    assert_eq!(kinds(&ann.send(&list, &[], "").await), ["example/sbom"]);
}

#[tokio::test]
async fn tags_manifests_and_blobs_are_deleted() {
    let (_dir, ann) = client();
    let digest = ann.push_image("a/x", "v1", "layer").await;
    ann.push_image("a/x", "v2", "layer").await;
    check(
        &ann.send("DELETE /v2/a/x/manifests/v1", &[], "").await,
        expect![],
    );
    check(
        &ann.send("DELETE /v2/a/x/manifests/v1", &[], "").await,
        expect![],
    );
    assert_eq!(ann.status("GET /v2/a/x/manifests/v2").await, 200);
    assert_eq!(
        ann.status(&format!("DELETE /v2/a/x/manifests/{digest}"))
            .await,
        202
    );
    assert_eq!(ann.status("GET /v2/a/x/manifests/v2").await, 404);
    assert_eq!(
        ann.status(&format!("GET /v2/a/x/manifests/{digest}")).await,
        404
    );
    let blob = format!("/v2/a/x/blobs/{}", Digest::of(b"layer"));
    assert_eq!(ann.status(&format!("DELETE {blob}")).await, 202);
    assert_eq!(ann.status(&format!("GET {blob}")).await, 404);
    check(
        &ann.send(&format!("DELETE {blob}"), &[], "").await,
        expect![],
    );
}

#[tokio::test]
async fn each_does_what_they_may() {
    let (_dir, ann) = client();
    let digest = ann.push_image("a/x", "v1", "layer").await;
    let blob = Digest::of(b"layer");
    let requests = [
        "GET /v2/a/x/manifests/v1".to_owned(),
        format!("GET /v2/a/x/blobs/{blob}"),
        "GET /v2/a/x/tags/list".to_owned(),
        format!("GET /v2/a/x/referrers/{digest}"),
        "POST /v2/a/x/blobs/uploads/".to_owned(),
        "PATCH /v2/a/x/blobs/uploads/1".to_owned(),
        "PUT /v2/a/x/manifests/v1".to_owned(),
        format!("DELETE /v2/a/x/manifests/{digest}"),
        format!("DELETE /v2/a/x/blobs/{blob}"),
    ];
    for (user, want) in [
        ("", "401 401 401 401 401 401 401 401 401"),
        ("ben", "403 403 403 403 403 403 403 403 403"),
        ("bob", "200 200 200 200 403 403 403 403 403"),
        ("pat", "200 200 200 200 202 404 400 403 403"),
    ] {
        let mut got = Vec::new();
        for line in &requests {
            got.push(ann.with(user).status(line).await.to_string());
        }
        assert_eq!(got.join(" "), want, "{user}");
    }
    check(
        &ann.with("ben")
            .send("GET /v2/a/x/manifests/v1", &[], "")
            .await,
        expect![],
    );
    // A tag that names something is changed by whoever may change tags.
    let pat = ann.with("pat");
    pat.push_image("a/x", "v2", "layer").await;
    pat.push_image("a/x", "v2", "layer").await;
    let config = pat.push("a/x", "{}").await;
    let other = image(&config, 2, &config, 2);
    let put = pat
        .send("PUT /v2/a/x/manifests/v2", &[("Content-Type", OCI)], other)
        .await;
    check(&put, expect![]);
}

#[tokio::test]
async fn names_are_checked_and_namespaces_must_be_there() {
    let (_dir, ann) = client();
    check(
        &ann.send("POST /v2/hello/blobs/uploads/", &[], "").await,
        expect![],
    );
    check(&ann.send("GET /v2/a/B/tags/list", &[], "").await, expect![]);
    check(&ann.send("GET /v2/nothing", &[], "").await, expect![]);
    check(
        &ann.send("POST /v2/a/x/manifests/v1", &[], "").await,
        expect![],
    );
    ann.cluster.namespaces.lock().unwrap().remove("a");
    check(
        &ann.send("POST /v2/a/x/blobs/uploads/", &[], "").await,
        expect![],
    );
}

#[tokio::test]
async fn a_quota_says_what_there_is_and_what_was_asked_for() {
    let (_dir, ann) = client();
    *ann.cluster.quota.lock().unwrap() = Some(600);
    ann.push("a/x", "5".repeat(500)).await;
    // What the namespace has costs nothing more.
    ann.push("a/y", "5".repeat(500)).await;
    let bytes = "2".repeat(200);
    let digest = Digest::of(bytes.as_bytes());
    let post = format!("POST /v2/a/x/blobs/uploads/?digest={digest}");
    check(&ann.send(&post, &[], bytes).await, expect![]);
    assert_eq!(
        ann.status(&format!("HEAD /v2/a/x/blobs/{digest}")).await,
        404
    );
    ann.push("a/x", "1".repeat(100)).await;
}
