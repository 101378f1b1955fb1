//! The time of day. A test's paused clock moves it too, so that an hour passes in no time.

use jiff::Timestamp;

/// Now.
#[cfg(not(test))]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The time at which the test began, and what its clock has gone on since.
#[cfg(test)]
pub(crate) fn now() -> Timestamp {
    let (told, real) = (
        tokio::time::Instant::now().into_std(),
        std::time::Instant::now(),
    );
    if told > real {
        Timestamp::now() + (told - real)
    } else {
        Timestamp::now() - (real - told)
    }
}
