//! RuntimeClass: a pod's overhead and where it may run, from the class it names. The classes `wasm` and
//! `oci` are there from the start, and mean the same while their objects are not: they name what runs the containers.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::is_new_pod;
use crate::{
    admission::{Review, objects},
    error::Error,
    kinds::value::{child, entries, fill, items, part, put, text},
};

const BUILTIN: &[&str] = &["oci", "wasm"];

pub(super) fn mutate(review: &Review<'_>, pod: &mut Value) -> Result<(), Error> {
    if !is_new_pod(review) {
        return Ok(());
    }
    let refuse = |message: String| objects::forbidden(review, message);
    match find(review, pod)? {
        Some(class) => complete(pod, &class).map_err(refuse),
        None => Ok(()),
    }
}

pub(super) fn validate(review: &Review<'_>, pod: &Value) -> Result<(), Error> {
    if !is_new_pod(review) {
        return Ok(());
    }
    let class = find(review, pod)?.unwrap_or_default();
    let same = part(pod, "/spec/overhead") == part(&class, "/overhead/podFixed");
    if same || entries(pod, "/spec/overhead").next().is_none() {
        return Ok(());
    }
    Err(objects::forbidden(
        review,
        "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
    ))
}

/// The class that a pod names; `None` if it names none or a built-in one without an object.
fn find(review: &Review<'_>, pod: &Value) -> Result<Option<Arc<Value>>, Error> {
    let name = text(pod, "/spec/runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    let class = objects::find(review.call, "node.k8s.io", "runtimeclasses", "", name)?;
    if class.is_none() && !BUILTIN.contains(&name) {
        return Err(objects::forbidden(
            review,
            format!("pod rejected: RuntimeClass {name:?} not found"),
        ));
    }
    Ok(class)
}

fn complete(pod: &mut Value, class: &Value) -> Result<(), String> {
    let Some(spec) = child(pod, "spec") else {
        return Ok(());
    };
    let overhead = part(class, "/overhead/podFixed");
    if overhead.as_object().is_some_and(|fixed| !fixed.is_empty()) {
        let own = part(spec, "/overhead");
        if own.as_object().is_some_and(|own| !own.is_empty()) && own != overhead {
            return Err(
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                    .to_owned(),
            );
        }
        put(spec, "overhead", overhead.clone());
    }
    for (key, value) in entries(class, "/scheduling/nodeSelector") {
        fill(spec, "nodeSelector", Map::new());
        let own = &mut spec["nodeSelector"][key];
        if !own.is_null() && own != value {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                own.as_str().unwrap_or_default(),
            ));
        }
        *own = value.clone();
    }
    for toleration in items(class, "/scheduling/tolerations") {
        if !items(spec, "/tolerations").contains(toleration) {
            fill(spec, "tolerations", Vec::<Value>::new());
            if let Some(list) = spec["tolerations"].as_array_mut() {
                list.push(toleration.clone());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(spec: Value, class: Value, expected: Expect) {
        let mut pod = json!({"spec": spec});
        expected.assert_eq(&match complete(&mut pod, &class) {
            Ok(()) => pod["spec"].to_string(),
            Err(message) => message,
        });
    }

    #[test]
    fn a_class_brings_overhead_selector_and_tolerations() {
        let class = json!({
            "overhead": {"podFixed": {"cpu": "10m"}},
            "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}]},
        });
        check(
            json!({"tolerations": [{"key": "k"}]}),
            class.clone(),
            expect![[
                r#"{"nodeSelector":{"a":"b"},"overhead":{"cpu":"10m"},"tolerations":[{"key":"k"}]}"#
            ]],
        );
        check(
            json!({"nodeSelector": {"a": "c"}}),
            class.clone(),
            expect![
                "conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = c"
            ],
        );
        check(
            json!({"overhead": {"cpu": "1"}}),
            class,
            expect!["pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"],
        );
    }
}
