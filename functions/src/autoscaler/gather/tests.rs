//! Gateways that answer, are lost, are slow and go away, by a seed; time is paused.

use std::sync::{Mutex, PoisonError};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::*;
use crate::autoscaler::decide::{Bounds, State, decide};

/// What a gateway does when it is asked.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mood {
    Answers,
    Fails,
    Hangs,
}

/// A gateway that counts the same all the time.
struct Fake {
    node: String,
    counts: f64,
    mood: Mutex<Mood>,
}

impl Fake {
    fn new(node: &str, counts: f64) -> Arc<Self> {
        Arc::new(Self {
            node: node.to_owned(),
            counts,
            mood: Mutex::new(Mood::Answers),
        })
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }
}

#[async_trait]
impl Gateway for Fake {
    fn node(&self) -> &str {
        &self.node
    }

    async fn demand(&self) -> anyhow::Result<Vec<(Key, Sample)>> {
        let mood = *self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        match mood {
            Mood::Answers => Ok(vec![(key(), sample(self.counts))]),
            Mood::Fails => anyhow::bail!("lost"),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

fn key() -> Key {
    Key::new("default", "web-00001")
}

fn sample(concurrency: f64) -> Sample {
    Sample {
        concurrency,
        waiting: 0,
    }
}

fn all(fakes: &[Arc<Fake>]) -> Vec<Arc<dyn Gateway>> {
    let each = fakes.iter().cloned();
    each.map(|fake| -> Arc<dyn Gateway> { fake }).collect()
}

fn concurrency(gathered: &Gathered) -> f64 {
    gathered
        .samples
        .get(&key())
        .map_or(0.0, |sample| sample.concurrency)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_delays_the_others_by_its_deadline_and_counts_as_before() {
    let fakes = [Fake::new("a", 3.0), Fake::new("b", 4.0)];
    let mut gatherer = Gatherer::default();
    let first = gatherer.gather(all(&fakes), at(0)).await;
    assert_eq!((concurrency(&first), first.gaps), (7.0, false));
    fakes[0].is(Mood::Hangs);
    let begun = Instant::now();
    let second = gatherer.gather(all(&fakes), at(2)).await;
    assert_eq!(concurrency(&second), 7.0);
    assert!(begun.elapsed() < ROUND, "{:?}", begun.elapsed());
    // Not for ever.
    let last = gatherer.gather(all(&fakes), at(60)).await;
    assert_eq!((concurrency(&last), last.gaps), (4.0, false));
    fakes[0].is(Mood::Answers);
    assert_eq!(
        concurrency(&gatherer.gather(all(&fakes), at(62)).await),
        7.0
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_never_answered_leaves_a_gap_for_a_while() {
    let fakes = [Fake::new("a", 3.0), Fake::new("b", 4.0)];
    fakes[1].is(Mood::Fails);
    let mut gatherer = Gatherer::default();
    for (seconds, gaps) in [(0, true), (30, true), (60, false)] {
        let gathered = gatherer.gather(all(&fakes), at(seconds)).await;
        assert_eq!((concurrency(&gathered), gathered.gaps), (3.0, gaps));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_counts_as_before_for_a_while() {
    let fakes = [Fake::new("a", 3.0), Fake::new("b", 4.0)];
    let mut gatherer = Gatherer::default();
    gatherer.gather(all(&fakes), at(0)).await;
    for (seconds, count) in [(2, 7.0), (58, 7.0), (60, 3.0)] {
        let gathered = gatherer.gather(all(&fakes[..1]), at(seconds)).await;
        assert_eq!((concurrency(&gathered), gathered.gaps), (count, false));
    }
    assert_eq!(gatherer.known.len(), 1, "the other is forgotten");
}

#[tokio::test(start_paused = true)]
async fn more_that_hang_than_are_asked_at_once_delay_nobody_twice() {
    let fakes: Vec<_> = (0..3 * AT_ONCE)
        .map(|number| Fake::new(&format!("n{number:04}"), 1.0))
        .collect();
    for fake in &fakes[..2 * AT_ONCE] {
        fake.is(Mood::Hangs);
    }
    let mut gatherer = Gatherer::default();
    let begun = Instant::now();
    let mut rounds = 0;
    while concurrency(&gatherer.gather(all(&fakes), at(2 * rounds)).await) < AT_ONCE as f64 {
        rounds += 1;
        assert!(rounds < 6, "the others are not starved");
    }
    assert!(begun.elapsed() <= ROUND * 7);
}

/// Gateways under steady load, a third of whose answers is lost, and leaders that come and go: the pods that the load
/// needs are never taken away, and once it ends all of them are.
#[tokio::test(start_paused = true)]
async fn neither_lost_answers_nor_another_leader_take_away_what_is_needed() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(1..6);
        let fakes: Vec<_> = (0..count)
            .map(|number| Fake::new(&number.to_string(), f64::from(rng.random_range(1..20_u8))))
            .collect();
        let total: f64 = fakes.iter().map(|fake| fake.counts).sum();
        let bounds = Bounds {
            least: 0,
            most: 1000,
            target: 2.0,
            idle: at(rng.random_range(2..90)),
        };
        let needed = (total / 2.0).ceil();
        let (mut gatherer, mut state, mut pods) = (Gatherer::default(), State::new(at(0)), 1);
        let mut enough = false;
        let mut now = 0;
        while now < 600 {
            if rng.random_ratio(1, 40) {
                (gatherer, state) = (Gatherer::default(), State::new(at(now)));
            }
            for fake in &fakes {
                fake.is(match rng.random_range(0..6) {
                    0 => Mood::Fails,
                    1 => Mood::Hangs,
                    _ => Mood::Answers,
                });
            }
            let gathered = gatherer.gather(all(&fakes), at(now)).await;
            state.learn(gathered.gaps, at(now));
            let demand = sample(concurrency(&gathered));
            pods = decide(&bounds, &mut state, demand, pods, pods, at(now)).replicas;
            enough |= f64::from(pods) >= needed;
            assert!(
                !enough || f64::from(pods) >= needed,
                "seed {seed}: {pods} of {needed} pods after {now} s"
            );
            now += 2;
        }
        assert!(enough, "seed {seed}: {pods} of {needed}");
        let quiet: Vec<_> = fakes
            .iter()
            .map(|fake| Fake::new(&fake.node, 0.0))
            .collect();
        let end = now + 60 + bounds.idle.as_secs() + 2;
        while now <= end {
            let gathered = gatherer.gather(all(&quiet), at(now)).await;
            state.learn(gathered.gaps, at(now));
            let demand = sample(concurrency(&gathered));
            pods = decide(&bounds, &mut state, demand, pods, pods, at(now)).replicas;
            now += 2;
        }
        assert_eq!(pods, 0, "seed {seed}");
    }
}
