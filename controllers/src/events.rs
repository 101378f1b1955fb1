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
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, within};

/// Events waiting to be written; more are dropped, for they only inform.
const QUEUED: usize = 4096;
/// Events about one object that a component may write at once, as Kubernetes' own filter has it: a
/// thousand new pods are told of by two dozen.
const BURST: f64 = 25.0;
/// Seconds after which it may write one more.
const REFILL: f64 = 300.0;
/// Objects whose bursts are remembered.
const METERED: usize = 4096;
/// The longest name an object may have.
const LONGEST_NAME: usize = 253;
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
    meters: HashMap<(About, &'static str), Meter>,
}

/// How many Events a component may still write about an object.
#[derive(Clone, Copy)]
struct Meter {
    left: f64,
    at: Instant,
}

impl Meter {
    /// Takes one, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let refilled = now.duration_since(self.at).as_secs_f64() / REFILL;
        self.left = (self.left + refilled).min(BURST);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
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
                meters: HashMap::new(),
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
        if !self.allows(&record) {
            tracing::debug!(
                reason,
                object,
                "too many Events of one object; one was dropped"
            );
            return;
        }
        if let Err(error) = self.write(record).await {
            tracing::debug!(%error, reason, object, "an Event was not written");
        }
    }

    fn allows(&mut self, record: &Record) -> bool {
        if self.meters.len() >= METERED {
            self.meters.clear();
        }
        let now = Instant::now();
        let full = Meter {
            left: BURST,
            at: now,
        };
        let of = (record.about.clone(), record.component);
        self.meters.entry(of).or_insert(full).take(now)
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
                // In the order of their names, for those who show Events of one second.
                name: Some(event_name(&about.name, now)),
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

/// The object's name, cut where an Event's would be too long, and the time.
fn event_name(of: &str, now: Timestamp) -> String {
    let suffix = format!(".{:016x}", now.as_nanosecond());
    let kept = of.len().min(LONGEST_NAME - suffix.len());
    let kept = of.get(..kept).unwrap_or_default();
    // A part of a name ends with a letter or a digit.
    format!("{}{suffix}", kept.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_object_has_a_burst_of_events_and_then_few() {
        let now = Instant::now();
        let mut meter = Meter {
            left: BURST,
            at: now,
        };
        assert_eq!((0..100).filter(|_| meter.take(now)).count(), 25);
        assert!(!meter.take(now + Duration::from_secs(299)));
        assert!(meter.take(now + Duration::from_secs(301)));
    }

    #[test]
    fn an_event_of_an_object_with_a_long_name_has_a_valid_name() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let suffix = ".18fae27693b40000";
        assert_eq!(event_name("web", now), format!("web{suffix}"));
        let (fits, long) = ("a".repeat(236), "a".repeat(253));
        assert_eq!(event_name(&fits, now), format!("{fits}{suffix}"));
        assert_eq!(event_name(&long, now), format!("{fits}{suffix}"));
        let dashed = format!("{}-.b{}", "a".repeat(234), "c".repeat(10));
        assert_eq!(
            event_name(&dashed, now),
            format!("{}{suffix}", "a".repeat(234))
        );
    }
}
