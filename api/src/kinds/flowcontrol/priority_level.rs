//! PriorityLevelConfiguration: how many requests of a level are served at once, and what becomes of more.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, validate_conditions};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, column, not_acted_on,
        value::{child, fill, find, number, part, present, put, text},
        write,
    },
    object as metadata,
};

/// The kind.
pub(crate) struct PriorityLevelConfiguration;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Type", "Whether it is bounded"),
    column::shown("NominalConcurrencyShares", "Its part of the whole"),
    column::shown("Queues", "How many queues it has"),
    column::shown("HandSize", "Queues that one flow may use"),
    column::shown("QueueLengthLimit", "Requests that may wait in one"),
    column::AGE,
];

/// The level that is not bounded.
const EXEMPT: &str = "exempt";
const MOST_QUEUES: i64 = 10_000_000;
/// Bits of a flow's hash, from which its hand of queues is dealt.
const HASH_BITS: f64 = 60.0;

impl Kind for PriorityLevelConfiguration {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        let Some(spec) = find(object, "spec") else {
            return;
        };
        if text(spec, "/type") == "Exempt"
            && let Some(exempt) = child(spec, EXEMPT)
        {
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = find(spec, "limited") {
            fill(limited, "nominalConcurrencyShares", 30);
            fill(limited, "lendablePercent", 0);
            let response = find(limited, "limitResponse");
            if let Some(queuing) = response.and_then(|response| find(response, "queuing")) {
                for (field, value) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
                    if number(queuing, &format!("/{field}")).unwrap_or_default() == 0 {
                        put(queuing, field, value.into());
                    }
                }
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        let kind = text(spec, "/type");
        if (metadata::name(object) == EXEMPT) != (kind == "Exempt") {
            errors.invalid(
                &path.field("type"),
                kind,
                "type must be 'Exempt' if and only if name is 'exempt'",
            );
        }
        match kind {
            "Exempt" => {
                if present(spec, "/limited") {
                    let detail = "must be nil if the type is not Limited";
                    errors.forbidden(&path.field("limited"), detail);
                }
                let path = path.field(EXEMPT);
                validate_shares(&path, part(spec, "/exempt"), 0, errors);
            }
            "Limited" => {
                if present(spec, "/exempt") {
                    let detail = "must be nil if the type is Limited";
                    errors.forbidden(&path.field(EXEMPT), detail);
                }
                let path = path.field("limited");
                if present(spec, "/limited") {
                    validate_limited(&path, part(spec, "/limited"), errors);
                } else {
                    errors.required(&path, "must not be empty when type is Limited");
                }
            }
            other => errors.not_supported(&path.field("type"), other, &["Exempt", "Limited"]),
        }
        validate_conditions(object, errors);
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let limited = part(object, "/spec/limited");
        let figure = |pointer: &str| -> Value {
            number(limited, pointer).map_or_else(|| "<none>".into(), Value::from)
        };
        vec![
            column::name(object),
            text(object, "/spec/type").into(),
            figure("/nominalConcurrencyShares"),
            figure("/limitResponse/queuing/queues"),
            figure("/limitResponse/queuing/handSize"),
            figure("/limitResponse/queuing/queueLengthLimit"),
            column::age(object, now),
        ]
    }
}

/// A level's part of the whole, and how much of it others may have.
fn validate_shares(path: &Path, level: &Value, least: i64, errors: &mut FieldErrors) {
    let shares = number(level, "/nominalConcurrencyShares").unwrap_or_default();
    if shares < least {
        let detail = "must be a non-negative integer";
        errors.invalid(&path.field("nominalConcurrencyShares"), shares, detail);
    }
    let lent = number(level, "/lendablePercent").unwrap_or_default();
    if !(0..=100).contains(&lent) {
        let detail = "must be between 0 and 100, inclusive";
        errors.invalid(&path.field("lendablePercent"), lent, detail);
    }
}

fn validate_limited(path: &Path, limited: &Value, errors: &mut FieldErrors) {
    validate_shares(path, limited, 0, errors);
    if let Some(borrowed) = number(limited, "/borrowingLimitPercent")
        && borrowed < 0
    {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&path.field("borrowingLimitPercent"), borrowed, detail);
    }
    let path = path.field("limitResponse");
    let response = part(limited, "/limitResponse");
    let at = path.field("queuing");
    match text(response, "/type") {
        "Reject" => {
            if present(response, "/queuing") {
                let detail = "must be nil if limited.limitResponse.type is not Limited";
                errors.forbidden(&at, detail);
            }
        }
        "Queue" => {
            if present(response, "/queuing") {
                validate_queuing(&at, part(response, "/queuing"), errors);
            } else {
                let detail = "must not be empty if limited.limitResponse.type is Limited";
                errors.required(&at, detail);
            }
        }
        other => errors.not_supported(&path.field("type"), other, &["Queue", "Reject"]),
    }
}

fn validate_queuing(path: &Path, queuing: &Value, errors: &mut FieldErrors) {
    let figure = |field: &str| number(queuing, &format!("/{field}")).unwrap_or_default();
    let (queues, hand) = (figure("queues"), figure("handSize"));
    let length = figure("queueLengthLimit");
    if length <= 0 {
        errors.invalid(&path.field("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&path.field("queues"), queues, "must be positive");
    } else if queues > MOST_QUEUES {
        let detail = format!("must not be greater than {MOST_QUEUES}");
        errors.invalid(&path.field("queues"), queues, detail);
    }
    let path = path.field("handSize");
    if hand <= 0 {
        errors.invalid(&path, hand, "must be positive");
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.invalid(&path, hand, detail);
    } else if dealing_bits(queues, hand) > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than 60"
        );
        errors.invalid(&path, hand, detail);
    }
}

/// Bits that it takes to deal a hand from a deck: the logarithm of the number of ordered hands, rounded
/// up. A hand that takes more than any hash has is not counted to its end.
fn dealing_bits(deck: i64, hand: i64) -> f64 {
    let mut bits = 0.0;
    for dealt in 0..hand {
        let left = i32::try_from(deck - dealt).unwrap_or(i32::MAX);
        bits += f64::from(left).log2();
        if bits > HASH_BITS {
            return bits.ceil();
        }
    }
    bits.ceil()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        let yaml = format!("{{metadata: {{name: l}}, spec: {{{spec}}}}}");
        expect.assert_eq(&errors(&PriorityLevelConfiguration, &yaml));
    }

    #[test]
    fn a_queue_is_complete() {
        expect![[r#"{"spec":{"limited":{"lendablePercent":0,"limitResponse":{"queuing":{"handSize":8,"queueLengthLimit":50,"queues":64},"type":"Queue"},"nominalConcurrencyShares":30},"type":"Limited"},"status":{}}"#]]
            .assert_eq(&defaulted(
                &PriorityLevelConfiguration,
                "{spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}}",
            ));
    }

    #[test]
    fn a_level_is_bounded_unless_it_is_the_exempt_one() {
        check(
            "type: Limited, limited: {limitResponse: {type: Reject}}",
            expect![""],
        );
        check(
            "type: Exempt, limited: {}",
            expect![[r#"
                spec.type: Invalid value: "Exempt": type must be 'Exempt' if and only if name is 'exempt'
                spec.limited: Forbidden: must be nil if the type is not Limited
            "#]],
        );
        check(
            "type: Limited, exempt: {}",
            expect![[r#"
                spec.exempt: Forbidden: must be nil if the type is Limited
                spec.limited: Required value: must not be empty when type is Limited
            "#]],
        );
    }

    #[test]
    fn hands_are_dealt_from_queues() {
        let queue = |queuing: &str| {
            format!(
                "type: Limited, limited: {{limitResponse: {{type: Queue, queuing: {{{queuing}}}}}}}"
            )
        };
        check(
            &queue("queues: 2, handSize: 3"),
            expect![[r#"
                spec.limited.limitResponse.queuing.handSize: Invalid value: 3: should not be greater than queues (2)
            "#]],
        );
        check(
            &queue("queues: 1000, handSize: 7"),
            expect![[r#"
                spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 1000 and handSize 7 should not be greater than 60
            "#]],
        );
        check(
            &queue("queues: 10000000, handSize: 10000000, queueLengthLimit: -1"),
            expect![[r#"
                spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive
                spec.limited.limitResponse.queuing.handSize: Invalid value: 10000000: required entropy bits of deckSize 10000000 and handSize 10000000 should not be greater than 60
            "#]],
        );
    }

    #[test]
    fn a_row_shows_the_queues() {
        expect!["l|Limited|30|64|8|50|60m"].assert_eq(&row(
            &PriorityLevelConfiguration,
            "{metadata: {name: l}, spec: {type: Limited, limited: {limitResponse: {queuing: {}}}}}",
        ));
        expect!["exempt|Exempt|<none>|<none>|<none>|<none>|60m"].assert_eq(&row(
            &PriorityLevelConfiguration,
            "{metadata: {name: exempt}, spec: {type: Exempt}}",
        ));
    }
}
