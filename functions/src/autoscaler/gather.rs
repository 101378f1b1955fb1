//! What all gateways together count. Each is asked by itself, with a deadline of its own; one that does not answer counts
//! as it last did, for a while.
//!
//! A gateway that has not answered yet leaves a gap: what was gathered then says too little to take anything away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use super::Sample;
use crate::{key::Key, metrics};

/// How long one gateway may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long all of them may; those that were not asked by then come first the next time.
const ROUND: Duration = Duration::from_millis(1500);
/// Gateways that are asked at a time.
const AT_ONCE: usize = 128;
/// How long the last answer of a gateway counts, and how long one that never answered is waited for.
const HOLD: Duration = Duration::from_secs(60);

/// What gateways count.
#[async_trait]
pub trait Demand: Send + Sync + 'static {
    /// The gateways that there are now: those of the nodes that are ready.
    ///
    /// # Errors
    /// It is not known: nothing is decided without it.
    async fn gateways(&self) -> anyhow::Result<Vec<Arc<dyn Gateway>>>;
}

/// One node's gateway.
#[async_trait]
pub trait Gateway: Send + Sync {
    /// The node's name.
    fn node(&self) -> &str;

    /// The demand of every revision of a container that has any. The caller has the deadline.
    ///
    /// # Errors
    /// It did not answer.
    async fn demand(&self) -> anyhow::Result<Vec<(Key, Sample)>>;
}

/// What is remembered of gateways between rounds.
#[derive(Default)]
pub(crate) struct Gatherer {
    /// By node.
    known: BTreeMap<String, Known>,
}

struct Known {
    /// When it was first heard of.
    since: Duration,
    asked: Option<Duration>,
    /// What it last said, and when.
    said: Option<(Duration, Vec<(Key, Sample)>)>,
}

/// What was gathered.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Gathered {
    pub(crate) samples: BTreeMap<Key, Sample>,
    /// Whether a gateway that may count something has never said what.
    pub(crate) gaps: bool,
}

impl Gatherer {
    /// Asks all of them, those first that were asked longest ago.
    pub(crate) async fn gather(
        &mut self,
        gateways: Vec<Arc<dyn Gateway>>,
        now: Duration,
    ) -> Gathered {
        let there: BTreeSet<String> = gateways.iter().map(|each| each.node().to_owned()).collect();
        for node in &there {
            let new = || Known {
                since: now,
                asked: None,
                said: None,
            };
            self.known.entry(node.clone()).or_insert_with(new);
        }
        let mut gateways = gateways;
        gateways.sort_by_key(|each| self.known.get(each.node()).and_then(|known| known.asked));
        let mut answers = stream::iter(gateways)
            .map(|gateway| async move {
                let answer = timeout(ANSWER, gateway.demand()).await;
                (gateway, answer)
            })
            .buffer_unordered(AT_ONCE)
            .take_until(sleep(ROUND))
            .boxed();
        while let Some((gateway, answer)) = answers.next().await {
            let node = gateway.node();
            let Some(known) = self.known.get_mut(node) else {
                continue;
            };
            known.asked = Some(now);
            match answer {
                Ok(Ok(samples)) => known.said = Some((now, samples)),
                Ok(Err(error)) => {
                    metrics::unanswered();
                    tracing::debug!(
                        node,
                        error = format!("{error:#}"),
                        "ask a gateway for its demand"
                    );
                }
                Err(_) => {
                    metrics::unanswered();
                    tracing::debug!(node, "a gateway did not tell its demand in time");
                }
            }
        }
        drop(answers);
        self.sum(&there, now)
    }

    /// Adds up what counts, and forgets the rest.
    fn sum(&mut self, there: &BTreeSet<String>, now: Duration) -> Gathered {
        let lately = |time: Duration| now.saturating_sub(time) < HOLD;
        let mut gathered = Gathered::default();
        for (node, known) in &mut self.known {
            if known.said.as_ref().is_some_and(|(time, _)| !lately(*time)) {
                tracing::warn!(
                    node,
                    "a gateway has not told its demand for long: nothing is counted for it"
                );
                // It is new again if it comes back.
                known.said = None;
                known.since = Duration::ZERO;
            }
            match &known.said {
                Some((_, samples)) => {
                    for (key, sample) in samples {
                        let sum = gathered.samples.entry(key.clone()).or_default();
                        sum.concurrency += sample.concurrency;
                        sum.waiting += sample.waiting;
                    }
                }
                None => gathered.gaps |= there.contains(node) && lately(known.since),
            }
        }
        self.known
            .retain(|node, known| there.contains(node) || known.said.is_some());
        gathered
    }
}

#[cfg(test)]
mod tests;
