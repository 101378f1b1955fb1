//! Tells users what was decided: Events, and the condition `PodScheduled=False`.
//!
//! Writes `Event` and the pod's status, off the path of decisions: reports wait in a bounded queue, and
//! what does not fit is dropped, for an event is a courtesy. A message that repeats raises the count of
//! its event. Never sets `PodScheduled=True`: that comes with the binding, in the API server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod as ApiPod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::config::Config;
use crate::pod::Pod;

/// Failures remembered so that their events are counted instead of repeated.
const REMEMBERED: usize = 4096;
/// The longest name an object may have.
const LONGEST_NAME: usize = 253;

/// Something to tell.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) pod: Arc<Pod>,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// The pod is bound to this node.
    Scheduled(Arc<str>),
    /// No node admits it, or its binding failed.
    Failed {
        message: String,
        condition: Condition,
    },
}

/// What becomes of the pod's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It says so already.
    Kept,
    /// It is false from now on.
    Set,
    /// It stays false, for another reason.
    Reworded,
}

/// The writing end. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(mpsc::Sender<Report>);

impl Reporter {
    /// False if the report was dropped because too many wait.
    pub(crate) fn report(&self, pod: &Arc<Pod>, outcome: Outcome) -> bool {
        let pod = Arc::clone(pod);
        let sent = self.0.try_send(Report { pod, outcome });
        if let Err(error) = &sent {
            debug!(%error, "event dropped");
        }
        sent.is_ok()
    }
}

/// Writes reports until every [`Reporter`] is gone and all is written.
pub(crate) struct Writer {
    client: Client,
    source: String,
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
}

impl Writer {
    pub(crate) fn new(client: Client, config: &Config) -> (Reporter, Self) {
        let (sender, reports) = mpsc::channel(config.report_queue.max(1));
        let writer = Self {
            client,
            source: config.scheduler_name.clone(),
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
                (
                    self.event(&pod, &name, ("Normal", "Scheduled"), &message, 1, now),
                    1,
                    None,
                )
            }
            Outcome::Failed { message, condition } => {
                let (name, count) = self.count(&pod, &message, now);
                let status = unschedulable(&pod, &message, condition, now);
                let kind = ("Warning", "FailedScheduling");
                (
                    self.event(&pod, &name, kind, &message, count, now),
                    count,
                    status,
                )
            }
        };
        writes.spawn(async move {
            let write = async {
                if let Some(status) = status {
                    let pods: Api<ApiPod> = Api::namespaced(client.clone(), &pod.namespace);
                    let patch = Patch::Strategic(status);
                    let patched = pods
                        .patch_status(&pod.name, &PatchParams::default(), &patch)
                        .await;
                    tell(&pod, "condition", patched.map(drop));
                }
                let written = write_event(&client, &pod.namespace, &event, count).await;
                tell(&pod, "event", written);
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

    /// The name and count of the event for a failure: those of the last one if it said the same.
    fn count(&mut self, pod: &Pod, message: &str, now: Timestamp) -> (String, i32) {
        if let Some(failure) = self.failures.get_mut(&pod.uid)
            && failure.message == message
        {
            failure.count = failure.count.saturating_add(1);
            return (failure.event.clone(), failure.count);
        }
        if self.failures.len() >= REMEMBERED {
            self.failures.clear();
        }
        let event = self.event_name(pod, now);
        let failure = Failure {
            event: event.clone(),
            message: message.to_owned(),
            count: 1,
        };
        self.failures.insert(Arc::clone(&pod.uid), failure);
        (event, 1)
    }

    /// The pod's name and a suffix that no other event of ours has.
    fn event_name(&mut self, pod: &Pod, now: Timestamp) -> String {
        self.serial += 1;
        let suffix = format!(".{:x}{:02x}", now.as_nanosecond(), self.serial % 256);
        let kept = pod.name.len().min(LONGEST_NAME - suffix.len());
        format!("{}{suffix}", pod.name.get(..kept).unwrap_or_default())
    }

    fn event(
        &self,
        pod: &Pod,
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
            "source": { "component": self.source },
            "reportingComponent": self.source,
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
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if count > 1 {
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
    let event: Event = serde_json::from_value(event.clone()).map_err(kube::Error::SerdeError)?;
    events
        .create(&PostParams::default(), &event)
        .await
        .map(drop)
}

/// The patch that makes the pod's condition say why it is not placed, if it does not already.
fn unschedulable(pod: &Pod, message: &str, condition: Condition, now: Timestamp) -> Option<Value> {
    let mut entry = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    });
    match condition {
        Condition::Kept => return None,
        Condition::Reworded => {}
        Condition::Set => entry["lastTransitionTime"] = seconds(now),
    }
    Some(json!({ "metadata": { "uid": &*pod.uid }, "status": { "conditions": [entry] } }))
}

fn seconds(now: Timestamp) -> Value {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// A pod or namespace that is gone meanwhile is nothing to tell.
fn tell(pod: &Pod, what: &str, outcome: kube::Result<()>) {
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
