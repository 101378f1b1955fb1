//! An apiserver's lists and watches over a log of changes, behind a `kube::Client`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A change to an object of a resource; its revision is its place in the log.
#[derive(Clone)]
struct Entry {
    resource: &'static str,
    r#type: &'static str,
    object: Value,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<watch::Sender<Vec<Entry>>>, Writes);

/// What was written: method, path and body.
type Writes = Arc<watch::Sender<Vec<(String, Value)>>>;

impl Cluster {
    pub(crate) fn new() -> Self {
        let writes = Arc::new(watch::Sender::new(Vec::new()));
        Self(Arc::new(watch::Sender::new(Vec::new())), writes)
    }

    pub(crate) fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let answer = move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let answer = match request.method().as_str() {
                    "GET" => cluster.answer(&request),
                    _ => cluster.write(request).await,
                };
                Ok::<_, Infallible>(answer)
            }
        };
        kube::Client::new(tower::service_fn(answer), "default")
    }

    /// A Service of namespace `default` with one port.
    pub(crate) fn put_service(&self, name: &str, address: &str, port: u16, protocol: &str) {
        let spec = json!({"clusterIP": address, "ports": [{"port": port, "protocol": protocol}]});
        let metadata = json!({"name": name, "namespace": "default"});
        self.push(
            "services",
            "MODIFIED",
            json!({"metadata": metadata, "spec": spec}),
        );
    }

    /// A Service of type NodePort with one TCP port.
    pub(crate) fn put_node_port(&self, name: &str, address: &str, node_port: u16, policy: &str) {
        let spec = json!({
            "type": "NodePort",
            "externalTrafficPolicy": policy,
            "clusterIP": address,
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": node_port}],
        });
        self.put("services", "default", name, json!({"spec": spec}));
    }

    /// Its one EndpointSlice, with the ready endpoints.
    pub(crate) fn put_endpoints(&self, service: &str, ready: &[&str], port: u16, protocol: &str) {
        let labels = json!({"kubernetes.io/service-name": service});
        let metadata = json!({"name": service, "namespace": "default", "labels": labels});
        let endpoint =
            |address: &&str| json!({"addresses": [address], "conditions": {"ready": true}});
        self.push(
            "endpointslices",
            "MODIFIED",
            json!({
                "metadata": metadata,
                "addressType": "IPv4",
                "endpoints": ready.iter().map(endpoint).collect::<Vec<_>>(),
                "ports": [{"port": port, "protocol": protocol}],
            }),
        );
    }

    pub(crate) fn put_node(&self, name: &str, pod_range: &str) {
        let object = json!({"metadata": {"name": name}, "spec": {"podCIDR": pod_range}});
        self.push("nodes", "MODIFIED", object);
    }

    /// Any other object of a namespace.
    pub(crate) fn put(
        &self,
        resource: &'static str,
        namespace: &str,
        name: &str,
        mut object: Value,
    ) {
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"]["name"] = json!(name);
        self.push(resource, "MODIFIED", object);
    }

    /// Ends an object.
    pub(crate) fn remove(&self, resource: &'static str, namespace: &str, name: &str) {
        let metadata = json!({"namespace": namespace, "name": name});
        self.push(resource, "DELETED", json!({"metadata": metadata}));
    }

    fn push(&self, resource: &'static str, r#type: &'static str, mut object: Value) {
        self.0.send_modify(|log| {
            object["metadata"]["resourceVersion"] = json!((log.len() + 1).to_string());
            log.push(Entry {
                resource,
                r#type,
                object,
            });
        });
    }

    fn answer(&self, request: &Request<Body>) -> Answer {
        let resource = request
            .uri()
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        if parameter("watch").as_deref() != Some("true") {
            return self.list(&resource);
        }
        let after = parameter("resourceVersion").and_then(|text| text.parse().ok());
        self.watch(resource, after.unwrap_or(0))
    }

    /// Keeps what is written; nothing changes by it.
    async fn write(&self, request: Request<Body>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri().path());
        let body = request
            .into_body()
            .collect()
            .await
            .expect("it is in memory");
        let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        // A JSON patch is a list, and no object to answer with.
        let mut answer = match body.is_array() {
            true => json!({}),
            false => body.clone(),
        };
        answer["metadata"]["name"] = json!("written");
        self.1.send_modify(|writes| writes.push((what, body)));
        Response::new(Full::from(answer.to_string()).boxed_unsync())
    }

    /// Waits for a write to a path that ends so; its body.
    pub(crate) async fn written(&self, end: &str) -> Value {
        let mut writes = self.1.subscribe();
        let there =
            |writes: &Vec<(String, Value)>| writes.iter().any(|(what, _)| what.ends_with(end));
        let writes = tokio::time::timeout(Duration::from_secs(30), writes.wait_for(there)).await;
        let writes = writes.unwrap_or_else(|_| panic!("no {end}: {:?}", self.1.borrow()));
        let mut writes = writes.expect("the cluster lasts").clone().into_iter();
        writes
            .find(|(what, _)| what.ends_with(end))
            .expect("it was waited for")
            .1
    }

    fn list(&self, resource: &str) -> Answer {
        let log = self.0.borrow();
        let mut items: Vec<Value> = Vec::new();
        for entry in log.iter().filter(|entry| entry.resource == resource) {
            items.retain(|item| item["metadata"]["name"] != entry.object["metadata"]["name"]);
            if entry.r#type != "DELETED" {
                items.push(entry.object.clone());
            }
        }
        let metadata = json!({"resourceVersion": log.len().to_string()});
        let list =
            json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items});
        Response::new(Full::from(list.to_string()).boxed_unsync())
    }

    fn watch(&self, resource: String, after: usize) -> Answer {
        let next = |(mut log, place): (watch::Receiver<Vec<Entry>>, usize)| async move {
            let entry = log.wait_for(|log| log.len() > place).await.ok()?[place].clone();
            Some((entry, (log, place + 1)))
        };
        let entries = stream::unfold((self.0.subscribe(), after), next);
        let entries = entries.filter(move |entry| {
            let wanted = entry.resource == resource;
            async move { wanted }
        });
        let frames = entries.map(|entry| {
            let line = json!({"type": entry.r#type, "object": entry.object}).to_string() + "\n";
            Ok::<_, Infallible>(Frame::data(Bytes::from(line)))
        });
        Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
    }
}
