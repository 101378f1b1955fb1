//! How much of a node is taken, as a score: NodeResourcesFit's scoring strategies.
//!
//! Of CPU and memory, what containers that ask for nothing are taken to need counts too.

use super::arguments::{Point, Strategy, StrategyType, Weighed};
use crate::framework::{MAX_SCORE, Score};
use crate::pod::Load;
use crate::resources::Resources;
use crate::snapshot::Candidate;

/// A strategy, as configured.
#[derive(Clone, Debug)]
pub(super) struct Allocation {
    resources: Vec<Weighed>,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    /// The emptiest node is the best.
    Least,
    /// The fullest node is the best.
    Most,
    /// Each share has the score that a line through these points gives it.
    Shape(Vec<Point>),
}

/// The strategy for one pod.
pub(super) struct Allocated<'a> {
    strategy: &'a Allocation,
    load: &'a Load,
}

impl Allocation {
    pub(super) fn new(strategy: Strategy) -> Self {
        let shape = strategy.requested_to_capacity_ratio.unwrap_or_default();
        Self {
            resources: Weighed::defaulted(strategy.resources),
            rule: match strategy.kind {
                // The other one was refused.
                StrategyType::LeastAllocated | StrategyType::Unknown(_) => Rule::Least,
                StrategyType::MostAllocated => Rule::Most,
                StrategyType::RequestedToCapacityRatio => Rule::Shape(shape.shape),
            },
        }
    }

    pub(super) fn of<'a>(&'a self, load: &'a Load) -> Allocated<'a> {
        Allocated {
            strategy: self,
            load,
        }
    }
}

impl Rule {
    fn score(&self, taken: i64, has: i64) -> i64 {
        match self {
            Self::Least => percent(has.saturating_sub(taken).max(0), has),
            Self::Most => percent(taken.min(has), has),
            Self::Shape(points) if taken > has => along(points, MAX_SCORE),
            Self::Shape(points) => along(points, percent(taken, has)),
        }
    }
}

impl<'a> Score<'a> for Allocated<'a> {
    /// The weighted mean of the resources' scores. What the node has none of does not count.
    fn score(&self, node: &Candidate) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        let rule = &self.strategy.rule;
        for Weighed { name, weight } in &self.strategy.resources {
            let (used, load) = if matches!(name.as_str(), "cpu" | "memory") {
                (&node.usage.scored, &self.load.scored)
            } else {
                (&node.usage.requested, &self.load.requested)
            };
            let (has, wanted) = (node.node.allocatable.get(name), load.get(name));
            if has <= 0 || (wanted == 0 && Resources::is_scalar(name)) {
                continue;
            }
            let score = rule.score(used.get(name).saturating_add(wanted), has);
            if matches!(rule, Rule::Shape(_)) && score <= 0 {
                continue;
            }
            sum += score * weight;
            weights += weight;
        }
        match (weights, rule) {
            (0, _) => 0,
            (_, Rule::Shape(_)) => (2 * sum + weights) / (2 * weights),
            _ => sum / weights,
        }
    }
}

fn percent(part: i64, whole: i64) -> i64 {
    match part.checked_mul(MAX_SCORE) {
        Some(hundredfold) => hundredfold / whole,
        None => i64::try_from(i128::from(part) * i128::from(MAX_SCORE) / i128::from(whole))
            .unwrap_or_default(),
    }
}

/// The score that a line through the points has at this share.
fn along(points: &[Point], share: i64) -> i64 {
    let scaled = |point: &Point| point.score * MAX_SCORE / 10;
    let next = points.iter().position(|point| share <= point.utilization);
    match next {
        None => points.last().map_or(0, scaled),
        Some(0) => scaled(&points[0]),
        Some(next) => {
            let (from, to) = (&points[next - 1], &points[next]);
            let (rise, run) = (scaled(to) - scaled(from), to.utilization - from.utilization);
            scaled(from) + rise * (share - from.utilization) / run
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// Scores of a node at shares of 0, 25, 50, 75 and 100 percent, and beyond.
    #[track_caller]
    fn check(strategy: serde_json::Value, expected: Expect) {
        let strategy = serde_json::from_value(strategy).unwrap();
        let rule = Allocation::new(strategy).rule;
        let scores: Vec<_> = [0, 25, 50, 75, 100, 125]
            .iter()
            .map(|taken| rule.score(*taken, 100).to_string())
            .collect();
        expected.assert_eq(&scores.join(" "));
    }

    #[test]
    fn a_strategy_says_which_share_is_best() {
        check(json!({}), expect!["100 75 50 25 0 0"]);
        check(
            json!({"type": "MostAllocated"}),
            expect!["0 25 50 75 100 100"],
        );
        let bin_packing =
            json!([{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]);
        check(
            json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": bin_packing}}),
            expect!["0 25 50 75 100 100"],
        );
        let half = json!([{"utilization": 20, "score": 2}, {"utilization": 50, "score": 10}, {"utilization": 100}]);
        check(
            json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": half}}),
            expect!["20 33 100 50 0 0"],
        );
    }
}
