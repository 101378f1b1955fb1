//! Ephemeral containers: added to a pod that runs, to look into it; never changed, never removed.

use std::collections::HashSet;

use serde_json::Value;

use super::container::{self, Context};
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{items, part, put, text},
    },
};

/// What only containers have that a pod is made with.
const REFUSED: &[&str] = &[
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resources",
    "resizePolicy",
    "restartPolicy",
];

/// Checks the ephemeral containers of a spec that stands at `path`; `names` are those of the others.
pub(super) fn validate(
    path: &Path,
    spec: &Value,
    context: &Context<'_>,
    names: &mut check::Seen,
    errors: &mut FieldErrors,
) {
    let targets: HashSet<_> = items(spec, "/containers")
        .iter()
        .map(|container| text(container, "/name"))
        .collect();
    for (index, one) in items(spec, "/ephemeralContainers").iter().enumerate() {
        let path = path.field("ephemeralContainers").index(index);
        container::validate(&path, one, context, errors);
        let given = text(one, "/name");
        if !given.is_empty() {
            check::unique(&path.field("name"), given, names, errors);
        }
        let target = text(one, "/targetContainerName");
        if !target.is_empty() && !targets.contains(target) {
            let path = path.field("targetContainerName");
            errors.push(&path, Cause::NotFound, target.into(), "");
        }
        for field in REFUSED {
            let said = match one.get(*field) {
                None | Some(Value::Null) => false,
                Some(Value::Object(own)) => !own.is_empty(),
                Some(Value::Array(own)) => !own.is_empty(),
                Some(_) => true,
            };
            if said {
                errors.forbidden(
                    &path.field(field),
                    "cannot be set for an Ephemeral Container",
                );
            }
        }
        for (index, mount) in items(one, "/volumeMounts").iter().enumerate() {
            for (field, pointer) in [("subPath", "/subPath"), ("subPathExpr", "/subPathExpr")] {
                if !text(mount, pointer).is_empty() {
                    errors.forbidden(
                        &path.field("volumeMounts").index(index).field(field),
                        "cannot be set for an Ephemeral Container",
                    );
                }
            }
        }
    }
}

/// The old pod with the ephemeral containers that the new one wants.
pub(crate) fn take(object: &mut Value, old: &Value) {
    let wanted = part(object, "/spec/ephemeralContainers").clone();
    super::resize::keep_all_but_metadata(object, old);
    if let Some(spec) = object.get_mut("spec") {
        put(spec, "ephemeralContainers", wanted);
    }
}

/// Checks that nothing but new ephemeral containers is different.
pub(crate) fn validate_change(object: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::root("spec").field("ephemeralContainers");
    let now = items(object, "/spec/ephemeralContainers");
    for before in items(old, "/spec/ephemeralContainers") {
        let given = text(before, "/name");
        match now.iter().find(|one| text(one, "/name") == given) {
            None => errors.forbidden(
                &path,
                format!("existing ephemeral containers {given:?} may not be removed"),
            ),
            Some(one) if one != before => errors.forbidden(
                &path,
                format!("existing ephemeral containers {given:?} may not be changed"),
            ),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::{
        pod::Pod,
        tests::{create_errors, errors, read},
    };

    #[track_caller]
    fn check(containers: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &Pod,
            &format!(
                "{{spec: {{containers: [{{name: a, image: i}}], ephemeralContainers: [{containers}]}}}}"
            ),
        ));
    }

    #[track_caller]
    fn check_change(old: &str, new: &str, expect: Expect) {
        let pod = |list: &str| read(&format!("{{spec: {{ephemeralContainers: [{list}]}}}}"));
        let mut errors = FieldErrors::default();
        validate_change(&pod(new), &pod(old), &mut errors);
        let lines: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn it_looks_and_does_not_serve() {
        check(
            "{name: b, image: i, targetContainerName: a, stdin: true}",
            expect![[""]],
        );
        check(
            "{name: a, image: i, ports: [{containerPort: 1}], resources: {limits: {cpu: 1}}, \
             targetContainerName: c}",
            expect![[r#"
                spec.ephemeralContainers[0].name: Duplicate value: "a"
                spec.ephemeralContainers[0].targetContainerName: Not found: "c"
                spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container
                spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container
            "#]],
        );
    }

    #[test]
    fn a_pod_is_not_made_with_one() {
        expect![[r#"
            spec.ephemeralContainers: Forbidden: cannot be set on create
        "#]]
        .assert_eq(&create_errors(
            &Pod,
            "{spec: {containers: [{name: a, image: i}], ephemeralContainers: [{name: b, image: i}]}}",
        ));
    }

    #[test]
    fn those_that_are_there_stay() {
        check_change("{name: a}", "{name: a}, {name: b}", expect![[""]]);
        check_change(
            "{name: a}, {name: b}",
            "{name: b, image: i}",
            expect![[r#"
                spec.ephemeralContainers: Forbidden: existing ephemeral containers "a" may not be removed
                spec.ephemeralContainers: Forbidden: existing ephemeral containers "b" may not be changed"#]],
        );
    }
}
