//! The node with the largest share of CPU and memory left is the best.

use crate::framework::Score;
use crate::resources::Resources;
use crate::snapshot::Candidate;

pub(super) struct LeastAllocated<'a>(pub(super) &'a Resources);

impl<'a> Score<'a> for LeastAllocated<'a> {
    /// The mean of what would be left of CPU and of memory, in percent.
    fn score(&self, node: &Candidate) -> i64 {
        let (wanted, has, used) = (self.0, &node.node.allocatable, &node.usage.scored);
        let cpu = left(has.cpu_millis, used.cpu_millis, wanted.cpu_millis);
        let memory = left(has.memory, used.memory, wanted.memory);
        i64::midpoint(cpu, memory)
    }
}

fn left(has: i64, used: i64, wanted: i64) -> i64 {
    let free = has.saturating_sub(used).saturating_sub(wanted);
    if has <= 0 || free <= 0 {
        return 0;
    }
    let percent = i128::from(free) * 100 / i128::from(has);
    i64::try_from(percent).unwrap_or_default()
}
