//! Definitions of custom kinds that a chart brings in `crds/`: made before anything else, changed only on request.

use serde_json::Value;

use crate::release::{
    Error, Report,
    cluster::{Apply, Scope},
    manifest,
};

use super::{Action, Crds, objects::Resolved};

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
            if version["served"] == true {
                broken.push(format!("version {name} goes, and clients are served it"));
            }
            continue;
        };
        if version["served"] == true && next["served"] != true {
            broken.push(format!("version {name} would no longer be served"));
        }
        let mut path = format!("version {name}: ");
        lost(
            &version["schema"]["openAPIV3Schema"],
            &next["schema"]["openAPIV3Schema"],
            &mut path,
            &mut broken,
        );
    }
    broken
}

/// Marks a part of a schema beneath which fields are kept that it does not describe.
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// What of objects would be dropped, or could not be written any more: fields, entries and items that were described and
/// no longer are, and types that change.
fn lost(before: &Value, after: &Value, path: &mut String, into: &mut Vec<String>) {
    if after[PRESERVE] == true {
        return;
    }
    if before[PRESERVE] == true {
        let place = match path.is_empty() || path.ends_with(' ') {
            true => format!("{path}objects"),
            false => path.clone(),
        };
        into.push(format!("{place}: fields that are not described go"));
    }
    let types = |schema: &Value| match schema["x-kubernetes-int-or-string"] == true {
        true => "integer or string".to_owned(),
        false => schema["type"].as_str().unwrap_or_default().to_owned(),
    };
    let (was, is) = (types(before), types(after));
    let widened = (was == "integer" && is == "number") || is == "integer or string";
    if was != is && !was.is_empty() && !is.is_empty() && !widened {
        into.push(format!("{path} changes from {was} to {is}"));
        return;
    }
    let entries = &after["additionalProperties"];
    for (field, schema) in before["properties"].as_object().into_iter().flatten() {
        let next = after["properties"].get(field);
        // A map of anything still has it.
        let next = next.or_else(|| entries.is_object().then_some(entries));
        within(path, &format!(".{field}"), |path| match next {
            None if *entries == true => {}
            None => into.push(format!("{path} goes")),
            Some(next) => lost(schema, next, path, into),
        });
    }
    for (part, shown) in [("additionalProperties", "[*]"), ("items", "[]")] {
        let (before, next) = (&before[part], &after[part]);
        let described = before.is_object() || *before == true;
        within(path, shown, |path| {
            if before.is_object() && next.is_object() {
                lost(before, next, path, into);
            } else if described && !next.is_object() && *next != true {
                into.push(format!("{path} goes"));
            }
        });
    }
}

/// Works with a path that is longer meanwhile.
fn within(path: &mut String, more: &str, work: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(more);
    work(path);
    path.truncate(length);
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
                    Some(live) if matches!(self.options.crds, Crds::Upgrade | Crds::Force) => {
                        let broken = breaks(&live, &object.value).join("; ");
                        if !broken.is_empty() && self.options.crds == Crds::Upgrade {
                            return Err(Error::Refused(format!(
                                "{path}: {id} cannot be brought up to date safely: {broken} (--crds=force does it all the same)"
                            )));
                        }
                        if !broken.is_empty() {
                            let note = format!("Warning: {path}: {id}: {broken}");
                            self.cluster.report(Report::Note(note)).await;
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
            expect![[r#"
                version "v1" goes, and objects are stored as it
                version "v1" goes, and clients are served it"#]],
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
            version "v1" goes, and objects are stored as it
            version "v1" goes, and clients are served it"#]],
        );
    }

    #[track_caller]
    fn check_schema(before: Value, after: Value, expected: Expect) {
        let mut told = Vec::new();
        lost(&before, &after, &mut String::new(), &mut told);
        expected.assert_eq(&told.join("\n"));
    }

    #[test]
    fn what_a_schema_drops_or_refuses_is_lost() {
        let of = |schema: Value| json!({"properties": {"a": schema}});
        let map = json!({"additionalProperties": {"properties": {"b": {"type": "string"}}}});
        check_schema(of(map.clone()), of(map.clone()), expect![""]);
        check_schema(of(map.clone()), of(json!({})), expect![".a[*] goes"]);
        let other = json!({"additionalProperties": {"properties": {}}});
        check_schema(of(map), of(other), expect![".a[*].b goes"]);
        let text = || of(json!({"type": "string"}));
        let whole = || of(json!({"type": "integer"}));
        check_schema(
            text(),
            whole(),
            expect![".a changes from string to integer"],
        );
        check_schema(whole(), of(json!({"type": "number"})), expect![""]);
        check_schema(
            whole(),
            of(json!({"x-kubernetes-int-or-string": true})),
            expect![""],
        );
        let any = || of(json!({PRESERVE: true}));
        check_schema(text(), any(), expect![""]);
        check_schema(
            any(),
            text(),
            expect![".a: fields that are not described go"],
        );
        let map = json!({"additionalProperties": {"type": "string"}});
        check_schema(text(), map, expect![""]);
    }
}
