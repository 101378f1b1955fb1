//! Resizing: the CPU and memory of a pod's containers, changed while it runs (KEP-1287).

use serde_json::Value;

use super::qos;
use crate::{
    field::{FieldErrors, Path},
    kinds::value::{child, entries, items, part, plain, present, put, text},
    quantity::Quantity,
};

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// The old object with what every write may say of its metadata.
pub(super) fn keep_all_but_metadata(object: &mut Value, old: &Value) {
    let metadata = part(object, "/metadata").clone();
    *object = old.clone();
    put(object, "metadata", metadata);
}

/// The old pod with the resources that the new one wants, container by container.
pub(crate) fn take(object: &mut Value, old: &Value) {
    let wanted = object.clone();
    keep_all_but_metadata(object, old);
    let Some(spec) = child(object, "spec") else {
        return;
    };
    for list in LISTS {
        let wanted = items(&wanted["spec"][list], "");
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            let Some(new) = wanted.iter().find(|one| text(one, "/name") == name) else {
                continue;
            };
            for field in ["resources", "resizePolicy"] {
                put(
                    container,
                    field,
                    new.get(field).cloned().unwrap_or_default(),
                );
            }
        }
    }
}

/// What is wrong with a resize.
pub(crate) fn validate(object: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::root("spec");
    if text(old, "/spec/os/name") == "windows" {
        errors.forbidden(&path, "windows pods cannot be resized");
    }
    if matches!(text(old, "/status/phase"), "Succeeded" | "Failed") {
        errors.forbidden(&path, "completed pods cannot be resized");
    }
    let (class, before) = (
        qos::class(part(object, "/spec")),
        qos::class(part(old, "/spec")),
    );
    if class != before {
        errors.invalid(
            &path,
            class,
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    for list in LISTS {
        let pairs = items(&object["spec"][list], "")
            .iter()
            .zip(items(&old["spec"][list], ""));
        for (index, (new, old)) in pairs.enumerate() {
            let path = path.field(list).index(index);
            if new == old {
                continue;
            }
            if list == "initContainers" && text(old, "/restartPolicy") != "Always" {
                errors.forbidden(
                    &path.field("resources"),
                    "resources for non-sidecar init containers are immutable",
                );
            }
            validate_container(&path.field("resources"), new, old, errors);
        }
    }
}

fn validate_container(path: &Path, new: &Value, old: &Value, errors: &mut FieldErrors) {
    for list in ["limits", "requests"] {
        let path = path.field(list);
        let (now, before) = (&new["resources"][list], &old["resources"][list]);
        for (resource, amount) in entries(before, "") {
            match (resource.as_str(), now.get(resource)) {
                ("cpu" | "memory", Some(_)) => {}
                ("cpu" | "memory", None) => {
                    errors.forbidden(&path, format!("resource {list} cannot be removed"));
                }
                (_, now) if now.is_none_or(|now| !same(now, amount)) => {
                    errors.forbidden(&path, "only cpu and memory resources are mutable");
                }
                _ => {}
            }
        }
        for (resource, _) in entries(now, "") {
            if !matches!(resource.as_str(), "cpu" | "memory") && before.get(resource).is_none() {
                errors.forbidden(&path, "only cpu and memory resources are mutable");
            }
        }
    }
    if part(new, "/resources/claims") != part(old, "/resources/claims") {
        errors.forbidden(
            &path.field("claims"),
            "only cpu and memory resources are mutable",
        );
    }
    if part(new, "/resizePolicy") != part(old, "/resizePolicy") && present(old, "/resizePolicy") {
        errors.forbidden(path, "only cpu and memory resources are mutable");
    }
}

fn same(one: &Value, other: &Value) -> bool {
    let parse = |value: &Value| plain(value).parse::<Quantity>().ok();
    one == other || parse(one) == parse(other)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use serde_json::json;

    use super::*;
    use crate::kinds::tests::read;

    /// A pod of containers with these resources.
    fn pod(containers: &[(&str, &str)]) -> Value {
        let container = |(name, resources): &(&str, &str)| json!({ "name": name, "resources": read(&format!("{{{resources}}}")) });
        let containers: Vec<Value> = containers.iter().map(container).collect();
        json!({ "metadata": {}, "spec": { "containers": containers } })
    }

    #[track_caller]
    fn check(old: &str, new: &str, expect: Expect) {
        let old = pod(&[("a", old)]);
        let mut new = pod(&[("a", new)]);
        take(&mut new, &old);
        let mut errors = FieldErrors::default();
        validate(&new, &old, &mut errors);
        let lines: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn cpu_and_memory_may_change() {
        check(
            "requests: {cpu: 1, memory: 1Gi}",
            "requests: {cpu: 2, memory: 512Mi}",
            expect![[""]],
        );
    }

    #[test]
    fn nothing_is_taken_away_and_the_class_stays() {
        check(
            "requests: {cpu: 1}, limits: {cpu: 2, ephemeral-storage: 1Gi}",
            "limits: {ephemeral-storage: 2Gi}",
            expect![[r#"
                spec: Invalid value: "BestEffort": Pod QOS Class may not change as a result of resizing
                spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed
                spec.containers[0].resources.limits: Forbidden: only cpu and memory resources are mutable
                spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"#]],
        );
        check(
            "requests: {cpu: 1, memory: 1}, limits: {cpu: 1, memory: 1}",
            "requests: {cpu: 1, memory: 1}, limits: {cpu: 2, memory: 1}",
            expect![[r#"
                spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing"#]],
        );
    }

    #[test]
    fn everything_else_stays_as_it_was() {
        let old = pod(&[("a", "requests: {cpu: 1}"), ("b", "")]);
        let mut new = pod(&[("b", "requests: {cpu: 3}"), ("a", "requests: {cpu: 2}")]);
        new["spec"]["nodeName"] = "n".into();
        take(&mut new, &old);
        expect![[r#"{"metadata":{},"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":2}}},{"name":"b","resources":{"requests":{"cpu":3}}}]}}"#]]
            .assert_eq(&new.to_string());
    }
}
