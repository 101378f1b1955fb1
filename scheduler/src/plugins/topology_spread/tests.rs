//! What is admitted and how nodes are ranked; the same as visiting every pod finds.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::super::fixture::{Chance, World, filtered, labels, pod, scored};
use super::*;

const ZONES: &str = "
    node a1 zone=a kubernetes.io/hostname=a1
    node a2 zone=a kubernetes.io/hostname=a2
    node b1 zone=b kubernetes.io/hostname=b1
    node b2 zone=b kubernetes.io/hostname=b2
";

#[track_caller]
fn check(more: &str, new: &str, expected: Expect) {
    let snapshot = World::parse(&format!("{ZONES}\n{more}")).snapshot();
    let found = filtered(&PodTopologySpread::default(), &snapshot, &pod(new));
    expected.assert_eq(&found.join("\n"));
}

#[track_caller]
fn check_scores(more: &str, new: &str, expected: &str) {
    let snapshot = World::parse(&format!("{ZONES}\n{more}")).snapshot();
    let plugin = PodTopologySpread::default();
    assert_eq!(scored(&plugin, &snapshot, &pod(new)), expected);
}

#[test]
fn a_domain_with_too_many_pods_takes_no_more() {
    check(
        "pod a1 app=w",
        "app=w spread/zone/1/app=w",
        expect![[r#"
            a1: node(s) didn't match pod topology spread constraints
            a2: node(s) didn't match pod topology spread constraints
            b1
            b2"#]],
    );
    check(
        "pod a1 app=w\npod b1 app=w",
        "app=w spread/zone/1/app=w spread/kubernetes.io~hostname/1/app=w",
        expect![[r#"
            a1: node(s) didn't match pod topology spread constraints
            a2
            b1: node(s) didn't match pod topology spread constraints
            b2"#]],
    );
    // A pod that its own rule does not count makes no difference itself.
    check(
        "pod a1 app=w",
        "spread/zone/1/app=w",
        expect!["a1\na2\nb1\nb2"],
    );
    check(
        "pod a1 app=w",
        "app=w spread/zone/2/app=w",
        expect!["a1\na2\nb1\nb2"],
    );
}

#[test]
fn a_node_without_the_label_takes_none() {
    check(
        "node c",
        "app=w spread/zone/1/app=w",
        expect![[r#"
            a1
            a2
            b1
            b2
            c: node(s) didn't match pod topology spread constraints (missing required label)"#]],
    );
}

#[test]
fn only_pods_of_the_namespace_that_stay_count() {
    check(
        "pod a1 @q app=w\npod a1 app=w deleting",
        "app=w spread/zone/1/app=w",
        expect!["a1\na2\nb1\nb2"],
    );
}

#[test]
fn too_few_domains_make_the_emptiest_empty() {
    check(
        "pod a1 app=w\npod b1 app=w",
        "app=w spread/zone/1/app=w/min=3",
        expect![[r#"
            a1: node(s) didn't match pod topology spread constraints
            a2: node(s) didn't match pod topology spread constraints
            b1: node(s) didn't match pod topology spread constraints
            b2: node(s) didn't match pod topology spread constraints"#]],
    );
    check(
        "pod a1 app=w\npod b1 app=w",
        "app=w spread/zone/1/app=w/min=2",
        expect!["a1\na2\nb1\nb2"],
    );
}

#[test]
fn nodes_that_the_pod_cannot_be_on_count_if_they_are_to() {
    let skewed = || {
        expect![[r#"
        a1: node(s) didn't match pod topology spread constraints
        a2: node(s) didn't match pod topology spread constraints
        b1: node(s) didn't match pod topology spread constraints
        b2: node(s) didn't match pod topology spread constraints
        c"#]]
    };
    let cluster = "node c zone=c !old disk=hdd\npod a1 app=w\npod b1 app=w";
    check(cluster, "app=w spread/zone/1/app=w", skewed());
    let apart = || expect!["a1\na2\nb1\nb2\nc"];
    check(cluster, "app=w spread/zone/1/app=w/taints", apart());
    check(
        cluster,
        "app=w spread/zone/1/app=w/taints bears:old",
        skewed(),
    );
    // Where nothing is eligible, nothing is too many.
    check(cluster, "app=w on:disk=ssd spread/zone/1/app=w", apart());
}

#[test]
fn keys_stand_for_the_pods_own_labels() {
    check(
        "pod a1 app=w hash=1",
        "app=w hash=2 spread/zone/1/app=w/key=hash",
        expect!["a1\na2\nb1\nb2"],
    );
}

#[test]
fn the_less_crowded_a_domain_the_better_the_node() {
    let new = "app=w spread+/zone/1/app=w";
    check_scores("pod a1 app=w", new, "a1=0 a2=0 b1=100 b2=100");
    check_scores(
        "pod a1 app=w\npod b1 app=w",
        new,
        "a1=100 a2=100 b1=100 b2=100",
    );
    check_scores(
        "pod a1 app=w\npod a1 app=w\npod b1 app=w",
        new,
        "a1=33 a2=33 b1=100 b2=100",
    );
    check_scores("node c\npod a1 app=w", new, "a1=0 a2=0 b1=100 b2=100 c=0");
    check_scores("pod a1 app=w", "app=w", "all the same");
}

#[test]
fn pods_without_rules_are_spread_with_those_of_their_service_or_set() {
    let mut world = World::parse(ZONES);
    for node in &mut world.nodes {
        let zone = node.labels["zone"].clone();
        let mut labels = Labels::clone(&node.labels);
        labels.insert(ZONE.to_owned(), zone);
        node.labels = Arc::new(labels);
    }
    world
        .nodes
        .push(super::super::fixture::node(&format!("c {HOSTNAME}=c")));
    let mut first = pod("app=w");
    first.uid = "1".into();
    world.pods.push((first, "a1".into()));
    let mut snapshot = world.snapshot();
    let plugin = PodTopologySpread::default();
    assert_eq!(scored(&plugin, &snapshot, &pod("app=w")), "all the same");
    snapshot.owners.put_service("p", "web", labels("app=w"));
    // The node without a zone is ranked by what is on it.
    assert_eq!(
        scored(&plugin, &snapshot, &pod("app=w")),
        "a1=20 a2=40 b1=60 b2=60 c=100"
    );
    let required = PodTopologySpread::with_defaults(vec![Spread::default_rule("zone", 1, true)]);
    assert_eq!(
        filtered(&required, &snapshot, &pod("app=w"))[2..4],
        ["b1", "b2"]
    );
}

/// What is counted by domain, by visiting every pod.
fn tally(world: &World, new: &Pod, rule: &Spread, keys: &[&str]) -> BTreeMap<String, i64> {
    let mut tally = BTreeMap::new();
    for node in &world.nodes {
        let whole = keys.iter().all(|key| node.labels.contains_key(*key));
        if !whole || !includes(rule, new, node) {
            continue;
        }
        let Some(domain) = node.labels.get(&*rule.topology_key) else {
            continue;
        };
        let pods = world.placed().filter(|(pod, on)| {
            on.name == node.name
                && pod.namespace == new.namespace
                && !pod.deleting
                && counts(rule, &pod.labels)
        });
        *tally.entry(domain.clone()).or_default() += pods.count() as i64;
    }
    tally
}

fn naive_filter(world: &World, new: &Pod, node: &Node) -> Option<Reason<'static>> {
    let rules = || new.spreads.iter().filter(|rule| rule.required);
    let keys: Vec<_> = rules().map(|rule| &*rule.topology_key).collect();
    for rule in rules() {
        let Some(domain) = node.labels.get(&*rule.topology_key) else {
            return Some(UNLABELLED);
        };
        let tally = tally(world, new, rule, &keys);
        let few = tally.len() < rule.min_domains;
        let least = if few {
            0
        } else {
            *tally.values().min().unwrap()
        };
        let own = i64::from(rule.selector.selects(&new.labels));
        if tally.get(domain).copied().unwrap_or_default() + own - least > rule.max_skew {
            return Some(SKEWED);
        }
    }
    None
}

fn naive_score(world: &World, new: &Pod) -> String {
    let rules: Vec<_> = new.spreads.iter().filter(|rule| !rule.required).collect();
    let keys: Vec<_> = rules.iter().map(|rule| &*rule.topology_key).collect();
    let whole = |node: &Node| keys.iter().all(|key| node.labels.contains_key(*key));
    let mut nodes: Vec<_> = world.nodes.iter().collect();
    nodes.sort_unstable_by_key(|node| node.name.clone());
    let ranked: Vec<_> = nodes.iter().copied().filter(|node| whole(node)).collect();
    let raw = |node: &&Node| {
        let mut score = 0.0;
        for rule in &rules {
            let domain = |node: &Node| node.labels[&*rule.topology_key].clone();
            let (count, size) = if &*rule.topology_key == HOSTNAME {
                let pods = world.placed().filter(|(pod, on)| {
                    on.name == node.name
                        && pod.namespace == new.namespace
                        && !pod.deleting
                        && counts(rule, &pod.labels)
                });
                (pods.count() as i64, ranked.len())
            } else {
                let mut all: Vec<_> = ranked.iter().map(|node| domain(node)).collect();
                all.sort_unstable();
                all.dedup();
                let tally = tally(world, new, rule, &keys);
                (
                    tally.get(&domain(node)).copied().unwrap_or_default(),
                    all.len(),
                )
            };
            score += count as f64 * ((size + 2) as f64).ln() + (rule.max_skew - 1) as f64;
        }
        score.round() as i64
    };
    let scores: Vec<_> = ranked.iter().map(raw).collect();
    let most = scores.iter().copied().max().unwrap_or_default();
    let least = scores.iter().copied().min().unwrap_or_default();
    let scores: Vec<_> = (nodes.iter())
        .map(|node| {
            let score = match whole(node) {
                false => 0,
                true if most == 0 => 100,
                true => 100 * (most + least - raw(node)) / most,
            };
            format!("{}={score}", node.name)
        })
        .collect();
    scores.join(" ")
}

fn any_pod(chance: &mut Chance) -> Pod {
    let mut words = chance.some(&["@q", "app=a", "app=b", "tier=1", "deleting"]);
    for what in ["spread", "spread+"] {
        for key in ["zone", HOSTNAME, "rack"] {
            let skew = chance.one(&["1", "2"]);
            let selector = chance.one(&["app=a", "app", "*", "-", "app=a,tier"]);
            let option = chance.one(&["", "/min=2", "/taints", "/anywhere", "/key=tier"]);
            let option = match what {
                "spread+" => option.replace("/min=2", ""),
                _ => option.to_owned(),
            };
            let key = key.replace('/', "~");
            let rule = format!("{what}/{key}/{skew}/{selector}{option}");
            words.push_str(&chance.some(&[&rule]));
        }
    }
    words.push_str(&chance.some(&["on:disk=ssd", "bears:old"]));
    pod(&words)
}

#[test]
fn what_is_kept_counts_as_visiting_every_pod_does() {
    let plugin = PodTopologySpread::default();
    for seed in 0..150 {
        let mut chance = Chance::new(seed);
        let (mut world, mut snapshot) = (World::default(), Snapshot::default());
        for _ in 0..40 {
            chance.change(&mut world, &mut snapshot, any_pod);
            let new = any_pod(&mut chance);
            let mut naive: Vec<_> = (world.nodes.iter())
                .map(|node| match naive_filter(&world, &new, node) {
                    Some(reason) => format!("{}: {reason}", node.name),
                    None => node.name.to_string(),
                })
                .collect();
            naive.sort_unstable();
            assert_eq!(filtered(&plugin, &snapshot, &new), naive, "seed {seed}");
            if new.spreads.iter().any(|rule| !rule.required) {
                let naive = naive_score(&world, &new);
                assert_eq!(scored(&plugin, &snapshot, &new), naive, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_trial_is_as_if_it_were_so() {
    let plugin = PodTopologySpread::default();
    for seed in 0..150 {
        let mut chance = Chance::new(seed);
        let (mut world, mut snapshot) = (World::default(), Snapshot::default());
        for _ in 0..20 {
            chance.change(&mut world, &mut snapshot, any_pod);
        }
        super::super::fixture::check_trials(&plugin, &snapshot, &any_pod(&mut chance));
    }
}
