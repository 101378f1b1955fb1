//! Tells users what was decided: Events, and the condition `PodScheduled=False`.
//!
//! Writes `Event` and the pod's status, off the path of decisions: reports wait in a bounded queue, and
//! what does not fit is dropped, for an event is a courtesy. A message that repeats raises the count of
//! its event. Never sets `PodScheduled=True`: that comes with the binding, in the API server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, Pod as ApiPod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::config::Config;
use crate::placed::Placed;
use crate::pod::Pod;
use crate::told::{Amendment, Condition, Nominated};

/// Failures remembered so that their events are counted instead of repeated.
const REMEMBERED: usize = 4096;
/// So many events about the failures of one pod are written, and then one more each time this has passed.
const BURST: u32 = 25;
const REFILL: SignedDuration = SignedDuration::from_secs(300);
/// The longest name an object may have.
const LONGEST_NAME: usize = 253;

/// Something to tell.
#[derive(Debug)]
pub(crate) struct Report {
    pod: Subject,
    outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// The pod is bound to this node.
    Scheduled(Arc<str>),
    /// No node admits it, or its binding failed.
    Failed {
        message: String,
        /// What its status must be made to say, if it does not.
        status: Option<Amendment>,
    },
    /// It makes room on this node for another pod.
    Preempted(Arc<str>),
}

/// The pod that a report is about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    uid: Arc<str>,
    namespace: Arc<str>,
    name: Arc<str>,
    /// The profile that reports it.
    source: Arc<str>,
    /// The uid of the pod that it makes room for.
    preemptor: Option<Arc<str>>,
}

impl From<&Pod> for Subject {
    fn from(pod: &Pod) -> Self {
        Self {
            uid: Arc::clone(&pod.uid),
            namespace: Arc::clone(&pod.namespace),
            name: Arc::clone(&pod.name),
            source: Arc::clone(&pod.scheduler),
            preemptor: None,
        }
    }
}

/// The writing end. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(mpsc::Sender<Report>);

impl Reporter {
    /// Drops the report if too many wait.
    pub(crate) fn report(&self, pod: &Pod, outcome: Outcome) {
        self.send(Subject::from(pod), outcome);
    }

    /// The same of a pod that makes room for another.
    pub(crate) fn report_on(&self, victim: &Placed, preemptor: &Pod, outcome: Outcome) {
        let pod = Subject {
            uid: Arc::clone(&victim.uid),
            namespace: Arc::clone(&victim.namespace),
            name: Arc::clone(&victim.name),
            source: Arc::clone(&preemptor.scheduler),
            preemptor: Some(Arc::clone(&preemptor.uid)),
        };
        self.send(pod, outcome);
    }

    fn send(&self, pod: Subject, outcome: Outcome) {
        if let Err(error) = self.0.try_send(Report { pod, outcome }) {
            debug!(%error, "event dropped");
        }
    }
}

/// Writes reports until every [`Reporter`] is gone and all is written.
pub(crate) struct Writer {
    client: Client,
    timeout: Duration,
    concurrency: usize,
    reports: mpsc::Receiver<Report>,
    failures: HashMap<Arc<str>, Failure>,
    serial: u64,
}

/// The last event about a pod that could not be placed.
struct Failure {
    event: String,
    message: String,
    count: i32,
    /// How many more may be written, and when that was raised last.
    allowance: u32,
    refilled: Timestamp,
}

impl Writer {
    pub(crate) fn new(client: Client, config: &Config) -> (Reporter, Self) {
        let (sender, reports) = mpsc::channel(config.report_queue.max(1));
        let writer = Self {
            client,
            timeout: config.request_timeout,
            concurrency: config.report_concurrency.max(1),
            reports,
            failures: HashMap::new(),
            serial: 0,
        };
        (Reporter(sender), writer)
    }

    pub(crate) async fn run(mut self) {
        let mut writes = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = writes.join_next() => {}
                report = self.reports.recv(), if writes.len() < self.concurrency => match report {
                    Some(report) => self.start(report, &mut writes),
                    None => break,
                },
            }
        }
        while writes.join_next().await.is_some() {}
    }

    fn start(&mut self, report: Report, writes: &mut JoinSet<()>) {
        let Report { pod, outcome } = report;
        let now = Timestamp::now();
        let (client, timeout) = (self.client.clone(), self.timeout);
        let (event, count, status) = match outcome {
            Outcome::Scheduled(node) => {
                self.failures.remove(&pod.uid);
                let message = format!(
                    "Successfully assigned {}/{} to {node}",
                    pod.namespace, pod.name
                );
                let name = self.event_name(&pod, now);
                let kind = ("Normal", "Scheduled");
                (
                    Some(Self::event(&pod, &name, kind, &message, 1, now)),
                    1,
                    None,
                )
            }
            Outcome::Preempted(node) => {
                let by = pod.preemptor.as_deref().unwrap_or_default();
                let message = format!("Preempted by pod {by} on node {node}");
                let (name, kind) = (self.event_name(&pod, now), ("Normal", "Preempted"));
                (
                    Some(Self::event(&pod, &name, kind, &message, 1, now)),
                    1,
                    None,
                )
            }
            Outcome::Failed { message, status } => {
                let status = status.map(|amendment| {
                    let patch = unschedulable(&pod, &message, &amendment, now);
                    (patch, amendment.written)
                });
                let kind = ("Warning", "FailedScheduling");
                match self.count(&pod, &message, now) {
                    Some((name, count)) => (
                        Some(Self::event(&pod, &name, kind, &message, count, now)),
                        count,
                        status,
                    ),
                    None => (None, 0, status),
                }
            }
        };
        if event.is_none() && status.is_none() {
            return;
        }
        writes.spawn(async move {
            let write = async {
                if let Some((patch, written)) = status {
                    let pods: Api<ApiPod> = Api::namespaced(client.clone(), &pod.namespace);
                    let patch = Patch::Strategic(patch);
                    let patched = pods
                        .patch_status(&pod.name, &PatchParams::default(), &patch)
                        .await;
                    if patched.is_ok() {
                        // Nobody listens any more if the pod was decided again meanwhile.
                        let _ = written.send(());
                    }
                    tell(&pod, "condition", patched.map(drop));
                }
                if let Some(event) = event {
                    let written = write_event(&client, &pod.namespace, &event, count).await;
                    tell(&pod, "event", written);
                }
            };
            if tokio::time::timeout(timeout, write).await.is_err() {
                warn!(
                    namespace = &*pod.namespace,
                    name = &*pod.name,
                    "events took too long to write"
                );
            }
        });
    }

    /// The name and count of the event for a failure: those of the last one if it said the same. `None` if there were
    /// too many about this pod.
    fn count(&mut self, pod: &Subject, message: &str, now: Timestamp) -> Option<(String, i32)> {
        if self.failures.len() >= REMEMBERED && !self.failures.contains_key(&pod.uid) {
            self.failures.clear();
        }
        let fresh = self.event_name(pod, now);
        let failure = self
            .failures
            .entry(Arc::clone(&pod.uid))
            .or_insert_with(|| Failure {
                event: String::new(),
                message: String::new(),
                count: 0,
                allowance: BURST,
                refilled: now,
            });
        let refill = now.duration_since(failure.refilled).as_secs() / REFILL.as_secs();
        if refill > 0 {
            let refill = u32::try_from(refill).unwrap_or(BURST);
            failure.allowance = failure.allowance.saturating_add(refill).min(BURST);
            failure.refilled = now;
        }
        if failure.message == message {
            failure.count = failure.count.saturating_add(1);
        } else {
            failure.event = fresh;
            message.clone_into(&mut failure.message);
            failure.count = 1;
        }
        failure.allowance = failure.allowance.checked_sub(1)?;
        Some((failure.event.clone(), failure.count))
    }

    /// The pod's name and a suffix that no other event of ours has.
    fn event_name(&mut self, pod: &Subject, now: Timestamp) -> String {
        self.serial += 1;
        let suffix = format!(".{:x}{:02x}", now.as_nanosecond(), self.serial % 256);
        with_suffix(&pod.name, &suffix)
    }

    fn event(
        pod: &Subject,
        name: &str,
        (kind, reason): (&str, &str),
        message: &str,
        count: i32,
        now: Timestamp,
    ) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": &*pod.namespace },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": &*pod.namespace,
                "name": &*pod.name,
                "uid": &*pod.uid,
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": count,
            "firstTimestamp": seconds(now),
            "lastTimestamp": seconds(now),
            "source": { "component": &*pod.source },
            "reportingComponent": &*pod.source,
            "reportingInstance": "",
        })
    }
}

/// Creates an event, or raises the count of the one already there.
async fn write_event(
    client: &Client,
    namespace: &str,
    event: &Value,
    count: i32,
) -> kube::Result<()> {
    if count > 1 {
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        let name = event["metadata"]["name"].as_str().unwrap_or_default();
        let patch = Patch::Merge(json!({
            "count": event["count"],
            "lastTimestamp": event["lastTimestamp"],
        }));
        match events.patch(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            outcome => return outcome.map(drop),
        }
    }
    // One for every pod that is placed: nobody reads it back.
    let body = event.to_string().into_bytes();
    let request = Request::new(Event::url_path(&(), Some(namespace)));
    let request = request.create(&PostParams::default(), body);
    let request = request.map_err(kube::Error::BuildRequest)?;
    client.request_text(request).await.map(drop)
}

/// The patch that makes the pod's status say why it is not placed and where room is made.
fn unschedulable(pod: &Subject, message: &str, amendment: &Amendment, now: Timestamp) -> Value {
    let mut status = json!({});
    if amendment.condition != Condition::Kept {
        let mut entry = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
        });
        if amendment.condition == Condition::Set {
            entry["lastTransitionTime"] = seconds(now);
        }
        status["conditions"] = json!([entry]);
    }
    match &amendment.nominated {
        Nominated::Kept => {}
        Nominated::On(node) => status["nominatedNodeName"] = (&**node).into(),
        Nominated::Nowhere => status["nominatedNodeName"] = Value::Null,
    }
    json!({ "metadata": { "uid": &*pod.uid }, "status": status })
}

fn seconds(now: Timestamp) -> Value {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// A pod or namespace that is gone meanwhile is nothing to tell.
fn tell(pod: &Subject, what: &str, outcome: kube::Result<()>) {
    match outcome {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
            debug!(namespace = &*pod.namespace, name = &*pod.name, %status, "{what} not written");
        }
        Err(error) => warn!(
            namespace = &*pod.namespace,
            name = &*pod.name,
            error = &error as &dyn std::error::Error,
            "{what} not written"
        ),
    }
}

/// A name that ends so, cut where it would be too long.
fn with_suffix(name: &str, suffix: &str) -> String {
    let kept = name.len().min(LONGEST_NAME - suffix.len());
    let kept = name.get(..kept).unwrap_or_default();
    // A part of a name ends with a letter or a digit.
    format!("{}{suffix}", kept.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_pod_with_a_long_name_has_a_valid_name() {
        assert_eq!(with_suffix("web", ".ab"), "web.ab");
        let (fits, long) = ("a".repeat(250), "a".repeat(253));
        assert_eq!(with_suffix(&long, ".ab"), format!("{fits}.ab"));
        let dashed = format!("{}-b", "a".repeat(249));
        assert_eq!(
            with_suffix(&dashed, ".ab"),
            format!("{}.ab", "a".repeat(249))
        );
    }
}
