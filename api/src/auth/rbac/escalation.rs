//! Nobody grants what they do not have: checks of writes to roles and bindings.
//!
//! A role needs all its permissions, or the verb `escalate` on it; a binding needs those of its role, or
//! the verb `bind` on it. Members of `system:masters` have everything.

use serde_json::Value;

use super::{
    GROUP,
    rule::{self, Rule, quoted},
};
use crate::{
    auth::{Attributes, MASTERS, User, authorizer::Resource},
    error::{Error, Subject},
    object,
    verbs::call::Call,
};

/// Refuses a write that would grant more than its user has. `old` is what was there before.
pub(crate) fn check(call: &Call, object: &Value, old: Option<&Value>) -> Result<(), Error> {
    let names = call.resource.names();
    if names.group != GROUP || call.user.is_in(MASTERS) {
        return Ok(());
    }
    let grants: &[&str] = match names.plural {
        "roles" | "clusterroles" => &["rules", "aggregationRule"],
        "rolebindings" | "clusterrolebindings" => &["subjects", "roleRef"],
        _ => return Ok(()),
    };
    if old.is_some_and(|old| grants.iter().all(|field| old[field] == object[field])) {
        return Ok(());
    }
    let refused = match names.kind.strip_suffix("Binding") {
        Some(_) => binding(call, object)?,
        None => role(call, object),
    };
    match refused {
        None => Ok(()),
        Some(message) => Err(Error::Forbidden {
            subject: call.subject(object::name(object)),
            message,
            cause: None,
        }),
    }
}

fn role(call: &Call, object: &Value) -> Option<String> {
    let names = call.resource.names();
    if may(call, "escalate", names.plural, object::name(object)) {
        return None;
    }
    if object["aggregationRule"].is_object() {
        let everything = ["*".to_owned()];
        let all = [
            Rule {
                verbs: everything.to_vec(),
                api_groups: everything.to_vec(),
                resources: everything.to_vec(),
                ..Rule::default()
            },
            Rule {
                verbs: everything.to_vec(),
                non_resource_urls: everything.to_vec(),
                ..Rule::default()
            },
        ];
        if let Some(refusal) = refusal(call, &all) {
            return Some(format!(
                "must have cluster-admin privileges to use an aggregationRule: {refusal}"
            ));
        }
    }
    let rules: Vec<Rule> = object["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
        .collect();
    refusal(call, &rules)
}

fn binding(call: &Call, object: &Value) -> Result<Option<String>, Error> {
    let role = object["roleRef"]["name"].as_str().unwrap_or_default();
    let (resource, kind, namespace) = match object["roleRef"]["kind"].as_str() {
        Some("Role") => ("roles", "Role", call.namespace.as_str()),
        _ => ("clusterroles", "ClusterRole", ""),
    };
    if may(call, "bind", resource, role) {
        return Ok(None);
    }
    let rules = call.server.authorizer.role(namespace, role);
    let rules = rules.ok_or_else(|| {
        Error::NotFound(Subject {
            group: GROUP,
            resource,
            kind,
            name: role.to_owned(),
        })
    })?;
    Ok(refusal(call, &rules))
}

fn may(call: &Call, verb: &str, resource: &str, name: &str) -> bool {
    let asked = Resource {
        group: GROUP,
        resource,
        subresource: "",
        namespace: &call.namespace,
        name,
        fields: None,
    };
    call.server
        .authorizer
        .allows(&call.user, &Attributes::resource(verb, asked))
}

/// What the user would grant without having it, in Kubernetes' words.
fn refusal(call: &Call, wanted: &[Rule]) -> Option<String> {
    let owned = call.server.authorizer.rules(&call.user, &call.namespace);
    let missing = rule::missing(&owned, wanted);
    (!missing.is_empty()).then(|| text(&call.user, &missing))
}

fn text(user: &User, missing: &[Rule]) -> String {
    let mut lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
    lines.sort();
    lines.dedup();
    format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_refusal_lists_what_is_not_held() {
        let rule = Rule {
            api_groups: vec![String::new()],
            resources: vec!["secrets".to_owned()],
            verbs: vec!["get".to_owned(), "list".to_owned()],
            ..Rule::default()
        };
        expect![[r#"
            user "jane" (groups=["dev" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:
            {APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#]]
        .assert_eq(&text(&User::new("jane", &["dev", "system:authenticated"]), &[rule]));
    }
}
