//! Definitions of custom kinds that a chart brings in `crds/`: made before anything else, changed only on request.

use serde_json::Value;

use crate::release::{
    Error, Report,
    cluster::{Apply, Scope},
    manifest,
};

use super::{Action, objects::Resolved};

/// What a new definition would break; empty if nothing.
pub fn breaks(live: &Value, new: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let (before, after) = (&live["spec"], &new["spec"]);
    for field in ["group", "scope"] {
        if before[field] != after[field] {
            broken.push(format!(
                "spec.{field} changes from {} to {}",
                before[field], after[field]
            ));
        }
    }
    if before["names"]["plural"] != after["names"]["plural"] {
        broken.push("spec.names.plural changes".to_owned());
    }
    let versions = |spec: &Value| spec["versions"].as_array().cloned().unwrap_or_default();
    let (old, new) = (versions(before), versions(after));
    let named = |versions: &[Value], name: &Value| {
        versions
            .iter()
            .find(|version| version["name"] == *name)
            .cloned()
    };
    for stored in live["status"]["storedVersions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        if named(&new, stored).is_none() {
            broken.push(format!(
                "version {stored} goes, and objects are stored as it"
            ));
        }
    }
    for version in &old {
        let name = &version["name"];
        let Some(next) = named(&new, name) else {
            continue;
        };
        if version["served"] == true && next["served"] != true {
            broken.push(format!("version {name} would no longer be served"));
        }
        let mut path = format!("version {name}: ");
        removed(
            &version["schema"]["openAPIV3Schema"],
            &next["schema"]["openAPIV3Schema"],
            &mut path,
            &mut broken,
        );
    }
    broken
}

/// Fields that were described and no longer are: objects would lose them.
fn removed(before: &Value, after: &Value, path: &mut String, into: &mut Vec<String>) {
    if after["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (field, schema) in before["properties"].as_object().into_iter().flatten() {
        let length = path.len();
        path.push('.');
        path.push_str(field);
        match after["properties"].get(field) {
            None => into.push(format!("{path} goes")),
            Some(next) => removed(schema, next, path, into),
        }
        path.truncate(length);
    }
    if before["items"].is_object() && after["items"].is_object() {
        let length = path.len();
        path.push_str("[]");
        removed(&before["items"], &after["items"], path, into);
        path.truncate(length);
    }
}

impl Action<'_> {
    /// Makes the definitions that are not there and waits until their kinds are served; those that are there stay, or
    /// are brought up to date if asked and nothing breaks.
    pub(super) async fn definitions(&self, files: &[(String, String)]) -> Result<(), Error> {
        let mut made = Vec::new();
        for (path, text) in files {
            for object in manifest::objects(text).map_err(|error| match error {
                Error::Refused(why) => Error::Refused(format!("{path}: {why}")),
                other => other,
            })? {
                let id = object.id(Scope::Cluster, "");
                let doing = || Error::call(format!("{path}: make {id}"));
                let live = self.cluster.find(&id).await.map_err(doing())?;
                match live {
                    None => {
                        self.cluster
                            .create(&id, &object.value)
                            .await
                            .map_err(doing())?;
                    }
                    Some(live) if self.options.upgrade_crds => {
                        let broken = breaks(&live, &object.value);
                        if !broken.is_empty() {
                            return Err(Error::Refused(format!(
                                "{path}: {id} cannot be brought up to date safely: {}",
                                broken.join("; ")
                            )));
                        }
                        let how = Apply {
                            force: true,
                            dry_run: false,
                        };
                        self.cluster
                            .apply(&id, &object.value, how)
                            .await
                            .map_err(doing())?;
                    }
                    Some(_) => {
                        let note = format!("{id} is already present; it stays as it is");
                        self.cluster.report(Report::Note(note)).await;
                        continue;
                    }
                }
                let value = object.value.clone();
                made.push(Resolved { id, object, value });
            }
        }
        self.until_ready(&made, |_| true).await
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn definition(versions: Value) -> Value {
        json!({"spec": {"group": "g", "scope": "Namespaced", "names": {"plural": "toys"}, "versions": versions},
            "status": {"storedVersions": ["v1"]}})
    }

    fn version(name: &str, served: bool, properties: Value) -> Value {
        json!({"name": name, "served": served, "schema": {"openAPIV3Schema": {"properties": properties}}})
    }

    #[track_caller]
    fn check(new: Value, expected: Expect) {
        let live = definition(json!([version(
            "v1",
            true,
            json!({"spec": {"properties": {"a": {}, "b": {"items": {"properties": {"c": {}}}}}}})
        )]));
        expected.assert_eq(&breaks(&live, &new).join("\n"));
    }

    #[test]
    fn what_would_be_lost_is_named() {
        let whole = json!({"spec": {"properties": {"a": {}, "n": {}, "b": {"items": {"properties": {"c": {}}}}}}});
        check(
            definition(json!([
                version("v1", true, whole.clone()),
                version("v2", true, json!({}))
            ])),
            expect![""],
        );
        check(
            definition(json!([version("v2", true, json!({}))])),
            expect![[r#"version "v1" goes, and objects are stored as it"#]],
        );
        check(
            definition(json!([version("v1", false, whole)])),
            expect![[r#"version "v1" would no longer be served"#]],
        );
        check(
            definition(json!([version(
                "v1",
                true,
                json!({"spec": {"properties": {"b": {"items": {"properties": {}}}}}})
            )])),
            expect![[r#"
                version "v1": .spec.a goes
                version "v1": .spec.b[].c goes"#]],
        );
        let mut moved = definition(json!([]));
        moved["spec"]["scope"] = json!("Cluster");
        check(
            moved,
            expect![[r#"
            spec.scope changes from "Namespaced" to "Cluster"
            version "v1" goes, and objects are stored as it"#]],
        );
    }
}
