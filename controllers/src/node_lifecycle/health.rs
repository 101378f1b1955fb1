//! What is remembered of nodes between two looks: when they were last heard of, and what was decided.
//!
//! Pure but for the clock that is passed in. Compares what nodes write by this process's clock only, so that
//! their clocks need not agree with it. All of it begins anew with the process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use tokio::time::Instant;

use super::conditions::{ready, status_beat};
use super::taints::NoExecute;

/// How long a new node may take until it says anything of itself.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// The times that a node writes of itself, by its own clock: into its lease, and into its status.
type Beat = (Option<Timestamp>, Option<Timestamp>);

/// All nodes, by name.
#[derive(Default)]
pub(super) struct Nodes {
    of: HashMap<String, Health>,
}

struct Health {
    node: Arc<Node>,
    beat: Beat,
    heard: Instant,
    decision: NoExecute,
    /// Whether its pods have been told that it is lost.
    told: bool,
}

/// What changed since the last look.
#[derive(Default)]
pub(super) struct Look {
    pub(super) registered: Vec<Arc<Node>>,
    pub(super) removed: Vec<Arc<Node>>,
    /// Nodes that have been silent for too long, and whose conditions do not say so yet.
    pub(super) silent: Vec<Arc<Node>>,
}

impl Nodes {
    /// Takes note of all nodes; `lease` gives the time in a node's lease.
    pub(super) fn look(
        &mut self,
        nodes: &[Arc<Node>],
        lease: impl Fn(&str) -> Option<Timestamp>,
        grace: Duration,
        now: Instant,
    ) -> Look {
        let mut look = Look::default();
        let mut before = std::mem::take(&mut self.of);
        for node in nodes {
            let name = node.name_any();
            let beat = (lease(&name), status_beat(node));
            let mut known = before.remove(&name);
            if let Some(other) = known.take_if(|known| known.node.uid() != node.uid()) {
                look.removed.push(other.node);
            }
            if known.is_none() {
                look.registered.push(node.clone());
            }
            let mut health = known.unwrap_or_else(|| Health {
                node: node.clone(),
                beat,
                heard: now,
                decision: NoExecute::Leave,
                told: false,
            });
            if health.beat != beat {
                (health.beat, health.heard) = (beat, now);
            }
            health.node = node.clone();
            let status = ready(node);
            let grace = match status {
                Some(_) => grace,
                None => grace.max(STARTUP_GRACE),
            };
            if status != Some("Unknown") && now - health.heard > grace {
                look.silent.push(node.clone());
            }
            if status == Some("True") {
                health.told = false;
            }
            self.of.insert(name, health);
        }
        let gone = before.into_values().map(|health| health.node);
        look.removed.extend(gone);
        look
    }

    /// Every node counts as just heard of.
    pub(super) fn hear_all(&mut self, now: Instant) {
        self.of.values_mut().for_each(|health| health.heard = now);
    }

    pub(super) fn decision(&self, name: &str) -> NoExecute {
        self.of
            .get(name)
            .map(|health| health.decision)
            .unwrap_or_default()
    }

    pub(super) fn decide(&mut self, name: &str, decision: NoExecute) {
        if let Some(health) = self.of.get_mut(name) {
            health.decision = decision;
        }
    }

    /// Whether the pods of a lost node have still to be told.
    pub(super) fn is_untold(&self, name: &str) -> bool {
        self.of.get(name).is_some_and(|health| !health.told)
    }

    pub(super) fn told(&mut self, name: &str) {
        if let Some(health) = self.of.get_mut(name) {
            health.told = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(uid: &str, ready: &str, beat: u32) -> Arc<Node> {
        let conditions = match ready {
            "" => json!([]),
            ready => json!([{"type": "Ready", "status": ready,
                "lastHeartbeatTime": format!("2026-01-01T00:00:{beat:02}Z")}]),
        };
        let node = json!({
            "metadata": {"name": "n", "uid": uid}, "status": {"conditions": conditions},
        });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    #[test]
    fn a_node_is_silent_when_neither_lease_nor_status_changes() {
        let (mut nodes, begun) = (Nodes::default(), Instant::now());
        let mut silent = |second, ready: &str, beat, lease: i64| {
            let lease = |_: &str| Timestamp::from_second(lease).ok();
            let (now, grace) = (begun + Duration::from_secs(second), Duration::from_secs(50));
            let look = nodes.look(&[node("u", ready, beat)], lease, grace, now);
            !look.silent.is_empty()
        };
        assert!(!silent(0, "True", 0, 0));
        assert!(!silent(50, "True", 0, 0));
        assert!(silent(51, "True", 0, 0));
        assert!(!silent(52, "True", 1, 0));
        assert!(!silent(100, "True", 1, 1));
        assert!(silent(151, "False", 1, 1));
        assert!(!silent(152, "Unknown", 1, 1));
    }

    #[test]
    fn a_node_that_never_said_anything_has_a_while_to_start() {
        let (mut nodes, begun) = (Nodes::default(), Instant::now());
        let mut silent = |second| {
            let now = begun + Duration::from_secs(second);
            let look = nodes.look(&[node("u", "", 0)], |_| None, Duration::from_secs(50), now);
            !look.silent.is_empty()
        };
        assert!(!silent(0) && !silent(60) && silent(61));
    }

    #[test]
    fn nodes_that_come_and_go_are_told_of_once() {
        let mut nodes = Nodes::default();
        let mut look = |all: &[Arc<Node>]| {
            let look = nodes.look(all, |_| None, Duration::from_secs(50), Instant::now());
            (look.registered.len(), look.removed.len())
        };
        assert_eq!(look(&[node("u", "True", 0)]), (1, 0));
        assert_eq!(look(&[node("u", "True", 1)]), (0, 0));
        assert_eq!(look(&[node("v", "True", 1)]), (1, 1));
        assert_eq!(look(&[]), (0, 1));
    }
}
