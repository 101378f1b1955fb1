//! Requests, and the objects in them.

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::PODS;

pub(crate) type Body = Full<Bytes>;
pub(crate) const TOKEN: &str = "bench";
const PATH: &str = "/api/v1/namespaces/default/pods";
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn request(method: Method, path: &str, body: String) -> Request<Body> {
    let kind = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, kind)
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .body(body.into())
        .expect("the paths here are paths")
}

/// Asks the floor for an answer of a length.
pub(crate) fn bytes(length: usize) -> Request<Body> {
    request(Method::GET, &format!("/bytes/{length}"), String::new())
}

/// A pod of about so many bytes once it is stored.
pub(crate) fn pod(name: &str, bytes: usize) -> Value {
    // What the server adds is about as much as what stands here.
    let padding = "x".repeat(bytes.saturating_sub(1_000));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app": "bench", "pod-template-hash": "5d59d67564"},
            "annotations": {"padding": padding},
        },
        "spec": {
            "containers": [{
                "name": "c",
                "image": "registry.example/image:1",
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
        },
    })
}

fn name(index: usize) -> String {
    // Spread over the keys, so that neighbours in time are none in the tree.
    format!("pod-{:05}", index.wrapping_mul(7_919) % PODS)
}

pub(crate) fn create_pod(index: usize) -> Request<Body> {
    request(Method::POST, PATH, pod(&name(index), 2_000).to_string())
}

pub(crate) fn get_pod(index: usize) -> Request<Body> {
    request(
        Method::GET,
        &format!("{PATH}/{}", name(index)),
        String::new(),
    )
}

pub(crate) fn patch_pod(index: usize) -> Request<Body> {
    let patch = json!({"metadata": {"labels": {"round": format!("r{index}")}}});
    let path = format!("{PATH}/{}", name(index));
    request(Method::PATCH, &path, patch.to_string())
}

pub(crate) fn list_pods(query: &str) -> Request<Body> {
    request(Method::GET, &format!("{PATH}?{query}"), String::new())
}

/// A ConfigMap of about so many bytes once it is stored.
pub(crate) fn config_map(index: usize, round: usize, bytes: usize) -> Value {
    let padding = "x".repeat(bytes.saturating_sub(330));
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": format!("map-{index}"), "namespace": "default"},
        "data": {"padding": padding, "round": format!("{round}")},
    })
}
