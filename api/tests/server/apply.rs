//! Server-side apply, and who owns what after every other write.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::harness::{Cluster, DEPLOYMENTS, MAPS, PODS, Reply, pod};

const APPLY: (&str, &str) = ("content-type", "application/apply-patch+yaml");

/// Applies as a manager; `query` follows.
async fn apply(cluster: &Cluster, path: &str, manager: &str, query: &str, body: &str) -> Reply {
    let line = format!("PATCH {path}?fieldManager={manager}{query}");
    cluster.send_with(&line, body, &[APPLY]).await
}

async fn applied(cluster: &Cluster, path: &str, manager: &str, body: &str) -> Value {
    let reply = apply(cluster, path, manager, "", body).await;
    assert!(reply.code.is_success(), "{path}: {}", reply.text);
    reply.json()
}

fn map(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {data}\n")
}

fn deployment(replicas: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n{replicas}  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec: {{containers: [{{name: c, image: 'i:1', ports: [{{containerPort: 80}}]}}]}}\n"
    )
}

/// One line for each manager, without times.
fn managers(object: &Value) -> String {
    let entries = object["metadata"]["managedFields"].as_array();
    let lines = entries.into_iter().flatten().map(|entry| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        assert_eq!(entry["fieldsType"], "FieldsV1");
        assert_eq!(text("time").len(), 20);
        let subresource = match text("subresource") {
            "" => String::new(),
            name => format!("/{name}"),
        };
        format!(
            "{} {}{subresource} {}: {}",
            text("operation"),
            text("manager"),
            text("apiVersion"),
            entry["fieldsV1"]
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(object: &Value, expected: Expect) {
    expected.assert_eq(&managers(object));
}

#[tokio::test]
async fn an_apply_makes_the_object_and_changes_it() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/web");
    let reply = apply(&cluster, &path, "kubectl", "", &deployment("")).await;
    assert_eq!(reply.code, 201, "{}", reply.text);
    let created = reply.json();
    assert_eq!(created["spec"]["replicas"], 1, "defaults are filled in");
    check(
        &created,
        expect![[
            r#"Apply kubectl apps/v1: {"f:spec":{"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}"#
        ]],
    );
    let reply = apply(&cluster, &path, "kubectl", "", &deployment("")).await;
    assert_eq!(reply.code, 200, "{}", reply.text);
    assert_eq!(reply.json(), created, "nothing changed: no new revision");
    let json = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 3},
    });
    let changed = applied(&cluster, &path, "scaler", &json.to_string()).await;
    assert_eq!(changed["spec"]["replicas"], 3);
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(managers(&changed).lines().count(), 2);
    let dropped = r#"{"apiVersion":"apps/v1","kind":"Deployment"}"#;
    let dropped = applied(&cluster, &path, "scaler", dropped).await;
    assert_eq!(
        dropped["spec"]["replicas"], 1,
        "what nobody wants any more is as by default"
    );
    assert_eq!(managers(&dropped).lines().count(), 1);
}

#[tokio::test]
async fn a_conflict_names_manager_and_field() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/web");
    applied(&cluster, &path, "kubectl", &deployment("")).await;
    let patch = r#"{"spec":{"replicas":5,"paused":true}}"#;
    cluster
        .ok(&format!("PATCH {path}?fieldManager=kubectl-edit"), patch)
        .await;
    let wanted = deployment("  replicas: 2\n");
    let reply = apply(&cluster, &path, "kubectl", "", &wanted).await;
    expect![[r#"
        {
          "apiVersion": "v1",
          "code": 409,
          "details": {
            "causes": [
              {
                "field": ".spec.replicas",
                "message": "conflict with \"kubectl-edit\" using apps/v1",
                "reason": "FieldManagerConflict"
              }
            ]
          },
          "kind": "Status",
          "message": "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.replicas",
          "metadata": {},
          "reason": "Conflict",
          "status": "Failure"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&reply.json()).expect("JSON"));
    let more = deployment("  replicas: 2\n  paused: false\n");
    let reply = apply(&cluster, &path, "kubectl", "", &more).await;
    expect![[r#"
        409 Conflict: Apply failed with 2 conflicts: conflicts with "kubectl-edit" using apps/v1:
        - .spec.paused
        - .spec.replicas"#]]
    .assert_eq(&reply.failure());
    let forced = apply(&cluster, &path, "kubectl", "&force=true", &wanted).await;
    assert_eq!(forced.code, 200, "{}", forced.text);
    let forced = forced.json();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert!(
        managers(&forced).ends_with(r#"Update kubectl-edit apps/v1: {"f:spec":{"f:paused":{}}}"#)
    );
    let dry = apply(&cluster, &path, "other", "&force=true&dryRun=All", &more).await;
    assert_eq!(dry.json()["spec"]["paused"], json!(false));
    assert_eq!(cluster.ok(&format!("GET {path}"), "").await, forced);
}

#[tokio::test]
async fn every_write_says_who_made_it() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/web");
    let body = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    let agent = (
        "user-agent",
        "kubectl-create/v1.33.0 (linux/amd64) kubernetes/1234",
    );
    let made = cluster
        .send_with(&format!("POST {DEPLOYMENTS}"), &body.to_string(), &[agent])
        .await;
    check(
        &made.json(),
        expect![[
            r#"Update kubectl-create apps/v1: {"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:progressDeadlineSeconds":{},"f:replicas":{},"f:revisionHistoryLimit":{},"f:selector":{},"f:strategy":{".":{},"f:rollingUpdate":{".":{},"f:maxSurge":{},"f:maxUnavailable":{}},"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}}}"#
        ]],
    );
    let status = r#"{"status":{"replicas":1,"conditions":[{"type":"Available","status":"True"}]}}"#;
    cluster
        .ok(
            &format!("PATCH {path}/status?fieldManager=controller"),
            status,
        )
        .await;
    let scale = r#"{"spec":{"replicas":4}}"#;
    cluster
        .ok(&format!("PATCH {path}/scale?fieldManager=hpa"), scale)
        .await;
    let mut put = cluster.ok(&format!("GET {path}"), "").await;
    put["metadata"]["labels"] = json!({"a": "c"});
    let object = cluster
        .ok(&format!("PUT {path}?fieldManager=putter"), &put.to_string())
        .await;
    let told = managers(&object);
    let told: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("Update kubectl-create"))
        .collect();
    let mut told: Vec<&str> = told;
    told.sort_unstable();
    expect![[r#"
        Update controller/status apps/v1: {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Available\"}":{".":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}
        Update hpa/scale apps/v1: {"f:spec":{"f:replicas":{}}}
        Update putter apps/v1: {"f:metadata":{"f:labels":{"f:a":{}}}}"#]]
    .assert_eq(&told.join("\n"));
    let again = cluster
        .ok(
            &format!("PUT {path}?fieldManager=other"),
            &object.to_string(),
        )
        .await;
    assert_eq!(again, object, "nothing changed: no new revision");
}

#[tokio::test]
async fn what_only_the_system_sets_is_nobodys() {
    let cluster = Cluster::start().await;
    let made = cluster.ok(&format!("POST {PODS}"), &pod("a")).await;
    let told = managers(&made);
    assert!(told.starts_with("Update unknown v1: "), "{told}");
    assert!(!told.contains("f:status"), "{told}");
    let binding = r#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"a"},"target":{"kind":"Node","name":"n"}}"#;
    cluster.ok(&format!("POST {PODS}/a/binding"), binding).await;
    let bound = cluster.ok(&format!("GET {PODS}/a"), "").await;
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(managers(&bound), told);
}

#[tokio::test]
async fn what_admission_adds_is_nobodys() {
    let cluster = Cluster::start().await;
    let owned = |made: &Value| {
        assert_eq!(made["spec"]["serviceAccountName"], "default");
        assert_eq!(made["spec"]["tolerations"][0]["tolerationSeconds"], 300);
        assert_eq!(made["spec"]["restartPolicy"], "Always");
        let fields = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        let fields = fields.as_object().expect("fields").keys().cloned();
        fields.collect::<Vec<_>>().join(" ")
    };
    let made = applied(&cluster, &format!("{PODS}/a"), "m", &pod("a")).await;
    assert_eq!(owned(&made), "f:containers");
    // Whoever writes without applying owns the defaults too.
    let made = cluster.ok(&format!("POST {PODS}"), &pod("b")).await;
    assert_eq!(
        owned(&made),
        "f:containers f:dnsPolicy f:enableServiceLinks f:restartPolicy f:schedulerName f:securityContext \
         f:terminationGracePeriodSeconds"
    );
}

#[tokio::test]
async fn a_status_is_applied_by_its_own_path() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/web");
    applied(&cluster, &path, "kubectl", &deployment("")).await;
    let status = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {x: z}}\nspec: {replicas: 9}\nstatus: {replicas: 3, conditions: [{type: Mine, status: 'True'}]}\n";
    let object = applied(&cluster, &format!("{path}/status"), "controller", status).await;
    assert_eq!(object["status"]["replicas"], 3);
    assert_eq!(object["spec"]["replicas"], 1);
    let told = managers(&object);
    assert!(
        told.contains(r#"Apply controller/status apps/v1: {"f:status":{"f:conditions":{"k:{\"type\":\"Mine\"}":{".":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}"#),
        "{told}"
    );
    let main = applied(&cluster, &path, "other", status).await;
    assert_eq!(main["status"]["replicas"], 3);
    assert!(!managers(&main).contains(r#"Apply other apps/v1: {"f:status""#));
    let missing = status.replace("web", "none");
    let reply = apply(
        &cluster,
        &format!("{DEPLOYMENTS}/none/status"),
        "c",
        "",
        &missing,
    )
    .await;
    expect![[r#"404 NotFound: deployments.apps "none" not found"#]].assert_eq(&reply.failure());
}

#[tokio::test]
async fn a_scale_is_applied_too() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/web");
    applied(&cluster, &path, "kubectl", &deployment("  replicas: 2\n")).await;
    let scale =
        "apiVersion: autoscaling/v1\nkind: Scale\nmetadata: {name: web}\nspec: {replicas: 7}\n";
    let path = format!("{path}/scale");
    let reply = apply(&cluster, &path, "hpa", "", scale).await;
    expect![[
        r#"409 Conflict: Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas"#
    ]]
    .assert_eq(&reply.failure());
    let reply = apply(&cluster, &path, "hpa", "&force=true", scale).await;
    assert_eq!(reply.json()["spec"]["replicas"], 7);
    assert_eq!(reply.json()["kind"], "Scale");
    let object = cluster.ok(&format!("GET {DEPLOYMENTS}/web"), "").await;
    let told = managers(&object);
    assert!(
        told.contains(r#"Apply hpa/scale apps/v1: {"f:spec":{"f:replicas":{}}}"#),
        "{told}"
    );
    assert_eq!(told.matches("f:replicas").count(), 1, "{told}");
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused_in_kubernetes_words() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let long = format!("fieldManager={}", "x".repeat(129));
    let cases = [
        (
            "",
            map("{}"),
            expect![[
                r#"422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch"#
            ]],
        ),
        (
            &long,
            map("{}"),
            expect![[
                r#"422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes"#
            ]],
        ),
        (
            "fieldManager=a%09b",
            map("{}"),
            expect![[
                r#"422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Invalid value: "a\tb": invalid character U+0009 (at position 1)"#
            ]],
        ),
        (
            "fieldManager=m",
            "a: [".to_owned(),
            expect![
                "400 BadRequest: error decoding YAML: unclosed bracket '[' at line 1, column 4"
            ],
        ),
        (
            "fieldManager=m",
            "kind: ConfigMap".to_owned(),
            expect![[
                r#"400 BadRequest: invalid object type: "", Kind="ConfigMap": expected v1, Kind=ConfigMap"#
            ]],
        ),
        (
            "fieldManager=m",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {managedFields: []}".to_owned(),
            expect!["400 BadRequest: metadata.managedFields must be nil"],
        ),
        (
            "fieldManager=m",
            "apiVersion: v1\nkind: ConfigMap\nspec: {}\ndata: {a: [1]}".to_owned(),
            expect![[r#"
                400 BadRequest: failed to create typed patch object (default/a; /v1, Kind=ConfigMap): errors:
                  .data[a]: expected string, got array
                  .spec: field not declared in schema"#]],
        ),
        (
            "fieldManager=m&fieldValidation=Strict",
            "apiVersion: v1\nkind: ConfigMap\ndata: {a: x}\ndata: {b: x}".to_owned(),
            expect![[r#"400 BadRequest: strict decoding error: duplicate field "data""#]],
        ),
        (
            "fieldManager=m",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}".to_owned(),
            expect![
                "400 BadRequest: the name of the object (b) does not match the name on the URL (a)"
            ],
        ),
        (
            "fieldManager=m",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {resourceVersion: '7'}".to_owned(),
            expect![[
                r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": the provided object specified resourceVersion 7, and no existing object was found"#
            ]],
        ),
        (
            "fieldManager=m",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {ownerReferences: [{kind: x}]}".to_owned(),
            expect![[
                r#"400 BadRequest: failed to create typed patch object (default/a; /v1, Kind=ConfigMap): .metadata.ownerReferences: element 0: associative list with keys has an element that omits key field "uid" (and doesn't have default value)"#
            ]],
        ),
    ];
    for (query, body, expected) in cases {
        let reply = cluster
            .send_with(&format!("PATCH {path}?{query}"), &body, &[APPLY])
            .await;
        expected.assert_eq(&reply.failure());
    }
    let reply = cluster
        .send(&format!("PATCH {path}?force=true"), "{}")
        .await;
    expect![[
        r#"422 Invalid: PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch"#
    ]]
    .assert_eq(&reply.failure());
    applied(&cluster, &path, "m", &map("{a: x}")).await;
    let stale = "apiVersion: v1\nkind: ConfigMap\nmetadata: {resourceVersion: '1'}\ndata: {a: z}";
    let reply = apply(&cluster, &path, "m", "", stale).await;
    expect![[r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#]]
    .assert_eq(&reply.failure());
}

#[tokio::test]
async fn only_the_empty_entry_takes_all_owners_away() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let made = applied(&cluster, &path, "m", &map("{a: x}")).await;
    let patch = |managed: &str| format!(r#"{{"metadata":{{"managedFields":{managed}}}}}"#);
    for nothing in ["null", "[]"] {
        let object = cluster.ok(&format!("PATCH {path}"), &patch(nothing)).await;
        assert_eq!(object, made, "{nothing}");
    }
    let wrong = patch(r#"[{"manager":"m","operation":"Eat","fieldsType":"V2"}]"#);
    expect![[
        r#"422 Invalid: ConfigMap "a" is invalid: [metadata.managedFields[0].operation: Invalid value: "Eat": must be `Apply` or `Update`, metadata.managedFields[0].fieldsType: Invalid value: "V2": must be `FieldsV1`]"#
    ]]
    .assert_eq(&cluster.failure(&format!("PATCH {path}"), &wrong).await);
    let object = cluster.ok(&format!("PATCH {path}"), &patch("[{}]")).await;
    assert!(object["metadata"]["managedFields"].is_null());
    let object = cluster
        .ok(
            &format!("PATCH {path}?fieldManager=w"),
            r#"{"data":{"b":"y"}}"#,
        )
        .await;
    assert!(
        object["metadata"]["managedFields"].is_null(),
        "nobody's stays nobody's"
    );
    let object = applied(&cluster, &path, "m", &map("{a: x}")).await;
    check(
        &object,
        expect![[r#"
            Apply m v1: {"f:data":{"f:a":{}}}
            Update before-first-apply v1: {"f:data":{".":{},"f:a":{},"f:b":{}}}"#]],
    );
}

/// What kubectl sends when an object goes over from client-side apply.
#[tokio::test]
async fn the_owner_of_fields_is_renamed_by_a_json_patch() {
    let cluster = Cluster::start().await;
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"x","b":"y"}}"#;
    let made = cluster
        .ok(
            &format!("POST {MAPS}?fieldManager=kubectl-client-side-apply"),
            body,
        )
        .await;
    let mut entry = made["metadata"]["managedFields"][0].clone();
    entry["manager"] = "kubectl".into();
    entry["operation"] = "Apply".into();
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": [entry]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]);
    let json = ("content-type", "application/json-patch+json");
    let line = format!("PATCH {MAPS}/a");
    let reply = cluster.send_with(&line, &patch.to_string(), &[json]).await;
    check(
        &reply.json(),
        expect![[r#"Apply kubectl v1: {"f:data":{".":{},"f:a":{},"f:b":{}}}"#]],
    );
    let object = applied(&cluster, &format!("{MAPS}/a"), "kubectl", &map("{a: x}")).await;
    assert_eq!(object["data"], json!({"a": "x"}));
    let stale = cluster.send_with(&line, &patch.to_string(), &[json]).await;
    assert_eq!(stale.code, 409, "{}", stale.text);
}

#[tokio::test]
async fn many_who_apply_at_once_all_get_their_fields() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let applies = (0..8).map(|n| {
        let (cluster, path) = (&cluster, &path);
        async move {
            applied(
                cluster,
                path,
                &format!("m{n}"),
                &map(&format!("{{k{n}: x}}")),
            )
            .await
        }
    });
    futures::future::join_all(applies).await;
    let object = cluster.ok(&format!("GET {path}"), "").await;
    assert_eq!(
        object["data"].as_object().map(serde_json::Map::len),
        Some(8)
    );
    assert_eq!(managers(&object).lines().count(), 8);
}
