//! Which nodes are near enough and far enough; the same as visiting every pod finds.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::super::fixture::{Chance, World, check_trials, filtered, pod, scored};
use super::*;
use crate::node::Node;

const ZONES: &str = "
    node a1 zone=a
    node a2 zone=a
    node b1 zone=b
    namespace p team=1
    namespace q team=2
";

#[track_caller]
fn check(more: &str, new: &str, expected: Expect) {
    let snapshot = World::parse(&format!("{ZONES}\n{more}")).snapshot();
    let found = filtered(&InterPodAffinity::default(), &snapshot, &pod(new));
    expected.assert_eq(&found.join("\n"));
}

#[track_caller]
fn check_scores(plugin: &InterPodAffinity, more: &str, new: &str, expected: &str) {
    let snapshot = World::parse(&format!("{ZONES}\n{more}")).snapshot();
    assert_eq!(scored(plugin, &snapshot, &pod(new)), expected);
}

fn only_a() -> Expect {
    expect![[r#"
        a1
        a2
        b1: node(s) didn't match pod affinity rules"#]]
}

fn nowhere() -> Expect {
    expect![[r#"
        a1: node(s) didn't match pod affinity rules
        a2: node(s) didn't match pod affinity rules
        b1: node(s) didn't match pod affinity rules"#]]
}

fn everywhere() -> Expect {
    expect!["a1\na2\nb1"]
}

#[test]
fn a_pod_is_placed_near_those_that_it_requires() {
    check("pod a1 app=db", "near/zone/app=db", only_a());
    check("pod a1 app=web", "near/zone/app=db", nowhere());
    check("", "app=web", everywhere());
    // All terms mean the same pod.
    let both = "near/zone/app=db near/zone/tier=1";
    check("pod a1 app=db\npod a2 tier=1", both, nowhere());
    check("pod a1 app=db tier=1", both, only_a());
}

#[test]
fn the_first_of_its_kind_need_not_be_near_another() {
    check("", "app=db near/zone/app=db", everywhere());
    check("pod a1 app=db", "app=db near/zone/app=db", only_a());
    check("", "app=web near/zone/app=db", nowhere());
    check(
        "node c",
        "app=db near/zone/app=db",
        expect![[r#"
            a1
            a2
            b1
            c: node(s) didn't match pod affinity rules"#]],
    );
}

#[test]
fn a_pod_is_placed_far_from_those_that_it_does_not_want() {
    check(
        "pod a1 app=db",
        "far/zone/app=db",
        expect![[r#"
            a1: node(s) didn't match pod anti-affinity rules
            a2: node(s) didn't match pod anti-affinity rules
            b1"#]],
    );
    check("pod a1 app=db", "far/none/app=db", everywhere());
}

#[test]
fn a_pod_is_placed_far_from_those_that_do_not_want_it() {
    let refused = || {
        expect![[r#"
        a1: node(s) didn't satisfy existing pods anti-affinity rules
        a2: node(s) didn't satisfy existing pods anti-affinity rules
        b1"#]]
    };
    check("pod a1 far/zone/app=web", "app=web", refused());
    check("pod a1 far/zone/app=web", "app=db", everywhere());
    check("pod a1 far/zone/app=web", "@q app=web", everywhere());
    check("pod a1 far/zone/app=web/q", "@q app=web", refused());
    check("pod a1 far/zone/app=web/?team=2", "@q app=web", refused());
    check("pod a1 far/zone/app=web/?*", "@unknown app=web", refused());
    check("pod a1 far/zone/app=web/?team=2", "app=web", everywhere());
}

#[test]
fn namespaces_are_those_of_the_term_or_the_pods_own() {
    check("pod a1 @q app=db", "near/zone/app=db", nowhere());
    check("pod a1 @q app=db", "near/zone/app=db/p,q", only_a());
    check("pod a1 @q app=db", "near/zone/app=db/?team=2", only_a());
    check("pod a1 @q app=db", "near/zone/app=db/?*", only_a());
    check("pod a1 @q app=db", "near/zone/app=db/?team=3", nowhere());
    check("pod a1 app=db", "near/zone/app=db/?team=2", nowhere());
}

#[test]
fn what_is_preferred_ranks_nodes() {
    let plugin = InterPodAffinity::default();
    check_scores(
        &plugin,
        "pod a1 app=db",
        "near+5/zone/app=db",
        "a1=100 a2=100 b1=0",
    );
    check_scores(
        &plugin,
        "pod a1 app=db",
        "far+5/zone/app=db",
        "a1=0 a2=0 b1=100",
    );
    check_scores(
        &plugin,
        "pod a1 near+5/zone/app=web",
        "app=web",
        "a1=100 a2=100 b1=0",
    );
    check_scores(
        &plugin,
        "pod a1 far+5/zone/app=web",
        "app=web",
        "a1=0 a2=0 b1=100",
    );
    check_scores(
        &plugin,
        "pod a1 near/zone/app=web",
        "app=web",
        "a1=100 a2=100 b1=0",
    );
    check_scores(
        &plugin,
        "pod a1 near+5/zone/app=web",
        "app=db",
        "all the same",
    );
    check_scores(
        &plugin,
        "pod a1 app=db\npod b1 app=db\npod b1 app=db",
        "near+5/zone/app=db",
        "a1=0 a2=0 b1=100",
    );
}

#[test]
fn what_placed_pods_want_weighs_as_it_is_configured() {
    let placed = "pod a1 near/zone/app=web\npod b1 near+2/zone/app=web";
    let weighing = |hard_weight, ignores_others| InterPodAffinity {
        hard_weight,
        ignores_others,
    };
    check_scores(&weighing(1, false), placed, "app=web", "a1=0 a2=0 b1=100");
    check_scores(&weighing(9, false), placed, "app=web", "a1=100 a2=100 b1=0");
    check_scores(&weighing(0, false), placed, "app=web", "a1=0 a2=0 b1=100");
    check_scores(&weighing(9, true), placed, "app=web", "all the same");
    check_scores(
        &weighing(9, true),
        placed,
        "app=web near+1/zone/none",
        "a1=100 a2=100 b1=0",
    );
}

fn means(world: &World, term: &PodTerm, pod: &Pod) -> bool {
    term.means(
        &pod.namespace,
        &world.namespace(&pod.namespace),
        &pod.labels,
    )
}

fn same_place(term: &PodTerm, one: &Node, other: &Node) -> bool {
    let key = &*term.topology_key;
    one.labels.contains_key(key) && one.labels.get(key) == other.labels.get(key)
}

fn naive_filter(world: &World, new: &Pod, node: &Node) -> Option<Reason<'static>> {
    let none = PodAffinity::default();
    let own = new.affinity.as_deref().unwrap_or(&none);
    let required = &own.required;
    let meant = |pod: &Pod| required.iter().all(|term| means(world, term, pod));
    let labelled = |node: &Node| {
        let mut terms = required.iter();
        terms.any(|term| node.labels.contains_key(&*term.topology_key))
    };
    let near = required.iter().all(|term| {
        let mut placed = world.placed();
        placed.any(|(pod, on)| meant(pod) && same_place(term, on, node))
    });
    let mut placed = world.placed();
    let first = !placed.any(|(pod, on)| meant(pod) && labelled(on)) && meant(new);
    let mut keys = required.iter();
    let whole = keys.all(|term| node.labels.contains_key(&*term.topology_key));
    if !whole || (!near && !first) {
        return Some(FAR);
    }
    let unwanted = |terms: &[Arc<PodTerm>], one: &Pod, on: &Node| {
        let mut terms = terms.iter();
        terms.any(|term| means(world, term, one) && same_place(term, on, node))
    };
    if world
        .placed()
        .any(|(pod, on)| unwanted(&own.required_anti, pod, on))
    {
        return Some(NEAR);
    }
    let theirs = |pod: &Pod| match &pod.affinity {
        Some(affinity) => affinity.required_anti.clone(),
        None => Vec::new(),
    };
    let refused = world
        .placed()
        .any(|(pod, on)| unwanted(&theirs(pod), new, on));
    refused.then_some(UNWANTED)
}

fn naive_score(world: &World, new: &Pod) -> String {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    let none = PodAffinity::default();
    for node in &world.nodes {
        let mut sum = 0;
        for (pod, on) in world.placed() {
            let mut add = |weight: i64, term: &PodTerm, meant: &Pod| {
                if means(world, term, meant) && same_place(term, on, node) {
                    sum += weight;
                }
            };
            let own = new.affinity.as_deref().unwrap_or(&none);
            let theirs = pod.affinity.as_deref().unwrap_or(&none);
            for (affinity, meant) in [(own, pod), (theirs, new)] {
                affinity
                    .preferred
                    .iter()
                    .for_each(|(weight, term)| add(*weight, term, meant));
                let dislikes = affinity.preferred_anti.iter();
                dislikes.for_each(|(weight, term)| add(-weight, term, meant));
            }
            theirs.required.iter().for_each(|term| add(1, term, new));
        }
        sums.insert(&node.name, sum);
    }
    let most = sums.values().copied().max().unwrap_or_default();
    let least = sums.values().copied().min().unwrap_or_default();
    if sums.values().all(|sum| *sum == 0) {
        return "all the same".to_owned();
    }
    let scores: Vec<_> = (sums.iter())
        .map(|(name, sum)| {
            let share = match most - least {
                0 => 0.0,
                range => (sum - least) as f64 / range as f64,
            };
            format!("{name}={}", (100.0 * share) as i64)
        })
        .collect();
    scores.join(" ")
}

fn any_pod(chance: &mut Chance) -> Pod {
    let mut words = chance.some(&["@q", "app=a", "app=b", "tier=1", "deleting"]);
    for what in ["near", "far", "near+3", "far+2"] {
        for key in ["zone", "rack"] {
            let selector = chance.one(&["app=a", "app", "*", "-", "app=a,tier"]);
            let namespaces = chance.one(&["", "/p,q", "/q", "/?*", "/?team=1"]);
            let term = format!("{what}/{key}/{selector}{namespaces}");
            words.push_str(&chance.some(&[&term]));
        }
    }
    pod(&words)
}

#[test]
fn what_is_kept_counts_as_visiting_every_pod_does() {
    let plugin = InterPodAffinity::default();
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
            let found = scored(&plugin, &snapshot, &new);
            let naive = naive_score(&world, &new);
            // Sums that come to nothing on every node may be told as such or not.
            if found != "all the same" && naive != "all the same" {
                assert_eq!(found, naive, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_trial_is_as_if_it_were_so() {
    let plugin = InterPodAffinity::default();
    for seed in 0..150 {
        let mut chance = Chance::new(seed);
        let (mut world, mut snapshot) = (World::default(), Snapshot::default());
        for _ in 0..20 {
            chance.change(&mut world, &mut snapshot, any_pod);
        }
        check_trials(&plugin, &snapshot, &any_pod(&mut chance));
    }
}
