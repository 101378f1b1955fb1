//! Whether a release is as it should be. Pure.

use std::time::Duration;

use charts::release::{Release, Status};
use jiff::Timestamp;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// What decides.
pub(super) struct Wanted<'a> {
    /// Of what is to be applied.
    pub(super) digest: &'a str,
    /// What the object's status says.
    pub(super) status: &'a Value,
    pub(super) now: Timestamp,
    pub(super) interval: Duration,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Nothing,
    /// Only to say that it is as it should be.
    Confirm,
    Deploy,
}

/// Decides. What failed is tried again when something changes, or after an interval.
pub(super) fn step(wanted: &Wanted<'_>, history: &[Release]) -> Step {
    let Some(last) = history.last() else {
        // An install that failed and was undone left no record.
        return if retry(wanted, None) {
            Step::Deploy
        } else {
            Step::Nothing
        };
    };
    let same = wanted.status["appliedDigest"] == wanted.digest;
    let known = wanted.status["revision"] == last.version;
    let failed = !ready(wanted.status);
    match last.info.status {
        Status::Deployed if same && known && !failed => Step::Nothing,
        // What failed since was something else: to fetch the chart, say.
        Status::Deployed
            if same
                && wanted.status["deployed"]["digest"] == wanted.digest
                && wanted.status["deployed"]["revision"] == last.version =>
        {
            Step::Confirm
        }
        Status::Deployed | Status::Failed if same && known => {
            if retry(wanted, last.info.last_deployed) {
                Step::Deploy
            } else {
                Step::Nothing
            }
        }
        // Somebody else changed it, it was interrupted, or something else is wanted.
        _ => Step::Deploy,
    }
}

/// Whether it is time to try again what failed.
fn retry(wanted: &Wanted<'_>, since: Option<Timestamp>) -> bool {
    if wanted.status["appliedDigest"] != wanted.digest {
        return true;
    }
    let tried = last_attempt(wanted.status);
    let since = tried.or(since).or_else(|| {
        let conditions = wanted.status["conditions"].as_array()?;
        let ready = conditions.iter().find(|c| c["type"] == "Ready")?;
        ready["lastTransitionTime"].as_str()?.parse().ok()
    });
    let age = since.map(|since| wanted.now.duration_since(since).as_secs());
    let interval = i64::try_from(wanted.interval.as_secs()).unwrap_or(i64::MAX);
    age.is_none_or(|age| age >= interval)
}

fn last_attempt(status: &Value) -> Option<Timestamp> {
    status["lastAttemptTime"].as_str()?.parse().ok()
}

/// How long until the next attempt; `None` if it is time, or the generation was not tried yet.
pub(super) fn early(
    status: &Value,
    generation: Option<i64>,
    now: Timestamp,
    interval: Duration,
) -> Option<Duration> {
    if generation.is_none() || status["observedGeneration"].as_i64() != generation {
        return None;
    }
    // A time to come is another clock's: nothing to go by.
    let age = now.duration_since(last_attempt(status)?);
    let age = Duration::try_from(age).ok()?;
    interval.checked_sub(age).filter(|left| !left.is_zero())
}

/// The reason of the condition `Ready`.
pub(super) fn ready_reason(status: &Value) -> Option<&str> {
    let mut conditions = status["conditions"].as_array()?.iter();
    let ready = conditions.find(|condition| condition["type"] == "Ready")?;
    ready["reason"].as_str()
}

fn ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Of the chart, the values, and what else of the spec decides what is made.
pub(super) fn digest(archive: &[u8], values: &Map<String, Value>, spec: &Value) -> String {
    let mut digest = Sha256::new();
    digest.update(Sha256::digest(archive));
    digest.update(Value::Object(values.clone()).to_string());
    for field in ["releaseName", "targetNamespace", "serviceAccountName"] {
        digest.update(spec[field].to_string());
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digest}")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// `status` as `DIGEST REVISION READY`; `history` as `2d 3f`, each deployed a minute ago.
    #[track_caller]
    fn check(status: &str, history: &str, interval: u64, expected: Expect) {
        let mut words = status.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (digest, revision, ready) = (word(), word(), word());
        let status = json!({
            "appliedDigest": digest,
            "revision": revision.parse::<u32>().ok(),
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        });
        let history: Vec<Release> = history
            .split_whitespace()
            .map(|word| {
                let (version, status) = word.split_at(word.len() - 1);
                let mut release = Release {
                    version: version.parse().unwrap(),
                    ..Release::default()
                };
                release.info.last_deployed = Some("2026-01-01T00:00:00Z".parse().unwrap());
                release.info.status = match status {
                    "d" => Status::Deployed,
                    "p" => Status::PendingUpgrade,
                    _ => Status::Failed,
                };
                release
            })
            .collect();
        let wanted = Wanted {
            digest: "new",
            status: &status,
            now: "2026-01-01T00:01:00Z".parse().unwrap(),
            interval: Duration::from_secs(interval),
        };
        expected.assert_eq(&format!("{:?}", step(&wanted, &history)));
    }

    #[test]
    fn what_is_as_it_should_be_is_left() {
        check("new 2 True", "1f 2d", 600, expect!["Nothing"]);
    }

    #[test]
    fn what_was_tried_waits_for_its_interval_or_a_change() {
        let status = json!({"observedGeneration": 2, "lastAttemptTime": "2026-01-01T00:00:00Z"});
        let left = |generation, now: &str| {
            let interval = Duration::from_secs(60);
            early(&status, Some(generation), now.parse().unwrap(), interval).map(|d| d.as_secs())
        };
        assert_eq!(left(2, "2026-01-01T00:00:20Z"), Some(40));
        assert_eq!(left(2, "2026-01-01T00:01:00Z"), None);
        assert_eq!(left(2, "2025-01-01T00:00:00Z"), None);
        assert_eq!(left(3, "2026-01-01T00:00:20Z"), None);
    }

    #[test]
    fn what_was_deployed_before_an_outage_is_confirmed() {
        let deployed = |revision| {
            let mut release = Release {
                version: 2,
                ..Release::default()
            };
            release.info.status = Status::Deployed;
            let status = json!({
                "appliedDigest": "new", "revision": 2,
                "deployed": {"digest": "new", "revision": revision},
                "conditions": [{"type": "Ready", "status": "False"}],
            });
            let wanted = Wanted {
                digest: "new",
                status: &status,
                now: "2026-01-01T00:01:00Z".parse().unwrap(),
                interval: Duration::from_secs(60),
            };
            step(&wanted, &[release])
        };
        assert_eq!(deployed(2), Step::Confirm);
        assert_eq!(deployed(1), Step::Deploy);
    }

    #[test]
    fn a_change_is_deployed() {
        check("  ", "", 600, expect!["Deploy"]);
        check("old 2 True", "2d", 600, expect!["Deploy"]);
        check("old 2 False", "2f", 600, expect!["Deploy"]);
        // Somebody else upgraded.
        check("new 2 True", "2d 3d", 600, expect!["Deploy"]);
        check("new 2 True", "2p", 600, expect!["Deploy"]);
    }

    #[test]
    fn what_failed_is_tried_again_after_an_interval() {
        check("new 2 False", "2f", 600, expect!["Nothing"]);
        check("new 2 False", "2f", 60, expect!["Deploy"]);
        // It was rolled back.
        check("new 3 False", "2f 3d", 600, expect!["Nothing"]);
        check("new 3 False", "2f 3d", 60, expect!["Deploy"]);
        // It was uninstalled.
        check("new  False", "", 600, expect!["Nothing"]);
        check("new  False", "", 60, expect!["Deploy"]);
    }
}
