//! The objects that every cluster has: the default roles, four namespaces, the `kubernetes` Service with
//! its endpoints and its range of addresses, the `kube-dns` Service, which the nodes themselves serve, the
//! system's priority classes, the RuntimeClasses of what runs containers, and the default StorageClass, which is
//! made once: a user may change or delete it.
//!
//! Roles first, and once ([`crate::auth::rbac::bootstrap`]): nobody may do anything without them. Then
//! creates what is missing and keeps the endpoints ([`endpoints`]) true, at start and then every few
//! seconds, through the API like anyone else. Never changes what a user added to these objects.

mod endpoints;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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
use endpoints::Peers;

/// How often the objects are looked after, as Kubernetes does it.
const INTERVAL: Duration = Duration::from_secs(10);
/// How soon a failed start is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// How long the last words of a stopping server may take.
const FAREWELL: Duration = Duration::from_secs(2);

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const RUNTIME_CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
/// What runs containers: components under wasmtime, ordinary ones under runc.
const RUNTIMES: &[&str] = &["oci", "wasm"];
const STORAGE_CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
/// The default StorageClass, provisioned by the nodelets.
const STORAGE_CLASS: &str = "wk-local";
const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// Where it is noted that the class was made.
const SYSTEM: &str = "/api/v1/namespaces/kube-system";
const MADE: &str = "wk.dev/storage-class";
const SYSTEM_SERVICES: &str = "/api/v1/namespaces/kube-system/services";
const DNS: &str = "kube-dns";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

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
    let mut peers = Peers::new(server.config.advertised);
    loop {
        let pause = match ensure(&client, &server.config, &mut peers).await {
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
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    // If it comes to nothing, the others find out in time.
    match tokio::time::timeout(FAREWELL, peers.leave(&client)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "this apiserver did not leave the others"),
        Err(_) => tracing::warn!("this apiserver had no time to leave the others"),
    }
}

async fn ensure(client: &Client, config: &Config, peers: &mut Peers) -> Result<(), kube::Error> {
    for name in NAMESPACES {
        let namespace = json!({"metadata": {"name": name}});
        create(client, "/api/v1/namespaces", name, &namespace).await?;
    }
    for class in priority_class::SYSTEM {
        create(client, CLASSES, class.0, &system_class(class)).await?;
    }
    for name in RUNTIMES {
        let nodes = format!("runtime.wk.dev/{name}");
        let class = json!({
            "metadata": {"name": name},
            "handler": name,
            "scheduling": {"nodeSelector": {nodes: "true"}},
        });
        create(client, RUNTIME_CLASSES, name, &class).await?;
    }
    ensure_storage_class(client).await?;
    ensure_range(client, config).await?;
    let service = service(config);
    create(
        client,
        "/api/v1/namespaces/default/services",
        "kubernetes",
        &service,
    )
    .await?;
    ensure_dns(client, config).await?;
    peers.reconcile(client, Instant::now()).await
}

/// The default StorageClass, in a cluster where it never was. It is not the default where there is one.
async fn ensure_storage_class(client: &Client) -> Result<(), kube::Error> {
    let system = send(client, Method::GET, SYSTEM, &Value::Null).await?;
    if !system["metadata"]["annotations"][MADE].is_null() {
        return Ok(());
    }
    let classes = send(client, Method::GET, STORAGE_CLASSES, &Value::Null).await?;
    let mut classes = classes["items"].as_array().into_iter().flatten();
    let taken = classes.any(|class| class["metadata"]["annotations"][IS_DEFAULT] == "true");
    create(
        client,
        STORAGE_CLASSES,
        STORAGE_CLASS,
        &storage_class(!taken),
    )
    .await?;
    let noted = json!({"metadata": {"annotations": {MADE: STORAGE_CLASS}}});
    send(client, Method::PATCH, SYSTEM, &noted).await?;
    Ok(())
}

fn storage_class(default: bool) -> Value {
    json!({
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {IS_DEFAULT: default.to_string()},
        },
        "provisioner": "wk.dev/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    })
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

/// The Service by which tools and pods know the nodes' DNS servers. Without endpoints: each node answers.
async fn ensure_dns(client: &Client, config: &Config) -> Result<(), kube::Error> {
    let Some(address) = config.service_range.dns() else {
        return Ok(());
    };
    let service = dns_service(&address.to_string());
    match create(client, SYSTEM_SERVICES, DNS, &service).await {
        // In an older cluster another Service may have the address: that stays.
        Err(kube::Error::Api(status))
            if status.code == StatusCode::UNPROCESSABLE_ENTITY.as_u16() =>
        {
            let reason = status.message;
            tracing::debug!(reason, "there is no kube-dns Service");
            Ok(())
        }
        created => created.map(drop),
    }
}

fn dns_service(address: &str) -> Value {
    json!({
        "metadata": {
            "name": DNS,
            "labels": {
                "k8s-app": DNS,
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "KubeDNS",
            },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
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
