//! The definitions of Kubernetes 1.36, from `facts/kubernetes-1.36-structure.json`, those of
//! `metrics.k8s.io`, which Kubernetes has outside its apiserver, and those of our own kinds.
//!
//! Each file holds one definition a line. At first use its lines are indexed (well under a
//! millisecond); a definition is parsed when it is first asked for, and kept.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::Value;

use super::model::Schema;

static FACTS: &str = include_str!("../../facts/kubernetes-1.36-structure.json");
static METRICS: &str = include_str!("../../facts/metrics-v1beta1-structure.json");
static FUNCTIONS: &str = include_str!("../../facts/functions-v1-structure.json");
static CHARTS: &str = include_str!("../../facts/charts-v1-structure.json");
static APPLY: &str = include_str!("../../facts/apply-v1-structure.json");

static DEFINITIONS: LazyLock<HashMap<&'static str, Definition>> = LazyLock::new(|| {
    lines()
        .map(|(name, json)| {
            (
                name,
                Definition {
                    json,
                    schema: OnceLock::new(),
                },
            )
        })
        .collect()
});

struct Definition {
    json: &'static str,
    schema: OnceLock<Schema>,
}

/// The schema of a built-in definition: `io.k8s.api.core.v1.Pod`. None if unknown.
pub fn builtin(definition: &str) -> Option<Schema> {
    resolve(definition).cloned()
}

/// The JSON of a built-in definition, as it stands in the facts: `properties`, `$ref` (a bare
/// definition name), `x-kubernetes-…`. None if unknown.
pub fn definition(name: &str) -> Option<&'static str> {
    DEFINITIONS.get(name).map(|found| found.json)
}

/// Every built-in definition: its name and its JSON, sorted by name.
pub fn definitions() -> impl Iterator<Item = (&'static str, &'static str)> {
    lines()
}

/// The same as [`builtin`], without a clone.
pub(super) fn resolve(name: &str) -> Option<&'static Schema> {
    let found = DEFINITIONS.get(name)?;
    Some(found.schema.get_or_init(|| {
        let json: Value = serde_json::from_str(found.json).expect("the facts are valid JSON");
        Schema::definition(name, &json)
    }))
}

/// Splits the facts into names and definitions. Lines without a definition are the outer braces.
fn lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    let files = [FACTS, METRICS, FUNCTIONS, CHARTS, APPLY].into_iter();
    files.flat_map(str::lines).filter_map(|line| {
        let (name, json) = line.strip_prefix('"')?.split_once("\":")?;
        Some((name, json.strip_suffix(',').unwrap_or(json)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_holds_every_definition() {
        let mut whole: serde_json::Map<String, Value> = serde_json::from_str(FACTS).unwrap();
        for file in [METRICS, FUNCTIONS, CHARTS, APPLY] {
            let more: serde_json::Map<String, Value> = serde_json::from_str(file).unwrap();
            whole.extend(more);
        }
        assert_eq!(whole.len(), definitions().count());
        for (name, json) in definitions() {
            assert_eq!(
                whole[name],
                serde_json::from_str::<Value>(json).unwrap(),
                "{name}"
            );
        }
    }

    #[test]
    fn every_reference_resolves() {
        fn walk(owner: &str, value: &Value) {
            if let Some(name) = value.get("$ref").and_then(Value::as_str) {
                assert!(resolve(name).is_some(), "{owner} refers to {name}");
            }
            match value {
                Value::Object(map) => map.values().for_each(|value| walk(owner, value)),
                Value::Array(list) => list.iter().for_each(|value| walk(owner, value)),
                _ => {}
            }
        }
        for (name, json) in definitions() {
            walk(name, &serde_json::from_str(json).unwrap());
        }
    }

    #[test]
    fn an_unknown_definition_has_no_schema() {
        assert!(builtin("io.k8s.api.core.v1.Nothing").is_none());
    }
}
