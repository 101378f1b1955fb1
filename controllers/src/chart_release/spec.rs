//! A ChartRelease's spec as values. Pure.

use std::time::Duration;

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;

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
    pub(super) history_max: usize,
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
            .max(Duration::from_secs(5))
    }

    pub(super) fn timeout(&self) -> Duration {
        duration(&self.timeout).unwrap_or(Duration::from_secs(300))
    }
}

/// `1h30m`, as the apiserver lets it through.
fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0;
    let mut number = 0;
    for c in text.chars() {
        match c {
            'h' => seconds += std::mem::take(&mut number) * 3600,
            'm' => seconds += std::mem::take(&mut number) * 60,
            's' => seconds += std::mem::take(&mut number),
            digit => number = number * 10 + u64::from(digit.to_digit(10)?),
        }
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
}
