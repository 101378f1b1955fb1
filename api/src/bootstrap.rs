//! The objects that every cluster has: the default roles, four namespaces, the `kubernetes` Service with
//! its endpoint and its range of addresses, and the system's priority classes.
//!
//! Roles first, and once ([`crate::auth::rbac::bootstrap`]): nobody may do anything without them. Then creates what is missing and corrects the endpoint, at start and then every few seconds, through the
//! API like anyone else. Never changes what a user added to these objects.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::rbac,
    kinds::priority_class,
    server::{
        Config,
        state::{Server, Stage},
    },
};

/// How often the objects are looked after, as Kubernetes does it.
const INTERVAL: Duration = Duration::from_secs(10);
/// How soon a failed start is tried again.
const RETRY: Duration = Duration::from_millis(250);

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Looks after the objects until `stop`.
pub(crate) async fn run(client: Client, server: &Arc<Server>, stop: CancellationToken) {
    while let Err(error) = rbac::bootstrap::ensure(&server.cache, server.now()).await {
        tracing::warn!(%error, "the default roles are not there yet");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    server.bootstrapped.send_replace(Stage::Roles);
    loop {
        let pause = match ensure(&client, &server.config).await {
            Ok(()) => {
                server.bootstrapped.send_replace(Stage::Ready);
                INTERVAL
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster's first objects are not there yet");
                RETRY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn ensure(client: &Client, config: &Config) -> Result<(), kube::Error> {
    for name in NAMESPACES {
        let namespace = json!({"metadata": {"name": name}});
        create(client, "/api/v1/namespaces", name, &namespace).await?;
    }
    for class in priority_class::SYSTEM {
        create(client, CLASSES, class.0, &system_class(class)).await?;
    }
    ensure_range(client, config).await?;
    let service = service(config);
    create(
        client,
        "/api/v1/namespaces/default/services",
        "kubernetes",
        &service,
    )
    .await?;
    let slice = slice(config);
    let found = create(client, SLICES, "kubernetes", &slice).await?;
    if ["endpoints", "ports"]
        .iter()
        .any(|part| found[part] != slice[part])
    {
        let patch = json!({"endpoints": slice["endpoints"], "ports": slice["ports"]});
        let path = format!("{SLICES}/kubernetes");
        send(client, Method::PATCH, &path, &patch).await?;
    }
    Ok(())
}

/// The range of Services' addresses, ready from the start.
async fn ensure_range(client: &Client, config: &Config) -> Result<(), kube::Error> {
    let range = json!({
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [config.service_range.to_string()]},
    });
    let found = create(client, RANGES, "kubernetes", &range).await?;
    if !found["status"]["conditions"].is_null() {
        return Ok(());
    }
    let ready = json!({
        "type": "Ready",
        "status": "True",
        "reason": "",
        "message": "Kubernetes Service CIDR is ready",
        "lastTransitionTime": found["metadata"]["creationTimestamp"],
    });
    let patch = json!({"status": {"conditions": [ready]}});
    let path = format!("{RANGES}/kubernetes/status");
    send(client, Method::PATCH, &path, &patch).await?;
    Ok(())
}

fn system_class((name, value, description): &(&str, i64, &str)) -> Value {
    json!({"metadata": {"name": name}, "value": value, "description": description})
}

/// Creates an object if it is not there; answers the one that is.
async fn create(
    client: &Client,
    collection: &str,
    name: &str,
    object: &Value,
) -> Result<Value, kube::Error> {
    let path = format!("{collection}/{name}");
    match send(client, Method::GET, &path, &Value::Null).await {
        Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => {}
        found => return found,
    }
    match send(client, Method::POST, collection, object).await {
        // Another apiserver was faster.
        Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => {
            send(client, Method::GET, &path, &Value::Null).await
        }
        created => created,
    }
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, kube::Error> {
    let content_type = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let bytes = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(bytes)
        .expect("the paths above are paths");
    client.request(request).await
}

fn labels() -> Value {
    json!({"component": "apiserver", "provider": "kubernetes"})
}

fn service(config: &Config) -> Value {
    let address = config.service_range.first().to_string();
    json!({
        "metadata": {"name": "kubernetes", "labels": labels()},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [{
                "name": "https", "port": 443, "protocol": "TCP", "targetPort": config.advertised.port(),
            }],
        },
    })
}

fn slice(config: &Config) -> Value {
    let family = if config.advertised.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": [{
            "addresses": [config.advertised.ip().to_string()],
            "conditions": {"ready": true},
        }],
        "ports": [{"name": "https", "port": config.advertised.port(), "protocol": "TCP"}],
    })
}
