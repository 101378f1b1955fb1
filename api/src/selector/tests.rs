use expect_test::{Expect, expect};

use super::*;

/// `labels` as `a=1 b=2`: whether the selector takes them, or why it cannot be read.
#[track_caller]
fn check(selector: &str, labels: &str, expected: &Expect) {
    let labels = labels
        .split_whitespace()
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let outcome = match LabelSelector::parse(selector) {
        Ok(selector) => selector.matches(&labels).to_string(),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&outcome);
}

#[test]
fn equality_needs_the_label() {
    let (yes, no) = (expect!["true"], expect!["false"]);
    check("app=web", "app=web", &yes);
    check("app == web", "app=web tier=a", &yes);
    check("app=web", "app=db", &no);
    check("app=web", "", &no);
    check("app=", "app=", &yes);
    check("app=web,tier=a", "app=web", &no);
}

#[test]
fn inequality_holds_without_the_label() {
    let (yes, no) = (expect!["true"], expect!["false"]);
    check("app!=web", "app=db", &yes);
    check("app!=web", "", &yes);
    check("app!=web", "app=web", &no);
    check("app notin (web,db)", "", &yes);
    check("app notin (web,db)", "app=db", &no);
}

#[test]
fn sets_presence_and_order_are_tested() {
    let (yes, no) = (expect!["true"], expect!["false"]);
    check("app in (web, db)", "app=db", &yes);
    check("app in (,web)", "app=", &yes);
    check("in in (in)", "in=in", &yes);
    check("app", "app=", &yes);
    check("!app", "app=web", &no);
    check("! app , tier", "tier=a", &yes);
    check("n>3", "n=10", &yes);
    check("n<3", "n=10", &no);
    check("n>3", "n=many", &no);
    check("", "n=many", &yes);
    check("example.com/app=web", "example.com/app=web", &yes);
}

#[test]
fn errors_are_those_of_kubernetes() {
    check(
        "app=web,",
        "",
        &expect!["found '', expected: identifier after ','"],
    );
    check(
        ",app",
        "",
        &expect!["found ',', expected: !, identifier, or 'end of string'"],
    );
    check(
        "a b",
        "",
        &expect!["unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"],
    );
    check(
        "!a=b",
        "",
        &expect!["found '=', expected: ',' or 'end of string'"],
    );
    check(
        "a in b",
        "",
        &expect!["unable to parse requirement: found 'b' expected: '('"],
    );
    check(
        "a in (b",
        "",
        &expect!["unable to parse requirement: found '', expected: ',' or ')'"],
    );
    check(
        "a in ()",
        "",
        &expect![
            "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        ],
    );
    check(
        "a=(",
        "",
        &expect!["unable to parse requirement: found '(', expected: identifier"],
    );
    check(
        "n>x",
        "",
        &expect![[
            r#"unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#
        ]],
    );
    check(
        "a=-b",
        "",
        &expect![[
            r#"unable to parse requirement: values[0][a]: Invalid value: "-b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#
        ]],
    );
    check(
        "a/b/c",
        "",
        &expect![[
            r#"unable to parse requirement: <nil>: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"#
        ]],
    );
    check(
        "/b",
        "",
        &expect![[
            r#"unable to parse requirement: <nil>: Invalid value: "/b": prefix part must be non-empty"#
        ]],
    );
}

#[test]
fn only_an_empty_selector_is_everything() {
    assert!(LabelSelector::parse(" ").unwrap().is_everything());
    assert!(!LabelSelector::parse("a").unwrap().is_everything());
    assert!(FieldSelector::parse("").unwrap().is_everything());
}

#[track_caller]
fn check_fields(selector: &str, expected: &Expect) {
    let outcome = match FieldSelector::parse(selector) {
        Ok(selector) => format!("{:?}", selector.requirements()),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&outcome);
}

#[test]
fn field_selectors_are_split_and_unescaped() {
    check_fields(
        "metadata.name=web",
        &expect![[r#"[("metadata.name", true, "web")]"#]],
    );
    check_fields(
        "a==b,c!=d",
        &expect![[r#"[("a", true, "b"), ("c", false, "d")]"#]],
    );
    check_fields(r"a=x\,y\=z\\", &expect![[r#"[("a", true, "x,y=z\\")]"#]]);
    check_fields("a=", &expect![[r#"[("a", true, "")]"#]]);
    check_fields(",,", &expect!["[]"]);
}

#[test]
fn broken_field_selectors_are_refused() {
    check_fields("a", &expect!["invalid selector: 'a'; can't understand 'a'"]);
    check_fields(
        "a=b=c",
        &expect!["invalid field selector: unescaped character in value: ="],
    );
    check_fields(
        r"a=\b",
        &expect![r"invalid field selector: invalid escape sequence: \b"],
    );
}

#[test]
fn a_field_without_value_is_empty() {
    let selector = FieldSelector::parse("spec.nodeName=,status.phase!=Failed").unwrap();
    assert!(selector.matches(|_| None));
    assert!(!selector.matches(|field| (field == "status.phase").then_some("Failed")));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,40}") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }
}
