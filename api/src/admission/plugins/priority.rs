//! Priority: a pod's priority and whether it preempts, from the PriorityClass it names or the default
//! one; and only one class is the default.

use serde_json::Value;

use super::is_pod;
use crate::{
    admission::{Operation, Review, objects},
    error::Error,
    kinds::value::{number, part, put, text, truth},
    object,
};

const GROUP: &str = "scheduling.k8s.io";
const PREEMPTS: &str = "PreemptLowerPriority";

/// Classes that every cluster has.
const SYSTEM: &[(&str, i64)] = &[
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// What a class gives a pod.
#[derive(Debug, Default)]
struct Class {
    name: String,
    priority: i64,
    preemption: String,
}

pub(super) fn mutate(
    review: &Review<'_>,
    pod: &mut Value,
    old: Option<&Value>,
) -> Result<(), Error> {
    if !is_pod(review) {
        return Ok(());
    }
    match (review.operation, old) {
        (Operation::Create, _) => {
            let class = find(review, text(pod, "/spec/priorityClassName"))?;
            complete(pod, &class).map_err(|message| objects::forbidden(review, message))
        }
        (_, Some(old)) => {
            for field in ["priority", "preemptionPolicy"] {
                if pod["spec"][field].is_null() {
                    put(&mut pod["spec"], field, old["spec"][field].clone());
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

pub(super) fn validate(review: &Review<'_>, class: &Value) -> Result<(), Error> {
    if !objects::is(review, GROUP, "priorityclasses") || !truth(class, "/globalDefault") {
        return Ok(());
    }
    let other = objects::list(review.call, GROUP, "priorityclasses", None)?
        .into_iter()
        .find(|other| truth(other, "/globalDefault") && object::name(other) != review.name);
    match other {
        Some(other) => Err(objects::forbidden(
            review,
            format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                object::name(&other)
            ),
        )),
        None => Ok(()),
    }
}

fn find(review: &Review<'_>, name: &str) -> Result<Class, Error> {
    let read = |class: &Value| Class {
        name: object::name(class).to_owned(),
        priority: number(class, "/value").unwrap_or_default(),
        preemption: match text(class, "/preemptionPolicy") {
            "" => PREEMPTS.to_owned(),
            policy => policy.to_owned(),
        },
    };
    if name.is_empty() {
        let classes = objects::list(review.call, GROUP, "priorityclasses", None)?;
        // Of several, which a race may leave, the lowest.
        let default = classes
            .iter()
            .filter(|class| truth(class, "/globalDefault"))
            .min_by_key(|class| number(class, "/value"));
        return Ok(default.map(|class| read(class)).unwrap_or_else(|| Class {
            preemption: PREEMPTS.to_owned(),
            ..Class::default()
        }));
    }
    if let Some(class) = objects::find(review.call, GROUP, "priorityclasses", "", name)? {
        return Ok(read(&class));
    }
    if let Some((_, priority)) = SYSTEM.iter().find(|(system, _)| *system == name) {
        return Ok(Class {
            name: name.to_owned(),
            priority: *priority,
            preemption: PREEMPTS.to_owned(),
        });
    }
    Err(objects::forbidden(
        review,
        format!("no PriorityClass with name {name} was found"),
    ))
}

fn complete(pod: &mut Value, class: &Class) -> Result<(), String> {
    let spec = &mut pod["spec"];
    let (own, priority) = (number(spec, "/priority"), class.priority);
    if let Some(own) = own.filter(|own| *own != priority) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    let policy = part(spec, "/preemptionPolicy").as_str();
    if let Some(own) = policy.filter(|own| *own != class.preemption) {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            class.preemption
        ));
    }
    if !class.name.is_empty() {
        put(spec, "priorityClassName", class.name.as_str().into());
    }
    put(spec, "priority", priority.into());
    put(spec, "preemptionPolicy", class.preemption.as_str().into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(spec: Value, expected: Expect) {
        let mut pod = json!({"spec": spec});
        let class = Class {
            name: "high".to_owned(),
            priority: 7,
            preemption: "Never".to_owned(),
        };
        expected.assert_eq(&match complete(&mut pod, &class) {
            Ok(()) => pod["spec"].to_string(),
            Err(message) => message,
        });
    }

    #[test]
    fn a_class_decides_and_a_pod_may_only_agree() {
        for agreeing in [json!({}), json!({"priority": 7})] {
            check(
                agreeing,
                expect![[
                    r#"{"preemptionPolicy":"Never","priority":7,"priorityClassName":"high"}"#
                ]],
            );
        }
        check(
            json!({"priority": 8}),
            expect![
                "the integer value of priority (8) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name"
            ],
        );
        check(
            json!({"preemptionPolicy": PREEMPTS}),
            expect![
                "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"
            ],
        );
    }
}
