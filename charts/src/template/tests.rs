use std::cell::RefCell;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use rand::SeedableRng;

use super::*;
use crate::{Limits, Map};

fn environment() -> Environment {
    Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(rand::rngs::StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits {
            steps: 1_000_000,
            output: 1 << 20,
            ..Limits::default()
        },
    }
}

fn map(entries: Vec<(&str, Value)>) -> Value {
    let map = Map::new();
    for (key, value) in entries {
        map.insert(key.to_owned(), value);
    }
    Value::Map(map)
}

fn data() -> Value {
    let service = vec![
        ("port", Value::Float(1e6)),
        ("type", Value::string("ClusterIP")),
        ("annotations", Value::Nil),
    ];
    map(vec![(
        "Values",
        map(vec![
            ("service", map(service)),
            ("name", Value::string("web")),
            ("loop", Value::string("{{ tpl .Values.loop . }}")),
            (
                "list",
                Value::list(vec![map(vec![("port", Value::Float(2e6))])]),
            ),
        ]),
    )])
}

fn templates(text: &str, options: Options) -> Result<Templates, TemplateError> {
    let mut templates = Templates::with_options(options);
    templates.add("x.yaml", text.to_owned())?;
    Ok(templates)
}

fn render(text: &str, options: Options) -> Result<Executed, TemplateError> {
    templates(text, options)?.execute("x.yaml", data(), &environment())
}

#[track_caller]
fn check_error(text: &str, expected: Expect) {
    let error = render(text, Options::default()).expect_err("the template is wrong");
    expected.assert_eq(&error.to_string());
}

#[track_caller]
fn check_limit(text: &str, expected: &str) {
    let error = render(text, Options::default()).expect_err("the template uses too much");
    assert!(error.message().contains(expected), "{}", error.message());
}

#[test]
fn an_error_shows_the_line_and_the_key_that_was_meant() {
    check_error(
        "kind: Service\nport: {{ .Values.servce.port }}\n",
        expect![[r#"
            x.yaml:2:16
              executing "x.yaml" at <.Values.servce.port>:
                nil pointer evaluating interface {}.port

              2 | port: {{ .Values.servce.port }}
                |          ^^^^^^^^^^^^^^^^^^^
              .Values.servce is not set; did you mean "service"?"#]],
    );
}

#[test]
fn an_error_says_what_a_value_is() {
    check_error(
        "{{ .Values.name.first }}",
        expect![[r#"
            x.yaml:1:10
              executing "x.yaml" at <.Values.name.first>:
                can't evaluate field first in type interface {}

              1 | {{ .Values.name.first }}
                |    ^^^^^^^^^^^^^^^^^^
              .Values.name is a string, "web""#]],
    );
    check_error(
        "{{ with .Values.service }}{{ .annotations.x }}{{ end }}",
        expect![[r#"
            x.yaml:1:41
              executing "x.yaml" at <.annotations.x>:
                nil pointer evaluating interface {}.x

              1 | {{ with .Values.service }}{{ .annotations.x }}{{ end }}
                |                              ^^^^^^^^^^^^^^
              .Values.service.annotations is null"#]],
    );
}

#[test]
fn an_error_says_what_included_it() {
    check_error(
        "{{ define \"a\" }}\n\t{{ .Values.nope.x }}{{ end }}{{ define \"b\" }}{{ template \"a\" . }}{{ end }}\n{{ include \"b\" . }}",
        expect![[r#"
            x.yaml:3:3
              executing "x.yaml" at <include "b" .>:
                error calling include:
            x.yaml:2:11
              executing "a" at <.Values.nope.x>:
                nil pointer evaluating interface {}.x

              2 | 	{{ .Values.nope.x }}{{ end }}{{ define "b" }}{{ template "a" . }}{{ end }}
                | 	   ^^^^^^^^^^^^^^
              .Values.nope is not set
              from x.yaml:2:58 <{{template "a" .}}>
              from x.yaml:3:3 <include "b" .>"#]],
    );
}

#[test]
fn an_error_of_the_parser_shows_the_line() {
    check_error(
        "a: 1\n{{ if .Values.name }}\nb: {{ nope }}\n{{ end }}",
        expect![[r#"
            parse error at (x.yaml:3): function "nope" not defined

              3 | b: {{ nope }}
                |       ^^^^"#]],
    );
}

#[test]
fn a_missing_key_is_an_error_only_if_asked_for() {
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let text = "[{{ .Values.nope }}]";
    assert_eq!(
        render(text, Options::default()).expect("it renders").text,
        "[]"
    );
    let error = render(text, strict).expect_err("there is no such key");
    assert_eq!(error.message(), "map has no entry for key \"nope\"");
}

#[test]
fn lint_lets_what_is_required_pass() {
    let lint = Options {
        lint: true,
        ..Options::default()
    };
    let text = "{{ required \"x\" .Values.nope }}{{ fail \"y\" }}ok";
    assert_eq!(render(text, lint).expect("it renders").text, "ok");
}

#[test]
fn a_number_that_prints_in_exponent_form_is_warned_of() {
    let text = "{{ .Values.service.port }} {{ with .Values.service }}{{ print .port }}{{ end }}\n\
        {{ range .Values.list }}{{ .port }}{{ end }} {{ .Values.service.port | int }}";
    let executed = render(text, Options::default()).expect("it renders");
    assert_eq!(executed.text, "1e+06 1e+06\n2e+06 1000000");
    let warnings: Vec<String> = executed.warnings.iter().map(ToString::to_string).collect();
    expect![[r#"
        x.yaml:1:10: <.Values.service.port> prints 1000000 as 1e+06 (.Values.service.port): use `int64` or quote the value
        x.yaml:1:62: <.port> prints 1000000 as 1e+06 (.Values.service.port): use `int64` or quote the value
        x.yaml:2:27: <.port> prints 2000000 as 2e+06 (.Values.list.0.port): use `int64` or quote the value"#]]
    .assert_eq(&warnings.join("\n"));
}

#[test]
fn values_that_nothing_read_are_known() {
    let data = data();
    let templates = templates(
        "{{ with .Values.service }}{{ .port }}{{ end }}{{ range .Values.list }}x{{ end }}",
        Options::default(),
    );
    let templates = templates.expect("it parses");
    let executed = templates.execute("x.yaml", data.clone(), &environment());
    executed.expect("it renders");
    let Value::Map(data) = data else { return };
    let paths: Vec<String> = unread(&data).iter().map(ToString::to_string).collect();
    expect![".Values.loop .Values.name .Values.service.annotations .Values.service.type"]
        .assert_eq(&paths.join(" "));
}

#[test]
fn a_misspelt_key_is_recognised() {
    let keys = ["service", "serviceAccount", "image", "replicaCount", "tls"];
    for (name, meant) in [
        ("servcie", Some("service")),
        ("serviceaccount", Some("serviceAccount")),
        ("replicas_count", Some("replicaCount")),
        ("imag", Some("image")),
        ("resources", None),
        ("x", None),
        ("tsl", Some("tls")),
    ] {
        assert_eq!(suggest(name, keys), meant, "{name}");
    }
}

#[test]
fn a_template_that_never_ends_is_ended() {
    check_limit(
        "{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}",
        "exceeded maximum template depth",
    );
    check_limit(
        "{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}",
        "nested reference",
    );
    check_limit("{{ tpl .Values.loop . }}", "nested reference");
    check_limit("{{ range 9223372036854775807 }}{{ end }}", "steps");
    check_limit(
        "{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}",
        "steps",
    );
}

#[test]
fn a_template_that_builds_gigabytes_is_ended() {
    let doubled =
        "{{ $x := \"12345678\" }}{{ range 100 }}{{ $x = printf \"%s%s\" $x $x }}{{ end }}";
    check_limit(doubled, "larger than the limit");
    check_limit(
        "{{ range 100000 }}{{ range 100000 }}0123456789{{ end }}{{ end }}",
        "larger than the limit",
    );
    check_limit(
        "{{ printf \"%1000000d%1000000d%1000000d\" 1 1 1 }}",
        "larger than the limit",
    );
    let included = "{{ define \"a\" }}{{ range 1000 }}{{ $.x }}{{ end }}{{ end }}\
        {{ $x := \"12345678\" }}{{ range 10 }}{{ $x = include \"a\" (dict \"x\" $x) }}{{ end }}";
    check_limit(included, "larger than the limit");
}

#[test]
fn a_value_that_stands_for_billions_is_not_walked() {
    let grown = "{{ $x := list \"a\" }}{{ range until 40 }}{{ $x = list $x $x }}{{ end }}";
    for end in [
        "{{ $x }}",
        "{{ print $x }}",
        "{{ printf \"%#v\" $x }}",
        "{{ toYaml $x }}",
        "{{ toYamlPretty $x }}",
        "{{ toJson $x }}",
        "{{ dict \"x\" $x | toToml }}",
        "{{ deepEqual $x (list (first $x) (last $x)) }}",
        "{{ until 10000 | uniq }}",
        "{{ range until 3 }}{{ bcrypt \"x\" }}{{ end }}",
        "{{ derivePassword 1 \"long\" \"p\" \"u\" \"s\" }}",
        "{{ genPrivateKey \"rsa\" }}",
    ] {
        let text = format!("{grown}{end}");
        let error = render(&text, Options::default()).expect_err(end);
        let message = error.message();
        let expected = ["take too long", "larger than the limit"];
        assert!(
            expected.iter().any(|part| message.contains(part)),
            "{end}: {message}"
        );
    }
}

#[test]
fn a_map_that_holds_itself_is_an_error_to_print() {
    check_limit(
        "{{ $d := dict }}{{ $_ := set $d \"x\" $d }}{{ print $d }}",
        "nested too deeply",
    );
}

#[test]
fn a_rendering_ends_at_its_deadline() {
    let mut environment = environment();
    environment.limits.deadline = Some(std::time::Instant::now());
    let templates = templates("{{ range 10 }}x{{ end }}", Options::default()).expect("it parses");
    let error = templates.execute("x.yaml", data(), &environment);
    let error = error.expect_err("it is late");
    assert!(error.message().contains("deadline"), "{}", error.message());
}

#[test]
fn what_nests_too_deeply_is_refused() {
    let nested = |open: &str, close: &str, depth| {
        let text = format!("{{{{ {}1{} }}}}", open.repeat(depth), close.repeat(depth));
        render(&text, Options::default()).map(|executed| executed.text)
    };
    assert_eq!(nested("(", ")", 900).expect("it renders"), "1");
    let error = nested("(", ")", 100_000).expect_err("it is too deep");
    assert_eq!(error.message(), "max expression depth exceeded");
    let blocks = "{{ if true }}".repeat(100_000);
    let error = render(&blocks, Options::default()).expect_err("it is too deep");
    assert_eq!(error.message(), "max expression depth exceeded");
}

#[test]
fn parsed_templates_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let templates = templates("{{ .Values.name }}", Options::default()).expect("it parses");
    shared(&templates);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let executed = templates.execute("x.yaml", data(), &environment());
                assert_eq!(executed.expect("it renders").text, "web");
            });
        }
    });
}

/// Words that templates are made of, in any order.
fn soup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        "\n",
        "(",
        ")",
        "|",
        ".",
        ".a",
        ".Values.name",
        "$",
        "$x",
        ":=",
        "=",
        ",",
        "if",
        "else",
        "end",
        "range",
        "with",
        "define",
        "block",
        "template",
        "break",
        "continue",
        "nil",
        "true",
        "1",
        "-1",
        "1.5",
        "0x",
        "'a'",
        "\"a\"",
        "`b`",
        "print",
        "index",
        "len",
        "eq",
        "include",
        "tpl",
        "printf \"%v %d\"",
        "/*",
        "*/",
        "text",
        "é",
        "{{ end }}",
        "{{ if . }}",
        "{{ range 3 }}",
        "{{ define \"a\" }}",
        "{{ template \"a\" . }}",
        "{{ include \"a\" . }}",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange_to_parse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Templates::new().add("x.yaml", bytes);
    }

    #[test]
    fn no_bytes_in_an_action_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let text = [b"{{ ", &bytes[..], b" }}"].concat();
        let _ = Templates::new().add("x.yaml", text);
    }

    #[test]
    fn whatever_parses_comes_to_an_end(text in soup()) {
        if let Ok(templates) = templates(&text, Options::default()) {
            let mut environment = environment();
            environment.limits.steps = 20_000;
            environment.limits.depth = 20;
            match templates.execute("x.yaml", data(), &environment) {
                Ok(executed) => drop(executed),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
