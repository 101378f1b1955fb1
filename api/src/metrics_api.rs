//! `metrics.k8s.io`: what nodes and pods use, asked of the nodelets when somebody asks for it.
//!
//! - [`summary`]: what a nodelet tells. [`nodelets`]: asks all of them, and keeps the answers for a few seconds.
//! - [`objects`]: NodeMetrics and PodMetrics made of it. Pure.
//!
//! Nothing is stored and nothing is watched. Of a node that does not answer, and of what no rate is known of
//! yet, there are no objects, as with Kubernetes' metrics-server.

pub(crate) mod nodelets;
mod objects;
mod summary;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Decoded, Item, ResourceKey};

use crate::{
    error::{Error, Subject},
    kinds::METRICS_GROUP,
    verbs::{answer::Answer, call::Call, filter::Filter, list, view},
};
use nodelets::Answered;

/// Answers a get or a list of the group's kinds.
pub(crate) async fn serve(call: &Call, verb: &str) -> Result<Response, Error> {
    let answer = match verb {
        "get" => get(call).await?,
        "list" => {
            let filter = Filter::read(call)?;
            let mut items = items(call).await?;
            items.retain(|item| filter.matches(item));
            let bodies = items.into_iter().map(|item| item.decoded.value).collect();
            Answer::ok(list::assemble(call, bodies, &json!({}))?)
        }
        _ => return Err(Error::MethodNotAllowed),
    };
    Ok(answer.into_response())
}

async fn get(call: &Call) -> Result<Answer, Error> {
    let (plural, kind) = described(call);
    let described = ResourceKey::new("", plural).key(&call.namespace, &call.name);
    if call.server.cache.get(&described).is_none() {
        return Err(Error::NotFound(Subject {
            resource: plural,
            kind,
            name: call.name.clone(),
            ..Subject::default()
        }));
    }
    let key = call.key(&call.name);
    let item = items(call).await?.into_iter().find(|item| item.key == key);
    let item = item.ok_or_else(|| Error::NotFound(missing(call)))?;
    Ok(Answer::ok(view::one(call, item.decoded.value)?))
}

/// What the objects describe: plural and kind, of the core group.
fn described(call: &Call) -> (&'static str, &'static str) {
    if call.resource.names().namespaced {
        ("pods", "Pod")
    } else {
        ("nodes", "Node")
    }
}

/// An object that is not there, as metrics-server names it.
fn missing(call: &Call) -> Subject {
    let (resource, name) = if call.resource.names().namespaced {
        ("podmetrics", format!("{}/{}", call.namespace, call.name))
    } else {
        ("nodemetrics", call.name.clone())
    };
    Subject {
        group: METRICS_GROUP,
        resource,
        kind: call.resource.names().kind,
        name,
    }
}

/// Every object of the resource, in the order of their keys.
async fn items(call: &Call) -> Result<Vec<Item>, Error> {
    let answered = nodelets::ask(&call.server).await;
    let mut items: Vec<Item> = if call.resource.names().namespaced {
        let all = answered.iter();
        let everywhere = call.namespace.is_empty();
        all.flat_map(|node| node.summary.pods.iter().map(move |pod| (node, pod)))
            .filter(|(_, pod)| everywhere || pod.pod_ref.namespace == call.namespace)
            .filter_map(|(node, pod)| pod_item(call, node, pod))
            .collect()
    } else {
        let all = answered.iter();
        all.filter_map(|node| node_item(call, node)).collect()
    };
    items.sort_by(|a, b| a.key.as_str().cmp(b.key.as_str()));
    Ok(items)
}

fn node_item(call: &Call, node: &Answered) -> Option<Item> {
    let found = call
        .server
        .cache
        .get(&ResourceKey::new("", "nodes").key("", &node.name))?;
    let object = objects::node(&node.summary.node)?;
    Some(item(call, &found, object))
}

/// The pod's object, if the pod is there and of the node that speaks of it.
fn pod_item(call: &Call, node: &Answered, pod: &summary::Pod) -> Option<Item> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: String,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
    }
    #[derive(Deserialize)]
    struct Pod {
        metadata: Metadata,
        spec: Spec,
    }
    let named = &pod.pod_ref;
    let key = ResourceKey::new("", "pods").key(&named.namespace, &named.name);
    let found = call.server.cache.get(&key)?;
    let known: Pod = serde_json::from_slice(&found.decoded.value).ok()?;
    if known.metadata.uid != named.uid || known.spec.node_name != node.name {
        return None;
    }
    Some(item(call, &found, objects::pod(pod)?))
}

/// An object with the name and labels of what it describes, as the verbs want one.
fn item(call: &Call, described: &Arc<Item>, mut object: Value) -> Item {
    let (namespace, name) = (described.key.namespace(), described.key.name());
    let names = call.resource.names();
    object["kind"] = names.kind.into();
    object["apiVersion"] = names.api_version().into();
    let metadata = &mut object["metadata"];
    *metadata = json!({"name": name, "creationTimestamp": crate::time::seconds(call.server.now())});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    if !described.decoded.labels.is_empty() {
        metadata["labels"] = json!(described.decoded.labels);
    }
    Item {
        key: call.resource.object_key(namespace, name),
        revision: described.revision,
        created: described.created,
        decoded: Decoded {
            value: Bytes::from(object.to_string()),
            labels: described.decoded.labels.clone(),
            ..Decoded::default()
        },
    }
}
