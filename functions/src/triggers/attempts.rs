//! What an answer to a trigger's request means, and how long to wait before it is sent again. Pure.

use std::time::Duration;

const ATTEMPTS: u32 = 7;
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Answers of clients' faults that another time may not get: a timeout, too early, too many.
const PASSING: &[u16] = &[408, 425, 429];

/// What an answer means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Answered,
    /// It would be answered the same again.
    Final(String),
    Again(String),
}

/// What came of one attempt.
pub(super) fn verdict(answer: anyhow::Result<u16>) -> Verdict {
    match answer {
        Ok(200..400) => Verdict::Answered,
        Ok(code @ 400..500) if !PASSING.contains(&code) => Verdict::Final(format!("HTTP {code}")),
        Ok(code) => Verdict::Again(format!("HTTP {code}")),
        Err(error) => Verdict::Again(format!("{error:#}")),
    }
}

/// How long to wait after so many attempts; none: there is no other.
pub(super) fn backoff(attempts: u32, jitter: f64) -> Option<Duration> {
    let doubled = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    (attempts < ATTEMPTS).then(|| doubled.min(LONGEST).mul_f64(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert_eq!(verdict(Ok(204)), Verdict::Answered);
        assert_eq!(verdict(Ok(404)), Verdict::Final("HTTP 404".to_owned()));
        assert_eq!(verdict(Ok(429)), Verdict::Again("HTTP 429".to_owned()));
        assert_eq!(verdict(Ok(503)), Verdict::Again("HTTP 503".to_owned()));
        let lost = verdict(Err(anyhow::anyhow!("lost")));
        assert_eq!(lost, Verdict::Again("lost".to_owned()));
    }

    #[test]
    fn waits_double_and_end() {
        let waits: Vec<_> = (1..=8)
            .map(|n| backoff(n, 1.0).map(|wait| wait.as_secs()))
            .collect();
        let some = [1, 2, 4, 8, 16, 32].map(Some);
        assert_eq!(waits, [&some[..], &[None, None]].concat());
    }
}
