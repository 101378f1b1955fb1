//! A ChartRelease's spec as values. Pure.

use std::time::Duration;

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;

/// Longest interval and timeout.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is wanted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) chart: Chart,
    pub(super) values: Map<String, Value>,
    pub(super) values_from: Vec<ValuesFrom>,
    pub(super) release_name: Option<String>,
    pub(super) target_namespace: Option<String>,
    pub(super) service_account_name: Option<String>,
    pub(super) interval: String,
    pub(super) timeout: String,
    pub(super) suspend: bool,
    pub(super) wait: bool,
    pub(super) correct_drift: bool,
    pub(super) create_namespace: bool,
    pub(super) rollback_on_failure: bool,
    pub(super) atomic_apply: bool,
    pub(super) crds: Crds,
    pub(super) history_max: usize,
}

/// What becomes of the definitions of custom kinds in the chart's `crds/`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) enum Crds {
    #[default]
    Create,
    Upgrade,
    Skip,
}

/// Where the chart comes from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Chart {
    pub(super) r#ref: Option<String>,
    pub(super) repository: Option<String>,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) archive: Option<Entry>,
    pub(super) secret_ref: Option<Named>,
}

/// An object by its name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: String,
}

/// An entry of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) key: String,
}

/// Values in an entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ValuesFrom {
    #[serde(flatten)]
    pub(super) entry: Entry,
    pub(super) optional: bool,
}

impl Spec {
    pub(super) fn of(object: &DynamicObject) -> Result<Spec, Error> {
        Ok(Spec::deserialize(&object.data["spec"])?)
    }

    pub(super) fn account(&self) -> &str {
        self.service_account_name.as_deref().unwrap_or("default")
    }

    pub(super) fn interval(&self) -> Duration {
        // Never so often that it is a load.
        duration(&self.interval)
            .unwrap_or(Duration::from_secs(600))
            .clamp(Duration::from_secs(5), LONGEST)
    }

    pub(super) fn timeout(&self) -> Duration {
        duration(&self.timeout)
            .unwrap_or(Duration::from_secs(300))
            .min(LONGEST)
    }
}

/// `1h30m`, as the apiserver lets it through.
fn duration(text: &str) -> Option<Duration> {
    let mut seconds: u64 = 0;
    let mut number: u64 = 0;
    for c in text.chars() {
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            digit => {
                let digit = u64::from(digit.to_digit(10)?);
                number = number.saturating_mul(10).saturating_add(digit);
                continue;
            }
        };
        let given = std::mem::take(&mut number).saturating_mul(unit);
        seconds = seconds.saturating_add(given);
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("45s"), Some(Duration::from_secs(45)));
        assert_eq!(duration(""), None);
    }

    #[test]
    fn no_time_is_longer_than_a_day() {
        let spec = Spec {
            interval: "99999999999999999999999h".to_owned(),
            timeout: "999999h".to_owned(),
            ..Spec::default()
        };
        assert_eq!((spec.interval(), spec.timeout()), (LONGEST, LONGEST));
    }
}
