//! How many Events a failing probe may write: as Kubernetes' clients do, 25 at once and then one in five minutes.

use std::time::Duration;

use jiff::Timestamp;

const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);

/// A bucket of Events.
#[derive(Debug)]
pub(super) struct Allowance {
    left: f64,
    at: Timestamp,
}

impl Allowance {
    pub(super) fn new(now: Timestamp) -> Allowance {
        Allowance {
            left: BURST,
            at: now,
        }
    }

    /// Whether one more may be written now.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        let passed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.left = (self.left + passed / REFILL.as_secs_f64()).min(BURST);
        self.at = now;
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_fails_for_an_hour_writes_its_burst_and_then_one_event_in_five_minutes() {
        let start = Timestamp::UNIX_EPOCH;
        let mut allowance = Allowance::new(start);
        let probes = (0..360).map(|probe| start + Duration::from_secs(10 * probe));
        let written = probes.filter(|now| allowance.take(*now)).count();
        assert_eq!(written, 25 + 11);
    }
}
