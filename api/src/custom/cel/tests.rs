use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

/// What a definition with this rule for a schema is told.
#[track_caller]
fn check(schema: Value, rule: &str, expected: Expect) {
    let mut schema = schema;
    schema["x-kubernetes-validations"] = json!([{ "rule": rule }]);
    let mut errors = FieldErrors::default();
    admit(&schema, &Path::root("s"), &mut errors);
    let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

fn list(bounds: Value) -> Value {
    let mut list = json!({"type": "array", "items": {"type": "string", "maxLength": 10}});
    for (key, value) in bounds.as_object().into_iter().flatten() {
        list[key] = value.clone();
    }
    json!({"type": "object", "properties": {"l": list, "n-s": {"type": "integer"}, "namespace": {"type": "string"}}})
}

#[test]
fn a_rule_whose_cost_is_bounded_is_admitted() {
    let bounded = || list(json!({"maxItems": 100}));
    for rule in [
        "self.l.all(x, x.startsWith('a'))",
        "self.l.all(x, self.l.exists_one(y, x == y))",
        "self.l.map(x, x.upperAscii()).filter(x, x != 'A').size() < 3",
        "self.n__dash__s > 1 && self.__namespace__ == 'a'",
        "has(self.l) ? size(self.l[0]) == 1 : true",
        "!('a' in self.l)",
        "self.n__dash__s == oldSelf.n__dash__s",
        "quantity('1Mi').isGreaterThan(quantity('1'))",
        "self.l.join(',').matches('^[a-z,]*$')",
        "type(self.l) == list",
    ] {
        check(bounded(), rule, expect![""]);
    }
}

#[test]
fn a_rule_whose_cost_is_not_bounded_names_what_is_missing() {
    let unbounded = || list(json!({}));
    let mut errors = FieldErrors::default();
    let mut schema = unbounded();
    schema["x-kubernetes-validations"] = json!([{"rule": "self.l.all(x, self.l.all(y, x == y))"}]);
    admit(&schema, &Path::root("s"), &mut errors);
    let told = errors.0[0].to_string();
    assert!(told.starts_with("s.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x"), "{told}");
    assert!(told.ends_with("l has no maxItems)"), "{told}");
    check(
        unbounded(),
        "lists.range(10).all(x, x > 0)",
        expect![
            "s.x-kubernetes-validations[0].rule: Forbidden: the cost of the rule cannot be bounded: lists.range makes lists of any length"
        ],
    );
}

#[test]
fn a_rule_names_what_is_there() {
    let schema = || list(json!({"maxItems": 1}));
    check(
        schema(),
        "self.nothing == 1",
        expect![[
            r#"s.x-kubernetes-validations[0].rule: Invalid value: "self.nothing == 1": compilation failed: undefined field 'nothing'"#
        ]],
    );
    check(
        schema(),
        "object.l == []",
        expect![[
            r#"s.x-kubernetes-validations[0].rule: Invalid value: "object.l == []": compilation failed: undeclared reference to 'object' (in container '')"#
        ]],
    );
    check(
        schema(),
        "self.l.sortBy(x, x) == []",
        expect![[
            r#"s.x-kubernetes-validations[0].rule: Invalid value: "self.l.sortBy(x, x) == []": compilation failed: undeclared reference to 'sortBy' (in container '')"#
        ]],
    );
    check(
        schema(),
        "self.l[0]",
        expect![[
            r#"s.x-kubernetes-validations[0].rule: Invalid value: "self.l[0]": compilation failed: cel expression must evaluate to a bool"#
        ]],
    );
    check(
        schema(),
        "",
        expect!["s.x-kubernetes-validations[0].rule: Required value: rule is not specified"],
    );
}

#[test]
fn the_longest_chains_are_read_without_a_surprise() {
    let schema = list(json!({}));
    for rule in [
        vec!["true"; 2000].join(" && "),
        vec!["1"; 4000].join("+"),
        format!("self{}", ".l".repeat(4000)),
        "!".repeat(4000),
        "(".repeat(4000),
        "[".repeat(40) + &"]".repeat(40),
        "x".repeat(20_000),
    ] {
        let mut schema = schema.clone();
        schema["x-kubernetes-validations"] = json!([{ "rule": rule }]);
        admit(&schema, &Path::root("s"), &mut FieldErrors::default());
    }
}
