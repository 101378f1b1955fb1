//! Makes objects as manifests say: the three-way merge behind `wkctl apply` and `wk up -f`.
//!
//! What was applied last is kept in the annotation that `kubectl apply` uses, so both tools may be
//! used on one object. The patch is a JSON merge patch: a list in the manifest replaces the list in
//! the object. Never touches a field that neither the manifest nor the last apply names.

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Map, Value};

use crate::{
    api::{Api, code},
    resources::{Resource, Resources},
};

/// Where the last applied manifest is kept.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How often a conflicting write is tried again.
const ATTEMPTS: usize = 5;

/// What an apply did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        })
    }
}

/// An object of a manifest and where it is served.
#[derive(Clone, Debug)]
pub struct Target {
    pub resource: Resource,
    /// Empty for a cluster-scoped object.
    pub namespace: String,
    pub name: String,
    pub object: Value,
}

impl Target {
    /// Finds where an object is served; its namespace is `namespace` unless it names one.
    pub fn resolve(
        resources: &Resources,
        mut object: Value,
        namespace: &str,
        forced: bool,
    ) -> Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = resources
            .of_kind(&text(&object["apiVersion"]), &text(&object["kind"]))?
            .clone();
        let own = text(&object["metadata"]["namespace"]);
        let namespace = match (resource.namespaced, own.is_empty()) {
            (false, _) => String::new(),
            (true, true) => namespace.to_owned(),
            (true, false) if forced && own != namespace => {
                bail!(
                    "the namespace from the provided object {own:?} does not match the namespace {namespace:?}. You must pass '--namespace={own}' to perform this operation."
                )
            }
            (true, false) => own,
        };
        if resource.namespaced {
            object["metadata"]["namespace"] = namespace.clone().into();
        }
        let name = text(&object["metadata"]["name"]);
        Ok(Self {
            resource,
            namespace,
            name,
            object,
        })
    }

    /// The path of the object.
    pub fn path(&self) -> String {
        self.resource.object(&self.namespace, &self.name)
    }

    /// `deployment.apps/hello`.
    pub fn display(&self) -> String {
        self.resource.display(&self.name)
    }
}

/// Creates the object, or changes what the manifest changed. `query` is appended to writes
/// (`dryRun=All`, `fieldValidation=Strict`).
pub async fn apply(api: &Api, target: &Target, query: &str) -> Result<(Outcome, Value)> {
    if target.name.is_empty() {
        bail!("cannot use generate name with apply: metadata.generateName needs `create`");
    }
    let wanted = annotated(&target.object);
    for _ in 0..ATTEMPTS {
        let Some(current) = api.find(&target.path()).await? else {
            let collection = format!(
                "{}?{query}",
                target.resource.collection(Some(&target.namespace))
            );
            match api.send(Method::POST, &collection, &wanted).await {
                Ok(created) => return Ok((Outcome::Created, created)),
                Err(error) if code(&error) == Some(409) => continue, // somebody created it just now
                Err(error) => return Err(error),
            }
        };
        let patch = three_way(&last_applied(&current), &wanted, &current);
        if patch == Value::Object(Map::new()) {
            return Ok((Outcome::Unchanged, current));
        }
        let path = format!("{}?{query}", target.path());
        match api
            .patch(&path, "application/merge-patch+json", &patch)
            .await
        {
            Ok(changed) => {
                let same = changed["metadata"]["resourceVersion"]
                    == current["metadata"]["resourceVersion"];
                return Ok((
                    if same {
                        Outcome::Unchanged
                    } else {
                        Outcome::Configured
                    },
                    changed,
                ));
            }
            // A manifest that names a revision wants exactly that one: trying again cannot help.
            Err(error)
                if code(&error) == Some(409)
                    && target.object["metadata"]["resourceVersion"].is_null() => {}
            Err(error) => return Err(error),
        }
    }
    bail!(
        "{} kept changing: applied {ATTEMPTS} times without success",
        target.display()
    )
}

/// What [`apply`] would do, as far as can be told without writing.
pub async fn preview(api: &Api, target: &Target) -> Result<Outcome> {
    let Some(current) = api.find(&target.path()).await? else {
        return Ok(Outcome::Created);
    };
    let patch = three_way(
        &last_applied(&current),
        &annotated(&target.object),
        &current,
    );
    let unchanged = patch == Value::Object(Map::new());
    Ok(if unchanged {
        Outcome::Unchanged
    } else {
        Outcome::Configured
    })
}

fn last_applied(current: &Value) -> Value {
    current["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null)
}

/// The manifest with itself as the last-applied annotation.
fn annotated(object: &Value) -> Value {
    let mut bare = object.clone();
    if let Some(annotations) = bare["metadata"]
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    let mut text = bare.to_string();
    text.push('\n');
    if !bare["metadata"]["annotations"].is_object() {
        bare["metadata"]["annotations"] = Value::Object(Map::new());
    }
    bare["metadata"]["annotations"][LAST_APPLIED] = text.into();
    bare
}

/// The merge patch that brings `current` to `wanted`, removing what `last` had and `wanted` has not. Pure.
fn three_way(last: &Value, wanted: &Value, current: &Value) -> Value {
    let empty = Map::new();
    let fields = |value: &'_ Value| value.as_object().cloned();
    let (last, wanted, current) = (fields(last), fields(wanted), fields(current));
    let last = last.as_ref().unwrap_or(&empty);
    let wanted = wanted.as_ref().unwrap_or(&empty);
    let current = current.as_ref().unwrap_or(&empty);
    let mut patch = Map::new();
    for (name, value) in wanted {
        match current.get(name) {
            Some(now) if value.is_object() && now.is_object() => {
                let below = three_way(last.get(name).unwrap_or(&Value::Null), value, now);
                if below.as_object().is_some_and(|below| !below.is_empty()) {
                    patch.insert(name.clone(), below);
                }
            }
            // In a list, an item's field that was applied before and is gone now is a difference too.
            Some(now)
                if covers(value, now)
                    && last.get(name).is_none_or(|l| !l.is_array() || l == value) => {}
            None if value.is_null() => {}
            _ => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in last
        .keys()
        .filter(|name| !wanted.contains_key(*name) && current.contains_key(*name))
    {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// True if `now` has everything that `wanted` says: the server may have filled in defaults in items.
fn covers(wanted: &Value, now: &Value) -> bool {
    match (wanted, now) {
        (Value::Array(wanted), Value::Array(now)) => {
            wanted.len() == now.len()
                && wanted
                    .iter()
                    .zip(now)
                    .all(|(wanted, now)| covers(wanted, now))
        }
        (Value::Object(wanted), Value::Object(now)) => wanted.iter().all(|(name, value)| {
            now.get(name)
                .map_or(value.is_null(), |now| covers(value, now))
        }),
        _ => wanted == now,
    }
}

/// Orders targets so that namespaces come before what is in them; otherwise as given.
pub fn order(targets: &mut [Target]) {
    targets.sort_by_key(|target| match target.resource.kind.as_str() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    });
}

/// Reads manifests and finds where each object is served; what cannot be read or is not served
/// comes back as error lines, each naming its document.
pub async fn targets(
    resources: &Resources,
    sources: &[String],
    recursive: bool,
    namespace: &str,
    forced: bool,
) -> Result<(Vec<Target>, Vec<String>)> {
    let documents = crate::manifest::read(sources, recursive).await?;
    if documents.is_empty() {
        bail!("no objects passed");
    }
    let mut targets = Vec::new();
    let mut errors = Vec::new();
    for document in documents {
        let target = document
            .object
            .map_err(anyhow::Error::msg)
            .and_then(|object| Target::resolve(resources, object, namespace, forced));
        match target.with_context(|| document.source.clone()) {
            Ok(target) => targets.push(target),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    order(&mut targets);
    Ok((targets, errors))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(last: Value, wanted: Value, current: Value, expected: Expect) {
        expected.assert_eq(&three_way(&last, &wanted, &current).to_string());
    }

    #[test]
    fn only_what_differs_is_sent() {
        check(
            json!({}),
            json!({"a": 1, "b": {"c": 2}}),
            json!({"a": 1, "b": {"c": 3, "d": 4}}),
            expect![[r#"{"b":{"c":2}}"#]],
        );
    }

    #[test]
    fn what_was_applied_and_is_no_longer_wanted_is_removed() {
        check(
            json!({"a": 1, "b": 2}),
            json!({"a": 1}),
            json!({"a": 1, "b": 2, "c": 3}),
            expect![[r#"{"b":null}"#]],
        );
    }

    #[test]
    fn what_nobody_applied_is_left_alone() {
        check(
            json!({}),
            json!({"a": 1}),
            json!({"a": 1, "c": 3}),
            expect!["{}"],
        );
    }

    #[test]
    fn defaults_filled_into_list_items_are_no_difference() {
        check(
            Value::Null,
            json!({"ports": [{"port": 80}]}),
            json!({"ports": [{"port": 80, "protocol": "TCP"}]}),
            expect!["{}"],
        );
    }

    #[test]
    fn a_field_taken_out_of_a_list_item_is_a_difference() {
        check(
            json!({"ports": [{"port": 80, "name": "http"}]}),
            json!({"ports": [{"port": 80}]}),
            json!({"ports": [{"port": 80, "name": "http"}]}),
            expect![[r#"{"ports":[{"port":80}]}"#]],
        );
    }

    #[test]
    fn a_list_that_differs_is_replaced() {
        check(
            Value::Null,
            json!({"ports": [{"port": 81}]}),
            json!({"ports": [{"port": 80, "protocol": "TCP"}]}),
            expect![[r#"{"ports":[{"port":81}]}"#]],
        );
    }

    #[test]
    fn the_manifest_is_kept_without_an_older_copy_of_itself() {
        let object =
            json!({"metadata": {"name": "a", "annotations": {LAST_APPLIED: "old", "b": "c"}}});
        let text = annotated(&object)["metadata"]["annotations"][LAST_APPLIED].clone();
        assert_eq!(
            text,
            json!("{\"metadata\":{\"annotations\":{\"b\":\"c\"},\"name\":\"a\"}}\n")
        );
    }
}
