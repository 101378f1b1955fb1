//! Demands as text, and the pods that follow; then demands out of a seed.

use expect_test::{Expect, expect};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

const PERIOD: u64 = 2;

fn bounds(least: u32, most: u32, target: f64) -> Bounds {
    Bounds {
        least,
        most,
        target,
        idle: Duration::from_secs(60),
    }
}

/// `SECONDS*CONCURRENCY …`: what the number of pods becomes, and when. Pods are ready as soon as they are asked for.
#[track_caller]
fn check(bounds: &Bounds, demand: &str, expected: Expect) {
    let (mut state, mut pods, mut now) = (State::new(Duration::ZERO), 1, 0);
    let mut changes = Vec::new();
    for word in demand.split_whitespace() {
        let (seconds, concurrency) = word.split_once('*').unwrap();
        let end = now + seconds.parse::<u64>().unwrap();
        while now < end {
            let sample = Sample {
                concurrency: concurrency.parse().unwrap(),
                waiting: 0,
            };
            let at = Duration::from_secs(now);
            let decision = decide(bounds, &mut state, sample, pods, pods, at);
            if decision.replicas != pods {
                let mark = if decision.panics { "!" } else { "" };
                changes.push(format!("{now}s:{}{mark}", decision.replicas));
                pods = decision.replicas;
            }
            now += PERIOD;
        }
    }
    expected.assert_eq(&changes.join(" "));
}

#[test]
fn as_many_pods_as_keep_each_at_its_target() {
    check(&bounds(0, 100, 10.0), "300*35", expect!["0s:4!"]);
}

#[test]
fn a_burst_is_met_at_once_and_forgotten_slowly() {
    check(
        &bounds(0, 100, 10.0),
        "120*5 10*500 300*5",
        expect!["120s:13! 122s:26! 124s:38! 126s:50! 180s:25 182s:12 184s:6 186s:4 188s:3 190s:1"],
    );
}

#[test]
fn what_nobody_asks_for_goes() {
    check(
        &bounds(0, 100, 10.0),
        "80*0 20*1 120*0",
        expect!["60s:0 80s:1 158s:0"],
    );
    check(&bounds(2, 100, 10.0), "200*0", expect!["0s:2"]);
}

#[test]
fn there_are_never_more_than_may_be() {
    check(&bounds(0, 3, 1.0), "60*1000", expect!["0s:3!"]);
}

#[test]
fn a_target_is_a_share_of_the_bound() {
    let spec = |json: serde_json::Value| serde_json::from_value::<RevisionSpec>(json).unwrap();
    let target = |json| Bounds::of(&spec(json)).target;
    let close = |one: f64, other: f64| (one - other).abs() < 1e-9;
    assert!(close(target(serde_json::json!({"concurrency": 10})), 7.0));
    assert!(close(target(serde_json::json!({})), 100.0));
    let own = serde_json::json!({"scale": {"targetConcurrency": 3}});
    assert!(close(target(own), 3.0));
}

/// Whatever is asked for, the number stays within its bounds; with requests there is a pod; a demand that stays the same
/// gets what it needs, and one that ended gets nothing.
#[test]
fn any_demand_is_met_in_the_end() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let least = rng.random_range(0..3);
        let bounds = Bounds {
            least,
            most: least + rng.random_range(1..40),
            target: rng.random_range(1.0..50.0),
            idle: Duration::from_secs(rng.random_range(2..120)),
        };
        let (mut state, mut ready, mut asked, mut now) = (State::new(Duration::ZERO), 1, 1, 0);
        let mut turn = |concurrency: f64, rng: &mut StdRng| {
            // A pod takes a while to be ready, or is lost.
            ready = if rng.random_range(0..4) == 0 {
                ready
            } else {
                asked
            };
            let sample = Sample {
                concurrency,
                waiting: u64::from(ready == 0 && concurrency > 0.0),
            };
            let at = Duration::from_secs(now);
            asked = decide(&bounds, &mut state, sample, ready, asked, at).replicas;
            now += PERIOD;
            assert!((bounds.least..=bounds.most).contains(&asked), "seed {seed}");
            assert!(concurrency == 0.0 || asked > 0, "seed {seed}");
            asked
        };
        for _ in 0..rng.random_range(1..60) {
            let concurrency = rng.random_range(0.0..400.0);
            let concurrency = if rng.random_range(0..3) == 0 {
                0.0
            } else {
                concurrency
            };
            turn(concurrency, &mut rng);
        }
        let steady = rng.random_range(1.0..300.0);
        let mut last = 0;
        for _ in 0..120 {
            last = turn(steady, &mut rng);
        }
        let needed = whole((steady / bounds.target).ceil());
        assert_eq!(
            last,
            needed.clamp(bounds.least.max(1), bounds.most),
            "seed {seed}"
        );
        for _ in 0..120 {
            last = turn(0.0, &mut rng);
        }
        assert_eq!(last, bounds.least, "seed {seed}");
    }
}
