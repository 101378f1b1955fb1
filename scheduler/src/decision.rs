//! The decision: which node a pod goes to, or why none will do.
//!
//! Pure: the same snapshot, pod and randomness give the same decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rand::{Rng, RngExt};

use crate::framework::Reason;
use crate::pod::Pod;
use crate::profile::Profile;
use crate::snapshot::{Candidate, Snapshot};

/// What was decided for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to this node.
    Node(Arc<str>),
    /// No node admits it.
    Unschedulable(Unschedulable),
}

/// Why no node admits a pod. Displays as the event `FailedScheduling` and the condition say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// What no node could help, found before any was looked at.
    pub refused: Option<String>,
    /// Reasons, and how many nodes each is true of. A node may have several.
    pub reasons: BTreeMap<String, usize>,
    /// The plugins that objected.
    pub plugins: BTreeSet<&'static str>,
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        if let Some(refused) = &self.refused {
            let nodes = self.nodes;
            return write!(f, "0/{nodes} nodes are available: {refused}.");
        }
        let mut counted: Vec<_> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        counted.sort_unstable();
        let nodes = self.nodes;
        write!(f, "0/{nodes} nodes are available: {}.", counted.join(", "))
    }
}

/// Decides where a pod goes. Among equally good nodes `ties` picks one.
pub fn schedule(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &Pod,
    ties: &mut impl Rng,
) -> Decision {
    let nodes = snapshot.candidates().len();
    let mut filters = Vec::with_capacity(profile.plugins.len());
    for plugin in &profile.plugins {
        match plugin.pre_filter(snapshot, pod) {
            Ok(None) => {}
            Ok(Some(filter)) => filters.push((plugin.name(), filter)),
            Err(refused) => {
                return Decision::Unschedulable(Unschedulable {
                    nodes,
                    refused: Some(refused.message),
                    reasons: BTreeMap::new(),
                    plugins: BTreeSet::from([plugin.name()]),
                });
            }
        }
    }
    let mut admitted = Vec::new();
    let mut plugins = BTreeSet::new();
    let mut reasons: BTreeMap<Reason<'_>, usize> = BTreeMap::new();
    let order = snapshot.order().iter();
    for candidate in order.map(|index| &snapshot.candidates()[*index]) {
        let objection = filters.iter().find_map(|(plugin, filter)| {
            let objection = filter.filter(candidate).err();
            objection.map(|objection| (*plugin, objection))
        });
        match objection {
            None => admitted.push(candidate),
            Some((plugin, objection)) if admitted.is_empty() => {
                plugins.insert(plugin);
                for reason in objection.iter() {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
            Some(_) => {}
        }
    }
    match best(profile, snapshot, pod, &admitted, ties) {
        Some(candidate) => Decision::Node(Arc::clone(&candidate.node.name)),
        None => Decision::Unschedulable(Unschedulable {
            nodes,
            refused: None,
            plugins,
            reasons: reasons
                .into_iter()
                .map(|(reason, count)| (reason.to_string(), count))
                .collect(),
        }),
    }
}

fn best<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    admitted: &[&'a Candidate],
    ties: &mut impl Rng,
) -> Option<&'a Candidate> {
    if let [] | [_] = admitted {
        return admitted.first().copied();
    }
    let mut totals = vec![0; admitted.len()];
    let mut scores = Vec::with_capacity(admitted.len());
    for (plugin, weight) in &profile.scores {
        let Some(score) = plugin.pre_score(snapshot, pod, admitted) else {
            continue;
        };
        scores.clear();
        scores.extend(admitted.iter().map(|candidate| score.score(candidate)));
        score.normalise(&mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += weight * score;
        }
    }
    let highest = totals.iter().max()?;
    let best: Vec<_> = admitted
        .iter()
        .zip(&totals)
        .filter(|(_, total)| *total == highest)
        .map(|(candidate, _)| *candidate)
        .collect();
    Some(best[ties.random_range(0..best.len())])
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use serde_json::{Value, json};

    use super::*;
    use crate::node::Node;

    /// Each line is a node, its name and then words: `cpu=2 memory=1Gi pods=9 x.io/gpu=1` is what it
    /// offers, `zone:a` a label, `!key=value:Effect` a taint, `cordoned`, `-cpu=1` a pod that is there,
    /// `-port=80` one that has this port.
    fn snapshot(nodes: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for line in nodes.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap();
            let mut node = json!({
                "metadata": { "name": name, "labels": {} },
                "spec": { "taints": [] },
                "status": { "allocatable": { "cpu": "8", "memory": "8Gi", "pods": "10" } },
            });
            for (index, word) in words.enumerate() {
                if let Some(taken) = word.strip_prefix('-') {
                    let uid = format!("{name}-{index}");
                    snapshot.place(&pod(&uid, taken), &name.into());
                } else if let Some(taint) = word.strip_prefix('!') {
                    let (key, effect) = taint.rsplit_once(':').unwrap();
                    let (key, value) = key.split_once('=').unwrap_or((key, ""));
                    let taint = json!({ "key": key, "value": value, "effect": effect });
                    node["spec"]["taints"].as_array_mut().unwrap().push(taint);
                } else if word == "cordoned" {
                    node["spec"]["unschedulable"] = true.into();
                } else if let Some((name, amount)) = word.split_once('=') {
                    node["status"]["allocatable"][name] = amount.into();
                } else if let Some((key, value)) = word.split_once(':') {
                    node["metadata"]["labels"][key] = value.into();
                }
            }
            let node: k8s_openapi::api::core::v1::Node = serde_json::from_value(node).unwrap();
            snapshot.put_node(Node::from(&node));
        }
        snapshot
    }

    /// Words: `cpu=1` a request, `port=80` of the host, `zone:a` a node selector, `~key=value:Effect` a
    /// toleration, `on:name` a node name, `zone>In>a,b` required and `+zone>In>a,b` preferred affinity.
    fn pod(uid: &str, words: &str) -> Pod {
        let mut pod = json!({
            "metadata": { "uid": uid, "name": uid, "namespace": "default" },
            "spec": { "nodeSelector": {}, "tolerations": [], "containers": [
                { "name": "c", "resources": { "requests": {} }, "ports": [] },
            ] },
        });
        let spec = &mut pod["spec"];
        for word in words.split_whitespace() {
            if let Some(toleration) = word.strip_prefix('~') {
                let (key, effect) = toleration.rsplit_once(':').unwrap();
                let mut toleration = json!({ "key": key, "operator": "Exists", "effect": effect });
                if let Some((key, value)) = key.split_once('=') {
                    toleration["key"] = key.into();
                    toleration["operator"] = "Equal".into();
                    toleration["value"] = value.into();
                }
                spec["tolerations"].as_array_mut().unwrap().push(toleration);
            } else if word.contains('>') {
                let preferred = word.starts_with('+');
                let parts: Vec<_> = word.trim_start_matches('+').split('>').collect();
                let values: Vec<_> = parts.get(2).iter().flat_map(|v| v.split(',')).collect();
                let term = json!({ "matchExpressions": [
                    { "key": parts[0], "operator": parts[1], "values": values },
                ] });
                let affinity = &mut spec["affinity"]["nodeAffinity"];
                if preferred {
                    affinity["preferredDuringSchedulingIgnoredDuringExecution"] =
                        json!([{ "weight": 10, "preference": term }]);
                } else {
                    affinity["requiredDuringSchedulingIgnoredDuringExecution"] =
                        json!({ "nodeSelectorTerms": [term] });
                }
            } else if let Some(port) = word.strip_prefix("port=") {
                let port: i32 = port.parse().unwrap();
                spec["containers"][0]["ports"] = json!([{ "containerPort": 1, "hostPort": port }]);
            } else if let Some((name, amount)) = word.split_once('=') {
                spec["containers"][0]["resources"]["requests"][name] = amount.into();
            } else if let Some(name) = word.strip_prefix("on:") {
                spec["nodeName"] = name.into();
            } else if let Some((key, value)) = word.split_once(':') {
                spec["nodeSelector"][key] = Value::from(value);
            }
        }
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        Pod::from(&pod)
    }

    #[track_caller]
    fn check(nodes: &str, words: &str, expected: Expect) {
        let mut ties = SmallRng::seed_from_u64(1);
        let decision = schedule(
            &Profile::default(),
            &snapshot(nodes),
            &pod("new", words),
            &mut ties,
        );
        expected.assert_eq(&match decision {
            Decision::Node(name) => name.to_string(),
            Decision::Unschedulable(why) => why.to_string(),
        });
    }

    #[test]
    fn without_nodes_there_is_nothing_to_count() {
        check("", "", expect!["no nodes available to schedule pods"]);
    }

    #[test]
    fn what_is_short_is_named_for_every_node() {
        check(
            "a cpu=1\nb cpu=1",
            "cpu=2",
            expect!["0/2 nodes are available: 2 Insufficient cpu."],
        );
        check(
            "a cpu=1 memory=1Gi",
            "cpu=2 memory=2Gi",
            expect!["0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."],
        );
        check(
            "a cpu=2 -cpu=1500m",
            "cpu=600m",
            expect!["0/1 nodes are available: 1 Insufficient cpu."],
        );
        check("a cpu=2 -cpu=1500m", "cpu=500m", expect!["a"]);
        check(
            "a pods=1 -cpu=1",
            "",
            expect!["0/1 nodes are available: 1 Too many pods."],
        );
        check(
            "a",
            "x.io/gpu=1",
            expect!["0/1 nodes are available: 1 Insufficient x.io/gpu."],
        );
        check("a\nb x.io/gpu=1", "x.io/gpu=1", expect!["b"]);
        check(
            "a",
            "ephemeral-storage=1Gi",
            expect!["0/1 nodes are available: 1 Insufficient ephemeral-storage."],
        );
    }

    #[test]
    fn taints_keep_pods_away_that_do_not_tolerate_them() {
        check(
            "a cpu=1\nb !key=value:NoSchedule\nc !key=value:NoSchedule",
            "cpu=2",
            expect![[
                "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {key: value}."
            ]],
        );
        check(
            "a !key=value:NoExecute",
            "~key=value:NoExecute",
            expect!["a"],
        );
        check("a !key=value:NoExecute", "~key:NoExecute", expect!["a"]);
        check(
            "a !key:NoExecute",
            "~key:NoSchedule",
            expect!["0/1 nodes are available: 1 node(s) had untolerated taint {key: }."],
        );
        check("a !key=value:PreferNoSchedule\nb -cpu=4", "", expect!["b"]);
        check("a !key=value:PreferNoSchedule", "", expect!["a"]);
    }

    #[test]
    fn a_cordoned_node_takes_only_what_tolerates_it() {
        check(
            "a cordoned",
            "",
            expect!["0/1 nodes are available: 1 node(s) were unschedulable."],
        );
        check(
            "a cordoned",
            "~node.kubernetes.io/unschedulable:NoSchedule",
            expect!["a"],
        );
    }

    #[test]
    fn selectors_and_required_affinity_must_hold() {
        let none = expect![[
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        ]];
        check("a zone:a\nb zone:b", "zone:b", expect!["b"]);
        check("a zone:a\nb zone:b", "zone>In>b,c", expect!["b"]);
        check("a zone:a\nb zone:b", "zone>NotIn>a", expect!["b"]);
        check("a zone:a\nb", "zone>DoesNotExist", expect!["b"]);
        check("a zone:a\nb", "zone>Exists", expect!["a"]);
        check("a size:3\nb size:5", "size>Gt>4", expect!["b"]);
        check("a size:3\nb size:5", "size>Lt>4", expect!["a"]);
        check("a zone:a", "zone>In>b", none);
    }

    #[test]
    fn a_named_node_is_the_only_one() {
        check("a\nb", "on:b", expect!["b"]);
        check(
            "a",
            "on:b",
            expect!["0/1 nodes are available: 1 node(s) didn't match the requested node name."],
        );
    }

    #[test]
    fn a_port_of_the_host_serves_one_pod() {
        check("a -port=80\nb", "port=80", expect!["b"]);
        check(
            "a -port=80",
            "port=80",
            expect![[
                "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
            ]],
        );
    }

    #[test]
    fn the_emptiest_or_preferred_node_is_best() {
        check("a -cpu=4\nb -cpu=1\nc -cpu=2", "", expect!["b"]);
        check("a -cpu=1 zone:a\nb", "+zone>In>a", expect!["a"]);
    }

    #[test]
    fn the_same_seed_breaks_ties_the_same_way() {
        let snapshot = snapshot("a\nb\nc\nd");
        let choices = |seed| -> Vec<Decision> {
            let mut ties = SmallRng::seed_from_u64(seed);
            (0..20)
                .map(|_| schedule(&Profile::default(), &snapshot, &pod("new", ""), &mut ties))
                .collect()
        };
        assert_eq!(choices(1), choices(1));
        assert_ne!(choices(1), choices(2));
    }
}
