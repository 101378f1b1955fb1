//! Writes the Events that `kubectl describe` shows.
//!
//! Creates core/v1 `Event`; raises `count` of one it wrote before when the same happens again.
//! Recording never waits and never fails its caller: when the queue is full the Event is lost.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, within};

/// Events waiting to be written; more are dropped, for they only inform.
const QUEUED: usize = 4096;
/// Events whose repetition is recognised.
const REMEMBERED: usize = 4096;

/// `Normal` or `Warning`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Something that happened to an object.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Record {
    about: About,
    component: &'static str,
    severity: Severity,
    reason: &'static str,
    message: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct About {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

/// The way in: one for each controller that speaks.
#[derive(Clone)]
pub(crate) struct Recorder {
    component: &'static str,
    to: mpsc::Sender<Record>,
}

impl Recorder {
    /// A recorder that writes under another component's name.
    pub(crate) fn named(&self, component: &'static str) -> Self {
        Self {
            component,
            to: self.to.clone(),
        }
    }

    /// Records something about an object.
    pub(crate) fn record<K>(
        &self,
        object: &K,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) where
        K: Resource,
        K::DynamicType: Default,
    {
        let types = K::DynamicType::default();
        self.record_as(
            &K::api_version(&types),
            &K::kind(&types),
            object,
            severity,
            reason,
            message,
        );
    }

    /// The same for an object whose type is only known at run time.
    pub(crate) fn record_as<K: Resource>(
        &self,
        api_version: &str,
        kind: &str,
        object: &K,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        let about = About {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
        };
        let record = Record {
            about,
            component: self.component,
            severity,
            reason,
            message,
        };
        if self.to.try_send(record).is_err() {
            tracing::debug!(reason, "too many Events at once; one was dropped");
        }
    }
}

/// Writes what recorders send.
pub(crate) struct EventWriter {
    client: Client,
    from: mpsc::Receiver<Record>,
    written: HashMap<Record, (String, i32)>,
}

impl EventWriter {
    pub(crate) fn new(client: Client) -> (Recorder, Self) {
        let (to, from) = mpsc::channel(QUEUED);
        (
            Recorder { component: "", to },
            Self {
                client,
                from,
                written: HashMap::new(),
            },
        )
    }

    /// Writes until `stop`, and then what is still queued.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let record = tokio::select! {
                () = stop.cancelled() => break,
                record = self.from.recv() => record,
            };
            let Some(record) = record else { return };
            self.write_or_log(record).await;
        }
        while let Ok(record) = self.from.try_recv() {
            self.write_or_log(record).await;
        }
    }

    async fn write_or_log(&mut self, record: Record) {
        let (reason, object) = (record.reason, record.about.name.clone());
        if let Err(error) = self.write(record).await {
            tracing::debug!(%error, reason, object, "an Event was not written");
        }
    }

    async fn write(&mut self, record: Record) -> Result<(), Error> {
        let namespace = match record.about.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let now = Timestamp::now();
        if let Some((name, count)) = self.written.get_mut(&record) {
            let patch = json!({"count": *count + 1, "lastTimestamp": Time(now)});
            let raised =
                within(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await;
            match raised {
                Ok(_) => {
                    *count += 1;
                    return Ok(());
                }
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let event = record.event(namespace, now);
        within(api.create(&PostParams::default(), &event)).await?;
        if self.written.len() >= REMEMBERED {
            self.written.clear();
        }
        self.written.insert(record, (event.name_any(), 1));
        Ok(())
    }
}

impl Record {
    fn event(&self, namespace: &str, now: Timestamp) -> Event {
        let about = &self.about;
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:016x}", about.name, rand::random::<u64>())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(about.api_version.clone()),
                kind: Some(about.kind.clone()),
                namespace: Some(about.namespace.clone()).filter(|namespace| !namespace.is_empty()),
                name: Some(about.name.clone()),
                uid: Some(about.uid.clone()),
                ..ObjectReference::default()
            },
            type_: Some(format!("{:?}", self.severity)),
            reason: Some(self.reason.to_owned()),
            message: Some(self.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        }
    }
}
