//! Keeps the default roles and bindings in the store: made at first start, all in one commit, and
//! completed at every later one.
//!
//! Writes to the store directly: nobody may do anything before these are there. Adds what is missing, and takes
//! away what older versions added and this one does without: a rule or a subject that a user added stays, and an
//! object that is annotated not to be updated is left alone.

use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Cache, Commit, Expect, Group, Item, Op, ResourceKey, StoreError};

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
        for (plural, wanted, old) in [
            ("clusterroles", &defaults.roles, &defaults.old_roles),
            (
                "clusterrolebindings",
                &defaults.bindings,
                &defaults.old_bindings,
            ),
        ] {
            let resource = ResourceKey::new(GROUP, plural);
            let retired = |name: &str| old.iter().find(|object| object::name(object) == name);
            ops.extend(wanted.iter().filter_map(|object| {
                op(cache, &resource, object, retired(object::name(object)), now)
            }));
            let kept = |name: &str| wanted.iter().any(|object| object::name(object) == name);
            let gone = old.iter().filter(|object| !kept(object::name(object)));
            ops.extend(gone.filter_map(|object| end(cache, &resource, object)));
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

/// `retired` is what an older version had in the object.
fn op(
    cache: &Cache,
    resource: &ResourceKey,
    wanted: &Value,
    retired: Option<&Value>,
    now: Timestamp,
) -> Option<Op> {
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
    let old = read(&item)?;
    let without = retired.and_then(|retired| rid(&old, retired));
    let base = without.as_ref().unwrap_or(&old);
    let mut new = completed(base, wanted).or(without)?;
    Some(Op::Put {
        key,
        expect: Expect::At(item.revision),
        value: codec::stored(&mut new),
    })
}

/// Takes away what older versions made: the object, if a user added nothing to it.
fn end(cache: &Cache, resource: &ResourceKey, retired: &Value) -> Option<Op> {
    let key = resource.key("", object::name(retired));
    let item = cache.get(&key)?;
    let expect = Expect::At(item.revision);
    let mut rest = rid(&read(&item)?, retired)?;
    let stays = rest["roleRef"].is_object() && !is_empty(&rest["subjects"]);
    let value = codec::stored(&mut rest);
    Some(match stays {
        true => Op::Put { key, expect, value },
        false => Op::Delete { key, expect, value },
    })
}

fn read(item: &Item) -> Option<Value> {
    match serde_json::from_slice(&item.decoded.value) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(key = %item.key, %error, "a default role cannot be read");
            None
        }
    }
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// An object without the rules or the subjects that older versions gave it; `None` if it has none of them, or is
/// none of ours.
fn rid(old: &Value, retired: &Value) -> Option<Value> {
    let metadata = &old["metadata"];
    let ours = metadata["labels"] == retired["metadata"]["labels"]
        && metadata["annotations"][AUTOUPDATE] == "true"
        && (retired["roleRef"].is_null() || old["roleRef"] == retired["roleRef"]);
    if !ours {
        return None;
    }
    let mut new = old.clone();
    for field in ["rules", "subjects"] {
        let gone = retired[field].as_array().map(Vec::as_slice);
        if let Some(list) = new.get_mut(field).and_then(Value::as_array_mut) {
            list.retain(|item| !gone.unwrap_or_default().contains(item));
        }
    }
    let all = retired["roleRef"].is_null() && is_empty(&retired["rules"]);
    (all || new != *old).then_some(new)
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
    fn what_older_versions_gave_is_taken_away_and_nothing_else() {
        let defaults = defaults::read();
        let retired = |all: &[Value], name: &str| {
            let mut found = all.iter().filter(|object| object::name(object) == name);
            found.next().expect("it is there").clone()
        };
        let node = retired(&defaults.old_bindings, "system:node");
        let mut old = node.clone();
        assert_eq!(rid(&old, &node).expect("it is ours")["subjects"], json!([]));
        let added = json!({"kind": "User", "name": "jane"});
        old["subjects"] = json!([node["subjects"][0], added]);
        let rest = rid(&old, &node).expect("a subject of ours");
        assert_eq!(rest["subjects"], json!([added]));
        assert_eq!(rid(&rest, &node), None);
        old["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(rid(&old, &node), None);

        let gateway = retired(&defaults.old_roles, "system:gateway");
        let wanted = role("system:gateway");
        let mut old = wanted.clone();
        let rules = old["rules"].as_array_mut().expect("rules");
        rules.push(gateway["rules"][0].clone());
        assert_eq!(rid(&old, &gateway), Some(wanted.clone()));
        assert_eq!(rid(&wanted, &gateway), None);

        let nodes = retired(&defaults.old_roles, "wk:nodes");
        assert!(rid(&nodes, &nodes).is_some());
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
