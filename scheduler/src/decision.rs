//! The decision: which node a pod goes to, or why none will do.
//!
//! Pure: the same snapshot, pod and randomness give the same decision. Of many nodes only as many are looked for as suit
//! the cluster's size, and the next pod begins where this one ended, so that all nodes have their turn.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::framework::{Asked, Failed, FailedNode, PostFiltered, Reason, Reasons, Refused};
use crate::pod::Pod;
use crate::profile::Profile;
use crate::snapshot::{Candidate, Snapshot};

/// So many nodes that admit a pod are always looked for.
const FEWEST_NODES: usize = 100;
/// At least so many in a hundred.
const LOWEST_PERCENTAGE: usize = 5;

/// What Kubernetes' plugin for devices, of which there are none to give back, says before preemption does.
const NO_CLAIMS: &str = "no new claims to deallocate";

/// What was decided for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to this node.
    Node(Arc<str>),
    /// No node admits it.
    Unschedulable(Unschedulable),
}

/// Why no node admits a pod. Displays as the event `FailedScheduling` and the condition say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// What no node could help, found before any was looked at.
    pub refused: Option<String>,
    /// Reasons, and how many nodes each is true of. A node may have several.
    pub reasons: BTreeMap<String, usize>,
    /// The plugins that objected.
    pub plugins: BTreeSet<&'static str>,
    /// What can be done about it.
    pub remedy: Option<PostFiltered>,
}

/// Where decisions begin to look, and what breaks ties. It goes on from decision to decision.
#[derive(Clone, Debug)]
pub struct Rotation {
    next: usize,
    ties: SmallRng,
}

impl Rotation {
    /// The same seed gives the same decisions.
    pub fn new(seed: u64) -> Self {
        Self {
            next: 0,
            ties: SmallRng::seed_from_u64(seed),
        }
    }
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        match &self.refused {
            Some(refused) => write!(f, " {refused}.")?,
            None if self.reasons.is_empty() => {}
            None => {
                let reasons = self.reasons.iter();
                let counted = reasons.map(|(reason, count)| format!("{count} {reason}"));
                let mut counted: Vec<_> = counted.collect();
                counted.sort_unstable();
                write!(f, " {}.", counted.join(", "))?;
            }
        }
        match &self.remedy {
            Some(remedy) if !remedy.message.is_empty() => {
                write!(f, " {NO_CLAIMS}, {}", remedy.message)
            }
            _ => Ok(()),
        }
    }
}

/// PreFilter: what the plugins ask for a pod, or which of them refuses it.
pub(crate) fn ask<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a Pod,
) -> Result<Vec<Asked<'a>>, (&'static str, Refused)> {
    let mut asked = Vec::with_capacity(profile.filters.len());
    for plugin in &profile.filters {
        match plugin.pre_filter(snapshot, pod) {
            Ok(None) => {}
            Ok(Some(filter)) => asked.push((plugin, filter)),
            Err(refused) => return Err((plugin.name(), refused)),
        }
    }
    Ok(asked)
}

/// Why a node is not for a pod: what the first plugin that objects says.
pub(crate) struct Objection<'n> {
    pub(crate) plugin: &'static str,
    says: Says<'n>,
}

enum Says<'n> {
    Now(Reasons<'n>),
    /// Were the pods there for which room is made: the reasons, and whether they are resolvable.
    Crowded(Vec<String>, bool),
}

impl Objection<'_> {
    pub(crate) fn is_resolvable(&self) -> bool {
        match &self.says {
            Says::Now(reasons) => reasons.is_resolvable(),
            Says::Crowded(_, resolvable) => *resolvable,
        }
    }

    /// In the words for one node, which name what is on it.
    pub(crate) fn reasons(&self) -> Vec<String> {
        match &self.says {
            Says::Now(reasons) => reasons.iter().map(|reason| reason.named()).collect(),
            Says::Crowded(reasons, _) => reasons.clone(),
        }
    }
}

/// The first objection to a node.
pub(crate) fn objection<'n>(
    snapshot: &Snapshot,
    pod: &Pod,
    asked: &'n [Asked<'_>],
    candidate: &'n Candidate,
) -> Option<Objection<'n>> {
    let now = asked.iter().find_map(|(plugin, filter)| {
        let reasons = filter.filter(candidate).err()?;
        let plugin = plugin.name();
        let says = Says::Now(reasons);
        Some(Objection { plugin, says })
    });
    now.or_else(|| crowded(snapshot, pod, asked, candidate))
}

/// Decides where a pod goes.
pub fn schedule(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &Pod,
    rotation: &mut Rotation,
) -> Decision {
    let mut failed = Unschedulable {
        nodes: snapshot.candidates().len(),
        ..Unschedulable::default()
    };
    let asked = match ask(profile, snapshot, pod) {
        Ok(asked) => asked,
        Err((plugin, refused)) => {
            failed.plugins.insert(plugin);
            failed.remedy = remedy(profile, snapshot, pod, &[], &[]);
            failed.refused = Some(refused.message);
            return Decision::Unschedulable(failed);
        }
    };
    let mut search = Search {
        snapshot,
        pod,
        asked: &asked,
        wanted: wanted(profile, failed.nodes),
        admitted: Vec::new(),
        objections: BTreeMap::new(),
        crowded: BTreeMap::new(),
        plugins: BTreeSet::new(),
        failed: Vec::new(),
    };
    search.run(profile, rotation);
    if let Some(candidate) = best(profile, snapshot, pod, &search.admitted, rotation) {
        return Decision::Node(Arc::clone(&candidate.node.name));
    }
    let Search {
        objections,
        crowded,
        plugins,
        failed: nodes,
        ..
    } = search;
    let now = objections.into_iter();
    let now = now.map(|(reason, count)| (reason.to_string(), count));
    for (reason, count) in now.chain(crowded) {
        *failed.reasons.entry(reason).or_default() += count;
    }
    failed.plugins = plugins;
    if nodes.len() < failed.nodes {
        let plugins = profile.filters.iter();
        let mut plugins = plugins.filter(|plugin| plugin.only(pod).is_some());
        if let Some(plugin) = plugins.next() {
            let reason = format!("node(s) didn't satisfy plugin(s) [{}]", plugin.name());
            failed.reasons.insert(reason, failed.nodes - nodes.len());
            failed.plugins.insert(plugin.name());
        }
    }
    failed.remedy = remedy(profile, snapshot, pod, &asked, &nodes);
    Decision::Unschedulable(failed)
}

/// PostFilter: the first plugin that knows something to do about it.
fn remedy<'s, 'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    filters: &'s [Asked<'a>],
    nodes: &'s [FailedNode],
) -> Option<PostFiltered> {
    let failed = Failed {
        snapshot,
        pod,
        filters,
        nodes,
    };
    let mut plugins = profile.post_filters.iter();
    plugins.find_map(|plugin| plugin.post_filter(&failed))
}

/// How many nodes that admit a pod are enough.
fn wanted(profile: &Profile, nodes: usize) -> usize {
    if nodes < FEWEST_NODES {
        return nodes;
    }
    let percentage = match profile.percentage {
        0 => 50_usize.saturating_sub(nodes / 125).max(LOWEST_PERCENTAGE),
        given => given,
    };
    (nodes * percentage / 100).max(FEWEST_NODES).min(nodes)
}

/// Filter: which nodes admit a pod.
struct Search<'s, 'a> {
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    asked: &'s [Asked<'a>],
    wanted: usize,
    admitted: Vec<&'a Candidate>,
    /// Reasons and their counts, until a node is found.
    objections: BTreeMap<Reason<'s>, usize>,
    /// Those for the sake of pods for which room is made.
    crowded: BTreeMap<String, usize>,
    plugins: BTreeSet<&'static str>,
    failed: Vec<FailedNode>,
}

impl<'s, 'a: 's> Search<'s, 'a> {
    fn run(&mut self, profile: &Profile, rotation: &mut Rotation) {
        let snapshot = self.snapshot;
        // Where room was made for it, it goes if it can.
        if let Some(node) = snapshot.nominated_node(self.pod) {
            self.look(node);
            if !self.admitted.is_empty() {
                return;
            }
            *self = Self {
                admitted: Vec::new(),
                objections: BTreeMap::new(),
                crowded: BTreeMap::new(),
                plugins: BTreeSet::new(),
                failed: Vec::new(),
                ..*self
            };
        }
        let pod = self.pod;
        let only = profile.filters.iter().filter_map(|plugin| plugin.only(pod));
        if let Some(mut names) = only.reduce(|all, names| {
            all.into_iter()
                .filter(|name| names.contains(name))
                .collect()
        }) {
            names.sort_unstable();
            names.dedup();
            for name in names {
                if let Some(candidate) = snapshot.candidate(name) {
                    self.look(candidate);
                }
            }
            return;
        }
        let order = snapshot.order();
        let start = if order.is_empty() {
            0
        } else {
            rotation.next % order.len()
        };
        let mut seen = 0;
        for index in order[start..].iter().chain(&order[..start]) {
            seen += 1;
            self.look(&snapshot.candidates()[*index]);
            if self.admitted.len() >= self.wanted {
                break;
            }
        }
        rotation.next = start + seen;
    }

    fn look(&mut self, candidate: &'a Candidate) {
        let Some(objection) = objection(self.snapshot, self.pod, self.asked, candidate) else {
            self.admitted.push(candidate);
            return;
        };
        if !self.admitted.is_empty() {
            return;
        }
        self.plugins.insert(objection.plugin);
        self.failed.push(FailedNode {
            index: candidate.index,
            resolvable: objection.is_resolvable(),
        });
        match objection.says {
            Says::Now(reasons) => {
                for reason in reasons.iter() {
                    *self.objections.entry(reason).or_default() += 1;
                }
            }
            Says::Crowded(reasons, _) => {
                for reason in reasons {
                    *self.crowded.entry(reason).or_default() += 1;
                }
            }
        }
    }
}

/// The objection to a node that admits a pod, were the pods there for which room is made and that come first.
fn crowded(
    snapshot: &Snapshot,
    pod: &Pod,
    asked: &[Asked<'_>],
    candidate: &Candidate,
) -> Option<Objection<'static>> {
    let nominated = snapshot.nominated_on(&candidate.node.name);
    let mut first = nominated
        .iter()
        .filter(|other| other.priority >= pod.priority && other.uid != pod.uid)
        .peekable();
    first.peek()?;
    let mut crowded = candidate.clone();
    let mut filters: Vec<_> = asked
        .iter()
        .map(|(plugin, filter)| (plugin, filter.boxed_clone()))
        .collect();
    for other in first {
        for (_, filter) in &mut filters {
            filter.add(other, candidate);
        }
        crowded.add(Arc::clone(other));
    }
    filters.iter().find_map(|(plugin, filter)| {
        let objection = filter.filter(&crowded).err()?;
        let resolvable = objection.is_resolvable();
        let reasons = objection.iter().map(|reason| reason.to_string());
        Some(Objection {
            plugin: plugin.name(),
            says: Says::Crowded(reasons.collect(), resolvable),
        })
    })
}

/// PreScore and Score: the best of the nodes that admit a pod.
fn best<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    admitted: &[&'a Candidate],
    rotation: &mut Rotation,
) -> Option<&'a Candidate> {
    if let [] | [_] = admitted {
        return admitted.first().copied();
    }
    let totals = rank(profile, snapshot, pod, admitted, |_, _| {});
    let highest = totals.iter().max()?;
    let mut best = None;
    let mut ties = 0_u32;
    for (candidate, total) in admitted.iter().zip(&totals) {
        if total == highest {
            ties += 1;
            if rotation.ties.random_range(0..ties) == 0 {
                best = Some(*candidate);
            }
        }
    }
    best
}

/// The sum of the weighted scores of each node; `tell` is given each plugin's.
pub(crate) fn rank<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    admitted: &[&'a Candidate],
    mut tell: impl FnMut(&'static str, &[i64]),
) -> Vec<i64> {
    let mut totals = vec![0; admitted.len()];
    let mut scores = Vec::with_capacity(admitted.len());
    for (plugin, weight) in &profile.scores {
        let Some(score) = plugin.pre_score(snapshot, pod, admitted) else {
            continue;
        };
        scores.clear();
        scores.extend(admitted.iter().map(|candidate| score.score(candidate)));
        score.normalise(&mut scores);
        for (total, score) in totals.iter_mut().zip(&mut scores) {
            *score *= weight;
            *total += *score;
        }
        tell(plugin.name(), &scores);
    }
    totals
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
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
        let mut rotation = Rotation::new(1);
        let decision = schedule(
            &Profile::default(),
            &snapshot(nodes),
            &pod("new", words),
            &mut rotation,
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
            expect![
                "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
            ],
        );
        check(
            "a cpu=1 memory=1Gi",
            "cpu=2 memory=2Gi",
            expect![
                "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            ],
        );
        check(
            "a cpu=2 -cpu=1500m",
            "cpu=600m",
            expect![
                "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
            ],
        );
        check("a cpu=2 -cpu=1500m", "cpu=500m", expect!["a"]);
        check(
            "a pods=1 -cpu=1",
            "",
            expect![
                "0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
            ],
        );
        check(
            "a",
            "x.io/gpu=1",
            expect![
                "0/1 nodes are available: 1 Insufficient x.io/gpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            ],
        );
        check("a\nb x.io/gpu=1", "x.io/gpu=1", expect!["b"]);
        check(
            "a",
            "ephemeral-storage=1Gi",
            expect![
                "0/1 nodes are available: 1 Insufficient ephemeral-storage. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            ],
        );
    }

    #[test]
    fn taints_keep_pods_away_that_do_not_tolerate_them() {
        check(
            "a cpu=1\nb !key=value:NoSchedule\nc !key=value:NoSchedule",
            "cpu=2",
            expect![
                "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
            ],
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
            expect![
                "0/1 nodes are available: 1 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            ],
        );
        check("a !key=value:PreferNoSchedule\nb -cpu=4", "", expect!["b"]);
        check("a !key=value:PreferNoSchedule", "", expect!["a"]);
    }

    #[test]
    fn a_cordoned_node_takes_only_what_tolerates_it() {
        check(
            "a cordoned",
            "",
            expect![
                "0/1 nodes are available: 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            ],
        );
        check(
            "a cordoned",
            "~node.kubernetes.io/unschedulable:NoSchedule",
            expect!["a"],
        );
    }

    #[test]
    fn selectors_and_required_affinity_must_hold() {
        let none = expect![
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        ];
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
            expect![
                "0/1 nodes are available: 1 node(s) didn't match the requested node name. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            ],
        );
    }

    #[test]
    fn a_port_of_the_host_serves_one_pod() {
        check("a -port=80\nb", "port=80", expect!["b"]);
        check(
            "a -port=80",
            "port=80",
            expect![
                "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
            ],
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
            let mut rotation = Rotation::new(seed);
            (0..20)
                .map(|_| {
                    schedule(
                        &Profile::default(),
                        &snapshot,
                        &pod("new", ""),
                        &mut rotation,
                    )
                })
                .collect()
        };
        assert_eq!(choices(1), choices(1));
        assert_ne!(choices(1), choices(2));
    }
}
