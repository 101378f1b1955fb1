//! Create, get, update, patch and delete.

use expect_test::expect;
use serde_json::json;

use crate::harness::{Cluster, DEPLOYMENTS, MAPS, PODS, config_map, pod};

const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;

#[tokio::test]
async fn a_created_object_has_what_the_server_gives() {
    let cluster = Cluster::start().await;
    let reply = cluster
        .send(&format!("POST {MAPS}"), &config_map("a", "1"))
        .await;
    assert_eq!(reply.code, 201, "{}", reply.text);
    let created = reply.json();
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["uid"].as_str().map(str::len), Some(36));
    assert!(
        metadata["resourceVersion"]
            .as_str()
            .is_some_and(|version| version != "0")
    );
    assert!(metadata["creationTimestamp"].is_string());
    assert_eq!(cluster.ok(&format!("GET {MAPS}/a"), "").await, created);
}

#[tokio::test]
async fn failures_are_told_in_kubernetes_words() {
    let cluster = Cluster::start().await;
    cluster
        .ok(&format!("POST {MAPS}"), &config_map("a", "1"))
        .await;
    let stale = r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#;
    let long = config_map("a", &"x".repeat(3 * 1024 * 1024));
    let cases = [
        (
            "GET {}/none",
            "",
            expect![[r#"404 NotFound: configmaps "none" not found"#]],
        ),
        (
            "PUT {}/none",
            r#"{"metadata":{"name":"none"}}"#,
            expect![[r#"404 NotFound: configmaps "none" not found"#]],
        ),
        (
            "POST {}",
            r#"{"metadata":{"name":"a"}}"#,
            expect![[r#"409 AlreadyExists: configmaps "a" already exists"#]],
        ),
        (
            "PUT {}/a",
            stale,
            expect![[
                r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#
            ]],
        ),
        (
            "PATCH {}/a",
            stale,
            expect![[
                r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#
            ]],
        ),
        (
            "PUT {}/a",
            r#"{"metadata":{"name":"b"}}"#,
            expect![
                "400 BadRequest: the name of the object (b) does not match the name on the URL (a)"
            ],
        ),
        (
            "POST {}",
            r#"{"metadata":{"name":"b","namespace":"other"}}"#,
            expect![
                "400 BadRequest: the namespace of the provided object does not match the namespace sent on the request"
            ],
        ),
        (
            "POST {}",
            r#"{"kind":"Pod","metadata":{"name":"b"}}"#,
            expect![[
                r#"400 BadRequest: Pod in version "v1" cannot be handled as a ConfigMap: the kind in the data (Pod) does not match the expected kind (ConfigMap)"#
            ]],
        ),
        (
            "POST {}",
            r#"{"apiVersion":"v2","metadata":{"name":"b"}}"#,
            expect![
                "400 BadRequest: the API version in the data (v2) does not match the expected API version (v1)"
            ],
        ),
        (
            "POST {}",
            r#"{"metadata":{}}"#,
            expect![[
                r#"422 Invalid: ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required"#
            ]],
        ),
        (
            "POST /api/v1/namespaces/none/configmaps",
            r#"{"metadata":{"name":"b"}}"#,
            expect![[r#"404 NotFound: namespaces "none" not found"#]],
        ),
        (
            "POST {}",
            &long,
            expect!["413 RequestEntityTooLarge: Request entity too large: limit is 3145728"],
        ),
        (
            "GET /api/v1/namespaces/default/frobs",
            "",
            expect!["404 NotFound: the server could not find the requested resource"],
        ),
        (
            "PATCH {}",
            "{}",
            expect![
                "405 MethodNotAllowed: the server does not allow this method on the requested resource"
            ],
        ),
        (
            "DELETE {}/a",
            r#"{"preconditions":{"uid":"x"}}"#,
            expect![""],
        ),
    ];
    for (line, body, expected) in cases {
        let failure = cluster.failure(&line.replace("{}", MAPS), body).await;
        if line.starts_with("DELETE") {
            assert!(failure.contains("409 Conflict: Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: x, UID in object meta: "), "{failure}");
        } else {
            expected.assert_eq(&failure);
        }
    }
}

#[tokio::test]
async fn unknown_fields_are_warned_of_refused_or_ignored() {
    let cluster = Cluster::start().await;
    let body = r#"{"metadata":{"name":"a"},"foo":1,"data":{"k":"1","k":"2"}}"#;
    let strict = cluster
        .failure(&format!("POST {MAPS}?fieldValidation=Strict"), body)
        .await;
    assert_eq!(
        strict,
        r#"400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo", duplicate field "data.k""#
    );
    let warned = cluster.send(&format!("POST {MAPS}?dryRun=All"), body).await;
    assert_eq!(
        warned.warnings(),
        [
            r#"299 - "unknown field \"foo\"""#,
            r#"299 - "duplicate field \"data.k\"""#
        ]
    );
    assert_eq!(warned.json()["foo"], json!(null));
    let ignored = cluster
        .send(&format!("POST {MAPS}?fieldValidation=Ignore"), body)
        .await;
    assert_eq!((ignored.code.as_u16(), ignored.warnings().len()), (201, 0));
}

#[tokio::test]
async fn wrong_types_and_broken_text_are_bad_requests() {
    let cluster = Cluster::start().await;
    let line = format!("POST {DEPLOYMENTS}");
    let failure = cluster.failure(&line, r#"{"spec":{"replicas":"x"}}"#).await;
    assert!(failure.starts_with("400 BadRequest: Deployment in version \"v1\" cannot be handled as a Deployment: spec.replicas: "), "{failure}");
    assert!(
        cluster
            .failure(&line, "{")
            .await
            .starts_with("400 BadRequest")
    );
    assert!(
        cluster
            .failure(&line, "[]")
            .await
            .starts_with("400 BadRequest")
    );
    let reply = cluster
        .send_with(&line, "k8s\0", &[("content-type", "text/plain")])
        .await;
    assert_eq!(reply.code, 415);
}

#[tokio::test]
async fn yaml_is_read_as_json_is() {
    let cluster = Cluster::start().await;
    let yaml = "metadata:\n  name: a\ndata:\n  k: v\n";
    let reply = cluster
        .send_with(
            &format!("POST {MAPS}"),
            yaml,
            &[("content-type", "application/yaml")],
        )
        .await;
    assert_eq!(reply.json()["data"], json!({"k": "v"}), "{}", reply.text);
}

#[tokio::test]
async fn a_generated_name_is_new_each_time() {
    let cluster = Cluster::start().await;
    let mut names = std::collections::HashSet::new();
    for _ in 0..20 {
        let created = cluster
            .ok(
                &format!("POST {MAPS}"),
                r#"{"metadata":{"generateName":"a-"}}"#,
            )
            .await;
        let name = created["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        assert!(name.starts_with("a-") && name.len() == 7, "{name}");
        assert!(names.insert(name));
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let cluster = Cluster::start().await;
    cluster
        .ok(&format!("POST {MAPS}?dryRun=All"), &config_map("a", "1"))
        .await;
    assert_eq!(cluster.send(&format!("GET {MAPS}/a"), "").await.code, 404);
    let created = cluster
        .ok(&format!("POST {MAPS}"), &config_map("a", "1"))
        .await;
    let dry = cluster
        .ok(
            &format!("PATCH {MAPS}/a?dryRun=All"),
            r#"{"data":{"v":"2"}}"#,
        )
        .await;
    assert_eq!(dry["data"]["v"], "2");
    cluster.ok(&format!("DELETE {MAPS}/a?dryRun=All"), "").await;
    assert_eq!(cluster.ok(&format!("GET {MAPS}/a"), "").await, created);
}

#[tokio::test]
async fn each_patch_type_does_its_own() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {DEPLOYMENTS}"), DEPLOYMENT).await;
    let line = format!("PATCH {DEPLOYMENTS}/web");
    let containers = |object: &serde_json::Value| {
        let containers = object["spec"]["template"]["spec"]["containers"].clone();
        let containers = containers.as_array().cloned().unwrap_or_default();
        let names: Vec<String> = containers
            .iter()
            .map(|container| {
                format!("{}={}", container["name"], container["image"]).replace('"', "")
            })
            .collect();
        names.join(" ")
    };
    let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"d","image":"j"}]}}}}"#;
    let reply = cluster
        .send_with(
            &line,
            strategic,
            &[("content-type", "application/strategic-merge-patch+json")],
        )
        .await;
    assert_eq!(reply.code, 200, "{}", reply.text);
    let both = containers(&reply.json());
    assert!(both.contains("c=i") && both.contains("d=j"), "{both}");
    assert_eq!(reply.json()["metadata"]["generation"], 2);
    let merged = cluster.ok(&line, strategic).await;
    assert_eq!(containers(&merged), "d=j");
    let json_patch = r#"[{"op":"replace","path":"/spec/replicas","value":3}]"#;
    let kind = &[("content-type", "application/json-patch+json")];
    assert_eq!(
        cluster.send_with(&line, json_patch, kind).await.json()["spec"]["replicas"],
        3
    );
    let test = r#"[{"op":"test","path":"/spec/replicas","value":4}]"#;
    assert_eq!(cluster.send_with(&line, test, kind).await.code, 422);
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_no_write() {
    let cluster = Cluster::start().await;
    let created = cluster
        .ok(&format!("POST {MAPS}"), &config_map("a", "1"))
        .await;
    let patched = cluster
        .ok(&format!("PATCH {MAPS}/a"), r#"{"data":{"v":"1"}}"#)
        .await;
    assert_eq!(patched, created);
}

#[tokio::test]
async fn what_the_server_gave_cannot_be_changed() {
    let cluster = Cluster::start().await;
    cluster
        .ok(&format!("POST {MAPS}"), &config_map("a", "1"))
        .await;
    let line = format!("PATCH {MAPS}/a");
    let uid = cluster.failure(&line, r#"{"metadata":{"uid":"x"}}"#).await;
    assert!(uid.starts_with("409 Conflict"), "{uid}");
    let time = cluster
        .failure(
            &line,
            r#"{"metadata":{"creationTimestamp":"2020-01-01T00:00:00Z"}}"#,
        )
        .await;
    assert!(time.contains("metadata.creationTimestamp: Invalid value: \"2020-01-01T00:00:00Z\": field is immutable"), "{time}");
}

#[tokio::test]
async fn concurrent_patches_all_take_effect() {
    let cluster = Cluster::start().await;
    cluster
        .ok(&format!("POST {MAPS}"), &config_map("a", "1"))
        .await;
    let patches = (0..16).map(|index| {
        let cluster = &cluster;
        async move {
            let body = format!(r#"{{"data":{{"k{index}":"x"}}}}"#);
            cluster.ok(&format!("PATCH {MAPS}/a"), &body).await
        }
    });
    futures::future::join_all(patches).await;
    let object = cluster.ok(&format!("GET {MAPS}/a"), "").await;
    assert_eq!(
        object["data"].as_object().map(serde_json::Map::len),
        Some(17)
    );
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let cluster = Cluster::start().await;
    cluster
        .ok(
            &format!("POST {MAPS}"),
            r#"{"metadata":{"name":"a","finalizers":["x.io/f"]}}"#,
        )
        .await;
    let marked = cluster.ok(&format!("DELETE {MAPS}/a"), "").await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let added = cluster
        .failure(
            &format!("PATCH {MAPS}/a"),
            r#"{"metadata":{"finalizers":["x.io/f","x.io/g"]}}"#,
        )
        .await;
    assert!(
        added.contains("no new finalizers can be added if the object is being deleted"),
        "{added}"
    );
    cluster
        .ok(
            &format!("PATCH {MAPS}/a"),
            r#"{"metadata":{"finalizers":null}}"#,
        )
        .await;
    assert_eq!(cluster.send(&format!("GET {MAPS}/a"), "").await.code, 404);
}

#[tokio::test]
async fn propagation_policies_set_the_collectors_finalizers() {
    let cluster = Cluster::start().await;
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        cluster
            .ok(&format!("POST {MAPS}"), &config_map("a", "1"))
            .await;
        let body = format!(r#"{{"propagationPolicy":"{policy}"}}"#);
        let marked = cluster.ok(&format!("DELETE {MAPS}/a"), &body).await;
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        cluster
            .ok(&format!("DELETE {MAPS}/a?propagationPolicy=Background"), "")
            .await;
        assert_eq!(cluster.send(&format!("GET {MAPS}/a"), "").await.code, 404);
    }
    let wrong = cluster
        .failure(&format!("DELETE {MAPS}/a?propagationPolicy=Maybe"), "")
        .await;
    assert!(wrong.starts_with("400 BadRequest"), "{wrong}");
}

#[tokio::test]
async fn a_running_pod_is_deleted_in_two_steps() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {PODS}"), &pod("a")).await;
    cluster
        .ok(
            &format!("POST {PODS}/a/binding"),
            r#"{"target":{"kind":"Node","name":"n1"}}"#,
        )
        .await;
    let marked = cluster.ok(&format!("DELETE {PODS}/a"), "").await;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = cluster
        .ok(&format!("DELETE {PODS}/a?gracePeriodSeconds=5"), "")
        .await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    let longer = cluster
        .ok(&format!("DELETE {PODS}/a?gracePeriodSeconds=50"), "")
        .await;
    assert_eq!(longer, shorter);
    cluster
        .ok(&format!("DELETE {PODS}/a"), r#"{"gracePeriodSeconds":0}"#)
        .await;
    assert_eq!(cluster.send(&format!("GET {PODS}/a"), "").await.code, 404);
}

#[tokio::test]
async fn a_removed_object_is_answered_with_success() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {DEPLOYMENTS}"), DEPLOYMENT).await;
    let status = cluster.ok(&format!("DELETE {DEPLOYMENTS}/web"), "").await;
    assert_eq!(status["status"], "Success");
    assert_eq!(status["details"]["kind"], "deployments");
    assert_eq!(status["details"]["group"], "apps");
}

#[tokio::test]
async fn quantities_are_kept_in_their_canonical_form() {
    let cluster = Cluster::start().await;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"0.10","memory":"1024Ki"},"limits":{"cpu":2.0,"memory":"1e9"}}}]}}"#;
    let created = cluster.ok(&format!("POST {PODS}"), pod).await;
    let resources = created["spec"]["containers"][0]["resources"].clone();
    assert_eq!(
        resources.to_string(),
        r#"{"limits":{"cpu":"2","memory":"1e9"},"requests":{"cpu":"100m","memory":"1Mi"}}"#
    );
    let got = cluster.ok(&format!("GET {PODS}/p"), "").await;
    assert_eq!(got["spec"]["containers"][0]["resources"], resources);
}

#[tokio::test]
async fn a_name_that_is_wrong_is_said_to_be_wrong_once() {
    let cluster = Cluster::start().await;
    let namespace = cluster
        .failure("POST /api/v1/namespaces", r#"{"metadata":{"name":"a.b"}}"#)
        .await;
    assert_eq!(
        namespace.matches("metadata.name: Invalid value").count(),
        1,
        "{namespace}"
    );
    assert!(namespace.contains("RFC 1123 label"), "{namespace}");
}
