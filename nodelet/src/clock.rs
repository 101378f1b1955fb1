//! The time of day, which tests may pause along with tokio's.

use jiff::Timestamp;

/// Where the nodelet reads the time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The host's wall clock.
    Host,
    /// A fixed beginning plus tokio's clock.
    #[cfg(test)]
    Tokio(Timestamp, tokio::time::Instant),
}

impl Clock {
    pub(crate) fn now(self) -> Timestamp {
        match self {
            Clock::Host => Timestamp::now(),
            #[cfg(test)]
            Clock::Tokio(start, instant) => start + instant.elapsed(),
        }
    }
}
