//! What the scheduler can be told.

use std::sync::Arc;
use std::time::Duration;

use crate::profile::Profile;

/// Options of [`Scheduler`](crate::Scheduler).
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `spec.schedulerName` one of these has are ours.
    pub profiles: Vec<Arc<Profile>>,
    /// Where the sequence of tie-breaks starts: the same seed and events give the same decisions.
    pub seed: u64,
    /// How long a pod that could not be placed waits at first, before it is tried again; it doubles with each attempt.
    pub first_backoff: Duration,
    /// How long it waits at most.
    pub longest_backoff: Duration,
    /// How many bindings may be under way at once.
    pub bind_concurrency: usize,
    /// How many pods that have their node may wait for their binding; while it is full, nothing is decided.
    pub bind_queue: usize,
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
            profiles: vec![Arc::default()],
            seed: 0,
            first_backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(10),
            bind_concurrency: 128,
            bind_queue: 4096,
            report_concurrency: 8,
            report_queue: 8192,
            request_timeout: Duration::from_secs(10),
        }
    }
}
