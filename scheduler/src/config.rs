//! What the scheduler can be told.

use std::time::Duration;

/// Options of [`Scheduler`](crate::Scheduler).
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `spec.schedulerName` is this are ours; it is also the events' source.
    pub scheduler_name: String,
    /// Where the sequence of tie-breaks starts: the same seed and events give the same decisions.
    pub seed: u64,
    /// How many bindings may be under way at once; further pods wait undecided.
    pub bind_concurrency: usize,
    /// How many events and conditions may be written at once.
    pub report_concurrency: usize,
    /// How many events and conditions may wait; what comes beyond is dropped, which the debug log says.
    pub report_queue: usize,
    /// The deadline of each request.
    pub request_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            seed: 0,
            bind_concurrency: 64,
            report_concurrency: 8,
            report_queue: 8192,
            request_timeout: Duration::from_secs(10),
        }
    }
}
