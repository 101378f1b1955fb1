//! Gives ClusterRoles that gather others the rules of those.
//!
//! Reads and patches `ClusterRole`; touches `rules` of those with an `aggregationRule` and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Access, role_resource};
use crate::cache::{Cache, Listener};
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::queue::{Action, Queue};

/// Works on one ClusterRole.
pub(super) async fn reconcile(access: Arc<Access>, key: Key) -> Result<Action, Error> {
    let Some(role) = access.roles.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let all = access.roles.all();
    let Some(rules) = plan(&role, &all)? else {
        return Ok(Action::AwaitChange);
    };
    let client = access.context.client.clone();
    let api: Api<DynamicObject> = Api::all_with(client, &role_resource());
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": role.resource_version()},
        "rules": rules,
    }));
    let written = within_opt(api.patch(&key.name, &PatchParams::default(), &patch)).await?;
    written
        .into_iter()
        .for_each(|role| access.roles.apply(role));
    Ok(Action::AwaitChange)
}

/// The rules that a role should have; `None` if it has them, or gathers none. Pure.
fn plan(role: &DynamicObject, all: &[Arc<DynamicObject>]) -> Result<Option<Vec<Value>>, Error> {
    let Some(selectors) = selectors(role) else {
        return Ok(None);
    };
    let selectors: Vec<Selector> = selectors
        .iter()
        .map(|selector| {
            let selector = LabelSelector::deserialize(selector)?;
            Selector::try_from(selector).map_err(|error| {
                Error::Invalid(format!(
                    "read aggregationRule.clusterRoleSelectors: {error}"
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    let mut rules: Vec<Value> = Vec::new();
    // In the order of their names, as the cache has them; each rule once.
    for other in all {
        let none = BTreeMap::new();
        let labels = other.metadata.labels.as_ref().unwrap_or(&none);
        let joins = selectors.iter().any(|selector| selector.matches(labels));
        if !joins || other.name_any() == role.name_any() {
            continue;
        }
        for rule in own_rules(other) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Ok((own_rules(role) != rules).then_some(rules))
}

fn selectors(role: &DynamicObject) -> Option<&Vec<Value>> {
    role.data
        .pointer("/aggregationRule/clusterRoleSelectors")?
        .as_array()
}

fn own_rules(role: &DynamicObject) -> &[Value] {
    let rules = role.data.get("rules").and_then(Value::as_array);
    rules.map(Vec::as_slice).unwrap_or_default()
}

/// A role that changes may matter to every one that gathers; there are few.
pub(super) fn on_role(
    roles: &Arc<Cache<DynamicObject>>,
    queue: &Queue<Key>,
) -> Listener<DynamicObject> {
    let (roles, queue) = (Arc::downgrade(roles), queue.clone());
    Box::new(move |_, _| {
        let Some(roles) = roles.upgrade() else {
            return;
        };
        for role in roles.all() {
            if selectors(&role).is_some() {
                queue.add(Key::of(&*role));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn role(name: &str, labels: Value, rules: Value, selectors: Value) -> Arc<DynamicObject> {
        let mut role = json!({
            "metadata": {"name": name, "labels": labels}, "rules": rules,
        });
        if selectors.is_array() {
            role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        }
        Arc::new(serde_json::from_value(role).unwrap())
    }

    #[track_caller]
    fn check(all: &[Arc<DynamicObject>], name: &str, expected: Expect) {
        let role = all.iter().find(|role| role.name_any() == name).unwrap();
        let planned = match plan(role, all).unwrap() {
            Some(rules) => json!(rules).to_string(),
            None => "nothing".to_owned(),
        };
        expected.assert_eq(&planned);
    }

    #[test]
    fn a_role_gathers_each_rule_once() {
        let to_edit = json!([{"matchLabels": {"to": "edit"}}]);
        let all = [
            role("a", json!({"to": "edit"}), json!([1, 2]), Value::Null),
            role("b", json!({"to": "edit"}), json!([2, 3]), Value::Null),
            role("c", json!({}), json!([4]), Value::Null),
            role("edit", json!({"to": "edit"}), json!([9]), to_edit.clone()),
            role("right", json!({}), json!([1, 2, 3, 9]), to_edit),
            role("none", json!({}), json!([1]), json!([])),
        ];
        check(&all, "edit", expect!["[1,2,3]"]);
        check(&all, "right", expect!["nothing"]);
        check(&all, "none", expect!["[]"]);
        check(&all, "a", expect!["nothing"]);
    }

    #[test]
    fn a_selector_that_cannot_be_read_changes_nothing() {
        let bad = json!([{"matchExpressions": [{"key": "a", "operator": "Near"}]}]);
        let all = [role("bad", json!({}), json!([1]), bad)];
        assert!(plan(&all[0], &all).is_err());
    }
}
