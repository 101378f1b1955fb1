//! The roles and bindings that every cluster has, from `facts/default-roles.txt`. Pure.
//!
//! Objects are made as clients would see them, without `uid` and times. A role that gathers others has
//! their rules already, so that nothing has to be written for it at first start.

use serde_json::{Value, json};

use super::GROUP;

static TEXT: &str = include_str!("../../../facts/default-roles.txt");

/// Says that an object is kept as the server wants it; a user may set it to `false`.
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The roles and the bindings, in the order of the facts.
pub(super) struct Defaults {
    pub(super) roles: Vec<Value>,
    pub(super) bindings: Vec<Value>,
    /// What older versions made: roles (without rules: the whole role) and bindings.
    pub(super) old_roles: Vec<Value>,
    pub(super) old_bindings: Vec<Value>,
}

struct Role {
    name: &'static str,
    gathers: Option<&'static str>,
    joins: Option<&'static str>,
    rules: Vec<Value>,
}

/// Reads the facts.
pub(super) fn read() -> Defaults {
    let mut roles: Vec<Role> = Vec::new();
    let mut bindings = Vec::new();
    let (mut old_roles, mut old_bindings) = (Vec::new(), Vec::new());
    for line in TEXT.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            _ if line.starts_with(' ') => {
                if let Some(role) = roles.last_mut() {
                    role.rules.push(rule(&words));
                }
            }
            ["role", name, traits @ ..] => roles.push(Role {
                name,
                gathers: word_after(traits, "gathers"),
                joins: word_after(traits, "joins"),
                rules: Vec::new(),
            }),
            ["bind", name, role, kind, subjects @ ..] => {
                bindings.push(binding(name, role, kind, subjects));
            }
            ["was", "role", name, rest @ ..] => old_roles.push(json!({
                "metadata": metadata(name),
                "rules": if rest.is_empty() { json!([]) } else { json!([rule(rest)]) },
            })),
            ["was", "bind", name, role, kind, subjects @ ..] => {
                old_bindings.push(binding(name, role, kind, subjects));
            }
            _ => {}
        }
    }
    let roles = roles.iter().map(|role| object(role, &roles)).collect();
    Defaults {
        roles,
        bindings,
        old_roles,
        old_bindings,
    }
}

fn word_after(words: &[&'static str], word: &str) -> Option<&'static str> {
    let at = words.iter().position(|own| *own == word)?;
    words.get(at + 1).copied()
}

fn list(words: &str) -> Vec<&str> {
    let words = words.split(',');
    words
        .map(|word| if word == "-" { "" } else { word })
        .collect()
}

fn rule(words: &[&str]) -> Value {
    match words {
        [verbs, "urls", paths] => json!({"verbs": list(verbs), "nonResourceURLs": list(paths)}),
        [verbs, groups, resources, rest @ ..] => {
            let mut rule = json!({
                "verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources),
            });
            if let ["named", names] = rest {
                rule["resourceNames"] = json!(list(names));
            }
            rule
        }
        _ => Value::Null,
    }
}

/// A role's own rules, or those of the roles that join it.
fn gathered<'a>(role: &'a Role, all: &'a [Role]) -> Vec<&'a Value> {
    let Some(label) = role.gathers else {
        return role.rules.iter().collect();
    };
    let mut joining: Vec<&Role> = all
        .iter()
        .filter(|other| other.joins == Some(label))
        .collect();
    joining.sort_by_key(|role| role.name);
    let mut rules: Vec<&Value> = Vec::new();
    for rule in joining.into_iter().flat_map(|role| gathered(role, all)) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

fn aggregate(label: &str) -> String {
    format!("{GROUP}/aggregate-to-{label}")
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"},
    })
}

fn object(role: &Role, all: &[Role]) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRole",
        "metadata": metadata(role.name),
        "rules": gathered(role, all),
    });
    if let Some(label) = role.joins {
        object["metadata"]["labels"][aggregate(label)] = "true".into();
    }
    if let Some(label) = role.gathers {
        let labels = json!({aggregate(label): "true"});
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
    }
    object
}

fn binding(name: &str, role: &str, kind: &str, subjects: &[&str]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|subject| match (kind, subject.split_once('/')) {
            ("ServiceAccount", Some((namespace, name))) => {
                json!({"kind": kind, "name": name, "namespace": namespace})
            }
            _ => json!({"apiGroup": GROUP, "kind": kind, "name": subject}),
        })
        .collect();
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": metadata(name),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn names(objects: &[Value]) -> Vec<&str> {
        let names = objects
            .iter()
            .map(|object| object["metadata"]["name"].as_str());
        names.map(Option::unwrap_or_default).collect()
    }

    #[test]
    fn every_line_of_the_facts_is_read() {
        let defaults = read();
        let rules = defaults
            .roles
            .iter()
            .flat_map(|role| role["rules"].as_array());
        assert!(rules.flatten().all(Value::is_object));
        for binding in &defaults.bindings {
            let role = binding["roleRef"]["name"].as_str().expect("a name");
            assert!(names(&defaults.roles).contains(&role), "{role}");
        }
        let lines = |word: &str| TEXT.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!(lines("role "), defaults.roles.len());
        assert_eq!(lines("bind "), defaults.bindings.len());
    }

    #[test]
    fn a_role_that_gathers_has_the_rules_of_those_that_join_it() {
        let defaults = read();
        let find = |name: &str| {
            let mut roles = defaults.roles.iter();
            let found = roles.find(|role| role["metadata"]["name"] == name);
            found.expect("it is there")["rules"]
                .as_array()
                .expect("rules")
        };
        let (admin, edit, view) = (find("admin"), find("edit"), find("view"));
        assert!(edit.iter().all(|rule| admin.contains(rule)));
        assert!(view.iter().all(|rule| edit.contains(rule)));
        let joining = [
            "system:aggregate-to-view",
            "system:aggregated-metrics-reader",
            "wk:aggregate-charts-to-view",
            "wk:aggregate-functions-to-view",
            "wk:registry-view",
        ];
        assert_eq!(*view, joining.map(find).map(Vec::as_slice).concat());
    }

    #[test]
    fn objects_are_as_kubernetes_has_them() {
        let defaults = read();
        let object = |all: &[Value], name: &str| {
            let found = all.iter().find(|object| object["metadata"]["name"] == name);
            found.expect("it is there").to_string()
        };
        expect![[r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"},"labels":{"kubernetes.io/bootstrapping":"rbac-defaults"},"name":"cluster-admin"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]},{"nonResourceURLs":["*"],"verbs":["*"]}]}"#]]
            .assert_eq(&object(&defaults.roles, "cluster-admin"));
        expect![[r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"},"labels":{"kubernetes.io/bootstrapping":"rbac-defaults"},"name":"system:kube-dns"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:kube-dns"},"subjects":[{"kind":"ServiceAccount","name":"kube-dns","namespace":"kube-system"}]}"#]]
            .assert_eq(&object(&defaults.bindings, "system:kube-dns"));
    }
}
