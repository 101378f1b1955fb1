//! Events about Functions, which `kubectl describe` shows.
//!
//! One Event for each message: its name tells the message, so that the same one told again, by another process too, is
//! counted and not written anew.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    clock,
    controller::Notice,
    error::{Error, within},
};

/// Who signs them.
const COMPONENT: &str = "functions-controller";
/// What an Event's text may have.
const LONGEST: usize = 1024;

/// Writes Events.
pub(crate) struct Events(Client);

impl Events {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// Tells of something that happened to a Function. What cannot be told is only logged.
    pub(crate) async fn tell(&self, function: &DynamicObject, notice: &Notice) {
        if let Err(error) = self.write(function, notice).await {
            tracing::debug!(%error, function = function.name_any(), "an Event was not written");
        }
    }

    async fn write(&self, function: &DynamicObject, notice: &Notice) -> Result<(), Error> {
        let namespace = function.namespace().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.0.clone(), &namespace);
        let event = event(function, notice, &namespace);
        let name = event.name_any();
        match within(api.create(&PostParams::default(), &event)).await {
            Ok(_) => Ok(()),
            Err(Error::Conflict(_)) => {
                let count = within(api.get(&name)).await?.count.unwrap_or(1);
                let again = json!({
                    "count": count.saturating_add(1), "lastTimestamp": event.last_timestamp,
                });
                let (params, patch) = (PatchParams::default(), Patch::Merge(&again));
                within(api.patch(&name, &params, &patch)).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }
}

/// The Event of a notice.
fn event(function: &DynamicObject, notice: &Notice, namespace: &str) -> Event {
    let mut hasher = DefaultHasher::new();
    (function.uid(), &notice.reason, &notice.message).hash(&mut hasher);
    let mut message = notice.message.clone();
    message.truncate(message.floor_char_boundary(LONGEST));
    let kind = if notice.warning { "Warning" } else { "Normal" };
    let now = Some(Time(clock::now()));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", function.name_any(), hasher.finish())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("functions.wk.dev/v1".to_owned()),
            kind: Some("Function".to_owned()),
            name: function.metadata.name.clone(),
            namespace: function.namespace(),
            uid: function.uid(),
            ..ObjectReference::default()
        },
        reason: Some(notice.reason.clone()),
        message: Some(message),
        type_: Some(kind.to_owned()),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: None,
        }),
        reporting_component: Some(COMPONENT.to_owned()),
        count: Some(1),
        first_timestamp: now.clone(),
        last_timestamp: now,
        ..Event::default()
    }
}
