//! Keeps the default roles and bindings in the store: made at first start, all in one commit, and
//! completed at every later one.
//!
//! Writes to the store directly: nobody may do anything before these are there. Only adds: a rule or a
//! subject that a user added stays, and an object that is annotated not to be updated is left alone.

use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Cache, Commit, Expect, Group, Op, ResourceKey, StoreError};

use super::{
    GROUP,
    defaults::{self, AUTOUPDATE},
    rule::{self, Rule},
};
use crate::{codec, object, time};

/// Several apiservers may start at once.
const ATTEMPTS: usize = 8;

/// Makes it so; where nothing is missing, nothing is written.
pub(crate) async fn ensure(cache: &Cache, now: Timestamp) -> Result<(), StoreError> {
    let defaults = defaults::read();
    for _ in 0..ATTEMPTS {
        cache.fresh().await?;
        let mut ops = Vec::new();
        for (plural, wanted) in [
            ("clusterroles", &defaults.roles),
            ("clusterrolebindings", &defaults.bindings),
        ] {
            let resource = ResourceKey::new(GROUP, plural);
            ops.extend(
                wanted
                    .iter()
                    .filter_map(|object| op(cache, &resource, object, now)),
            );
        }
        if ops.is_empty() {
            return Ok(());
        }
        tracing::debug!(objects = ops.len(), "writing default roles");
        if let Commit::Done(_) = cache.write(Group { ops }).await? {
            return Ok(());
        }
    }
    Err(StoreError::Unavailable {
        message: "the default roles could not be written: others keep changing them".to_owned(),
        source: None,
    })
}

fn op(cache: &Cache, resource: &ResourceKey, wanted: &Value, now: Timestamp) -> Option<Op> {
    let key = resource.key("", object::name(wanted));
    let Some(item) = cache.get(&key) else {
        let mut new = wanted.clone();
        object::set(&mut new, "uid", uuid::Uuid::new_v4().to_string());
        object::set(&mut new, "creationTimestamp", time::seconds(now));
        let value = codec::stored(&mut new);
        return Some(Op::Put {
            key,
            expect: Expect::Absent,
            value,
        });
    };
    let old: Value = match serde_json::from_slice(&item.decoded.value) {
        Ok(old) => old,
        Err(error) => {
            tracing::error!(%key, %error, "a default role cannot be read");
            return None;
        }
    };
    let mut new = completed(&old, wanted)?;
    Some(Op::Put {
        key,
        expect: Expect::At(item.revision),
        value: codec::stored(&mut new),
    })
}

/// The old object with what it lacks of the wanted one; `None` if it lacks nothing.
fn completed(old: &Value, wanted: &Value) -> Option<Value> {
    if old["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let mut new = old.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            if new["metadata"][field][key].is_null() {
                new["metadata"][field][key] = value.clone();
            }
        }
    }
    if wanted["roleRef"].is_object() {
        // Which role a binding binds never changes: one that a user made stays as it is.
        if old["roleRef"] != wanted["roleRef"] {
            return None;
        }
        add_missing(&mut new["subjects"], &wanted["subjects"], |old, wanted| {
            old.contains(wanted)
        });
    } else if wanted["aggregationRule"].is_object() {
        // Its rules are the aggregation controller's.
        new["aggregationRule"] = match &old["aggregationRule"] {
            Value::Null => wanted["aggregationRule"].clone(),
            own => own.clone(),
        };
    } else {
        let owned: Vec<Rule> = rules(&old["rules"]);
        let missing = rule::missing(&owned, &rules(&wanted["rules"]));
        add_missing(&mut new["rules"], &json!(missing), |_, _| false);
    }
    (new != *old).then_some(new)
}

fn rules(value: &Value) -> Vec<Rule> {
    let rules = value.as_array().into_iter().flatten();
    rules
        .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
        .collect()
}

fn add_missing(list: &mut Value, wanted: &Value, has: impl Fn(&[Value], &Value) -> bool) {
    let wanted = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
    let own = list.as_array().cloned().unwrap_or_default();
    let missing: Vec<Value> = wanted
        .iter()
        .filter(|item| !has(&own, item))
        .cloned()
        .collect();
    if !missing.is_empty() {
        *list = own.into_iter().chain(missing).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> Value {
        let roles = defaults::read().roles.into_iter();
        let mut found = roles.filter(|role| object::name(role) == name);
        found.next().expect("it is there")
    }

    #[test]
    fn what_is_as_wanted_stays_as_it_is() {
        let defaults = defaults::read();
        for wanted in defaults.roles.iter().chain(&defaults.bindings) {
            assert_eq!(completed(wanted, wanted), None);
        }
    }

    #[test]
    fn what_a_user_added_stays_and_what_is_missing_comes_back() {
        let wanted = role("system:auth-delegator");
        let mut old = wanted.clone();
        let added = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        old["rules"] = json!([added.clone(), wanted["rules"][0].clone()]);
        let new = completed(&old, &wanted).expect("a rule is missing");
        assert_eq!(
            new["rules"],
            json!([added, wanted["rules"][0], wanted["rules"][1]])
        );
        assert_eq!(completed(&new, &wanted), None);
    }

    #[test]
    fn an_object_that_says_so_is_left_alone() {
        let wanted = role("system:auth-delegator");
        let mut old = wanted.clone();
        old["rules"] = json!([]);
        old["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(completed(&old, &wanted), None);
    }
}
