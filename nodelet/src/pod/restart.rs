//! Whether a container starts again after its end. Pure.
//!
//! A container's own `restartPolicyRules` and `restartPolicy` come before the pod's policy (KEP-5307).

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule};

use super::container::Role;

/// Whether a container that ended with `code` starts again; `policy` is the pod's.
pub(crate) fn restarts(role: Role, container: &Container, policy: &str, code: i32) -> bool {
    match role {
        Role::Sidecar => true,
        Role::Ephemeral => false,
        // Once it has succeeded, there is nothing left to do for it.
        Role::Init => code != 0 && by_policy(container, policy, code),
        Role::Main => by_policy(container, policy, code),
    }
}

fn by_policy(container: &Container, policy: &str, code: i32) -> bool {
    let own = container.restart_policy.as_deref();
    let mut rules = container.restart_policy_rules.iter().flatten();
    if own.is_some() && rules.any(|rule| rule.action == "Restart" && matches(rule, code)) {
        return true;
    }
    match own.unwrap_or(policy) {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn matches(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else {
        return false;
    };
    let listed = codes.values.iter().flatten().any(|value| *value == code);
    match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(role: Role, fields: Value, policy: &str, expected: Expect) {
        let mut container = json!({"name": "c"});
        for (name, value) in fields.as_object().into_iter().flatten() {
            container[name] = value.clone();
        }
        let container = serde_json::from_value(container).expect("a container");
        let codes = [0, 1, 42];
        let again = codes
            .into_iter()
            .filter(|code| restarts(role, &container, policy, *code));
        expected.assert_eq(&format!("{:?}", again.collect::<Vec<_>>()));
    }

    #[test]
    fn the_pods_policy_is_that_of_containers_without_one() {
        check(Role::Main, json!({}), "Always", expect!["[0, 1, 42]"]);
        check(Role::Main, json!({}), "OnFailure", expect!["[1, 42]"]);
        check(Role::Main, json!({}), "Never", expect!["[]"]);
        check(Role::Init, json!({}), "Always", expect!["[1, 42]"]);
        check(Role::Init, json!({}), "Never", expect!["[]"]);
    }

    #[test]
    fn a_containers_own_policy_comes_before_the_pods() {
        let own = |policy: &str| json!({"restartPolicy": policy});
        check(Role::Main, own("Never"), "Always", expect!["[]"]);
        check(Role::Main, own("OnFailure"), "Never", expect!["[1, 42]"]);
        check(Role::Init, own("Never"), "Always", expect!["[]"]);
        check(Role::Sidecar, own("Always"), "Never", expect!["[0, 1, 42]"]);
        check(Role::Ephemeral, json!({}), "Always", expect!["[]"]);
    }

    #[test]
    fn rules_pick_exit_codes_that_restart_whatever_the_policy_says() {
        let rules = |operator: &str| {
            let codes = json!({"operator": operator, "values": [42]});
            json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": codes}]})
        };
        check(Role::Main, rules("In"), "Always", expect!["[42]"]);
        check(Role::Init, rules("In"), "Always", expect!["[42]"]);
        check(Role::Main, rules("NotIn"), "Never", expect!["[0, 1]"]);
    }
}
