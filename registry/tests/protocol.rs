//! The OCI distribution specification 1.1, request by request.
#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

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
    check(
        &ann.send("GET /v2/", &[], "").await,
        expect![[r#"
        200
        {}"#]],
    );
    check(
        &ann.with("").send("GET /v2/", &[], "").await,
        expect![[r#"
        401
        www-authenticate: Bearer realm="http://registry.test:5000/v2/token",service="registry.test:5000"
        {"errors":[{"code":"UNAUTHORIZED","detail":null,"message":"authentication required: a client certificate of the cluster, or a ServiceAccount's token as the password"}]}"#]],
    );
    check(
        &ann.with("").send("PUT /v2/a/x/manifests/v1", &[], "").await,
        expect![[r#"
            401
            www-authenticate: Bearer realm="http://registry.test:5000/v2/token",service="registry.test:5000",scope="repository:a/x:pull,push"
            {"errors":[{"code":"UNAUTHORIZED","detail":null,"message":"authentication required: a client certificate of the cluster, or a ServiceAccount's token as the password"}]}"#]],
    );
    // A password is a token, whatever the name.
    let account = [("Authorization", "Basic YW55Ym9keTphbm4tdG9rZW4=")];
    check(
        &ann.with("")
            .send("GET /v2/token?scope=x", &account, "")
            .await,
        expect![[r#"
            200
            {"access_token":"ann-token","expires_in":300,"token":"ann-token"}"#]],
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
    check(
        &ann.send(&format!("HEAD {path}"), &[], "").await,
        expect![[r#"
        404
        content-length: 0"#]],
    );
    let location = ann.begin("a/x").await;
    let put = format!("PUT {location}?digest={digest}");
    check(
        &ann.send(&put, &[("Content-Length", "5")], "hello").await,
        expect![[r#"
            201
            location: /v2/a/x/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
            content-length: 0
            docker-content-digest: sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"#]],
    );
    check(
        &ann.send(&format!("HEAD {path}"), &[], "").await,
        expect![[r#"
        200
        content-type: application/octet-stream
        content-length: 5
        docker-content-digest: sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"#]],
    );
    check(
        &ann.send(&format!("GET {path}"), &[], "").await,
        expect![[r#"
        200
        content-type: application/octet-stream
        docker-content-digest: sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
        hello"#]],
    );
    // The upload is over.
    check(
        &ann.send(&format!("GET {location}"), &[], "").await,
        expect![[r#"
            404
            {"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","detail":{"uuid":"ID"},"message":"upload \"ID\" is not known: it was finished, cancelled or too old"}]}"#]],
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
        expect![[r#"
            206
            content-range: bytes 2-4/10
            content-type: application/octet-stream
            docker-content-digest: sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882
            234"#]],
    );
    check(
        &ann.send(&get, &[("Range", "bytes=-2")], "").await,
        expect![[r#"
            206
            content-range: bytes 8-9/10
            content-type: application/octet-stream
            docker-content-digest: sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882
            89"#]],
    );
    check(
        &ann.send(&get, &[("Range", "bytes=10-")], "").await,
        expect![[r#"
            416
            {"errors":[{"code":"BLOB_UPLOAD_INVALID","detail":{"digest":"sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882","size":10},"message":"blob sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882 is 10 bytes, and \"bytes=10-\" is none of them"}]}"#]],
    );
}

#[tokio::test]
async fn a_blob_is_pushed_in_chunks() {
    let (_dir, ann) = client();
    let location = ann.begin("a/x").await;
    let patch = format!("PATCH {location}");
    let range = |range| [("Content-Range", range)];
    check(
        &ann.send(&patch, &range("0-2"), "012").await,
        expect![[r#"
        202
        location: /v2/a/x/blobs/uploads/ID
        range: 0-2
        content-length: 0"#]],
    );
    // Out of order, it is told where to go on.
    check(
        &ann.send(&patch, &range("5-6"), "56").await,
        expect![[r#"
        416
        location: /v2/a/x/blobs/uploads/ID
        range: 0-2
        {"errors":[{"code":"BLOB_UPLOAD_INVALID","detail":{"offset":3,"range":"5-6","uuid":"ID"},"message":"the chunk begins at 5, and 3 bytes have come: it must begin there"}]}"#]],
    );
    check(
        &ann.send(&patch, &range("3-4"), "3").await,
        expect![[r#"
        400
        {"errors":[{"code":"SIZE_INVALID","detail":{"received":1,"said":2},"message":"the body was to be 2 bytes, and 1 came"}]}"#]],
    );
    check(
        &ann.send(&format!("GET {location}"), &[], "").await,
        expect![[r#"
            204
            location: /v2/a/x/blobs/uploads/ID
            range: 0-3
            content-length: 0"#]],
    );
    check(
        &ann.send(&patch, &range("x"), "4").await,
        expect![[r#"
        400
        {"errors":[{"code":"BLOB_UPLOAD_INVALID","detail":{"contentRange":"x"},"message":"Content-Range \"x\" is not FIRST-LAST"}]}"#]],
    );
    assert_eq!(ann.send(&patch, &[], "45").await.status, 202);
    let digest = Digest::of(b"0123456").to_string();
    let put = format!("PUT {location}?digest={digest}");
    check(
        &ann.send(&put, &range("0-0"), "6").await,
        expect![[r#"
        416
        location: /v2/a/x/blobs/uploads/ID
        range: 0-5
        {"errors":[{"code":"BLOB_UPLOAD_INVALID","detail":{"offset":6,"range":"0-0","uuid":"ID"},"message":"the chunk begins at 0, and 6 bytes have come: it must begin there"}]}"#]],
    );
    check(
        &ann.send(&put, &range("6-6"), "6").await,
        expect![[r#"
        201
        location: /v2/a/x/blobs/sha256:5f6121bc06e18e209920d57d2f16b17cc82dfc2ade1d375d6951b99c65d1b89d
        content-length: 0
        docker-content-digest: sha256:5f6121bc06e18e209920d57d2f16b17cc82dfc2ade1d375d6951b99c65d1b89d"#]],
    );
    check(
        &ann.send(&format!("GET /v2/a/x/blobs/{digest}"), &[], "")
            .await,
        expect![[r#"
            200
            content-type: application/octet-stream
            docker-content-digest: sha256:5f6121bc06e18e209920d57d2f16b17cc82dfc2ade1d375d6951b99c65d1b89d
            0123456"#]],
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
        expect![[r#"
            400
            {"errors":[{"code":"DIGEST_INVALID","detail":{"actual":"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","digest":"sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa","size":5},"message":"the 5 bytes that came are sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824, not sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"}]}"#]],
    );
    assert_eq!(ann.status(&format!("GET {location}")).await, 404);
    assert_eq!(
        ann.status(&format!("HEAD /v2/a/x/blobs/{wrong}")).await,
        404
    );
    let location = ann.begin("a/x").await;
    check(
        &ann.send(&format!("PUT {location}"), &[], "hello").await,
        expect![[r#"
            400
            {"errors":[{"code":"DIGEST_INVALID","detail":{"uuid":"ID"},"message":"the parameter digest is missing: it says what was sent"}]}"#]],
    );
    check(
        &ann.send(&format!("PUT {location}?digest=sha256:12"), &[], "hello")
            .await,
        expect![[r#"
            400
            {"errors":[{"code":"DIGEST_INVALID","detail":{"digest":"sha256:12"},"message":"\"sha256:12\" is no digest: sha256: and 64, or sha512: and 128 lower-case hexadecimal digits"}]}"#]],
    );
    check(
        &ann.send(&format!("DELETE {location}"), &[], "").await,
        expect![[r#"
            204
            content-length: 0"#]],
    );
    check(
        &ann.send(&format!("DELETE {location}"), &[], "").await,
        expect![[r#"
            404
            {"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","detail":{"uuid":"ID"},"message":"upload \"ID\" is not known: it was finished, cancelled or too old"}]}"#]],
    );
    check(
        &ann.send("PATCH /v2/a/x/blobs/uploads/..%2F..", &[], "x")
            .await,
        expect![[r#"
            404
            {"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","detail":{"uuid":"..%2F.."},"message":"upload \"..%2F..\" is not known: it was finished, cancelled or too old"}]}"#]],
    );
    let mut files = walk(dir.path());
    files.retain(|file| !file.ends_with("/_owner"));
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
    check(
        &ann.send(&mount("&from=b/y"), &[], "").await,
        expect![[r#"
        201
        location: /v2/a/x/blobs/sha256:a4d26868017c0ccffe2efe50944ef4211834660cca834c6e9f86dec6a88246fa
        content-length: 0
        docker-content-digest: sha256:a4d26868017c0ccffe2efe50944ef4211834660cca834c6e9f86dec6a88246fa"#]],
    );
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
    check(
        &ben.send(&steal, &[], "").await,
        expect![[r#"
        202
        location: /v2/b/y/blobs/uploads/ID
        range: 0-0
        content-length: 0"#]],
    );
    let unknown = Digest::of(b"nothing").to_string();
    assert_eq!(
        ann.status(&format!("POST /v2/a/x/blobs/uploads/?mount={unknown}"))
            .await,
        202
    );
}

#[tokio::test]
async fn what_an_earlier_namespace_had_is_neither_mounted_nor_listed() {
    let (_dir, ann) = client();
    let ben = ann.with("ben");
    let digest = ben.push("b/secret", "the former tenant's").await;
    let new = |uid: &str| {
        let mut namespaces = ann.cluster.namespaces.lock().unwrap();
        namespaces.insert("b".to_owned(), uid.to_owned());
    };
    let listed = async || ann.send("GET /v2/_catalog", &[], "").await.text();
    assert_eq!(listed().await, r#"{"repositories":["b/secret"]}"#);
    new("2");
    assert_eq!(listed().await, r#"{"repositories":[]}"#);
    let mount = format!("POST /v2/a/x/blobs/uploads/?mount={digest}&from=b/secret");
    assert_eq!(ann.status(&mount).await, 202);
    new("1");
    assert_eq!(ann.status(&mount).await, 201);
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
    check(
        &put,
        expect![[r#"
        201
        location: /v2/a/x/manifests/sha256:63b7fcae51b210a6929cc7bc8dfd27c79c13e220bb9c4ffc07b37ed91697eaab
        content-length: 0
        docker-content-digest: sha256:63b7fcae51b210a6929cc7bc8dfd27c79c13e220bb9c4ffc07b37ed91697eaab"#]],
    );
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
        expect![[r#"
            200
            content-type: application/vnd.oci.image.manifest.v1+json
            content-length: 433
            docker-content-digest: sha256:63b7fcae51b210a6929cc7bc8dfd27c79c13e220bb9c4ffc07b37ed91697eaab"#]],
    );
    check(
        &ann.send("GET /v2/a/x/manifests/v2", &[], "").await,
        expect![[r#"
            404
            {"errors":[{"code":"MANIFEST_UNKNOWN","detail":{"name":"a/x","reference":"v2"},"message":"manifest v2 is not in repository a/x"}]}"#]],
    );
    // By digest, it must be that.
    let wrong = Digest::of(b"other").to_string();
    let put = format!("PUT /v2/a/x/manifests/{wrong}");
    check(
        &ann.send(&put, &[("Content-Type", OCI)], manifest.clone())
            .await,
        expect![[r#"
            400
            {"errors":[{"code":"DIGEST_INVALID","detail":{"actual":"sha256:63b7fcae51b210a6929cc7bc8dfd27c79c13e220bb9c4ffc07b37ed91697eaab","digest":"sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"},"message":"the manifest is sha256:63b7fcae51b210a6929cc7bc8dfd27c79c13e220bb9c4ffc07b37ed91697eaab, not sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"}]}"#]],
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
        expect![[r#"
            404
            {"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":{"digests":["sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"],"name":"a/x"},"message":"the manifest names what is not in repository a/x: push it before: sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}]}"#]],
    );
    check(
        &ann.send(put, &[("Content-Type", OCI)], "{").await,
        expect![[r#"
            400
            {"errors":[{"code":"MANIFEST_INVALID","detail":null,"message":"the manifest is no JSON: EOF while parsing an object at line 1 column 1"}]}"#]],
    );
    let large = " ".repeat((4 << 20) + 1);
    check(
        &ann.send(put, &[("Content-Type", OCI)], large).await,
        expect![[r#"
            413
            {"errors":[{"code":"SIZE_INVALID","detail":{"limit":4194304},"message":"the manifest is larger than the 4194304 bytes that are taken"}]}"#]],
    );
    check(
        &ann.send("PUT /v2/a/x/manifests/-v", &[], "{}").await,
        expect![[r#"
            400
            {"errors":[{"code":"MANIFEST_INVALID","detail":{"reference":"-v"},"message":"\"-v\" is no tag: letters, digits, ., _ and -, at most 128, not beginning with . or -"}]}"#]],
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
    check(
        &ann.send("GET /v2/a/x/tags/list", &[], "").await,
        expect![[r#"
        404
        {"errors":[{"code":"NAME_UNKNOWN","detail":{"name":"a/x"},"message":"repository a/x not found"}]}"#]],
    );
    for tag in ["b", "a", "C", "d"] {
        ann.push_image("a/x", tag, "layer").await;
    }
    check(
        &ann.send("GET /v2/a/x/tags/list", &[], "").await,
        expect![[r#"
        200
        {"name":"a/x","tags":["C","a","b","d"]}"#]],
    );
    check(
        &ann.send("GET /v2/a/x/tags/list?n=2", &[], "").await,
        expect![[r#"
            200
            link: </v2/a/x/tags/list?n=2&last=a>; rel="next"
            {"name":"a/x","tags":["C","a"]}"#]],
    );
    check(
        &ann.send("GET /v2/a/x/tags/list?n=2&last=a", &[], "").await,
        expect![[r#"
            200
            {"name":"a/x","tags":["b","d"]}"#]],
    );
    check(
        &ann.send("GET /v2/a/x/tags/list?n=0", &[], "").await,
        expect![[r#"
            200
            {"name":"a/x","tags":[]}"#]],
    );
    assert_eq!(ann.status("GET /v2/a/x/tags/list?n=two").await, 405);
    ann.with("ben").push_image("b/y", "v1", "other").await;
    ann.push_image("a/x/deep", "v1", "layer").await;
    check(
        &ann.send("GET /v2/_catalog", &[], "").await,
        expect![[r#"
        200
        {"repositories":["a/x","a/x/deep","b/y"]}"#]],
    );
    check(
        &ann.with("bob").send("GET /v2/_catalog?n=1", &[], "").await,
        expect![[r#"
            200
            link: </v2/_catalog?n=1&last=a/x>; rel="next"
            {"repositories":["a/x"]}"#]],
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
    check(
        &put(signature.clone()).await,
        expect![[r#"
        201
        location: /v2/a/x/manifests/sha256:8865a493fd062c64126d061596e771b4cbbede37e3fc86a4179aca271c83e037
        content-length: 0
        docker-content-digest: sha256:8865a493fd062c64126d061596e771b4cbbede37e3fc86a4179aca271c83e037
        oci-subject: sha256:63b7fcae51b210a6929cc7bc8dfd27c79c13e220bb9c4ffc07b37ed91697eaab"#]],
    );
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
    check(
        &ann.send(&filtered, &[], "").await,
        expect![[r#"
        200
        content-type: application/vnd.oci.image.index.v1+json
        oci-filters-applied: artifactType
        {"manifests":[{"annotations":{"who":"ann"},"artifactType":"example/signature","digest":"sha256:8865a493fd062c64126d061596e771b4cbbede37e3fc86a4179aca271c83e037","mediaType":"application/vnd.oci.image.manifest.v1+json","size":463}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#]],
    );
    // Nothing names it, or it is not there: an empty list.
    let unknown = Digest::of(b"none");
    check(
        &ann.send(&format!("GET /v2/a/x/referrers/{unknown}"), &[], "")
            .await,
        expect![[r#"
            200
            content-type: application/vnd.oci.image.index.v1+json
            {"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#]],
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
        expect![[r#"
            202
            content-length: 0"#]],
    );
    check(
        &ann.send("DELETE /v2/a/x/manifests/v1", &[], "").await,
        expect![[r#"
            404
            {"errors":[{"code":"MANIFEST_UNKNOWN","detail":{"name":"a/x","reference":"v1"},"message":"manifest v1 is not in repository a/x"}]}"#]],
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
        expect![[r#"
            404
            {"errors":[{"code":"BLOB_UNKNOWN","detail":{"digest":"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85","name":"a/x"},"message":"blob sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85 is not in repository a/x"}]}"#]],
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
        expect![[r#"
            403
            {"errors":[{"code":"DENIED","detail":{"name":"a/x","verb":"get"},"message":"ben cannot get a/x"}]}"#]],
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
    check(
        &put,
        expect![[r#"
        403
        {"errors":[{"code":"DENIED","detail":{"tag":"v2"},"message":"pat cannot update a/x"}]}"#]],
    );
}

#[tokio::test]
async fn names_are_checked_and_namespaces_must_be_there() {
    let (_dir, ann) = client();
    check(
        &ann.send("POST /v2/hello/blobs/uploads/", &[], "").await,
        expect![[r#"
            400
            {"errors":[{"code":"NAME_INVALID","detail":{"name":"hello"},"message":"\"hello\" is in no namespace: repositories are NAMESPACE/NAME"}]}"#]],
    );
    check(
        &ann.send("GET /v2/a/B/tags/list", &[], "").await,
        expect![[r#"
        400
        {"errors":[{"code":"NAME_INVALID","detail":{"name":"a/B"},"message":"\"B\" in \"a/B\" must be lower-case letters and digits, with ., _, __ or dashes between them"}]}"#]],
    );
    check(
        &ann.send("GET /v2/nothing", &[], "").await,
        expect![[r#"
        405
        {"errors":[{"code":"UNSUPPORTED","detail":null,"message":"there is nothing at this path"}]}"#]],
    );
    check(
        &ann.send("POST /v2/a/x/manifests/v1", &[], "").await,
        expect![[r#"
            405
            {"errors":[{"code":"UNSUPPORTED","detail":null,"message":"POST is not done here"}]}"#]],
    );
    ann.cluster.namespaces.lock().unwrap().remove("a");
    check(
        &ann.send("POST /v2/a/x/blobs/uploads/", &[], "").await,
        expect![[r#"
            404
            {"errors":[{"code":"NAME_UNKNOWN","detail":{"name":"a/x"},"message":"namespace \"a\" not found: repositories are NAMESPACE/NAME"}]}"#]],
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
    check(
        &ann.send(&post, &[], bytes).await,
        expect![[r#"
        403
        {"errors":[{"code":"DENIED","detail":{"limited":600,"quota":"images","requested":200,"used":500},"message":"exceeded quota: images, requested: registry.wk.dev/storage=200, used: registry.wk.dev/storage=500, limited: registry.wk.dev/storage=600"}]}"#]],
    );
    assert_eq!(
        ann.status(&format!("HEAD /v2/a/x/blobs/{digest}")).await,
        404
    );
    ann.push("a/x", "1".repeat(100)).await;
}
