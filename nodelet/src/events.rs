//! Events as `kubectl describe` shows them.
//!
//! [`Sink`] takes them without waiting: when the queue is full an Event is dropped and counted in a log line.
//! [`run`] writes them; one that repeats raises `count` on the object written before.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use futures::{StreamExt, stream};
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::{clock::Clock, deadline::call};

/// Events that wait to be written; more are dropped.
const QUEUE: usize = 4_096;
/// Repeated Events that are recognised; the oldest are forgotten and start again at 1.
const REMEMBERED: usize = 4_096;
/// The longest name an object may have.
const LONGEST_NAME: usize = 253;
/// Events written at a time.
const CONCURRENT_WRITES: usize = 8;

/// What an Event is about and says; two that are equal are one Event that happened twice.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Note {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// `spec.containers{name}`.
    pub(crate) field: Option<String>,
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Takes Events.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    queue: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// A sink, and the queue for [`run`].
    pub(crate) fn new() -> (Sink, mpsc::Receiver<Note>) {
        let (queue, notes) = mpsc::channel(QUEUE);
        (
            Sink {
                queue,
                dropped: Arc::default(),
            },
            notes,
        )
    }

    /// Takes an Event, or drops it if too many wait.
    pub(crate) fn send(&self, note: Note) {
        if let Err(mpsc::error::TrySendError::Full(note)) = self.queue.try_send(note) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                warn!(
                    dropped,
                    reason = note.reason,
                    "the queue of Events is full: dropping"
                );
            }
        }
    }
}

/// How often a note was written, and as which object.
struct Seen {
    object: String,
    count: i32,
}

/// Writes Events until every sink is gone.
pub(crate) async fn run(
    mut notes: mpsc::Receiver<Note>,
    client: Client,
    node: String,
    clock: Clock,
) {
    let mut seen: HashMap<Note, Seen> = HashMap::new();
    let mut order: VecDeque<Note> = VecDeque::new();
    let mut batch = Vec::new();
    while notes.recv_many(&mut batch, 64).await > 0 {
        let mut writes: Vec<(Note, i32, Option<String>)> = Vec::new();
        for note in batch.drain(..) {
            match writes.iter_mut().find(|(other, ..)| *other == note) {
                Some((_, times, _)) => *times += 1,
                None => {
                    let object = seen.get(&note).map(|seen| seen.object.clone());
                    writes.push((note, 1, object));
                }
            }
        }
        let written: Vec<(Note, Option<Seen>)> = stream::iter(writes)
            .map(|(note, times, object)| {
                let (client, node) = (client.clone(), node.clone());
                let count = seen.get(&note).map_or(0, |seen| seen.count) + times;
                async move {
                    let seen = write(client, &node, &note, object, count, clock).await;
                    (note, seen)
                }
            })
            .buffer_unordered(CONCURRENT_WRITES)
            .collect()
            .await;
        for (note, written) in written {
            let Some(written) = written else { continue };
            if seen.insert(note.clone(), written).is_none() {
                order.push_back(note);
            }
            if order.len() > REMEMBERED
                && let Some(oldest) = order.pop_front()
            {
                seen.remove(&oldest);
            }
        }
    }
}

async fn write(
    client: Client,
    node: &str,
    note: &Note,
    object: Option<String>,
    count: i32,
    clock: Clock,
) -> Option<Seen> {
    let namespace = if note.namespace.is_empty() {
        "default"
    } else {
        &note.namespace
    };
    let events: Api<Event> = Api::namespaced(client, namespace);
    let now = Time(clock.now());
    if let Some(object) = object {
        let patch = Patch::Merge(json!({"count": count, "lastTimestamp": now}));
        match call(events.patch(&object, &PatchParams::default(), &patch)).await {
            Ok(_) => return Some(Seen { object, count }),
            // It has expired: written anew below.
            Err(error) if error.code() == Some(404) => {}
            Err(error) => {
                debug!(%error, reason = note.reason, "raise the count of an Event");
                return Some(Seen { object, count });
            }
        }
    }
    let event = event(node, note, count, now, clock);
    match call(events.create(&PostParams::default(), &event)).await {
        Ok(_) => Some(Seen {
            object: event.metadata.name.unwrap_or_default(),
            count,
        }),
        Err(error) => {
            debug!(%error, reason = note.reason, "write an Event");
            None
        }
    }
}

fn event(node: &str, note: &Note, count: i32, now: Time, clock: Clock) -> Event {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    // Unique enough, and sorted by time, as client-go names them.
    let unique = clock.now().as_nanosecond().unsigned_abs() as u64
        ^ SEQUENCE.fetch_add(1, Ordering::Relaxed);
    Event {
        metadata: ObjectMeta {
            name: Some(name(&note.name, unique)),
            namespace: Some(if note.namespace.is_empty() {
                "default".to_owned()
            } else {
                note.namespace.clone()
            }),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            kind: Some(note.kind.to_owned()),
            api_version: Some(match note.kind {
                "FunctionRevision" => "functions.wk.dev/v1".to_owned(),
                _ => "v1".to_owned(),
            }),
            namespace: (!note.namespace.is_empty()).then(|| note.namespace.clone()),
            name: Some(note.name.clone()),
            uid: Some(note.uid.clone()),
            field_path: note.field.clone(),
            resource_version: None,
        },
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        count: Some(count),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some("kubelet".to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}

/// The object's name, cut where an Event's would be too long, and what no other Event has.
fn name(of: &str, unique: u64) -> String {
    let suffix = format!(".{unique:x}");
    let kept = of.len().min(LONGEST_NAME - suffix.len());
    let kept = of.get(..kept).unwrap_or_default();
    // A part of a name ends with a letter or a digit.
    format!("{}{suffix}", kept.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_pod_with_a_long_name_has_a_valid_name() {
        assert_eq!(name("web", 0xab), "web.ab");
        let (fits, long) = ("a".repeat(250), "a".repeat(253));
        assert_eq!(name(&long, 0xab), format!("{fits}.ab"));
        let dashed = format!("{}-b", "a".repeat(249));
        assert_eq!(name(&dashed, 0xab), format!("{}.ab", "a".repeat(249)));
    }
}
