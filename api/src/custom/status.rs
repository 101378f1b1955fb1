//! The status of a definition: whether its names are free, and whether it is served.
//!
//! Pure: from the definition, the others, and the names of the built-in kinds to the status to write.

use serde_json::{Value, json};

use crate::{
    kinds::{Names, value::items},
    object, time,
};

/// A condition as it should be.
struct Condition {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

/// The status that a definition should have; `others` are all definitions of its group.
pub(crate) fn plan(
    definition: &Value,
    others: &[Value],
    builtin: &[&Names],
    now: jiff::Timestamp,
) -> Value {
    let mut status = definition["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let wanted = &definition["spec"]["names"];
    let conflict = conflict(definition, others, builtin);
    let was_established = holds(&status, "Established");
    let mut conditions = vec![match &conflict {
        None => Condition {
            kind: "NamesAccepted",
            holds: true,
            reason: "NoConflicts",
            message: "no conflicts found".to_owned(),
        },
        Some((reason, message)) => Condition {
            kind: "NamesAccepted",
            holds: false,
            reason,
            message: message.clone(),
        },
    }];
    if conflict.is_none() {
        status["acceptedNames"] = wanted.clone();
    }
    conditions.push(if conflict.is_none() || was_established {
        Condition {
            kind: "Established",
            holds: true,
            reason: "InitialNamesAccepted",
            message: "the initial names have been accepted".to_owned(),
        }
    } else {
        Condition {
            kind: "Established",
            holds: false,
            reason: "NotAccepted",
            message: "not all names are accepted".to_owned(),
        }
    });
    if object::deleting(definition) {
        conditions.push(Condition {
            kind: "Terminating",
            holds: true,
            reason: "InstanceDeletionInProgress",
            message: "CustomResource deletion is in progress".to_owned(),
        });
    }
    for condition in conditions {
        set(&mut status, &condition, now);
    }
    status
}

/// Whether a condition of a status is true.
pub(crate) fn holds(status: &Value, kind: &str) -> bool {
    items(status, "/conditions")
        .iter()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Which of the definition's names is taken, if one is.
fn conflict(
    definition: &Value,
    others: &[Value],
    builtin: &[&Names],
) -> Option<(&'static str, String)> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let wanted = &definition["spec"]["names"];
    let mut resources: Vec<&str> = Vec::new();
    let mut kinds: Vec<String> = Vec::new();
    for names in builtin.iter().filter(|names| names.group == group) {
        resources.extend([names.plural, names.singular]);
        resources.extend(names.short);
        kinds.extend([names.kind.to_owned(), format!("{}List", names.kind)]);
    }
    let uid = object::uid(definition);
    for other in others.iter().filter(|other| object::uid(other) != uid) {
        let accepted = &other["status"]["acceptedNames"];
        if other["spec"]["group"] != group {
            continue;
        }
        for field in ["plural", "singular"] {
            resources.extend(accepted[field].as_str().filter(|name| !name.is_empty()));
        }
        resources.extend(
            items(accepted, "/shortNames")
                .iter()
                .filter_map(Value::as_str),
        );
        for field in ["kind", "listKind"] {
            let own = accepted[field].as_str().filter(|name| !name.is_empty());
            kinds.extend(own.map(str::to_owned));
        }
    }
    let text = |field: &str| wanted[field].as_str().unwrap_or_default();
    let used = |name: &str| format!("{name:?} is already in use");
    for (field, reason) in [
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
    ] {
        if resources.contains(&text(field)) {
            return Some((reason, used(text(field))));
        }
    }
    for short in items(wanted, "/shortNames")
        .iter()
        .filter_map(Value::as_str)
    {
        if resources.contains(&short) {
            return Some(("ShortNamesConflict", used(short)));
        }
    }
    for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        if kinds.iter().any(|kind| kind == text(field)) {
            return Some((reason, used(text(field))));
        }
    }
    None
}

/// Sets a condition; its time changes only with its status.
fn set(status: &mut Value, wanted: &Condition, now: jiff::Timestamp) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let truth = if wanted.holds { "True" } else { "False" };
    let mut next = json!({
        "type": wanted.kind,
        "status": truth,
        "lastTransitionTime": time::seconds(now),
        "reason": wanted.reason,
        "message": wanted.message,
    });
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    match conditions
        .iter_mut()
        .find(|condition| condition["type"] == wanted.kind)
    {
        Some(known) => {
            if known["status"] == truth && !known["lastTransitionTime"].is_null() {
                next["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = next;
        }
        None => conditions.push(next),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn definition(uid: &str, plural: &str, kind: &str) -> Value {
        json!({
            "metadata": {"uid": uid},
            "spec": {"group": "a.io", "names": {"plural": plural, "singular": plural, "kind": kind, "listKind": format!("{kind}List")}},
        })
    }

    #[track_caller]
    fn check(definition: &Value, others: &[Value], expected: Expect) {
        let status = plan(definition, others, &[], jiff::Timestamp::UNIX_EPOCH);
        let shown: String = items(&status, "/conditions")
            .iter()
            .map(|condition| {
                let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
                format!(
                    "{}={} {}: {}\n",
                    text("type"),
                    text("status"),
                    text("reason"),
                    text("message")
                )
            })
            .collect();
        expected.assert_eq(&shown);
    }

    #[test]
    fn names_that_are_free_are_accepted() {
        check(
            &definition("1", "as", "A"),
            &[definition("2", "as", "A")],
            expect![[r#"
                NamesAccepted=True NoConflicts: no conflicts found
                Established=True InitialNamesAccepted: the initial names have been accepted
            "#]],
        );
    }

    #[test]
    fn names_that_another_definition_has_are_not() {
        let mut first = definition("2", "bs", "A");
        first["status"] = plan(&first, &[], &[], jiff::Timestamp::UNIX_EPOCH);
        check(
            &definition("1", "as", "A"),
            &[first],
            expect![[r#"
                NamesAccepted=False KindConflict: "A" is already in use
                Established=False NotAccepted: not all names are accepted
            "#]],
        );
    }

    #[test]
    fn a_plan_that_is_carried_out_is_the_same_later() {
        let mut one = definition("1", "as", "A");
        one["status"] = plan(&one, &[], &[], jiff::Timestamp::UNIX_EPOCH);
        let later = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(plan(&one, &[], &[], later), one["status"]);
    }
}
