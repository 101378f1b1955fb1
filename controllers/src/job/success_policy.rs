//! Whether `successPolicy` has a rule that is met. Pure.

use k8s_openapi::api::batch::v1::JobSpec;

use super::indexes::Indexes;

/// The first rule that these succeeded indexes meet.
pub(super) fn met(spec: &JobSpec, succeeded: &Indexes) -> Option<usize> {
    let policy = spec.success_policy.as_ref()?;
    let completions = spec.completions.unwrap_or(0);
    policy.rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_deref();
        let wanted = wanted.map(|wanted| Indexes::parse(wanted, completions));
        let (have, all) = match &wanted {
            Some(wanted) => (succeeded.common(wanted), wanted.total()),
            None => (succeeded.total(), completions),
        };
        have >= rule.succeeded_count.unwrap_or(all)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(rules: Value, succeeded: &str, expected: Option<usize>) {
        let spec = json!({"completions": 10, "successPolicy": {"rules": rules}, "template": {}});
        let spec = serde_json::from_value(spec).unwrap();
        assert_eq!(met(&spec, &Indexes::parse(succeeded, 10)), expected);
    }

    #[test]
    fn a_rule_asks_for_some_indexes_or_for_so_many() {
        check(json!([{"succeededIndexes": "0,2-3"}]), "0,2", None);
        check(json!([{"succeededIndexes": "0,2-3"}]), "0,2-4", Some(0));
        check(json!([{"succeededCount": 2}]), "9", None);
        check(json!([{"succeededCount": 2}]), "4,9", Some(0));
        let rules =
            json!([{"succeededIndexes": "0"}, {"succeededIndexes": "4-9", "succeededCount": 2}]);
        check(rules.clone(), "1-4", None);
        check(rules, "1-5", Some(1));
    }
}
