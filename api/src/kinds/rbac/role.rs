//! Role and ClusterRole: sets of permissions, in a namespace or everywhere.

use jiff::Timestamp;
use serde_json::Value;

use super::GROUP;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column,
        value::{items, part, present},
    },
    name,
};

/// The namespaced kind.
pub(crate) struct Role;

/// The cluster-wide kind.
pub(crate) struct ClusterRole;

static ROLE: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "Role",
    plural: "roles",
    singular: "role",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.rbac.v1.Role",
};

static CLUSTER_ROLE: Names = Names {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    definition: "io.k8s.api.rbac.v1.ClusterRole",
    ..ROLE
};

const COLUMNS: &[Column] = &[column::NAME, column::CREATED];

impl Kind for Role {
    fn names(&self) -> &Names {
        &ROLE
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::segment_problems(name)
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_rules(object, true, errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![column::name(object), column::created(object)]
    }
}

impl Kind for ClusterRole {
    fn names(&self) -> &Names {
        &CLUSTER_ROLE
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::segment_problems(name)
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_rules(object, false, errors);
        if !present(object, "/aggregationRule") {
            return;
        }
        let path = Path::root("aggregationRule").field("clusterRoleSelectors");
        let selectors = items(object, "/aggregationRule/clusterRoleSelectors");
        if selectors.is_empty() {
            errors.required(
                &path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (index, selector) in selectors.iter().enumerate() {
            check::selector(&path.index(index), selector, errors);
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![column::name(object), column::created(object)]
    }
}

fn validate_rules(object: &Value, namespaced: bool, errors: &mut FieldErrors) {
    for (index, rule) in items(object, "/rules").iter().enumerate() {
        let path = Path::root("rules").index(index);
        let has = |field: &str| !items(rule, field).is_empty();
        if !has("/verbs") {
            errors.required(
                &path.field("verbs"),
                "verbs must contain at least one value",
            );
        }
        if has("/nonResourceURLs") {
            let path = path.field("nonResourceURLs");
            let urls = part(rule, "/nonResourceURLs");
            if namespaced {
                errors.invalid(
                    &path,
                    urls.clone(),
                    "namespaced rules cannot apply to non-resource URLs",
                );
            }
            if has("/apiGroups") || has("/resources") || has("/resourceNames") {
                errors.invalid(
                    &path,
                    urls.clone(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                );
            }
            continue;
        }
        if !has("/apiGroups") {
            errors.required(
                &path.field("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if !has("/resources") {
            errors.required(
                &path.field("resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row};

    const BOTH: &str = "{rules: [{}, {verbs: [get], apiGroups: [''], resources: [pods]}, {verbs: [get], \
                        nonResourceURLs: [/healthz], resources: [pods]}]}";

    #[test]
    fn a_rule_is_about_resources_or_about_paths() {
        expect![[r#"
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[0].apiGroups: Required value: resource rules must supply at least one api group
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[2].nonResourceURLs: Invalid value: ["/healthz"]: rules cannot apply to both regular resources and non-resource URLs
        "#]]
        .assert_eq(&errors(&ClusterRole, BOTH));
        expect![[r#"
            rules[0].nonResourceURLs: Invalid value: ["/healthz"]: namespaced rules cannot apply to non-resource URLs
        "#]]
        .assert_eq(&errors(
            &Role,
            "{rules: [{verbs: [get], nonResourceURLs: [/healthz]}]}",
        ));
    }

    #[test]
    fn an_aggregating_role_selects_something() {
        expect![[r#"
            aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil
        "#]]
        .assert_eq(&errors(&ClusterRole, "{aggregationRule: {}}"));
        expect![[r#"
            aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: "Gt": not a valid selector operator
        "#]]
        .assert_eq(&errors(
            &ClusterRole,
            "{aggregationRule: {clusterRoleSelectors: [{matchExpressions: [{key: a, operator: Gt}]}]}}",
        ));
    }

    #[test]
    fn a_name_may_hold_colons_but_no_slash() {
        assert!(ClusterRole.name_problems("system:node:A").is_empty());
        assert_eq!(
            Role.name_problems("a/b%"),
            ["may not contain '/'", "may not contain '%'"]
        );
        assert_eq!(Role.name_problems(".."), ["may not be '..'"]);
    }

    #[test]
    fn a_row_shows_when_it_was_made() {
        expect!["admin|2026-01-01T00:00:00Z"]
            .assert_eq(&row(&ClusterRole, "{metadata: {name: admin}}"));
    }
}
