//! Versions, subresources and documents of kinds that users define.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use expect_test::expect;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{
    custom_resources::{CRONTABS, DEFINITIONS, crontab, definition, schema},
    harness::Cluster,
};

const V2: &str = "/apis/stable.example.com/v2/namespaces/default/crontabs";

/// A definition of two versions, the second of which is stored.
fn two_versions(conversion: Value) -> Value {
    let spec = || schema(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let mut definition = definition(json!({
        "schema": spec(), "storage": false, "deprecated": true,
        "selectableFields": [],
    }));
    definition["spec"]["versions"][0]["selectableFields"] = Value::Null;
    let v2 = json!({"name": "v2", "served": true, "storage": true, "schema": spec()});
    definition["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .push(v2);
    definition["spec"]["conversion"] = conversion;
    definition
}

#[tokio::test]
async fn versions_without_a_webhook_differ_in_their_name() {
    let cluster = Cluster::start().await;
    cluster
        .define(&two_versions(json!({"strategy": "None"})))
        .await;
    let reply = cluster
        .send(&format!("POST {CRONTABS}"), &crontab(json!({"a": 1})))
        .await;
    assert_eq!(reply.json()["apiVersion"], "stable.example.com/v1");
    assert_eq!(
        reply.warnings(),
        [
            r#"299 - "stable.example.com/v1 CronTab is deprecated; use stable.example.com/v2 CronTab""#
        ]
    );
    let other = cluster.ok(&format!("GET {V2}/a"), "").await;
    assert_eq!(other["apiVersion"], "stable.example.com/v2");
    assert_eq!(other["metadata"], reply.json()["metadata"]);
    let group = cluster.ok("GET /apis/stable.example.com", "").await;
    assert_eq!(group["preferredVersion"]["version"], "v2");
    let found = cluster
        .ok(
            &format!("GET {DEFINITIONS}/crontabs.stable.example.com"),
            "",
        )
        .await;
    assert_eq!(found["status"]["storedVersions"], json!(["v2"]));
}

/// A webhook that moves `spec.a` to `spec.b` for v2 and back for v1; answers where it is and its
/// certificate.
async fn webhook(tasks: &mut JoinSet<()>) -> (String, String) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(socket).await else {
                continue;
            };
            // One at a time will do.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(convert))
                .await;
        }
    });
    (
        format!("https://localhost:{port}/convert"),
        STANDARD.encode(certificate.pem()),
    )
}

async fn convert(
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<bytes::Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("a review");
    let wanted = review["request"]["desiredAPIVersion"].clone();
    let objects = review["request"]["objects"].as_array().expect("objects");
    let converted: Vec<_> = objects
        .iter()
        .map(|object| {
            let mut object = object.clone();
            let (from, to) = if wanted == "stable.example.com/v2" {
                ("a", "b")
            } else {
                ("b", "a")
            };
            let moved = object["spec"]
                .as_object_mut()
                .and_then(|spec| spec.remove(from));
            if let Some(moved) = moved {
                object["spec"][to] = moved;
            }
            object["apiVersion"] = wanted.clone();
            object
        })
        .collect();
    let answer = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "response": {
            "uid": review["request"]["uid"],
            "result": {"status": "Success"},
            "convertedObjects": converted,
        },
    });
    Ok(http::Response::new(Full::from(answer.to_string())))
}

#[tokio::test]
async fn a_webhook_converts_between_versions() {
    let cluster = Cluster::start().await;
    let mut tasks = JoinSet::new();
    let (url, bundle) = webhook(&mut tasks).await;
    cluster
        .define(&two_versions(json!({"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"url": url, "caBundle": bundle},
        }})))
        .await;
    let made = cluster
        .ok(&format!("POST {CRONTABS}"), &crontab(json!({"a": 1})))
        .await;
    assert_eq!(made["spec"], json!({"a": 1}));
    let other = cluster.ok(&format!("GET {V2}/a"), "").await;
    assert_eq!(other["spec"], json!({"b": 1}));
    let list = cluster.ok(&format!("GET {CRONTABS}"), "").await;
    assert_eq!(list["items"][0]["spec"], json!({"a": 1}));
    let patched = cluster
        .ok(&format!("PATCH {CRONTABS}/a"), r#"{"spec":{"a":2}}"#)
        .await;
    assert_eq!(patched["spec"], json!({"a": 2}));
    let other = cluster.ok(&format!("GET {V2}/a"), "").await;
    assert_eq!(other["spec"], json!({"b": 2}));
}

#[tokio::test]
async fn a_webhook_that_is_not_there_is_named() {
    let cluster = Cluster::start().await;
    cluster
        .define(&two_versions(json!({"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": "default", "name": "nobody"}},
        }})))
        .await;
    let failure = cluster
        .failure(&format!("POST {CRONTABS}"), &crontab(json!({"a": 1})))
        .await;
    expect![[r#"500 InternalError: conversion webhook for stable.example.com/v1, Kind=CronTab failed: service "nobody" not found"#]]
        .assert_eq(&failure);
}

#[tokio::test]
async fn status_scale_columns_and_selectors_follow_the_definition() {
    let cluster = Cluster::start().await;
    let mut definition = definition(json!({
        "schema": schema(json!({"type": "object", "properties": {
            "replicas": {"type": "integer"}, "color": {"type": "string"},
        }})),
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }},
        "additionalPrinterColumns": [
            {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        ],
        "selectableFields": [{"jsonPath": ".spec.color"}],
    }));
    definition["spec"]["names"]["shortNames"] = json!([]);
    cluster.define(&definition).await;
    for (name, color) in [("a", "red"), ("b", "blue")] {
        let mut object: Value =
            serde_json::from_str(&crontab(json!({"color": color, "replicas": 1}))).expect("JSON");
        object["metadata"]["name"] = name.into();
        object["status"] = json!({"replicas": 9});
        let made = cluster
            .ok(&format!("POST {CRONTABS}"), &object.to_string())
            .await;
        assert!(made["status"].is_null(), "{made}");
    }
    let status = r#"{"spec":{"color":"green"},"status":{"replicas":1,"selector":"app=a","conditions":[{"type":"Ready","status":"True"}]}}"#;
    let object = cluster
        .ok(&format!("PATCH {CRONTABS}/a/status"), status)
        .await;
    assert_eq!(object["spec"]["color"], "red");
    assert_eq!(object["metadata"]["generation"], 1);
    let scale = cluster
        .ok(
            &format!("PATCH {CRONTABS}/a/scale"),
            r#"{"spec":{"replicas":4}}"#,
        )
        .await;
    assert_eq!(scale["spec"]["replicas"], 4);
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=a"}));
    let list = cluster
        .ok(
            &format!("GET {CRONTABS}?fieldSelector=spec.color%3Dblue"),
            "",
        )
        .await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list["items"][0]["metadata"]["name"], "b");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = cluster
        .send_with(&format!("GET {CRONTABS}"), "", &accept)
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"], json!(["a", "red", "True"]));
    assert_eq!(table["rows"][1]["cells"], json!(["b", "blue", null]));
    let reply = cluster
        .send_with(
            &format!("PATCH {CRONTABS}/a"),
            "{}",
            &[("content-type", "application/strategic-merge-patch+json")],
        )
        .await;
    assert_eq!(reply.code.as_u16(), 415);
}

#[tokio::test]
async fn openapi_tells_of_a_kind_as_soon_as_it_is_served() {
    let cluster = Cluster::start().await;
    let before = cluster.ok("GET /openapi/v3", "").await;
    cluster
        .define(&definition(json!({"schema": schema(json!({
            "type": "object", "description": "What is wanted", "properties": {
                "port": {"x-kubernetes-int-or-string": true},
            },
        }))})))
        .await;
    let path = "apis/stable.example.com/v1";
    let index = cluster.ok("GET /openapi/v3", "").await;
    assert!(before["paths"][path].is_null());
    assert_eq!(
        before["paths"]["apis/apps/v1"],
        index["paths"]["apis/apps/v1"]
    );
    let url = index["paths"][path]["serverRelativeURL"]
        .as_str()
        .expect("a place");
    let document = cluster.ok(&format!("GET {url}"), "").await;
    let own = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(own["properties"]["spec"]["description"], "What is wanted");
    assert_eq!(
        own["properties"]["metadata"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let patch = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]
        ["patch"];
    let content: Vec<_> = patch["requestBody"]["content"]
        .as_object()
        .expect("content")
        .keys()
        .map(String::as_str)
        .collect();
    assert!(
        !content.contains(&"application/strategic-merge-patch+json"),
        "{content:?}"
    );
}

#[tokio::test]
async fn hostile_definitions_are_told_what_is_wrong() {
    let cluster = Cluster::start().await;
    let mut deep = json!({"type": "string"});
    for _ in 0..45 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    let rule = |rule: String| {
        schema(
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [{"rule": rule}]}),
        )
    };
    let cases = [
        json!({"schema": schema(deep)}),
        json!({"schema": schema(json!({"type": "object", "properties": null}))}),
        json!({"schema": schema(json!({"type": "object", "properties": {"a": 3}}))}),
        json!({"schema": schema(json!({"type": "array", "items": [{"type": "string"}]}))}),
        json!({"schema": schema(json!({"type": "string", "pattern": "(a{1000}){1000}{1000}"}))}),
        json!({"schema": schema(json!({"type": "string", "pattern": "("}))}),
        json!({"schema": schema(json!({"type": "string", "enum": vec!["x"; 10_000]}))}),
        json!({"schema": rule("(".repeat(10_000))}),
        json!({"schema": rule(vec!["true"; 3000].join(" && "))}),
        json!({"schema": rule("A{b: 1} == A{}".to_owned())}),
        json!({"schema": rule("lists.range(1000000000).all(x, x > 0)".to_owned())}),
        json!({"schema": rule("self.a.matches('(a{1000}){1000}')".to_owned())}),
        json!({"schema": {"openAPIV3Schema": 1}}),
        json!({"schema": null}),
    ];
    for version in cases {
        let body = definition(version).to_string();
        let reply = cluster
            .send(&format!("POST {DEFINITIONS}?dryRun=All"), &body)
            .await;
        let code = reply.code.as_u16();
        assert!(code < 500, "{code}: {}: {body:.300}", reply.text);
    }
}
