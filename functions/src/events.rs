//! Events about Functions, which `kubectl describe` shows.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, ResourceExt,
    api::DynamicObject,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::{controller::Notice, error::within};

/// Who signs them.
const COMPONENT: &str = "functions-controller";
/// What an Event's text may have.
const LONGEST: usize = 1024;

/// Writes Events.
pub(crate) struct Events(Recorder);

impl Events {
    pub(crate) fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: COMPONENT.to_owned(),
            instance: None,
        };
        Self(Recorder::new(client, reporter))
    }

    /// Tells of something that happened to a Function. What cannot be told is only logged.
    pub(crate) async fn tell(&self, function: &DynamicObject, notice: &Notice) {
        let about = ObjectReference {
            api_version: Some("functions.wk.dev/v1".to_owned()),
            kind: Some("Function".to_owned()),
            name: function.metadata.name.clone(),
            namespace: function.namespace(),
            uid: function.uid(),
            ..ObjectReference::default()
        };
        let mut note = notice.message.clone();
        note.truncate(note.floor_char_boundary(LONGEST));
        let event = Event {
            type_: if notice.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: notice.reason.clone(),
            note: Some(note),
            action: notice.reason.clone(),
            secondary: None,
        };
        if let Err(error) = within(self.0.publish(&event, &about)).await {
            tracing::debug!(%error, function = function.name_any(), "an Event was not written");
        }
    }
}
