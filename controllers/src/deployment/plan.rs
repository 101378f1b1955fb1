//! Decides how the ReplicaSets of a Deployment change. Pure: same inputs, same plan.

use std::cmp::Reverse;

use super::set::{Set, current};
use super::wish::Wish;

/// What to change, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Make the set of the current template, with so many replicas.
    pub(super) create: Option<i32>,
    /// The revision that the current set should carry; 0 while there is no such set to be.
    pub(super) revision: i64,
    pub(super) scale: Vec<(String, i32)>,
    pub(super) remove: Vec<String>,
}

/// Decides what to change. Pure: same inputs, same plan.
pub(super) fn plan(wish: &Wish, sets: &[Set]) -> Plan {
    let current = current(sets);
    let name = current.map_or("", |set| set.name.as_str());
    let old: Vec<&Set> = sets.iter().filter(|set| set.name != name).collect();
    let latest = old.iter().map(|set| set.revision).max().unwrap_or(0);
    let mut plan = Plan {
        revision: current.map_or(0, |set| set.revision).max(latest + 1),
        ..Plan::default()
    };
    if wish.paused || resized(wish, sets) {
        if current.is_none() {
            plan.revision = 0;
        }
        plan.scale = proportional(wish, sets, current);
        if wish.paused {
            plan.remove = beyond_history(wish, &old);
        }
        return plan;
    }
    let Some(current) = current else {
        if wish.recreate && !ended(&old) {
            plan.revision = 0;
            plan.scale = down(&old);
        } else {
            plan.create = Some(first_size(wish, &old));
        }
        return plan;
    };
    plan.scale = match wish.recreate {
        true if !ended(&old) => down(&old),
        true if current.wanted == wish.replicas => Vec::new(),
        true => vec![(current.name.clone(), wish.replicas)],
        false => roll(wish, current, &old),
    };
    let actual = sum(sets.iter().map(|set| set.actual));
    let counts = [current.actual, current.available, actual];
    if counts.iter().all(|count| *count == wish.replicas) {
        plan.remove = beyond_history(wish, &old);
    }
    plan
}

/// Whether the Deployment has another size than when its sets were last scaled: then they are scaled and nothing
/// is rolled.
pub(super) fn resized(wish: &Wish, sets: &[Set]) -> bool {
    let mut active = sets.iter().filter(|set| set.wanted > 0);
    active.any(|set| set.desired.is_some_and(|desired| desired != wish.replicas))
}

/// Counts may be as large as a user likes.
fn sum(counts: impl Iterator<Item = i32>) -> i32 {
    counts.fold(0, i32::saturating_add)
}

/// How large the new set may start.
fn first_size(wish: &Wish, old: &[&Set]) -> i32 {
    let total = sum(old.iter().map(|set| set.wanted));
    if wish.recreate {
        return wish.replicas;
    }
    wish.most().saturating_sub(total).clamp(0, wish.replicas)
}

/// Old sets without pods beyond the history's limit, the oldest first.
fn beyond_history(wish: &Wish, old: &[&Set]) -> Vec<String> {
    let Some(limit) = wish.history else {
        return Vec::new();
    };
    let mut old = old.to_vec();
    old.sort_by_key(|set| set.revision);
    old.truncate(old.len().saturating_sub(limit));
    old.retain(|set| set.actual == 0 && set.wanted == 0 && set.observed);
    old.into_iter().map(|set| set.name.clone()).collect()
}

/// Whether nothing of the old sets runs, or is about to.
fn ended(old: &[&Set]) -> bool {
    old.iter().all(|set| set.wanted == 0 && !set.running)
}

fn down(sets: &[&Set]) -> Vec<(String, i32)> {
    let active = sets.iter().filter(|set| set.wanted > 0);
    active.map(|set| (set.name.clone(), 0)).collect()
}

/// Up by what surge allows, then down by what availability allows.
fn roll(wish: &Wish, current: &Set, old: &[&Set]) -> Vec<(String, i32)> {
    let total = sum(old.iter().map(|set| set.wanted)).saturating_add(current.wanted);
    if current.wanted > wish.replicas {
        return vec![(current.name.clone(), wish.replicas)];
    }
    if current.wanted < wish.replicas {
        let room = wish.replicas - current.wanted;
        let up = wish.most().saturating_sub(total).clamp(0, room);
        if up > 0 {
            return vec![(current.name.clone(), current.wanted + up)];
        }
    }
    let least = wish.least();
    let mut spare = total - least - (current.wanted - current.available).max(0);
    let mut old: Vec<Set> = old
        .iter()
        .filter(|set| set.wanted > 0)
        .map(|set| (*set).clone())
        .collect();
    old.sort_by_key(|set| set.created);
    let before: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    // Pods that serve nobody go first.
    for set in &mut old {
        let idle = (set.wanted - set.available).clamp(0, spare.max(0));
        set.wanted -= idle;
        spare -= idle;
    }
    let serving = old.iter().map(|set| set.available.min(set.wanted));
    let available = sum(serving).saturating_add(current.available);
    let mut spare = spare.min(available - least);
    for set in &mut old {
        let down = set.wanted.min(spare.max(0));
        set.wanted -= down;
        spare -= down;
    }
    old.into_iter()
        .zip(before)
        .filter(|(set, before)| set.wanted != *before)
        .map(|(set, _)| (set.name, set.wanted))
        .collect()
}

/// Spreads a new size over the sets in proportion to theirs: the roll-out goes on as it was.
fn proportional(wish: &Wish, sets: &[Set], current: Option<&Set>) -> Vec<(String, i32)> {
    let mut live: Vec<&Set> = sets.iter().filter(|set| set.wanted > 0).collect();
    if live.is_empty() {
        live.extend(current.or_else(|| sets.iter().max_by_key(|set| set.created)));
    }
    let scaled = |set: &Set| set.desired.is_none_or(|desired| desired == wish.replicas);
    if let [only] = live[..] {
        let right = only.wanted == wish.replicas && scaled(only);
        return if right {
            Vec::new()
        } else {
            vec![(only.name.clone(), wish.replicas)]
        };
    }
    if let Some(current) = current.filter(|set| saturated(wish, set)) {
        live.retain(|set| set.name != current.name);
        return down(&live);
    }
    if live.iter().all(|set| scaled(set)) {
        return Vec::new();
    }
    let total: i64 = live.iter().map(|set| i64::from(set.wanted)).sum();
    let allowed = i64::from(if wish.replicas > 0 { wish.most() } else { 0 });
    let mut left = allowed - total;
    live.sort_by_key(|set| set.created);
    if left > 0 {
        live.reverse();
    }
    live.sort_by_key(|set| Reverse(set.wanted));
    let mut sizes: Vec<(String, i64)> = Vec::new();
    for set in live {
        let share = share(set, allowed, total);
        let part = if left > 0 {
            share.clamp(0, left)
        } else {
            share.clamp(left, 0)
        };
        left -= part;
        sizes.push((set.name.clone(), i64::from(set.wanted) + part));
    }
    if let Some(first) = sizes.first_mut() {
        first.1 += left;
    }
    let size = |size: i64| i32::try_from(size.max(0)).unwrap_or(i32::MAX);
    sizes
        .into_iter()
        .map(|(name, of)| (name, size(of)))
        .collect()
}

/// Whether the set has all the pods that the Deployment wants, and they serve.
fn saturated(wish: &Wish, set: &Set) -> bool {
    set.wanted == wish.replicas
        && set.desired == Some(wish.replicas)
        && set.available == wish.replicas
}

/// By how much a set should grow to keep its part of the whole, rounded to the nearest.
fn share(set: &Set, allowed: i64, total: i64) -> i64 {
    let whole = i128::from(set.max.map_or(total, i64::from).max(1));
    let part = (2 * i128::from(set.wanted) * i128::from(allowed) + whole) / (2 * whole);
    i64::try_from(part).unwrap_or(i64::MAX) - i64::from(set.wanted)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use jiff::Timestamp;

    use super::*;

    /// `a1=3/2`: the set `a` of revision 1 wants 3 pods and has 2 available; `*` marks the current,
    /// `~` one that has a terminating pod, `@4` one last scaled for 4 replicas.
    fn set(text: &str) -> Set {
        let (current, terminating) = (text.ends_with('*'), text.ends_with('~'));
        let text = text.trim_end_matches(['*', '~']);
        let (text, desired) = match text.split_once('@') {
            Some((text, desired)) => (text, Some(desired.parse().unwrap())),
            None => (text, None),
        };
        let (name, counts) = text.split_once('=').unwrap();
        let (wanted, available) = counts.split_once('/').unwrap();
        let wanted = wanted.parse().unwrap();
        let available = available.parse().unwrap();
        Set {
            name: name.into(),
            revision: name[1..].parse().unwrap(),
            created: Timestamp::from_second(name[1..].parse().unwrap()).ok(),
            current,
            wanted,
            actual: wanted,
            ready: available,
            available,
            running: wanted > 0 || terminating,
            observed: true,
            desired,
            ..Set::default()
        }
    }

    #[track_caller]
    fn check(wish: &str, sets: &str, expect: Expect) {
        let mut words = wish.split_whitespace();
        let replicas = words.next().unwrap().parse().unwrap();
        let mut wish = Wish {
            replicas,
            recreate: false,
            surge: 1,
            unavailable: 0,
            paused: false,
            history: Some(10),
            min_ready_seconds: 0,
        };
        for word in words {
            match word.split_once('=') {
                Some(("surge", n)) => wish.surge = n.parse().unwrap(),
                Some(("unavailable", n)) => wish.unavailable = n.parse().unwrap(),
                Some(("history", n)) => wish.history = Some(n.parse().unwrap()),
                _ if word == "recreate" => wish.recreate = true,
                _ => wish.paused = true,
            }
        }
        let plan = plan(&wish, &sets.split_whitespace().map(set).collect::<Vec<_>>());
        let mut said = vec![format!("revision {}", plan.revision)];
        said.extend(plan.create.map(|size| format!("create {size}")));
        said.extend(
            plan.scale
                .iter()
                .map(|(name, size)| format!("{name} to {size}")),
        );
        said.extend(plan.remove.iter().map(|name| format!("remove {name}")));
        expect.assert_eq(&said.join(", "));
    }

    #[test]
    fn a_first_roll_out_starts_with_every_replica() {
        check("3", "", expect!["revision 1, create 3"]);
    }

    #[test]
    fn a_roll_out_goes_up_by_the_surge_then_down_by_what_is_available() {
        check("3", "a1=3/3", expect!["revision 2, create 1"]);
        check("3", "a1=3/3 b2=1/0*", expect!["revision 2"]);
        check("3", "a1=3/3 b2=1/1*", expect!["revision 2, a1 to 2"]);
        check("3", "a1=2/2 b2=1/1*", expect!["revision 2, b2 to 2"]);
        check(
            "4 surge=0 unavailable=1",
            "a1=4/4 b2=0/0*",
            expect!["revision 2, a1 to 3"],
        );
    }

    #[test]
    fn pods_that_serve_nobody_go_first() {
        check("3", "a1=3/1 b2=1/1*", expect!["revision 2, a1 to 2"]);
    }

    #[test]
    fn a_roll_back_reuses_the_old_set_under_a_new_revision() {
        check("3", "a1=0/0* b2=3/3", expect!["revision 3, a1 to 1"]);
    }

    #[test]
    fn recreate_waits_until_the_old_pods_are_gone() {
        check("3 recreate", "a1=0/0~ b2=0/0*", expect!["revision 2"]);
        check("3 recreate", "a1=0/0~", expect!["revision 0"]);
        check("3 recreate", "a1=3/3", expect!["revision 0, a1 to 0"]);
        check("3 recreate", "a1=0/0", expect!["revision 2, create 3"]);
        check(
            "3 recreate",
            "a1=3/3 b2=0/0*",
            expect!["revision 2, a1 to 0"],
        );
        check(
            "3 recreate",
            "a1=0/0 b2=0/0*",
            expect!["revision 2, b2 to 3"],
        );
    }

    #[test]
    fn a_paused_deployment_scales_but_does_not_roll() {
        check("3 paused", "a1=3/3 b2=1/1*", expect!["revision 2"]);
        check("5 paused", "b2=3/3*", expect!["revision 2, b2 to 5"]);
    }

    #[test]
    fn a_new_size_is_spread_over_the_sets_of_a_roll_out() {
        check(
            "20 surge=0",
            "a1=6/6@10 b2=4/4@10*",
            expect!["revision 2, a1 to 12, b2 to 8"],
        );
        check(
            "5 surge=0",
            "a1=6/6@10 b2=4/4@10*",
            expect!["revision 2, a1 to 3, b2 to 2"],
        );
    }

    #[test]
    fn old_sets_go_down_when_the_new_one_has_all_it_needs() {
        check("4", "a1=2/2@2 b2=4/4@4*", expect!["revision 2, a1 to 0"]);
    }

    #[test]
    fn sizes_beyond_reason_are_taken_as_they_are() {
        let all = i32::MAX;
        check(
            &format!("{all} surge={all}"),
            &format!("a1=3/3 b2={all}/0@{all}*"),
            expect!["revision 2"],
        );
        check(
            "1 surge=0",
            &format!("a1={all}/{all}@{all} b2={all}/0@{all}*"),
            expect!["revision 2, a1 to 0, b2 to 1"],
        );
    }

    #[test]
    fn a_paused_deployment_without_a_set_of_its_template_has_no_new_revision() {
        check("3 paused", "a1=3/3", expect!["revision 0"]);
        check("3 paused", "a1=0/0", expect!["revision 0, a1 to 3"]);
    }

    #[test]
    fn history_is_cut_to_its_limit_once_finished() {
        check(
            "1 history=1",
            "a1=0/0 b2=0/0 c3=1/1*",
            expect!["revision 3, remove a1"],
        );
        check(
            "1 history=0 paused",
            "a1=0/0 b2=1/1*",
            expect!["revision 2, remove a1"],
        );
        check("2 history=0", "a1=0/0 b2=2/1*", expect!["revision 2"]);
    }
}
