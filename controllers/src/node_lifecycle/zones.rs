//! How fast nodes that are lost have their pods taken from them.
//!
//! Pure. Nodes are grouped by the zone that their labels name. When a large part of a zone is lost at once it
//! is more likely that the network broke than that the nodes did: then it goes more slowly, or not at all, and
//! when all is lost nothing is taken from anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use tokio::time::Instant;

/// Nodes a second, in a zone that is well, or lost as a whole while others are not.
const RATE: f64 = 0.1;
/// The same in a large zone much of which is lost; in a small one none are.
const SLOW_RATE: f64 = 0.01;
/// More nodes than this make a zone large.
const LARGE: usize = 50;
/// The part of a zone that is much.
const MUCH: f64 = 0.55;
/// So few lost nodes are never much.
const FEW: usize = 2;
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
const ZONE: &[&str] = &[
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/zone",
];
const REGION: &[&str] = &[
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/region",
];

/// All zones.
#[derive(Default)]
pub(super) struct Zones {
    limits: BTreeMap<String, Limit>,
    stopped: bool,
}

/// Nodes that are ready and that are not.
#[derive(Clone, Copy, Default)]
struct Census {
    ready: usize,
    lost: usize,
}

impl Census {
    fn is_lost(self) -> bool {
        self.ready == 0 && self.lost > 0
    }

    fn rate(self) -> f64 {
        let all = self.ready + self.lost;
        // So many nodes are told apart by a float.
        let much = self.lost > FEW && self.lost as f64 / all as f64 >= MUCH;
        match (self.is_lost(), much, all > LARGE) {
            (true, ..) | (_, false, _) => RATE,
            (_, true, true) => SLOW_RATE,
            (_, true, false) => 0.0,
        }
    }
}

impl Zones {
    /// Looks at all nodes; `ready` says which are. Answers whether the first of them came back after all had
    /// been lost: what was heard of the others before that says nothing.
    pub(super) fn look<'a>(
        &mut self,
        nodes: impl Iterator<Item = (&'a Node, bool)>,
        now: Instant,
    ) -> bool {
        let mut census: BTreeMap<String, Census> = BTreeMap::new();
        for (node, ready) in nodes.filter(|(node, _)| !node.labels().contains_key(EXCLUDED)) {
            let census = census.entry(zone(node)).or_default();
            *(if ready {
                &mut census.ready
            } else {
                &mut census.lost
            }) += 1;
        }
        self.limits.retain(|zone, _| census.contains_key(zone));
        for (zone, census) in &census {
            let limit = self.limits.entry(zone.clone());
            let limit = limit.or_insert_with(|| Limit::new(now));
            limit.set(census.rate(), now);
        }
        let stops = !census.is_empty() && census.values().all(|census| census.is_lost());
        let resumed = self.stopped && !stops;
        self.stopped = stops;
        resumed
    }

    /// Whether all is lost.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Whether it is a lost node's turn; each turn is given once. Else how long until the next one, if there
    /// will be any.
    pub(super) fn take(&mut self, node: &Node, now: Instant) -> Result<(), Option<Duration>> {
        let limit = self.limits.entry(zone(node));
        limit.or_insert_with(|| Limit::new(now)).take(now)
    }
}

/// Region and zone; empty where nodes do not say.
fn zone(node: &Node) -> String {
    let first = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| node.labels().get(*name));
        values.next().map_or("", String::as_str).to_owned()
    };
    format!("{}/{}", first(REGION), first(ZONE))
}

/// What sums of fractions may lack of a whole.
const ROUNDING: f64 = 1e-9;

/// A bucket that holds one turn.
struct Limit {
    rate: f64,
    turns: f64,
    at: Instant,
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self {
            rate: RATE,
            turns: 1.0,
            at: now,
        }
    }

    fn set(&mut self, rate: f64, now: Instant) {
        self.fill(now);
        self.rate = rate;
    }

    fn fill(&mut self, now: Instant) {
        let filled = now.duration_since(self.at).as_secs_f64() * self.rate;
        self.turns = (self.turns + filled).min(1.0);
        self.at = now;
    }

    fn take(&mut self, now: Instant) -> Result<(), Option<Duration>> {
        if self.rate <= 0.0 {
            return Err(None);
        }
        self.fill(now);
        if self.turns < 1.0 - ROUNDING {
            let seconds = (1.0 - self.turns) / self.rate;
            return Err(Some(Duration::from_secs_f64(seconds)));
        }
        self.turns -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn node(name: &str, zone: &str) -> Node {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
    }

    /// Zones by name, with the numbers of ready and of lost nodes. How many nodes have their turn in so many
    /// seconds?
    #[track_caller]
    fn check(zones: &[(&str, usize, usize)], seconds: u64, expect: Expect) {
        let (mut all, begun) = (Zones::default(), Instant::now());
        let nodes: Vec<(Node, bool)> = zones
            .iter()
            .flat_map(|(zone, ready, lost)| {
                (0..ready + lost).map(|number| (node("n", zone), number < *ready))
            })
            .collect();
        all.look(nodes.iter().map(|(node, ready)| (node, *ready)), begun);
        let mut said = vec![format!("stopped: {}", all.stopped())];
        for (zone, ..) in zones {
            let node = node("n", zone);
            let at = |second| begun + Duration::from_secs(second);
            let turns = (0..seconds).filter(|second| all.take(&node, at(*second)).is_ok());
            said.push(format!("{zone} {}", turns.count()));
        }
        expect.assert_eq(&said.join(", "));
    }

    #[test]
    fn the_more_of_a_zone_is_lost_the_slower_it_goes() {
        check(&[("a", 9, 1)], 100, expect!["stopped: false, a 10"]);
        check(&[("a", 1, 2)], 100, expect!["stopped: false, a 10"]);
        check(&[("a", 2, 3)], 100, expect!["stopped: false, a 0"]);
        check(&[("a", 20, 60)], 1000, expect!["stopped: false, a 10"]);
    }

    #[test]
    fn a_zone_that_is_lost_as_a_whole_goes_unless_all_are() {
        check(
            &[("a", 0, 5), ("b", 5, 0)],
            100,
            expect!["stopped: false, a 10, b 10"],
        );
        check(
            &[("a", 0, 5), ("b", 0, 1)],
            1,
            expect!["stopped: true, a 1, b 1"],
        );
        check(&[], 1, expect!["stopped: false"]);
    }

    #[test]
    fn the_first_node_that_comes_back_is_noticed() {
        let (mut zones, now, node) = (Zones::default(), Instant::now(), node("n", "a"));
        let mut look = |ready: bool| zones.look([(&node, ready)].into_iter(), now);
        assert_eq!(
            [look(false), look(false), look(true), look(true)],
            [false, false, true, false]
        );
    }

    #[test]
    fn excluded_nodes_are_not_counted() {
        let mut excluded = node("n", "a");
        excluded.labels_mut().insert(EXCLUDED.into(), String::new());
        let mut zones = Zones::default();
        zones.look([(&excluded, false)].into_iter(), Instant::now());
        assert!(!zones.stopped());
    }
}
