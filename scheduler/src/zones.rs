//! The order of decisions: nodes of all zones in turn, so that a few neighbours in it are of all zones.
//!
//! Pure. Zones have numbers while nodes are in them, so that the order is made anew from numbers alone when a node comes
//! or goes: where many do, it is made for every decision.

use std::collections::BTreeMap;

use crate::node::Node;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

/// The zones that nodes are in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zones {
    /// By region and name, which is the order in which they take turns.
    known: BTreeMap<(Option<String>, Option<String>), Zone>,
    /// Numbers that zones had which are gone.
    free: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Zone {
    number: usize,
    nodes: usize,
}

impl Zones {
    /// Takes in a node: the number of its zone.
    pub(crate) fn enter(&mut self, node: &Node) -> usize {
        let next = self.known.len() + self.free.len();
        let zone = self.known.entry(key(node)).or_insert_with(|| Zone {
            number: self.free.pop().unwrap_or(next),
            nodes: 0,
        });
        zone.nodes += 1;
        zone.number
    }

    /// Forgets a node, as it was when it was taken in.
    pub(crate) fn leave(&mut self, node: &Node) {
        let key = key(node);
        if let Some(zone) = self.known.get_mut(&key) {
            zone.nodes -= 1;
            if zone.nodes == 0 {
                self.free.push(zone.number);
                self.known.remove(&key);
            }
        }
    }

    /// Whether they are in the same zone.
    pub(crate) fn are_one(one: &Node, other: &Node) -> bool {
        let mut labels = [REGION, ZONE].into_iter();
        labels.all(|key| one.labels.get(key) == other.labels.get(key))
    }

    /// Indexes of nodes, one of each zone after the other; `nodes` are the numbers of their zones.
    pub(crate) fn in_turn(&self, nodes: impl ExactSizeIterator<Item = usize>) -> Vec<usize> {
        let mut order = Vec::with_capacity(nodes.len());
        let mut zones = vec![Vec::new(); self.known.len() + self.free.len()];
        for (index, zone) in nodes.enumerate() {
            zones[zone].push(index);
        }
        let zones: Vec<Vec<usize>> = self
            .known
            .values()
            .map(|zone| std::mem::take(&mut zones[zone.number]))
            .collect();
        let longest = zones.iter().map(Vec::len).max().unwrap_or_default();
        for turn in 0..longest {
            order.extend(zones.iter().filter_map(|nodes| nodes.get(turn)));
        }
        order
    }
}

fn key(node: &Node) -> (Option<String>, Option<String>) {
    (
        node.labels.get(REGION).cloned(),
        node.labels.get(ZONE).cloned(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(zone: &str) -> Node {
        let labels = json!({ZONE: zone});
        let node = json!({"metadata": {"name": "n", "labels": labels}});
        let node: k8s_openapi::api::core::v1::Node = serde_json::from_value(node).unwrap();
        Node::from(&node)
    }

    #[test]
    fn zones_take_turns_by_name_whatever_their_numbers() {
        let mut zones = Zones::default();
        let numbers: Vec<_> = ["c", "a", "c", "b", "c", "a"]
            .map(|zone| zones.enter(&node(zone)))
            .into();
        assert_eq!(zones.in_turn(numbers.into_iter()), [1, 3, 0, 5, 2, 4]);
    }

    #[test]
    fn a_zone_without_nodes_leaves_its_number_to_the_next() {
        let mut zones = Zones::default();
        let (first, second) = (zones.enter(&node("a")), zones.enter(&node("b")));
        zones.leave(&node("a"));
        let third = zones.enter(&node("c"));
        assert_eq!(third, first);
        assert_eq!(zones.in_turn([third, second].into_iter()), [1, 0]);
        for zone in ["b", "c"] {
            zones.leave(&node(zone));
        }
        assert!(zones.in_turn(std::iter::empty()).is_empty());
    }
}
