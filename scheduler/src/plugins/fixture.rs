//! Clusters and pods in a few words, for the tests of plugins that look at other pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::framework::{Filter, Plugin};
use crate::node::Node;
use crate::pod::{Labels, Pod};
use crate::snapshot::Snapshot;

/// Nodes, namespaces and placed pods, as a naive reading of them visits them.
#[derive(Default)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) namespaces: Vec<(String, Labels)>,
    /// Pods and the names of their nodes.
    pub(super) pods: Vec<(Pod, Arc<str>)>,
}

/// `a=1 b=2`
pub(super) fn labels(words: &str) -> Labels {
    let words = words.split_whitespace();
    let pairs = words.filter_map(|word| word.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// A name, then words: `zone=a` is a label, `!key` a taint that keeps pods away.
pub(super) fn node(line: &str) -> Node {
    let (name, words) = line.split_once(' ').unwrap_or((line, ""));
    let taints = words.split_whitespace();
    let taints = taints.filter_map(|word| word.strip_prefix('!'));
    let taints = taints.map(|key| json!({ "key": key, "effect": "NoSchedule" }));
    let node = json!({
        "metadata": { "name": name, "labels": labels(words) },
        "spec": { "taints": taints.collect::<Vec<_>>() },
    });
    let node: core::Node = serde_json::from_value(node).unwrap();
    Node::from(&node)
}

/// Words, of which those without another meaning are labels:
/// - `@name` the namespace, `deleting`, `on:key=value` a node selector, `bears:key` a toleration;
/// - `near/zone/SELECTOR[/NAMESPACES]` required affinity, `far/…` anti-affinity, `near+5/…` a preference of weight 5;
/// - `spread/zone/1/SELECTOR[/OPTION…]` a required rule of skew 1, `spread+/…` one that is not; options are
///   `min=2`, `taints` (honoured), `anywhere` (node affinity is ignored), `key=LABEL` a matchLabelKey.
///
/// In a key of nodes, `~` stands for `/`. A selector is `a=1,b` (a label and its value, a label that is there), `*` (everything) or `-` (none).
/// Namespaces are `x,y` or, by their labels, `?SELECTOR`.
pub(super) fn pod(words: &str) -> Pod {
    let mut pod = json!({
        "metadata": { "uid": words, "namespace": "p", "labels": {} },
        "spec": { "containers": [], "affinity": {}, "nodeSelector": {}, "tolerations": [], "topologySpreadConstraints": [] },
    });
    for word in words.split_whitespace() {
        let parts: Vec<_> = word.split('/').collect();
        let (what, weight) = parts[0].split_once('+').unwrap_or((parts[0], "none"));
        let kind = match what {
            "near" => "podAffinity",
            "far" => "podAntiAffinity",
            "spread" => {
                let rule = spread(&parts[1..], weight == "none");
                push(&mut pod["spec"]["topologySpreadConstraints"], rule);
                continue;
            }
            _ => {
                other(&mut pod, word);
                continue;
            }
        };
        let term = term(&parts[1..]);
        let kind = &mut pod["spec"]["affinity"][kind];
        match weight.parse::<i64>() {
            Err(_) => push(
                &mut kind["requiredDuringSchedulingIgnoredDuringExecution"],
                term,
            ),
            Ok(weight) => push(
                &mut kind["preferredDuringSchedulingIgnoredDuringExecution"],
                json!({ "weight": weight, "podAffinityTerm": term }),
            ),
        }
    }
    let pod: core::Pod = serde_json::from_value(pod).unwrap();
    Pod::from(&pod)
}

fn other(pod: &mut Value, word: &str) {
    if let Some(name) = word.strip_prefix('@') {
        pod["metadata"]["namespace"] = name.into();
    } else if word == "deleting" {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    } else if let Some((key, value)) = word.strip_prefix("on:").and_then(|on| on.split_once('=')) {
        pod["spec"]["nodeSelector"][key] = value.into();
    } else if let Some(key) = word.strip_prefix("bears:") {
        let bears = json!({ "key": key, "operator": "Exists" });
        push(&mut pod["spec"]["tolerations"], bears);
    } else if let Some((key, value)) = word.split_once('=') {
        pod["metadata"]["labels"][key] = value.into();
    }
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(list) => list.push(item),
        _ => *list = json!([item]),
    }
}

fn selector(text: &str) -> Value {
    match text {
        "-" => Value::Null,
        "*" => json!({}),
        _ => {
            let rules = text.split(',').map(|rule| match rule.split_once('=') {
                Some((key, value)) => json!({ "key": key, "operator": "In", "values": [value] }),
                None => json!({ "key": rule, "operator": "Exists" }),
            });
            json!({ "matchExpressions": rules.collect::<Vec<_>>() })
        }
    }
}

fn term(parts: &[&str]) -> Value {
    let mut term =
        json!({ "topologyKey": parts[0].replace('~', "/"), "labelSelector": selector(parts[1]) });
    match parts.get(2).map(|names| (names.strip_prefix('?'), names)) {
        Some((Some(by_label), _)) => term["namespaceSelector"] = selector(by_label),
        Some((None, names)) => term["namespaces"] = names.split(',').collect(),
        None => {}
    }
    term
}

fn spread(parts: &[&str], required: bool) -> Value {
    let mut rule = json!({
        "topologyKey": parts[0].replace('~', "/"),
        "maxSkew": parts[1].parse::<i64>().unwrap(),
        "labelSelector": selector(parts[2]),
        "whenUnsatisfiable": if required { "DoNotSchedule" } else { "ScheduleAnyway" },
    });
    for option in &parts[3..] {
        match option.split_once('=') {
            Some(("min", least)) => rule["minDomains"] = least.parse::<i64>().unwrap().into(),
            Some((_, key)) => push(&mut rule["matchLabelKeys"], key.into()),
            None if *option == "taints" => rule["nodeTaintsPolicy"] = "Honor".into(),
            None => rule["nodeAffinityPolicy"] = "Ignore".into(),
        }
    }
    rule
}

impl World {
    /// Lines: `node NAME …`, `namespace NAME a=1`, `pod NODE …`.
    pub(super) fn parse(lines: &str) -> Self {
        let mut world = Self::default();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (what, rest) = line.split_once(' ').unwrap();
            let (name, words) = rest.split_once(' ').unwrap_or((rest, ""));
            match what {
                "node" => world.nodes.push(node(rest)),
                "namespace" => world.namespaces.push((name.to_owned(), labels(words))),
                _ => {
                    let mut pod = pod(words);
                    pod.uid = world.pods.len().to_string().into();
                    world.pods.push((pod, name.into()));
                }
            }
        }
        world
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (name, labels) in &self.namespaces {
            snapshot.put_namespace(name, labels.clone());
        }
        for node in &self.nodes {
            snapshot.put_node(node.clone());
        }
        for (pod, node) in &self.pods {
            snapshot.place(pod, node);
        }
        snapshot
    }

    pub(super) fn namespace(&self, name: &str) -> Labels {
        let mut known = self.namespaces.iter();
        let found = known.find(|(own, _)| own == name);
        found.map(|(_, labels)| labels.clone()).unwrap_or_default()
    }

    /// Placed pods and the nodes that they are on.
    pub(super) fn placed(&self) -> impl Iterator<Item = (&Pod, &Node)> {
        self.pods.iter().filter_map(|(pod, name)| {
            let node = self.nodes.iter().find(|node| node.name == *name)?;
            Some((pod, node))
        })
    }
}

/// What a plugin says of each node in the order of their names: `a b: reason`, a line each.
pub(super) fn filtered(plugin: &dyn Plugin, snapshot: &Snapshot, pod: &Pod) -> Vec<String> {
    let filter = plugin.pre_filter(snapshot, pod).unwrap();
    let mut lines: Vec<_> = (snapshot.candidates().iter())
        .map(|candidate| {
            let name = &candidate.node.name;
            let objection = filter
                .as_ref()
                .and_then(|filter| filter.filter(candidate).err());
            match objection.as_ref().and_then(|reasons| reasons.iter().next()) {
                Some(reason) => format!("{name}: {reason}"),
                None => name.to_string(),
            }
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// The scores of all nodes in the order of their names: `a=100 b=0`.
pub(super) fn scored(plugin: &dyn Plugin, snapshot: &Snapshot, pod: &Pod) -> String {
    let mut nodes: Vec<_> = snapshot.candidates().iter().collect();
    nodes.sort_unstable_by_key(|node| Arc::clone(&node.node.name));
    let Some(score) = plugin.pre_score(snapshot, pod, &nodes) else {
        return "all the same".to_owned();
    };
    let mut scores: Vec<_> = nodes.iter().map(|node| score.score(node)).collect();
    score.normalise(&mut scores);
    let scores = nodes.iter().zip(scores);
    let scores: Vec<_> = scores
        .map(|(node, score)| format!("{}={score}", node.node.name))
        .collect();
    scores.join(" ")
}

/// Changes worlds and what is kept of them, at random but by a seed.
pub(super) struct Chance(SmallRng);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    pub(super) fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.random_range(0..of.len())]
    }

    /// Some of these, joined.
    pub(super) fn some(&mut self, of: &[&str]) -> String {
        let mut chosen = String::new();
        for word in of {
            if self.0.random_range(0..3) == 0 {
                chosen.push_str(word);
                chosen.push(' ');
            }
        }
        chosen
    }

    fn node(&mut self, name: &str) -> Node {
        let zone = self.one(&["zone=x", "zone=y", "zone=z", ""]);
        let host = match self.0.random_range(0..8) {
            0 => String::new(),
            _ => format!("kubernetes.io/hostname={name}"),
        };
        let more = self.some(&["disk=ssd", "!old", "rack=1", "rack=2"]);
        node(&format!("{name} {zone} {host} {more}"))
    }

    /// One change: a node comes, changes or goes, a pod is placed or removed, a namespace is labelled anew.
    pub(super) fn change(
        &mut self,
        world: &mut World,
        snapshot: &mut Snapshot,
        pod: impl Fn(&mut Self) -> Pod,
    ) {
        const NAMES: &[&str] = &["a", "b", "c", "d", "e"];
        match self.0.random_range(0..12) {
            0 | 1 => {
                let name = self.one(NAMES);
                let node = self.node(name);
                world.nodes.retain(|old| old.name != node.name);
                world.nodes.push(node.clone());
                snapshot.put_node(node);
            }
            2 => {
                let name = self.one(NAMES);
                world.nodes.retain(|old| *old.name != *name);
                snapshot.remove_node(name);
            }
            3 => {
                let name = self.one(&["p", "q"]);
                let labels = labels(&self.some(&["team=1", "team=2"]));
                world.namespaces.retain(|(old, _)| old != name);
                world.namespaces.push((name.to_owned(), labels.clone()));
                snapshot.put_namespace(name, labels);
            }
            4 | 5 if !world.pods.is_empty() => {
                let gone = self.0.random_range(0..world.pods.len());
                let (gone, _) = world.pods.swap_remove(gone);
                snapshot.remove(&gone.uid);
            }
            _ => {
                let mut pod = pod(self);
                pod.uid = self.0.random_range(0..u64::MAX).to_string().into();
                let node: Arc<str> = self.one(NAMES).into();
                snapshot.place(&pod, &node);
                world.pods.push((pod, node));
            }
        }
    }
}

/// A trial without each placed pod in turn, and then with it again, must filter as the snapshot without it, and with it.
#[track_caller]
pub(super) fn check_trials(plugin: &dyn Plugin, snapshot: &Snapshot, new: &Pod) {
    let verdicts = |snapshot: &Snapshot, filter: Option<&dyn Filter<'_>>| {
        let verdict = |node| filter.is_none_or(|filter| filter.filter(node).is_ok());
        let nodes = snapshot.candidates().iter();
        nodes.map(verdict).collect::<Vec<_>>()
    };
    let Some(filter) = plugin.pre_filter(snapshot, new).unwrap() else {
        return;
    };
    for node in snapshot.candidates() {
        for gone in &node.pods {
            let mut trial = filter.boxed_clone();
            trial.remove(gone, node);
            let mut without = snapshot.clone();
            without.remove(&gone.uid);
            let anew = plugin.pre_filter(&without, new).unwrap();
            assert_eq!(
                verdicts(snapshot, Some(&*trial)),
                verdicts(&without, anew.as_deref()),
                "without {gone:?}"
            );
            trial.add(gone, node);
            assert_eq!(
                verdicts(snapshot, Some(&*trial)),
                verdicts(snapshot, Some(&*filter)),
                "with {gone:?}"
            );
        }
    }
}
