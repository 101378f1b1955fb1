//! What follows when PostFilter knows a node on which room can be made: its victims are told and deleted.
//!
//! Writes the pod's `status.nominatedNodeName` with its condition, and of each victim the condition `DisruptionTarget` and
//! an Event before it deletes it. The pod itself waits in the queue until its victims are gone.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tracing::{info, warn};

use super::State;
use crate::framework::{Nomination, PostFiltered, Room};
use crate::metrics;
use crate::placed::Placed;
use crate::pod::Pod;
use crate::report::Outcome;

impl State {
    /// Starts to make room for a pod, if there is a way.
    pub(super) fn make_room(&mut self, pod: &Arc<Pod>, remedy: Option<PostFiltered>) {
        let Some(remedy) = remedy else {
            return;
        };
        let Nomination { node, victims } = match remedy.room {
            Room::Made(nomination) => nomination,
            Room::Kept => return,
            Room::Nowhere => {
                self.denominate(&pod.uid);
                return;
            }
        };
        info!(
            namespace = &*pod.namespace,
            name = &*pod.name,
            node = &*node,
            victims = victims.len(),
            "room is made"
        );
        metrics::preempted(victims.len());
        self.nominate(pod, &node);
        for victim in &victims {
            self.reporter
                .report_on(victim, pod, Outcome::Preempted(Arc::clone(&node)));
            // One that only has its node, and waits there for a permit or its volumes, is decided again.
            if let Some(waiting) = self.waiting.remove(&victim.uid) {
                self.fail(&waiting.pod, anyhow::anyhow!("preempted"));
            }
        }
        let victims: Vec<_> = victims
            .into_iter()
            .filter(|victim| !victim.deleting && !self.snapshot.is_assumed(&victim.uid))
            .collect();
        if !victims.is_empty() {
            let (client, timeout) = (self.client.clone(), self.config.request_timeout);
            let preemptor = Arc::clone(pod);
            self.evictions.spawn(async move {
                let evict = evict(client, &preemptor, &victims);
                if tokio::time::timeout(timeout, evict).await.is_err() {
                    warn!(
                        namespace = &*preemptor.namespace,
                        name = &*preemptor.name,
                        "room was not made within {timeout:?}"
                    );
                }
                Arc::clone(&preemptor.uid)
            });
        }
    }

    /// Notes where room is made for a pod. If that was elsewhere, others may have it now.
    pub(super) fn nominate(&mut self, pod: &Pod, node: &Arc<str>) {
        if let Some(before) = self.snapshot.nominate(pod, node) {
            self.left(&before);
        }
    }

    /// Notes that no room is made for a pod any more; others may have it now.
    pub(super) fn denominate(&mut self, uid: &str) {
        if let Some(before) = self.snapshot.denominate(uid) {
            self.left(&before);
        }
    }

    /// Tries a pod again for which room was made. If its victims are still going, it waits for them.
    pub(super) fn evicted(&mut self, uid: Arc<str>) {
        self.queue.activate_now(&uid);
    }
}

/// Deletes the victims. What fails is told; the pod finds out when it is decided again.
async fn evict(client: Client, preemptor: &Pod, victims: &[Arc<Placed>]) {
    for victim in victims {
        let pods: Api<core::Pod> = Api::namespaced(client.clone(), &victim.namespace);
        let name = &*preemptor.scheduler;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "metadata": { "uid": &*victim.uid },
            "status": { "conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": format!("{name}: preempting to accommodate a higher priority pod"),
                "lastTransitionTime": now,
            }] },
        });
        let params = PatchParams::default();
        let told = pods
            .patch_status(&victim.name, &params, &Patch::Strategic(condition))
            .await;
        let only_it = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid.to_string()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let gone = match told {
            Ok(_) => pods.delete(&victim.name, &only_it).await.map(drop),
            Err(error) => Err(error),
        };
        match gone {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => warn!(
                namespace = &*victim.namespace,
                name = &*victim.name,
                error = &error as &dyn std::error::Error,
                "victim not deleted"
            ),
        }
    }
}
