//! RoleBinding and ClusterRoleBinding: who has a role.

use jiff::Timestamp;
use serde_json::Value;

use super::GROUP;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column,
        value::{each, fill_text, find, items, part, text},
    },
    name,
};

/// The namespaced kind.
pub(crate) struct RoleBinding;

/// The cluster-wide kind.
pub(crate) struct ClusterRoleBinding;

static ROLE_BINDING: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.rbac.v1.RoleBinding",
};

static CLUSTER_ROLE_BINDING: Names = Names {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    definition: "io.k8s.api.rbac.v1.ClusterRoleBinding",
    ..ROLE_BINDING
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Role", "The role that its subjects have"),
    column::AGE,
    column::wide("Users", "Users that have the role"),
    column::wide("Groups", "Groups that have the role"),
    column::wide("ServiceAccounts", "Service accounts that have the role"),
];

impl Kind for RoleBinding {
    fn names(&self) -> &Names {
        &ROLE_BINDING
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::segment_problems(name)
    }

    fn default(&self, object: &mut Value) {
        default_groups(object);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_role(object, &["Role", "ClusterRole"], errors);
        validate_subjects(object, true, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        validate_same_role(object, old, errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

impl Kind for ClusterRoleBinding {
    fn names(&self) -> &Names {
        &CLUSTER_ROLE_BINDING
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::segment_problems(name)
    }

    fn default(&self, object: &mut Value) {
        default_groups(object);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_role(object, &["ClusterRole"], errors);
        validate_subjects(object, false, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        validate_same_role(object, old, errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

fn default_groups(object: &mut Value) {
    if let Some(role) = find(object, "roleRef") {
        fill_text(role, "apiGroup", GROUP);
    }
    for subject in each(object, "subjects") {
        if matches!(text(subject, "/kind"), "User" | "Group") {
            fill_text(subject, "apiGroup", GROUP);
        }
    }
}

fn validate_role(object: &Value, kinds: &[&str], errors: &mut FieldErrors) {
    let path = Path::root("roleRef");
    let group = text(object, "/roleRef/apiGroup");
    if group != GROUP {
        errors.not_supported(&path.field("apiGroup"), group, &[GROUP]);
    }
    let kind = text(object, "/roleRef/kind");
    if !kinds.contains(&kind) {
        errors.not_supported(&path.field("kind"), kind, kinds);
    }
    let path = path.field("name");
    match text(object, "/roleRef/name") {
        "" => errors.required(&path, ""),
        name => check::problems(&path, name, name::segment_problems(name), errors),
    }
}

/// A binding stays a binding to its role, so that who may edit its subjects cannot raise it.
fn validate_same_role(object: &Value, old: &Value, errors: &mut FieldErrors) {
    let role = part(object, "/roleRef");
    if role != part(old, "/roleRef") {
        errors.invalid(
            &Path::root("roleRef"),
            role.clone(),
            "cannot change roleRef",
        );
    }
}

fn validate_subjects(object: &Value, namespaced: bool, errors: &mut FieldErrors) {
    for (index, subject) in items(object, "/subjects").iter().enumerate() {
        let path = Path::root("subjects").index(index);
        let (kind, name) = (text(subject, "/kind"), text(subject, "/name"));
        let group = text(subject, "/apiGroup");
        if name.is_empty() {
            errors.required(&path.field("name"), "");
        }
        match kind {
            "ServiceAccount" => {
                if !name.is_empty() {
                    let problems = name::subdomain_problems(name);
                    check::problems(&path.field("name"), name, problems, errors);
                }
                if !group.is_empty() {
                    errors.not_supported(&path.field("apiGroup"), group, &[""]);
                }
                if !namespaced && text(subject, "/namespace").is_empty() {
                    errors.required(&path.field("namespace"), "");
                }
            }
            "User" | "Group" => {
                if name.is_empty() {
                    let detail = format!("{} name cannot be empty", kind.to_lowercase());
                    errors.invalid(&path.field("name"), name, detail);
                }
                if group != GROUP {
                    errors.not_supported(&path.field("apiGroup"), group, &[GROUP]);
                }
            }
            _ => errors.not_supported(
                &path.field("kind"),
                kind,
                &["ServiceAccount", "User", "Group"],
            ),
        }
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!(
        "{}/{}",
        text(object, "/roleRef/kind"),
        text(object, "/roleRef/name")
    );
    let subjects = |kind: &str| {
        let of_kind = items(object, "/subjects")
            .iter()
            .filter(|subject| text(subject, "/kind") == kind);
        let named: Vec<_> = of_kind
            .map(|subject| match (kind, text(subject, "/name")) {
                ("ServiceAccount", name) => format!("{}/{name}", text(subject, "/namespace")),
                (_, name) => name.to_owned(),
            })
            .collect();
        Value::from(named.join(", "))
    };
    vec![
        column::name(object),
        role.into(),
        column::age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row, update_errors};

    #[track_caller]
    fn check(kind: &dyn Kind, yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(kind, yaml));
    }

    #[test]
    fn users_and_groups_are_of_the_group_and_service_accounts_of_none() {
        expect![[r#"{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"r"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"u"},{"kind":"ServiceAccount","name":"s"}]}"#]]
        .assert_eq(&defaulted(
            &RoleBinding,
            "{roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: \
             ServiceAccount, name: s}]}",
        ));
    }

    #[test]
    fn a_cluster_wide_binding_binds_a_cluster_wide_role() {
        check(
            &ClusterRoleBinding,
            "{roleRef: {kind: Role, name: a/b, apiGroup: x}}",
            expect![[r#"
                roleRef.apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io"
                roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
                roleRef.name: Invalid value: "a/b": may not contain '/'
            "#]],
        );
        check(
            &RoleBinding,
            "{roleRef: {kind: Role}}",
            expect![[r#"
                roleRef.name: Required value
            "#]],
        );
    }

    #[test]
    fn a_subject_is_a_user_a_group_or_a_service_account() {
        let subjects = "{roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: User}, {kind: \
                        ServiceAccount, name: S, apiGroup: x}, {kind: Robot, name: r}]}";
        check(
            &ClusterRoleBinding,
            subjects,
            expect![[r#"
                subjects[0].name: Required value
                subjects[0].name: Invalid value: "": user name cannot be empty
                subjects[1].name: Invalid value: "S": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                subjects[1].apiGroup: Unsupported value: "x": supported values: ""
                subjects[1].namespace: Required value
                subjects[2].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"
            "#]],
        );
    }

    #[test]
    fn the_role_never_changes() {
        expect![[r#"
            roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"b"}: cannot change roleRef
        "#]]
        .assert_eq(&update_errors(
            &RoleBinding,
            "{roleRef: {kind: Role, name: a}}",
            "{roleRef: {kind: Role, name: b}}",
        ));
    }

    #[test]
    fn a_row_shows_role_and_subjects() {
        expect!["b|ClusterRole/view|60m|u, v|g|ns/s"].assert_eq(&row(
            &RoleBinding,
            "{metadata: {name: b}, roleRef: {kind: ClusterRole, name: view}, subjects: [{kind: User, \
             name: u}, {kind: Group, name: g}, {kind: ServiceAccount, name: s, namespace: ns}, \
             {kind: User, name: v}]}",
        ));
    }
}
