//! Who applied an object before: taking over the fields of another tool that installed the same release. Pure.
//!
//! Helm 3 writes objects (operation `Update`), Helm 4 applies them under the name of its program. Whoever set the
//! annotation that names the release did so as the release, so its fields become [`MANAGER`]'s: fields that the chart
//! no longer has go, and nothing is a conflict with one's own past.

use serde_json::{Map, Value, json};

use super::manifest::RELEASE_NAME;

/// The name under which releases are applied: that of Helm's program.
pub const MANAGER: &str = "helm";

/// The JSON patch that gives the release's fields to [`MANAGER`]; `None` if they are.
pub fn take_over(live: &Value) -> Option<Value> {
    let entries = live["metadata"]["managedFields"].as_array()?;
    let ours = |entry: &Value| {
        entry["manager"] == MANAGER
            && entry["operation"] == "Apply"
            && entry["subresource"].as_str().is_none_or(str::is_empty)
    };
    let applied_as_release = |entry: &&Value| {
        let annotation = format!("f:{RELEASE_NAME}");
        !ours(entry)
            && entry["fieldsV1"]["f:metadata"]["f:annotations"]
                .get(&annotation)
                .is_some()
    };
    let theirs: Vec<&Value> = entries.iter().filter(applied_as_release).collect();
    let first = theirs.first()?;
    let own = entries.iter().find(|entry| ours(entry));
    let mut fields = own.map_or_else(Map::new, fields_of);
    for entry in &theirs {
        unite(&mut fields, fields_of(entry));
    }
    let taken = json!({
        "manager": MANAGER,
        "operation": "Apply",
        "apiVersion": own.unwrap_or(first)["apiVersion"],
        "time": own.unwrap_or(first)["time"],
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    });
    let others = entries
        .iter()
        .filter(|entry| !ours(entry) && !applied_as_release(entry));
    let managed: Vec<Value> = others.cloned().chain([taken]).collect();
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": managed},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
    ]))
}

fn fields_of(entry: &Value) -> Map<String, Value> {
    entry["fieldsV1"].as_object().cloned().unwrap_or_default()
}

/// Adds fields to a set of fields.
fn unite(into: &mut Map<String, Value>, more: Map<String, Value>) {
    for (field, below) in more {
        match (into.get_mut(&field), below) {
            (Some(Value::Object(into)), Value::Object(more)) => unite(into, more),
            (Some(_), _) => {}
            (None, below) => {
                into.insert(field, below);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn as_release(field: &str) -> Value {
        json!({"f:metadata": {"f:annotations": {"f:meta.helm.sh/release-name": {}}}, "f:data": {field: {}}})
    }

    #[track_caller]
    fn check(entries: Vec<Value>, expected: Expect) {
        let live = json!({"metadata": {"resourceVersion": "7", "managedFields": entries}});
        let shown = match take_over(&live) {
            None => "nothing to take".to_owned(),
            Some(patch) => patch[0]["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| format!("{} {} {}\n", e["manager"], e["operation"], e["fieldsV1"]))
                .collect(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn fields_that_were_written_as_the_release_become_ours() {
        check(
            vec![
                entry("helm", "Update", as_release("f:a")),
                entry("kubectl-edit", "Update", json!({"f:data": {"f:z": {}}})),
            ],
            expect![[r#"
                "kubectl-edit" "Update" {"f:data":{"f:z":{}}}
                "helm" "Apply" {"f:data":{"f:a":{}},"f:metadata":{"f:annotations":{"f:meta.helm.sh/release-name":{}}}}
            "#]],
        );
        check(
            vec![
                entry("helm", "Apply", as_release("f:a")),
                entry("python", "Apply", as_release("f:b")),
            ],
            expect![[r#"
                "helm" "Apply" {"f:data":{"f:a":{},"f:b":{}},"f:metadata":{"f:annotations":{"f:meta.helm.sh/release-name":{}}}}
            "#]],
        );
    }

    #[test]
    fn others_keep_theirs() {
        check(
            vec![
                entry("helm", "Apply", as_release("f:a")),
                entry("controller", "Update", json!({"f:status": {}})),
            ],
            expect!["nothing to take"],
        );
        check(vec![], expect!["nothing to take"]);
    }
}
