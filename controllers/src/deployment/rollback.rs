//! Rolls a Deployment back because of the annotation that stands for `rollbackTo` of the oldest API versions.
//!
//! Reads the ReplicaSets' revisions; writes the Deployment's template and annotations, takes the order off it, and
//! says what it did. `kubectl rollout undo` needs nothing of this: it writes the template itself.

use std::cmp::Reverse;

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::replicasets::{ReplicaSets, copied};
use super::set::Set;
use super::{api, owned};
use crate::error::{Error, within};
use crate::events::Severity;
use crate::template;

const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const NOT_FOUND: &str = "DeploymentRollbackRevisionNotFound";
const UNCHANGED: &str = "DeploymentRollbackTemplateUnchanged";
const DONE: &str = "DeploymentRollback";

/// Rolls back if that was ordered; whether it was.
pub(super) async fn roll_back(replicasets: &ReplicaSets<'_>) -> Result<bool, Error> {
    let (context, raw) = (replicasets.context, replicasets.raw);
    let order = raw.annotations().get(ROLLBACK_TO);
    let Some(order) = order.and_then(|revision| revision.parse::<i64>().ok()) else {
        return Ok(false);
    };
    if replicasets.wish.paused {
        return Ok(false);
    }
    let (raws, sets) = owned(
        context,
        replicasets.deployment,
        replicasets.wish,
        replicasets.bare,
    )?;
    let mut patch = json!({"metadata": {
        "uid": raw.uid(), "resourceVersion": raw.resource_version(),
        "annotations": {ROLLBACK_TO: null},
    }});
    let name = raw.name_any();
    let (severity, reason, message) = match find(&sets, order) {
        None if order == 0 => {
            let message = "Unable to find last revision.".to_owned();
            (Severity::Warning, NOT_FOUND, message)
        }
        None => {
            let message = "Unable to find the revision to rollback to.".to_owned();
            (Severity::Warning, NOT_FOUND, message)
        }
        Some(set) if set.current => {
            let what = "The rollback revision contains the same template as current deployment";
            (Severity::Warning, UNCHANGED, format!("{what} \"{name}\""))
        }
        Some(set) => {
            let found = raws.iter().find(|raw| raw.name_any() == set.name);
            let found = found.ok_or_else(|| Error::NotFound(set.name.clone()))?;
            let have = found.data.pointer("/spec/template").cloned();
            let annotations = &mut patch["metadata"]["annotations"];
            for name in copied(raw.annotations()).keys() {
                annotations[name] = Value::Null;
            }
            for (name, value) in copied(found.annotations()) {
                annotations[name] = value.into();
            }
            let have = template::bare(&have.unwrap_or_default());
            patch["spec"]["template"] = difference(replicasets.template, &have);
            let message = format!(
                "Rolled back deployment \"{name}\" to revision {}",
                set.revision
            );
            (Severity::Normal, DONE, message)
        }
    };
    let api = api(context, &raw.namespace().unwrap_or_default());
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = within(api.patch(&name, &params, &patch)).await?;
    context.deployments.apply(answer);
    replicasets.say(severity, reason, message);
    Ok(true)
}

/// The set of a revision; 0 means the one before the newest.
fn find(sets: &[Set], revision: i64) -> Option<&Set> {
    if revision != 0 {
        return sets.iter().find(|set| set.revision == revision);
    }
    let mut sets: Vec<&Set> = sets.iter().collect();
    sets.sort_by_key(|set| Reverse(set.revision));
    sets.get(1).copied()
}

/// The merge patch that makes one value the other.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return new.clone();
    };
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), Value::Null));
    let stays = after.iter().map(|(name, value)| {
        let old = before.get(name).unwrap_or(&Value::Null);
        (name.clone(), difference(old, value))
    });
    gone.chain(stays).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_takes_away_what_is_not_wanted_any_more() {
        let old = json!({"a": 1, "b": {"c": 2, "d": 3}, "l": [1]});
        let new = json!({"b": {"d": 3}, "l": [2]});
        let patch = json!({"a": null, "b": {"c": null, "d": 3}, "l": [2]});
        assert_eq!(difference(&old, &new), patch);
    }

    #[test]
    fn revision_0_is_the_one_before_the_newest() {
        let of = |revision| Set {
            name: format!("s{revision}"),
            revision,
            ..Set::default()
        };
        let sets = [of(4), of(7), of(6)];
        assert_eq!(find(&sets, 0).unwrap().name, "s6");
        assert_eq!(find(&sets, 4).unwrap().name, "s4");
        assert!(find(&sets, 5).is_none() && find(&sets[..1], 0).is_none());
    }
}
