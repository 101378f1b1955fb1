//! Decides what to do about one StatefulSet. Pure.
//!
//! Pods that should be there come first, in ascending order; then those that should not, in descending
//! order; then those of an old revision, in descending order. In order means that nothing happens to a pod
//! while one before it is not available; `Parallel` waits for none of them but while rolling. A pod that is
//! going is waited for, however long it takes: no second one is ever made of its ordinal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSetStatus;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use super::claims::{self, Member, Owners};
use super::set::Set;
use super::status;
use crate::history::REVISION_LABEL;
use crate::pod;
use crate::pod_control::BURST;

/// The label that holds a pod's name.
pub(super) const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// The label that holds a pod's ordinal.
pub(super) const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// What a plan is made of.
pub(super) struct Seen<'a> {
    pub(super) set: &'a Set,
    /// The name of the revision that all pods had last.
    pub(super) current: &'a str,
    /// The name of the revision of the set's template.
    pub(super) update: &'a str,
    /// The set's pods.
    pub(super) pods: &'a [Arc<Pod>],
    /// Finds a claim by name.
    pub(super) claim: &'a (dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>> + Sync),
    pub(super) now: Timestamp,
}

/// What to do, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Claims that get other owners, before any pod goes.
    pub(super) own: Vec<(String, Vec<OwnerReference>)>,
    /// Claims of which another controller has a say, so that the retention policy is not followed.
    pub(super) conflicting: Vec<String>,
    /// Claims that are missing of pods that wait for them: ordinal, and place of the template.
    pub(super) claims: Vec<(i64, usize)>,
    pub(super) create: Vec<Creation>,
    /// Pods that cannot be made because a claim of theirs is going: names of pod and claim.
    pub(super) refused: Vec<(String, String)>,
    /// Pods that lack the labels of their identity.
    pub(super) identify: Vec<String>,
    pub(super) delete: Vec<String>,
    /// Whether something is waited for that tells nobody when it has gone.
    pub(super) waits: bool,
    /// When a pod becomes available by merely staying ready.
    pub(super) look_again: Option<Duration>,
    pub(super) status: StatefulSetStatus,
}

/// A pod to make.
#[derive(Debug, PartialEq)]
pub(super) struct Creation {
    pub(super) ordinal: i64,
    /// Whether it is of the set's own template, and not of the revision before.
    pub(super) updated: bool,
    /// The templates whose claims it still lacks.
    pub(super) claims: Vec<usize>,
}

/// Decides what to do.
pub(super) fn plan(seen: &Seen<'_>) -> Plan {
    let mut walk = Walk {
        seen,
        inside: BTreeMap::new(),
        outside: BTreeMap::new(),
        plan: Plan {
            status: status::count(seen),
            ..Plan::default()
        },
    };
    for pod in seen.pods {
        match seen.set.ordinal(pod) {
            Some(ordinal) if seen.set.ordinals.contains(&ordinal) => {
                walk.inside.insert(ordinal, pod);
            }
            Some(ordinal) => {
                walk.outside.insert(ordinal, pod);
            }
            None => {}
        }
    }
    let until = |pod: &&Arc<Pod>| pod::until_available(pod, seen.set.min_ready_seconds, seen.now);
    walk.plan.look_again = walk.inside.values().filter_map(until).min();
    if !seen.set.deleting && walk.replicas() && walk.surplus() {
        walk.roll();
    }
    walk.plan
}

/// The pods by their ordinals, and the plan as far as it is made.
struct Walk<'a> {
    seen: &'a Seen<'a>,
    /// Those that there should be.
    inside: BTreeMap<i64, &'a Arc<Pod>>,
    outside: BTreeMap<i64, &'a Arc<Pod>>,
    plan: Plan,
}

impl Walk<'_> {
    /// Looks after the pods that there should be. Answers whether anything else may happen this time.
    fn replicas(&mut self) -> bool {
        let set = self.seen.set;
        let mut missing = 0;
        for ordinal in set.ordinals.clone() {
            let fine = match self.inside.get(&ordinal).copied() {
                Some(pod) => self.existing(ordinal, pod),
                None => {
                    self.missing(ordinal);
                    missing += 1;
                    false
                }
            };
            if missing == BURST || (!fine && !set.parallel) {
                return false;
            }
        }
        true
    }

    /// Looks after a pod that is there. Answers whether it is as it should be.
    fn existing(&mut self, ordinal: i64, pod: &Pod) -> bool {
        let going = pod.metadata.deletion_timestamp.is_some();
        if pod::ended(pod) {
            if !going {
                self.plan.delete.push(pod.name_any());
            }
            return false;
        }
        if going {
            return false;
        }
        let uid = pod.metadata.uid.as_deref();
        let lacking = self.claims(ordinal, uid, true);
        if pod::phase(pod) == "Pending" {
            let lacking = lacking.into_iter().map(|template| (ordinal, template));
            self.plan.claims.extend(lacking);
        }
        let name = pod.name_any();
        if pod.labels().get(NAME_LABEL) != Some(&name) {
            self.plan.identify.push(name);
        }
        self.available(pod)
    }

    fn missing(&mut self, ordinal: i64) {
        let set = self.seen.set;
        let name = set.pod_name(ordinal);
        let pod = Member {
            name: &name,
            uid: None,
            stays: true,
        };
        for template in &set.templates {
            let claim_name = set.claim_name(template, ordinal);
            let Some(claim) = (self.seen.claim)(&claim_name) else {
                continue;
            };
            if set.claims.go_with_pod && claims::goes_with_another(&claim, pod) {
                self.plan.waits = true;
                return;
            }
            if claim.metadata.deletion_timestamp.is_some() {
                self.plan.refused.push((name, claim_name));
                return;
            }
        }
        let claims = self.claims(ordinal, None, true);
        let updated = set.rolling.is_none_or(|rolling| ordinal >= rolling.from);
        self.plan.create.push(Creation {
            ordinal,
            updated,
            claims,
        });
    }

    /// Sees to the owners of a pod's claims. Answers the templates whose claims are missing.
    fn claims(&mut self, ordinal: i64, uid: Option<&str>, stays: bool) -> Vec<usize> {
        let set = self.seen.set;
        let name = set.pod_name(ordinal);
        let pod = Member {
            name: &name,
            uid,
            stays,
        };
        let mut lacking = Vec::new();
        for (place, template) in set.templates.iter().enumerate() {
            let claim_name = set.claim_name(template, ordinal);
            let Some(claim) = (self.seen.claim)(&claim_name) else {
                lacking.push(place);
                continue;
            };
            if let Owners::Become(owners) = claims::owners(set, &claim, pod) {
                if claims::conflicting(set, &claim, pod) {
                    self.plan.conflicting.push(claim_name.clone());
                }
                self.plan.own.push((claim_name, owners));
            }
        }
        lacking
    }

    /// Removes pods that there should not be. Answers whether anything else may happen this time.
    fn surplus(&mut self) -> bool {
        let set = self.seen.set;
        let outside: Vec<_> = self
            .outside
            .iter()
            .rev()
            .map(|(n, pod)| (*n, *pod))
            .collect();
        for (ordinal, pod) in &outside {
            self.claims(*ordinal, pod.metadata.uid.as_deref(), false);
        }
        if set.parallel {
            let staying = outside.iter().map(|(_, pod)| pod).filter(|pod| !going(pod));
            let staying = staying.take(BURST).map(|pod| pod.name_any());
            self.plan.delete.extend(staying);
            return true;
        }
        let Some((_, last)) = outside.first() else {
            return true;
        };
        // The lowest of those that are not available may go in its turn; another one waits for it.
        let mut ascending = outside.iter().rev().map(|(_, pod)| pod);
        let lowest = ascending.find(|pod| !self.available(pod));
        let may_go = self.available(last) || lowest.is_some_and(|pod| Arc::ptr_eq(pod, last));
        if may_go && !going(last) {
            self.plan.delete.push(last.name_any());
        }
        false
    }

    /// Removes pods of an old revision, as many as may be down at once.
    fn roll(&mut self) {
        let set = self.seen.set;
        let Some(rolling) = set.rolling else {
            return;
        };
        let mut down = 0;
        let from = rolling.from.max(set.ordinals.start);
        for ordinal in (from..set.ordinals.end).rev() {
            if down == rolling.unavailable {
                return;
            }
            match self.inside.get(&ordinal) {
                Some(pod) if !going(pod) && self.old(pod) => {
                    let name = pod.name_any();
                    if !self.plan.delete.contains(&name) {
                        self.plan.delete.push(name);
                    }
                    down += 1;
                }
                Some(pod) if self.available(pod) => {}
                _ => down += 1,
            }
        }
    }

    fn old(&self, pod: &Pod) -> bool {
        pod.labels().get(REVISION_LABEL).map(String::as_str) != Some(self.seen.update)
    }

    fn available(&self, pod: &Pod) -> bool {
        available(pod, self.seen.set.min_ready_seconds, self.seen.now) && !going(pod)
    }
}

/// Whether a pod runs and has been ready for as long as is asked.
pub(super) fn available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    pod::phase(pod) == "Running" && pod::available(pod, min_ready_seconds, now)
}

fn going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}
