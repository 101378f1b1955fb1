//! The pods that have a node and wait, and which of them must be asked how it is.
//!
//! Pure. A pod is asked when it comes, when something changed that it may wait for, and when it has waited too long;
//! the others cost nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::{Progress, Waiting};
use crate::snapshot::Snapshot;
use crate::storage::ClaimKey;

/// All that wait, by their uid.
#[derive(Default)]
pub(crate) struct WaitingPods {
    pods: HashMap<Arc<str>, Waiting>,
    /// Until when they wait at most.
    due: BTreeSet<(Instant, Arc<str>)>,
    /// Those that wait for a permit.
    permits: BTreeSet<Arc<str>>,
    /// Those that use each claim.
    users: HashMap<ClaimKey, BTreeSet<Arc<str>>>,
    /// Those that must be asked.
    stirred: BTreeSet<Arc<str>>,
}

impl WaitingPods {
    /// Adds a pod, which is asked next.
    pub(crate) fn add(&mut self, waiting: Waiting) {
        let uid = Arc::clone(&waiting.pod.uid);
        self.remove(&uid);
        self.due.insert((waiting.until, Arc::clone(&uid)));
        if waiting.permit.is_some() {
            self.permits.insert(Arc::clone(&uid));
        }
        for claim in &waiting.pod.claims {
            let users = self.users.entry(Arc::clone(&claim.key)).or_default();
            users.insert(Arc::clone(&uid));
        }
        self.stirred.insert(Arc::clone(&uid));
        self.pods.insert(uid, waiting);
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Option<Waiting> {
        let (uid, waiting) = self.pods.remove_entry(uid)?;
        for claim in &waiting.pod.claims {
            if let Some(users) = self.users.get_mut(&claim.key) {
                users.remove(&uid);
                if users.is_empty() {
                    self.users.remove(&claim.key);
                }
            }
        }
        self.permits.remove(&uid);
        self.stirred.remove(&uid);
        self.due.remove(&(waiting.until, uid));
        Some(waiting)
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// A claim changed, or its volume: those that use it are asked.
    pub(crate) fn stir_claim(&mut self, claim: &str) {
        let users = self.users.get(claim).into_iter().flatten();
        self.stirred.extend(users.cloned());
    }

    /// A pod was placed or storage changed: those that wait for a permit are asked.
    pub(crate) fn stir_permits(&mut self) {
        self.stirred.extend(self.permits.iter().cloned());
    }

    /// Much may have changed: all are asked.
    pub(crate) fn stir_all(&mut self) {
        self.stirred.extend(self.pods.keys().cloned());
    }

    /// When the first of them has waited too long.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(until, _)| *until)
    }

    /// Those that wait no longer, and why.
    pub(crate) fn settled(
        &mut self,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Vec<(Waiting, Progress)> {
        let mut asked = std::mem::take(&mut self.stirred);
        let late = self.due.iter().take_while(|(until, _)| *until <= now);
        asked.extend(late.map(|(_, uid)| Arc::clone(uid)));
        let mut settled = Vec::new();
        for uid in asked {
            let Some(waiting) = self.pods.get_mut(&uid) else {
                continue;
            };
            let progress = waiting.ask(snapshot, now);
            if progress != Progress::Under
                && let Some(waiting) = self.remove(&uid)
            {
                settled.push((waiting, progress));
            }
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use k8s_openapi::api::core::v1 as core;
    use serde_json::json;

    use super::*;
    use crate::framework::{Change, Permit, Plugin};
    use crate::pod::Pod;

    /// Never lets a pod pass, and notes who was asked about.
    #[derive(Default)]
    struct Asked(Mutex<Vec<String>>);

    impl Plugin for Asked {
        fn name(&self) -> &'static str {
            "Asked"
        }

        fn permit(&self, _: &Snapshot, pod: &Pod, _: &str) -> Permit {
            self.0.lock().unwrap().push(pod.name.to_string());
            Permit::Wait(Duration::MAX)
        }

        fn progress(&self, _: &Snapshot, waiting: &mut Waiting) -> Progress {
            self.0.lock().unwrap().push(waiting.pod.name.to_string());
            Progress::Under
        }

        fn may_help(&self, _: &Change<'_>, _: &Pod) -> bool {
            false
        }
    }

    #[test]
    fn only_pods_that_a_change_may_concern_are_asked() {
        let plugin = Arc::new(Asked::default());
        let (mut waiting, snapshot) = (WaitingPods::default(), Snapshot::default());
        let now = Instant::now();
        for (seconds, name) in ["x", "y", "permit"].into_iter().enumerate() {
            let pod = json!({"metadata": {"name": name, "uid": name, "namespace": "ns"},
                "spec": {"containers": [], "volumes": [
                    {"name": "v", "persistentVolumeClaim": {"claimName": name}}]}});
            let pod = Pod::from(&serde_json::from_value::<core::Pod>(pod).unwrap());
            let (pod, own) = (Arc::new(pod), Arc::clone(&plugin) as Arc<dyn Plugin>);
            let until = now + Duration::from_secs(10 * (seconds as u64 + 1));
            waiting.add(match name {
                "permit" => Waiting::for_permit(pod, "a".into(), own, 0, until),
                _ => Waiting::new(pod, "a".into(), own, until),
            });
        }
        let mut check = |stir: fn(&mut WaitingPods), seconds, expected: &str| {
            stir(&mut waiting);
            let settled = waiting.settled(&snapshot, now + Duration::from_secs(seconds));
            let asked = std::mem::take(&mut *plugin.0.lock().unwrap()).join(" ");
            assert_eq!(asked, expected);
            settled.len()
        };
        assert_eq!(check(|_| {}, 0, "permit x y"), 0);
        assert_eq!(check(|_| {}, 0, ""), 0);
        assert_eq!(check(|waiting| waiting.stir_claim("ns/y"), 0, "y"), 0);
        assert_eq!(check(|waiting| waiting.stir_claim("ns/z"), 0, ""), 0);
        assert_eq!(check(WaitingPods::stir_permits, 0, "permit"), 0);
        assert_eq!(check(|_| {}, 10, "x"), 1);
        assert_eq!(check(WaitingPods::stir_all, 10, "permit y"), 0);
        assert_eq!(check(|_| {}, 30, "permit y"), 2);
        assert!(waiting.next_due().is_none() && waiting.users.is_empty());
        assert!(waiting.permits.is_empty() && waiting.stirred.is_empty());
    }
}
