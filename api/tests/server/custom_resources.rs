//! Kinds that users define: served, validated, shown and removed like the built-in ones.

use expect_test::{Expect, expect};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Cluster, DEADLINE};

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const CRONTABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

/// The definition that these tests speak of, with this for its only version's schema and more.
pub(crate) fn definition(version: Value) -> Value {
    let mut own = json!({"name": "v1", "served": true, "storage": true});
    for (key, value) in version.as_object().into_iter().flatten() {
        own[key] = value.clone();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [own],
        },
    })
}

/// A schema with this for its `spec`.
pub(crate) fn schema(spec: Value) -> Value {
    json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": spec,
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}})
}

pub(crate) fn crontab(spec: Value) -> String {
    json!({
        "apiVersion": "stable.example.com/v1",
        "kind": "CronTab",
        "metadata": {"name": "a"},
        "spec": spec,
    })
    .to_string()
}

impl Cluster {
    /// Defines a kind and waits until it is established.
    pub(crate) async fn define(&self, definition: &Value) {
        self.ok(&format!("POST {DEFINITIONS}"), &definition.to_string())
            .await;
        let name = definition["metadata"]["name"].as_str().expect("a name");
        self.until(&format!("GET {DEFINITIONS}/{name}"), |found| {
            condition(found, "Established") == "True"
        })
        .await;
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, line: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let asked = timeout(DEADLINE, async {
            loop {
                last = self.send(line, "").await.json();
                if wanted(&last) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        assert!(asked.await.is_ok(), "{line}: last seen {last}");
        last
    }
}

fn condition<'a>(definition: &'a Value, name: &str) -> &'a str {
    definition["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == name)
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or_default()
}

/// What a definition with this version is told.
async fn refused(version: Value, expected: Expect) {
    let cluster = Cluster::start().await;
    let definition = definition(version).to_string();
    let failure = cluster
        .failure(&format!("POST {DEFINITIONS}"), &definition)
        .await;
    expected.assert_eq(&failure);
}

/// What objects of a schema are told.
async fn check(spec: Value, cases: &[(Value, Expect)]) {
    let cluster = Cluster::start().await;
    cluster
        .define(&definition(json!({ "schema": schema(spec) })))
        .await;
    for (spec, expected) in cases {
        let reply = cluster
            .send(
                &format!("POST {CRONTABS}?dryRun=All"),
                &crontab(spec.clone()),
            )
            .await;
        let told = if reply.code.is_success() {
            reply.json()["spec"].to_string()
        } else {
            reply.failure()
        };
        expected.assert_eq(&told);
    }
}

#[tokio::test]
async fn a_kind_is_served_once_it_is_established() {
    let cluster = Cluster::start().await;
    let definition = definition(json!({"schema": schema(json!({
        "type": "object", "properties": {"replicas": {"type": "integer", "default": 1}},
    }))}));
    cluster.define(&definition).await;
    let made = cluster
        .ok(&format!("POST {CRONTABS}"), &crontab(json!({"unknown": 1})))
        .await;
    assert_eq!(made["spec"], json!({"replicas": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    let list = cluster.ok(&format!("GET {CRONTABS}"), "").await;
    assert_eq!(list["kind"], "CronTabList");
    assert_eq!(list["items"][0], made);
    let resources = cluster.ok("GET /apis/stable.example.com/v1", "").await;
    assert_eq!(resources["resources"][0]["shortNames"], json!(["ct"]));
    let patched = cluster
        .ok(&format!("PATCH {CRONTABS}/a"), r#"{"spec":{"replicas":3}}"#)
        .await;
    assert_eq!(patched["metadata"]["generation"], 2);
    cluster.ok(&format!("DELETE {CRONTABS}/a"), "").await;
    let gone = cluster.send(&format!("GET {CRONTABS}/a"), "").await;
    assert_eq!(gone.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_deleted_definition_takes_its_objects_along() {
    let cluster = Cluster::start().await;
    let definition = definition(json!({"schema": schema(json!({"type": "object"}))}));
    cluster.define(&definition).await;
    let mut held: Value = serde_json::from_str(&crontab(json!({}))).expect("JSON");
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    cluster
        .ok(&format!("POST {CRONTABS}"), &held.to_string())
        .await;
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    cluster.ok(&format!("DELETE {path}"), "").await;
    cluster
        .until(&format!("GET {path}"), |found| {
            condition(found, "Terminating") == "True"
        })
        .await;
    cluster
        .until(&format!("GET {CRONTABS}/a"), |found| {
            found["metadata"]["deletionTimestamp"].is_string()
        })
        .await;
    cluster
        .ok(
            &format!("PATCH {CRONTABS}/a"),
            r#"{"metadata":{"finalizers":null}}"#,
        )
        .await;
    cluster
        .until(&format!("GET {path}"), |found| found["code"] == 404)
        .await;
    cluster
        .until("GET /apis/stable.example.com/v1", |found| {
            found["code"] == 404
        })
        .await;
    // Whoever defines it again finds nothing of what was.
    cluster.define(&definition).await;
    let list = cluster.ok(&format!("GET {CRONTABS}"), "").await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn values_hold_to_their_schema() {
    check(
        json!({"type": "object", "required": ["size"], "properties": {
            "size": {"type": "string", "enum": ["s", "m"]},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "minLength": 2},
            "when": {"type": "string", "format": "date-time"},
            "list": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
            "port": {"x-kubernetes-int-or-string": true},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["p"],
                "items": {"type": "object", "required": ["p"], "properties": {"p": {"type": "integer"}, "n": {"type": "string"}}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "maybe": {"type": "string", "nullable": true},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        }}),
        &[
            (json!({}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.size: Required value"#]]),
            (json!({"size": "x"}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.size: Unsupported value: "x": supported values: "s", "m""#]]),
            (json!({"size": "s", "replicas": 11}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10"#]]),
            (json!({"size": "s", "replicas": "3"}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#]]),
            (json!({"size": "s", "name": "UPPER6"}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: [spec.name: Too long: may not be more than 5 bytes, spec.name: Invalid value: "UPPER6": spec.name in body should match '^[a-z]+$']"#]]),
            (json!({"size": "s", "when": "soon"}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.when: Invalid value: "soon": spec.when in body must be of type date-time: "soon""#]]),
            (json!({"size": "s", "list": ["a", "b", "c"]}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.list: Too many: 3: must have at most 2 items"#]]),
            (json!({"size": "s", "port": true}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#]]),
            (json!({"size": "s", "ports": [{"p": 1}, {"p": 1, "n": "b"}]}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.ports[1]: Duplicate value: {"p":1}"#]]),
            (json!({"size": "s", "set": ["a", "a"]}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.set[1]: Duplicate value: "a""#]]),
            (json!({"size": "s", "map": {"k": "v"}}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.map.k: Invalid value: "string": spec.map.k in body must be of type integer: "string""#]]),
            (json!({"size": "s", "maybe": null, "port": "http", "name": null}), expect![[r#"{"maybe":null,"port":"http","size":"s"}"#]]),
        ],
    )
    .await;
}

#[tokio::test]
async fn rules_in_cel_are_held_against_objects() {
    check(
        json!({"type": "object", "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "tags": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}},
        }, "x-kubernetes-validations": [
            {"rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "message": "min must not be above max"},
            {"rule": "!has(self.tags) || self.tags.all(t, size(t) == 1)", "messageExpression": "'tags of one letter, not ' + self.tags[0]", "fieldPath": ".tags"},
            {"rule": "self.max < 100"},
        ]}),
        &[
            (json!({"min": 1, "max": 2, "tags": ["é"]}), expect![[r#"{"max":2,"min":1,"tags":["é"]}"#]]),
            (json!({"min": 3, "max": 2}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec: Invalid value: "object": min must not be above max"#]]),
            (json!({"max": 200}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec: Invalid value: "object": failed rule: self.max < 100"#]]),
            (json!({"max": 1, "tags": ["long"]}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec.tags: Invalid value: "object": tags of one letter, not long"#]]),
            (json!({}), expect![[r#"422 Invalid: CronTab.stable.example.com "a" is invalid: spec: Invalid value: "object": no such key: max evaluating rule: failed rule: self.max < 100"#]]),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_bounded_is_refused() {
    refused(
        json!({"schema": schema(json!({"type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "string"}},
        }, "x-kubernetes-validations": [
            {"rule": "self.a.all(x, self.a.all(y, x == y))"},
            {"rule": "self.b == 1"},
            {"rule": "self.a"},
            {"rule": "1 +"},
            {"rule": "now() == 1"},
        ]}))}),
        expect![[r#"422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "crontabs.stable.example.com" is invalid: [spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared; a has no maxItems), spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[1].rule: Invalid value: "self.b == 1": compilation failed: undefined field 'b', spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[2].rule: Invalid value: "self.a": compilation failed: cel expression must evaluate to a bool, spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[3].rule: Invalid value: "1 +": compilation failed: ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}, spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[4].rule: Invalid value: "now() == 1": compilation failed: undeclared reference to 'now' (in container ''), spec.versions[0].schema.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)]"#]],
    )
    .await;
}
