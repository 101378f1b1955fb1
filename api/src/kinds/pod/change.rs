//! What of a pod's spec may change once the pod is there.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::value::{entries, items, number, part, put, text},
};

const FORBIDDEN: &str = "pod updates may not change fields other than \
                         `spec.containers[*].image`,`spec.initContainers[*].image`,\
                         `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
                         tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 \
                         if it was previously negative)";

/// Marks a pod that a node has made of a file of its own.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod is a mirror pod for all its life or never: such a one gives its node nothing to read.
pub(crate) fn validate_mirror(object: &Value, old: &Value, errors: &mut FieldErrors) {
    let mark = |pod: &Value| part(pod, "/metadata/annotations").get(MIRROR).cloned();
    let (new, old) = (mark(object), mark(old));
    if new == old {
        return;
    }
    let what = if old.is_some() {
        "may not remove or update mirror pod annotation"
    } else {
        "may not add mirror pod annotation"
    };
    let annotations = Path::root("metadata").field("annotations");
    errors.forbidden(&annotations.key(MIRROR), what);
}

/// Compares two specs.
pub(crate) fn validate(spec: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::root("spec");
    let mut same_containers = true;
    for (list, pointer) in [
        ("containers", "/containers"),
        ("initContainers", "/initContainers"),
    ] {
        let (new, old) = (items(spec, pointer), items(old, pointer));
        if new.len() != old.len() {
            same_containers = false;
            errors.forbidden(
                &path.field(list),
                "pod updates may not add or remove containers",
            );
        }
    }
    if !same_containers {
        return;
    }
    validate_deadline(&path, spec, old, errors);
    validate_tolerations(&path, spec, old, errors);
    validate_gates(&path, spec, old, errors);
    // What may change is taken over; anything that then still differs may not.
    let mut rest = old.clone();
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put(
            &mut rest,
            field,
            part(spec, "").get(field).cloned().unwrap_or_default(),
        );
    }
    if !items(old, "/schedulingGates").is_empty() {
        put(
            &mut rest,
            "nodeSelector",
            part(spec, "/nodeSelector").clone(),
        );
    }
    let grace = number(spec, "/terminationGracePeriodSeconds");
    if grace == Some(1) && number(old, "/terminationGracePeriodSeconds").is_some_and(|old| old < 0)
    {
        put(&mut rest, "terminationGracePeriodSeconds", 1.into());
    }
    for (list, pointer) in [
        ("containers", "/containers"),
        ("initContainers", "/initContainers"),
    ] {
        let images = items(spec, pointer).iter().map(|new| text(new, "/image"));
        if let Some(old) = rest.get_mut(list).and_then(Value::as_array_mut) {
            for (container, image) in old.iter_mut().zip(images) {
                put(container, "image", image.into());
            }
        }
    }
    let changed = changed_fields(spec, &rest);
    if !changed.is_empty() {
        errors.forbidden(
            &path,
            format!("{FORBIDDEN}; changed: {}", changed.join(", ")),
        );
    }
}

/// Gates are opened, never put up; while one is closed, the pod may still be drawn to fewer nodes.
fn validate_gates(path: &Path, spec: &Value, old: &Value, errors: &mut FieldErrors) {
    let known = items(old, "/schedulingGates");
    for (index, gate) in items(spec, "/schedulingGates").iter().enumerate() {
        if !known.contains(gate) {
            errors.forbidden(
                &path.field("schedulingGates").index(index),
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    text(gate, "/name")
                ),
            );
        }
    }
    let lost = entries(old, "/nodeSelector")
        .any(|(key, value)| part(spec, "/nodeSelector").get(key) != Some(value));
    if !known.is_empty() && lost {
        errors.invalid(
            &path.field("nodeSelector"),
            part(spec, "/nodeSelector").clone(),
            "only additions are allowed to spec.nodeSelector (no mutations or deletions)",
        );
    }
}

fn validate_deadline(path: &Path, spec: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = path.field("activeDeadlineSeconds");
    let (new, old) = (
        number(spec, "/activeDeadlineSeconds"),
        number(old, "/activeDeadlineSeconds"),
    );
    match (new, old) {
        (None, Some(_)) => errors.invalid(
            &path,
            Value::Null,
            "must not update from a positive integer to nil value",
        ),
        (Some(new), Some(old)) if new > old => errors.invalid(
            &path,
            new,
            format!("must be less than or equal to previous value {old}"),
        ),
        _ => {}
    }
}

fn validate_tolerations(path: &Path, spec: &Value, old: &Value, errors: &mut FieldErrors) {
    // Only how long it lasts may change.
    let given = |pod| {
        let all: &[Value] = items(pod, "/tolerations");
        all.iter().map(|toleration| {
            ["/key", "/operator", "/value", "/effect"].map(|pointer| text(toleration, pointer))
        })
    };
    let kept: HashSet<_> = given(spec).collect();
    if !given(old).all(|toleration| kept.contains(&toleration)) {
        errors.forbidden(
            &path.field("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn changed_fields(spec: &Value, old: &Value) -> Vec<String> {
    let keys = |value: &Value| -> Vec<String> {
        value
            .as_object()
            .map(|map| map.keys().cloned().collect())
            .unwrap_or_default()
    };
    let mut all = keys(spec);
    all.extend(keys(old));
    all.sort_unstable();
    all.dedup();
    all.retain(|key| spec.get(key) != old.get(key));
    all.into_iter().map(|key| format!("`spec.{key}`")).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::update_errors};

    const OLD: &str =
        "containers: [{name: a, image: i}], tolerations: [{key: a, operator: Exists}]";

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        let old = format!("{{spec: {{{OLD}}}}}");
        expect.assert_eq(&update_errors(&Pod, &old, &format!("{{spec: {{{spec}}}}}")));
    }

    #[test]
    fn a_mirror_pod_stays_one() {
        let check = |old: &str, new: &str, expect: Expect| {
            let pod = |annotations: &str| {
                format!("{{metadata: {{annotations: {annotations}}}, spec: {{{OLD}}}}}")
            };
            expect.assert_eq(&update_errors(&Pod, &pod(old), &pod(new)));
        };
        let mirror = "{kubernetes.io/config.mirror: a}";
        check(mirror, mirror, expect![[""]]);
        check(
            mirror,
            "{}",
            expect![[r#"
                metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation
            "#]],
        );
        check(
            "{}",
            mirror,
            expect![[r#"
                metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation
            "#]],
        );
    }

    #[test]
    fn an_image_may_change_and_a_toleration_be_added() {
        check(
            "containers: [{name: a, image: j, imagePullPolicy: Always}], activeDeadlineSeconds: 5, \
             tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists}]",
            expect![[""]],
        );
    }

    #[test]
    fn gates_open_and_a_gated_pod_may_be_drawn_elsewhere() {
        let old = "{spec: {schedulingGates: [{name: a}, {name: b}], nodeSelector: {x: 'z'}, containers: \
                   [{name: a, image: i}]}}";
        let check = |spec: &str, expect: Expect| {
            let new = format!("{{spec: {{{spec}, containers: [{{name: a, image: i}}]}}}}");
            expect.assert_eq(&update_errors(&Pod, old, &new));
        };
        check(
            "schedulingGates: [{name: b}], nodeSelector: {x: 'z', v: w}",
            expect![[""]],
        );
        check(
            "schedulingGates: [{name: c}], nodeSelector: {v: w}",
            expect![[r#"
                spec.schedulingGates[0]: Forbidden: only deletion is allowed, but found new scheduling gate 'c'
                spec.nodeSelector: Invalid value: {"v":"w"}: only additions are allowed to spec.nodeSelector (no mutations or deletions)
            "#]],
        );
    }

    #[test]
    fn nothing_else_may_change() {
        check(
            "nodeName: n, containers: [{name: a, image: i, tty: true}]",
            expect![[r#"
                spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
                spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative); changed: `spec.containers`, `spec.nodeName`
            "#]],
        );
        check(
            "containers: []",
            expect![[r#"
                spec.containers: Forbidden: pod updates may not add or remove containers
            "#]],
        );
    }
}
