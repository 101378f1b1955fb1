//! What `podFailurePolicy` says of a pod that failed. Pure.

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

/// What becomes of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the limit.
    Count,
    /// It does not.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The whole Job has; and why.
    FailJob(String),
}

/// The verdict of the first rule that matches; without one a failure counts.
pub(super) fn verdict(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.iter();
    for (place, rule) in rules.flat_map(|policy| &policy.rules).enumerate() {
        let name = || {
            let namespace = pod.namespace().unwrap_or_default();
            format!("{namespace}/{}", pod.name_any())
        };
        let message = if let Some(wanted) = &rule.on_exit_codes {
            exited(pod, wanted).map(|(container, code)| {
                format!(
                    "Container {container} for pod {} failed with exit code {code} matching {} rule at index {place}",
                    name(),
                    rule.action
                )
            })
        } else {
            let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
            let conditions = pod.status.iter();
            let mut conditions = conditions.flat_map(|status| status.conditions.iter().flatten());
            let found = conditions.find(|condition| {
                patterns.iter().any(|pattern| {
                    pattern.type_ == condition.type_
                        && pattern.status.as_deref().unwrap_or("True") == condition.status
                })
            });
            found.map(|condition| {
                format!(
                    "Pod {} has condition {} matching {} rule at index {place}",
                    name(),
                    condition.type_,
                    rule.action
                )
            })
        };
        match (message, rule.action.as_str()) {
            (Some(message), "FailJob") => return Verdict::FailJob(message),
            (Some(_), "Ignore") => return Verdict::Ignore,
            (Some(_), "FailIndex") if spec.backoff_limit_per_index.is_some() => {
                return Verdict::FailIndex;
            }
            (Some(_), "Count") => return Verdict::Count,
            _ => {}
        }
    }
    Verdict::Count
}

/// The first container that ended with a code that is meant, and the code.
fn exited<'a>(
    pod: &'a Pod,
    wanted: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let matching = |container: &'a ContainerStatus| {
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        let named = wanted.container_name.as_ref();
        let meant = match wanted.operator.as_str() {
            "In" => wanted.values.contains(&code),
            "NotIn" => !wanted.values.contains(&code),
            _ => false,
        };
        let here = named.is_none_or(|name| *name == container.name);
        (here && code != 0 && meant).then_some((container.name.as_str(), code))
    };
    let main = status.container_statuses.iter().flatten();
    let init = status.init_container_statuses.iter().flatten();
    main.chain(init).find_map(matching)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(rules: Value, code: i32, condition: &str, expect: Expect) {
        let spec = serde_json::from_value(json!({
            "backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": rules}, "template": {},
        }));
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "status": {
                "phase": "Failed", "conditions": [{"type": condition, "status": "True"}],
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": code}}}],
            },
        }));
        expect.assert_eq(&format!("{:?}", verdict(&spec.unwrap(), &pod.unwrap())));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let codes = |action: &str, operator: &str, values: &[i32]| json!({"action": action, "onExitCodes": {"operator": operator, "values": values}});
        let disrupted = json!({"action": "Ignore", "onPodConditions":
            [{"type": "DisruptionTarget", "status": "True"}]});
        let rules = json!([
            disrupted,
            codes("FailJob", "In", &[42]),
            codes("FailIndex", "In", &[7]),
            codes("Count", "NotIn", &[3]),
            codes("FailJob", "In", &[3])
        ]);
        check(rules.clone(), 1, "Ready", expect!["Count"]);
        check(rules.clone(), 42, "DisruptionTarget", expect!["Ignore"]);
        check(
            rules.clone(),
            42,
            "Ready",
            expect![[
                r#"FailJob("Container c for pod ns/p failed with exit code 42 matching FailJob rule at index 1")"#
            ]],
        );
        check(rules.clone(), 7, "Ready", expect!["FailIndex"]);
        check(
            rules,
            3,
            "Ready",
            expect![[
                r#"FailJob("Container c for pod ns/p failed with exit code 3 matching FailJob rule at index 4")"#
            ]],
        );
    }

    #[test]
    fn a_condition_may_fail_the_job_and_another_container_may_not() {
        let rules = json!([{"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue"}]}]);
        check(
            rules,
            1,
            "ConfigIssue",
            expect![[
                r#"FailJob("Pod ns/p has condition ConfigIssue matching FailJob rule at index 0")"#
            ]],
        );
        let rules = json!([{"action": "Ignore", "onExitCodes":
            {"containerName": "other", "operator": "NotIn", "values": [3]}}]);
        check(rules, 1, "Ready", expect!["Count"]);
    }
}
