//! The kind `Greeting`: its message goes into a ConfigMap that it owns, and its status says so.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
    runtime::{
        controller::{Action, Controller},
        finalizer::{self, Event, finalizer},
        wait::{await_condition, conditions::is_crd_established},
        watcher,
    },
};
use serde_json::json;

pub(crate) const GROUP: &str = "demo.example.com";
const DEFINITION: &str = "greetings.demo.example.com";
const FINALIZER: &str = "demo.example.com/farewell";
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("the finalizer failed")]
struct Error(#[source] Box<finalizer::Error<kube::Error>>);

struct Context {
    client: Client,
    name: String,
}

/// Defines the kind and waits until it is served.
pub(crate) async fn define(client: &Client) -> anyhow::Result<()> {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["message"], "properties": {
            "message": {"type": "string", "minLength": 1},
            "mark": {"type": "string", "default": "!"},
        }},
        "status": {"type": "object", "properties": {
            "phase": {"type": "string"},
            "by": {"type": "string"},
            "observedGeneration": {"type": "integer", "format": "int64"},
        }},
    }});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": DEFINITION},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": "Greeting", "plural": "greetings"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
                ],
            }],
        },
    });
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("operator").force();
    let patch = Patch::Apply(&definition);
    definitions.patch(DEFINITION, &params, &patch).await?;
    let served = await_condition(definitions, DEFINITION, is_crd_established());
    tokio::time::timeout(DEADLINE, served)
        .await
        .context("the definition is not established")??;
    Ok(())
}

/// Keeps what every Greeting wants.
pub(crate) async fn control(client: Client, name: String) -> anyhow::Result<()> {
    let kind = kind();
    let greetings: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let context = Arc::new(Context { client, name });
    let every = watcher::Config::default;
    Controller::new_with(greetings, every(), kind)
        .owns(maps, every())
        .run(reconcile, retry, context)
        .for_each(|_| std::future::ready(()))
        .await;
    anyhow::bail!("the controller ended")
}

fn kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", "Greeting"))
}

async fn reconcile(greeting: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Error> {
    let greetings = Api::default_namespaced_with(context.client.clone(), &kind());
    let done = finalizer(&greetings, FINALIZER, greeting, |event| async {
        match event {
            Event::Apply(greeting) => greet(&greetings, &greeting, &context).await,
            Event::Cleanup(greeting) => farewell(&greeting, &context).await,
        }
    });
    done.await.map_err(|error| Error(Box::new(error)))
}

fn retry(_: Arc<DynamicObject>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(Duration::from_millis(200))
}

async fn greet(
    greetings: &Api<DynamicObject>,
    greeting: &DynamicObject,
    context: &Context,
) -> Result<Action, kube::Error> {
    let name = greeting.name_any();
    let text = |field: &str| greeting.data["spec"][field].as_str().unwrap_or_default();
    let message = format!("{}{}", text("message"), text("mark"));
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [greeting.controller_owner_ref(&kind())]},
        "data": {"message": message},
    });
    let params = PatchParams::apply("operator").force();
    let maps: Api<ConfigMap> = Api::default_namespaced(context.client.clone());
    maps.patch(&name, &params, &Patch::Apply(&map)).await?;
    let status = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "Greeting",
        "status": {
            "phase": "Ready",
            "by": context.name,
            "observedGeneration": greeting.metadata.generation,
        },
    });
    let patch = Patch::Apply(&status);
    greetings.patch_status(&name, &params, &patch).await?;
    Ok(Action::await_change())
}

/// Leaves a ConfigMap that nobody owns.
async fn farewell(greeting: &DynamicObject, context: &Context) -> Result<Action, kube::Error> {
    let name = format!("{}-farewell", greeting.name_any());
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"by": context.name}});
    let params = PatchParams::apply("operator").force();
    let maps: Api<ConfigMap> = Api::default_namespaced(context.client.clone());
    maps.patch(&name, &params, &Patch::Apply(&map)).await?;
    Ok(Action::await_change())
}
