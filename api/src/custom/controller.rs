//! Writes the conditions of definitions, and removes the objects of those that are deleted.
//!
//! Runs in every apiserver, beside the others: each write is a compare-and-swap, and what another one
//! has done already is left alone. Reads the watch cache; writes through the API as the apiserver.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use http::{HeaderMap, Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{follow::DEFINITIONS, status};
use crate::{
    auth::User,
    error::Error,
    kinds::{Registry, apiextensions::CLEANUP},
    object,
    server::state::{Resource, Server},
    verbs::{
        accept::View,
        call::{Call, Warnings},
        delete::{DeleteOptions, remove},
        query::Query,
    },
};

const ROOT: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// How soon a deletion that waits for finalizers, or a write that failed, is looked at again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often everything is looked at, whatever happens.
const RESYNC: Duration = Duration::from_secs(60);
/// Objects removed at once.
const CONCURRENT: usize = 32;

/// Looks after the definitions until `stop`.
pub(crate) async fn run(client: Client, server: &Arc<Server>, stop: CancellationToken) {
    let registry = Registry::builtin();
    let builtin: Vec<_> = registry.all().iter().map(|kind| kind.names()).collect();
    loop {
        let revision = server.cache.revision();
        let watcher = server.cache.watch(&DEFINITIONS, revision);
        let mut settled = true;
        let definitions = definitions(server);
        for definition in &definitions {
            let done = look_after(&client, server, definition, &definitions, &builtin).await;
            settled &= done;
        }
        let pause = if settled { RESYNC } else { AGAIN };
        let changed = async {
            let seen = match watcher {
                Ok(mut watcher) => watcher.next().await.is_ok(),
                Err(_) => false,
            };
            if !seen {
                // The cache has gone on without this watch, or has ended with the process.
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn definitions(server: &Server) -> Vec<Value> {
    let snapshot = server.cache.list(&DEFINITIONS, None);
    let items = snapshot.items.iter();
    items
        .filter_map(|item| serde_json::from_slice(&item.decoded.value).ok())
        .collect()
}

/// Does what one definition needs; says whether nothing is left to do.
async fn look_after(
    client: &Client,
    server: &Arc<Server>,
    definition: &Value,
    all: &[Value],
    builtin: &[&crate::kinds::Names],
) -> bool {
    let name = object::name(definition);
    let planned = status::plan(definition, all, builtin, server.now());
    if planned != definition["status"] {
        let mut next = definition.clone();
        next["status"] = planned;
        if let Err(error) = put(client, &format!("{ROOT}/{name}/status"), &next).await {
            tracing::debug!(name, %error, "the status of a definition was not written: trying again");
            return false;
        }
        // The change comes back as an event.
        return true;
    }
    if !object::deleting(definition) || !object::finalizers(definition).contains(&CLEANUP) {
        return true;
    }
    match empty(server, name).await {
        Ok(true) => {}
        Ok(false) => return false,
        Err(error) => {
            tracing::warn!(name, %error, "the objects of a deleted definition are not removed yet");
            return false;
        }
    }
    let mut next = definition.clone();
    let rest: Vec<_> = object::finalizers(definition)
        .into_iter()
        .filter(|finalizer| *finalizer != CLEANUP)
        .collect();
    object::set(&mut next, "finalizers", json!(rest));
    if let Err(error) = put(client, &format!("{ROOT}/{name}"), &next).await {
        tracing::debug!(name, %error, "the finalizer of a definition was not removed: trying again");
        return false;
    }
    true
}

/// Removes the objects of a definition; says whether there are none left.
async fn empty(server: &Arc<Server>, name: &str) -> Result<bool, Error> {
    server.refresh();
    let Some(resource) = server.known.stored(name) else {
        return Ok(true);
    };
    server.cache.fresh().await?;
    let snapshot = server.cache.list(&resource.key, None);
    let removals: Vec<_> = snapshot
        .items
        .iter()
        .map(|item| {
            let call = call(server, &resource, item.key.namespace());
            let name = item.key.name().to_owned();
            async move { remove(&call, &name, &DeleteOptions::default()).await }
        })
        .collect();
    let mut removals = stream::iter(removals).buffer_unordered(CONCURRENT);
    while let Some(removed) = removals.next().await {
        match removed {
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    server.cache.fresh().await?;
    Ok(server.cache.list(&resource.key, None).items.is_empty())
}

/// A request of the apiserver's own, for objects that no path may lead to any more.
fn call(server: &Arc<Server>, resource: &Arc<Resource>, namespace: &str) -> Call {
    Call {
        server: server.clone(),
        user: User::apiserver(),
        resource: resource.clone(),
        namespace: namespace.to_owned(),
        name: String::new(),
        subresource: None,
        query: Query::default(),
        view: View::Object,
        headers: HeaderMap::new(),
        warnings: Warnings::default(),
        together: None,
        draining: CancellationToken::new(),
    }
}

async fn put(client: &Client, path: &str, object: &Value) -> Result<(), kube::Error> {
    let request = Request::builder()
        .method(Method::PUT)
        .uri(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request::<Value>(request).await.map(drop)
}
