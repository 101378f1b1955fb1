//! The node whose resources would be taken to like shares is the best: no one of them runs out long before the others.

use super::arguments::{BalancedArgs, Weighed};
use crate::framework::{Change, MAX_SCORE, Plugin, Score};
use crate::pod::Pod;
use crate::resources::Resources;
use crate::snapshot::{Candidate, Snapshot};

pub(super) struct BalancedAllocation {
    resources: Vec<Weighed>,
}

struct Balance<'a> {
    resources: &'a [Weighed],
    wanted: &'a Resources,
}

impl BalancedAllocation {
    pub(super) fn new(args: BalancedArgs) -> Self {
        Self {
            resources: Weighed::defaulted(args.resources),
        }
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    /// A pod that asks for nothing would go to one node again and again.
    fn pre_score<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
        _: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        let wanted = &pod.load.requested;
        let mut resources = self.resources.iter();
        let asks = resources.any(|resource| wanted.get(&resource.name) > 0);
        asks.then(|| {
            Box::new(Balance {
                resources: &self.resources,
                wanted,
            }) as _
        })
    }

    fn may_help(&self, _: &Change<'_>, _: &Pod) -> bool {
        false
    }
}

impl Balance<'_> {
    /// The shares that would be taken of what the node has.
    fn shares<'n>(&'n self, node: &'n Candidate) -> impl Iterator<Item = f64> + Clone + 'n {
        self.resources.iter().filter_map(|resource| {
            let name = &resource.name;
            let (has, wanted) = (node.node.allocatable.get(name), self.wanted.get(name));
            if has == 0 || (wanted == 0 && Resources::is_scalar(name)) {
                return None;
            }
            let taken = node.usage.requested.get(name).saturating_add(wanted);
            Some((float(taken) / float(has)).min(1.0))
        })
    }
}

impl<'a> Score<'a> for Balance<'a> {
    /// 100 less the standard deviation of the shares in percent.
    fn score(&self, node: &Candidate) -> i64 {
        let shares = self.shares(node);
        let (count, sum) = shares
            .clone()
            .fold((0.0, 0.0), |(count, sum), share| (count + 1.0, sum + share));
        if count < 2.0 {
            return MAX_SCORE;
        }
        let mean = sum / count;
        let squares: f64 = shares.map(|share| (share - mean) * (share - mean)).sum();
        whole((1.0 - (squares / count).sqrt()) * float(MAX_SCORE))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share in percent needs no more than 52 bits"
)]
fn float(amount: i64) -> f64 {
    amount as f64
}

#[expect(clippy::cast_possible_truncation, reason = "it is in 0..=100")]
fn whole(score: f64) -> i64 {
    score as i64
}
