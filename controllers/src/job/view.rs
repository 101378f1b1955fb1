//! A Job and its pods as they are at one moment, and what follows from that alone. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::failure_policy::{Verdict, verdict};
use super::indexes::Indexes;
use super::member;
use crate::pod;

/// What is decided from.
pub(super) struct View<'a> {
    job: &'a Job,
    pub(super) spec: &'a JobSpec,
    pub(super) status: JobStatus,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) deleting: bool,
    /// Only a pod that has failed is replaced, and not one that is going.
    pub(super) only_failed: bool,
    uncounted: HashSet<String>,
}

impl<'a> View<'a> {
    /// `None` where the Job has no spec, which the apiserver does not let happen.
    pub(super) fn new(job: &'a Job, pods: &'a [Arc<Pod>]) -> Option<Self> {
        let spec = job.spec.as_ref()?;
        let status = job.status.clone().unwrap_or_default();
        let policy = spec.pod_replacement_policy.as_deref();
        let uncounted = status.uncounted_terminated_pods.iter();
        let uncounted = uncounted.flat_map(|uncounted| {
            let succeeded = uncounted.succeeded.iter().flatten();
            succeeded.chain(uncounted.failed.iter().flatten()).cloned()
        });
        Some(Self {
            job,
            spec,
            uncounted: uncounted.collect(),
            status,
            pods,
            deleting: job.metadata.deletion_timestamp.is_some(),
            only_failed: policy == Some("Failed") || spec.pod_failure_policy.is_some(),
        })
    }

    pub(super) fn uid(&self) -> String {
        self.job.metadata.uid.clone().unwrap_or_default()
    }

    pub(super) fn indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// Of an indexed Job, which always has some.
    pub(super) fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    pub(super) fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.iter().filter(|pod| pod::active(pod))
    }

    pub(super) fn terminating(&self) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.iter().filter(|pod| pod::terminating(pod))
    }

    /// Whether the pod has an index that the Job has, if it needs one.
    pub(super) fn valid(&self, pod: &Pod) -> bool {
        !self.indexed() || member::index(pod).is_some_and(|index| index < self.completions())
    }

    /// Ended pods that are in no count and in no list yet.
    fn new_pods(&self, test: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        let new = self.pods.iter().filter(|pod| {
            member::tracked(pod)
                && !self.uncounted.contains(member::uid(pod))
                && self.valid(pod)
                && test(pod)
        });
        new.cloned().collect()
    }

    pub(super) fn listed(&self, pod: &Pod) -> bool {
        self.uncounted.contains(member::uid(pod))
    }

    pub(super) fn new_succeeded(&self) -> Vec<Arc<Pod>> {
        self.new_pods(member::succeeded)
    }

    pub(super) fn new_failed(&self) -> Vec<Arc<Pod>> {
        self.new_pods(|pod| member::failed(pod, self.only_failed))
    }

    /// How many pods, or indexes, have succeeded.
    pub(super) fn succeeded(&self) -> i32 {
        if self.indexed() {
            return self.succeeded_indexes().total();
        }
        let listed = self.status.uncounted_terminated_pods.as_ref();
        let listed = listed.and_then(|listed| listed.succeeded.as_ref());
        whole(self.new_succeeded().len() + listed.map_or(0, Vec::len))
            .saturating_add(self.status.succeeded.unwrap_or(0))
    }

    /// How many pods have failed, but for those whose failure the rules ignore.
    pub(super) fn failed(&self) -> i32 {
        let new = self.new_failed();
        let counted = new.iter().filter(|pod| self.counts(pod)).count();
        let listed = self.status.uncounted_terminated_pods.as_ref();
        let listed = listed.and_then(|listed| listed.failed.as_ref());
        whole(counted + listed.map_or(0, Vec::len)).saturating_add(self.status.failed.unwrap_or(0))
    }

    /// Whether a failure of the pod counts.
    pub(super) fn counts(&self, pod: &Pod) -> bool {
        verdict(self.spec, pod) != Verdict::Ignore
    }

    pub(super) fn succeeded_indexes(&self) -> Indexes {
        let known = self.status.completed_indexes.as_deref();
        let new = self.new_succeeded();
        Indexes::parse(known.unwrap_or_default(), self.completions())
            .with(new.iter().filter_map(|pod| member::index(pod)))
    }

    /// The indexes that failed for good; `None` where the Job has no limit for each.
    pub(super) fn failed_indexes(&self) -> Option<Indexes> {
        self.failed_indexes_by(self.only_failed)
    }

    /// The same, whatever becomes of the pods that go because the Job ends.
    pub(super) fn failed_indexes_at_end(&self) -> Option<Indexes> {
        self.failed_indexes_by(true)
    }

    fn failed_indexes_by(&self, only_failed: bool) -> Option<Indexes> {
        let limit = self.spec.backoff_limit_per_index?;
        let known = self.status.failed_indexes.as_deref();
        let succeeded = self.succeeded_indexes();
        let failed = self.pods.iter().filter(|pod| {
            let failed =
                member::tracked(pod) && self.valid(pod) && member::failed(pod, only_failed);
            failed
                && match verdict(self.spec, pod) {
                    Verdict::FailIndex => true,
                    Verdict::Ignore => false,
                    _ => member::failures(pod) >= limit,
                }
        });
        let failed = failed.filter_map(|pod| member::index(pod));
        let failed = failed.filter(|index| !succeeded.contains(*index));
        Some(Indexes::parse(known.unwrap_or_default(), self.completions()).with(failed))
    }

    /// Failed pods, by index, that stay until the index has another pod, which is told of their failures.
    pub(super) fn remembered(&self) -> HashMap<i32, Arc<Pod>> {
        let Some(failed) = self.failed_indexes() else {
            return HashMap::new();
        };
        let succeeded = self.succeeded_indexes();
        let active: HashSet<i32> = self.active().filter_map(|pod| member::index(pod)).collect();
        let mut remembered: HashMap<i32, Arc<Pod>> = HashMap::new();
        let tracked = self.pods.iter().filter(|pod| {
            member::tracked(pod) && self.valid(pod) && member::failed(pod, self.only_failed)
        });
        for pod in tracked {
            let Some(index) = member::index(pod) else {
                continue;
            };
            if active.contains(&index) || succeeded.contains(index) || failed.contains(index) {
                continue;
            }
            let times =
                |pod: &Pod| member::failures(pod).saturating_add(member::ignored_failures(pod));
            let later = remembered
                .get(&index)
                .is_none_or(|known| times(known) <= times(pod));
            if later {
                remembered.insert(index, pod.clone());
            }
        }
        remembered
    }

    /// Since when the Job has been at work.
    pub(super) fn start_time(&self, now: Timestamp) -> Option<Timestamp> {
        let known = self.status.start_time.as_ref().map(|time| time.0);
        known.or((!self.suspended()).then_some(now))
    }

    /// Whether a condition holds, and then its reason and message.
    pub(super) fn condition(&self, kind: &str) -> Option<(String, String)> {
        let mut conditions = self.status.conditions.iter().flatten();
        let found = conditions.find(|found| found.type_ == kind && found.status == "True")?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some((text(&found.reason), text(&found.message)))
    }

    /// Whether as many have succeeded as must, and nothing runs any more.
    pub(super) fn complete(&self) -> bool {
        let enough = match self.spec.completions {
            Some(completions) => self.succeeded() >= completions,
            None => self.succeeded() > 0,
        };
        enough && self.active().next().is_none()
    }
}

pub(super) fn whole(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
