//! Charts that mean harm are refused: with the file and the line, within bounds of time and memory.

#![expect(clippy::unwrap_used, reason = "a test: what is missing fails it")]

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use charts::{
    Environment, Failure, Limits, Lookup, Value,
    chart::{Chart, File},
    render::{RenderOptions, render},
    values,
};
use expect_test::{Expect, expect};
use rand::{SeedableRng as _, rngs::StdRng};

/// What a rendering may use here: a hundredth of what it may by default, as tests run on small machines.
const LIMITS: Limits = Limits {
    steps: 2_000_000,
    output: 4 << 20,
    depth: 1000,
    deadline: None,
};

/// Takes far less; a machine may be slow.
const SLOWEST: Duration = Duration::from_secs(60);

struct Forbidden;

impl Lookup for Forbidden {
    fn lookup(&self, _: &str, kind: &str, namespace: &str, _: &str) -> Result<Value, Failure> {
        let resource = kind.to_lowercase() + "s";
        Err(Failure::new(format!(
            "{resource} is forbidden: User \"system:serviceaccount:shop:deployer\" cannot list resource \"{resource}\" in API group \"\" in the namespace \"{namespace}\""
        )))
    }
}

fn environment() -> Environment {
    Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(StdRng::seed_from_u64(1)),
        lookup: Some(Box::new(Forbidden)),
        dns: false,
        limits: LIMITS,
    }
}

/// The most memory this process had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        << 10
}

fn rendered(files: &[(&str, &str)], given: &serde_json::Value) -> Result<String, String> {
    let file = |(name, text): &(&str, &str)| File {
        name: (*name).to_owned(),
        data: (*text).to_owned().into(),
    };
    let mut all: Vec<File> = files.iter().map(file).collect();
    if !files.iter().any(|(name, _)| *name == "Chart.yaml") {
        all.push(file(&(
            "Chart.yaml",
            "apiVersion: v2\nname: bad\nversion: 0.1.0\n",
        )));
    }
    let chart = Chart::from_files(all).map_err(|error| error.to_string())?;
    let given = values::from_json_map(given.as_object().unwrap());
    let rendered = render(&chart, &given, &RenderOptions::default(), &environment());
    rendered
        .map(|rendered| rendered.manifest)
        .map_err(|error| error.to_string())
}

/// Long lines are cut: what they repeat says nothing.
fn cut(text: &str) -> String {
    let line = |line: &str| match line.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.trim_end().to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

#[track_caller]
fn check_chart(files: &[(&str, &str)], given: serde_json::Value, expected: Expect) {
    let start = Instant::now();
    let before = peak();
    let text = match rendered(files, &given) {
        Ok(manifest) => format!("renders:\n{manifest}"),
        Err(message) => message,
    };
    let (took, grown) = (start.elapsed(), peak() - before);
    assert!(took < SLOWEST, "took {took:?}: {text}");
    assert!(grown < 512 << 20, "took {grown} bytes: {text}");
    expected.assert_eq(&cut(&text));
}

#[track_caller]
fn check(template: &str, expected: Expect) {
    check_chart(
        &[("templates/x.yaml", template)],
        serde_json::json!({}),
        expected,
    );
}

#[test]
fn what_never_ends_is_ended() {
    check(
        "a: 1\n{{ range until 1000000000000 }}x{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:2:9: executing "bad/templates/x.yaml" at <until 1000000000000>: error calling until: until would build a list of 1000000000000 items: more than the 104857 that a chart m…

              2 | {{ range until 1000000000000 }}x{{ end }}
                |          ^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range 9223372036854775807 }}{{ end }}",
        expect![[r#"
        bad/templates/x.yaml:1:9
          executing "bad/templates/x.yaml" at <9223372036854775807>:
            the templates take too long: more steps than the limit

          1 | {{ range 9223372036854775807 }}{{ end }}
            |          ^^^^^^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "{{ define \"x\" }}{{ range until 1000 }}{{ range until 1000 }}{{ range until 1000 }}{{ end }}{{ end }}{{ end }}{{ end }}\n{{ include \"x\" . }}",
        expect![[r#"
            bad/templates/x.yaml:2:3
              executing "bad/templates/x.yaml" at <include "x" .>:
                error calling include:
            bad/templates/x.yaml:1:75
              executing "x" at <1000>:
                the templates take too long: more steps than the limit

              1 | {{ define "x" }}{{ range until 1000 }}{{ range until 1000 }}{{ range until 1000 }}{{ end }}{{ end }}{{ end }}{{ end }}
                |                                                                            ^^^^
              from bad/templates/x.yaml:2:3 <include "x" .>
        "#]],
    );
    check(
        "{{ define \"again\" }}{{ template \"again\" . }}{{ end }}{{ template \"again\" . }}",
        expect![[r#"
            bad/templates/x.yaml:1:32
              executing "again" at <{{template "again" .}}>:
                exceeded maximum template depth (10000)

              1 | {{ define "again" }}{{ template "again" . }}{{ end }}{{ template "again" . }}
                |                                 ^^^^^^^
              from bad/templates/x.yaml:1:32 <{{template "again" .}}>
              from bad/templates/x.yaml:1:32 <{{template "again" .}}>
              from bad/templates/x.yaml:1:32 <{{template "again" .}}>
              from bad/templates/x.yaml:1:32 <{{template "again" .}}>
              from bad/templates/x.yaml:1:32 <{{template "again" .}}>
              from bad/templates/x.yaml:1:32 <{{template "again" .}}>
              from bad/templates/x.yaml:1:32 <{{template "again" .}}>
              from bad/templates/x.yaml:1:32 <{{template "again" .}}>
              and 9991 more
        "#]],
    );
    check(
        "{{ define \"again\" }}{{ include \"again\" . }}{{ end }}{{ include \"again\" . }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:55: executing "bad/templates/x.yaml" at <include "again" .>: error calling include: template: bad/templates/x.yaml:1:23: executing "again" at <include "again" .>: erro…

              1 | {{ define "again" }}{{ include "again" . }}{{ end }}{{ include "again" . }}
                |                        ^^^^^^^^^^^^^^^^^
              from bad/templates/x.yaml:1:23 <include "again" .>
              from bad/templates/x.yaml:1:23 <include "again" .>
              from bad/templates/x.yaml:1:23 <include "again" .>
              from bad/templates/x.yaml:1:23 <include "again" .>
              from bad/templates/x.yaml:1:23 <include "again" .>
              from bad/templates/x.yaml:1:23 <include "again" .>
              from bad/templates/x.yaml:1:23 <include "again" .>
              from bad/templates/x.yaml:1:23 <include "again" .>
              and 993 more
        "#]],
    );
    check(
        "{{ $t := \"{{ tpl . . }}\" }}{{ tpl $t $t }}",
        expect![[r#"
        template: bad/templates/x.yaml:1:30: executing "bad/templates/x.yaml" at <tpl $t $t>: error calling tpl: error during tpl function execution for "{{ tpl . . }}": template: gotpl:1:3: executing "gotpl"…

          1 | {{ tpl . . }}
            |    ^^^^^^^
          from gotpl:1:3 <tpl . .>
          from gotpl:1:3 <tpl . .>
          from gotpl:1:3 <tpl . .>
          from gotpl:1:3 <tpl . .>
          from gotpl:1:3 <tpl . .>
          from gotpl:1:3 <tpl . .>
          from gotpl:1:3 <tpl . .>
          from gotpl:1:3 <tpl . .>
          and 993 more
    "#]],
    );
    check(
        "{{ define \"two\" }}{{ if . }}{{ include \"two\" (rest .) }}{{ include \"two\" (rest .) }}{{ end }}{{ end }}{{ include \"two\" (until 60) }}",
        expect![[r#"
            bad/templates/x.yaml:1:105
              executing "bad/templates/x.yaml" at <include "two" (until 60)>:
                error calling include:
            bad/templates/x.yaml:1:31
              executing "two" at <include "two" (rest .)>:
                error calling include:
            bad/templates/x.yaml:1:31
              executing "two" at <include "two" (rest .)>:
                error calling include:
            bad/templates/x.yaml:1:31
              executing "two" at <include "two" (rest .)>:
                error calling include:
            bad/templates/x.yaml:1:31
              executing "two" at <include "two" (rest .)>:
                error calling include:
            bad/templates/x.yaml:1:59
              executing "two" at <include "two" (rest .)>:
                error calling include:
            bad/templates/x.yaml:1:59
              executing "two" at <include "two" (rest .)>:
                error calling include:
            bad/templates/x.yaml:1:51
              executing "two" at <.>:
                the templates take too long: more steps than the limit

              1 | {{ define "two" }}{{ if . }}{{ include "two" (rest .) }}{{ include "two" (rest .) }}{{ end }}{{ end }}{{ include "two" (until 60) }}
                |                                                    ^
              from bad/templates/x.yaml:1:59 <include "two" (rest .)>
              from bad/templates/x.yaml:1:59 <include "two" (rest .)>
              from bad/templates/x.yaml:1:31 <include "two" (rest .)>
              from bad/templates/x.yaml:1:31 <include "two" (rest .)>
              from bad/templates/x.yaml:1:31 <include "two" (rest .)>
              from bad/templates/x.yaml:1:31 <include "two" (rest .)>
              from bad/templates/x.yaml:1:31 <include "two" (rest .)>
              from bad/templates/x.yaml:1:31 <include "two" (rest .)>
              and 50 more
        "#]],
    );
}

#[test]
fn what_builds_gigabytes_is_refused_before_it_does() {
    check(
        "{{ repeat 1000000000000 \"ab\" }}",
        expect![[r#"
        template: bad/templates/x.yaml:1:3: executing "bad/templates/x.yaml" at <repeat 1000000000000 "ab">: error calling repeat: repeat would build 2000000000000 bytes: more than the 4194304 that a chart ma…

          1 | {{ repeat 1000000000000 "ab" }}
            |    ^^^^^^^^^^^^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "{{ $s := \"x\" }}\n{{ range until 60 }}\n{{ $s = print $s $s }}\n{{ end }}",
        expect![[r#"
            bad/templates/x.yaml:3:17
              executing "bad/templates/x.yaml" at <$s>:
                the output is larger than the limit of 4194304 bytes

              3 | {{ $s = print $s $s }}
                |                  ^^
        "#]],
    );
    check(
        "{{ $s := \"x\" }}{{ range until 60 }}{{ $s = cat $s $s }}{{ end }}",
        expect![[r#"
            bad/templates/x.yaml:1:50
              executing "bad/templates/x.yaml" at <$s>:
                a string is larger than the limit of 4194304 bytes

              1 | {{ $s := "x" }}{{ range until 60 }}{{ $s = cat $s $s }}{{ end }}
                |                                                   ^^
        "#]],
    );
    check(
        "{{ $l := list 1 }}{{ range until 60 }}{{ $l = concat $l $l }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:46: executing "bad/templates/x.yaml" at <concat $l $l>: error calling concat: concat would build a list of 131072 items: more than the 104857 that a chart may

              1 | {{ $l := list 1 }}{{ range until 60 }}{{ $l = concat $l $l }}{{ end }}
                |                                               ^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range until 100000 }}{{ repeat 10000 \"x\" }}{{ end }}",
        expect![[r#"
            bad/templates/x.yaml:1:40
              executing "bad/templates/x.yaml" at <"x">:
                the output is larger than the limit of 4194304 bytes

              1 | {{ range until 100000 }}{{ repeat 10000 "x" }}{{ end }}
                |                                         ^^^
        "#]],
    );
    check(
        "{{ printf \"%999999d%999999d%999999d%999999d%999999d\" 1 2 3 4 5 }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:3: executing "bad/templates/x.yaml" at <printf "%999999d%999999d%999999d%999999d%999999d" 1 2 3 4 5>: error calling printf: the text would be larger than the limit

              1 | {{ printf "%999999d%999999d%999999d%999999d%999999d" 1 2 3 4 5 }}
                |    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ printf \"%*d\" 1000000000 1 }}",
        expect![[r#"
        YAML parse error on bad/templates/x.yaml: error converting YAML to JSON: yaml: line 1: did not find expected <document start>
    "#]],
    );
    check(
        "{{ $s := repeat 4000 \"a\" }}{{ replace \"a\" $s $s }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:30: executing "bad/templates/x.yaml" at <replace "a" $s $s>: error calling replace: replace would build 16004000 bytes: more than the 4194304 that a chart may

              1 | {{ $s := repeat 4000 "a" }}{{ replace "a" $s $s }}
                |                               ^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ regexReplaceAll \"a\" (repeat 4000 \"a\") (repeat 4000 \"b\") }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:3: executing "bad/templates/x.yaml" at <regexReplaceAll "a" (repeat 4000 "a") (repeat 4000 "b")>: error calling regexReplaceAll: regexReplaceAll would build 4196000 by…

              1 | {{ regexReplaceAll "a" (repeat 4000 "a") (repeat 4000 "b") }}
                |    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ indent 1000000000 \"a\" }}",
        expect![[r#"
        template: bad/templates/x.yaml:1:3: executing "bad/templates/x.yaml" at <indent 1000000000 "a">: error calling indent: indent would build 1000000001 bytes: more than the 4194304 that a chart may

          1 | {{ indent 1000000000 "a" }}
            |    ^^^^^^^^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "{{ seq 1 1000000000 }}",
        expect![[r#"
        template: bad/templates/x.yaml:1:3: executing "bad/templates/x.yaml" at <seq 1 1000000000>: error calling seq: seq would build a list of 1000000000 items: more than the 104857 that a chart may

          1 | {{ seq 1 1000000000 }}
            |    ^^^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "{{ randAlphaNum 1000000000000 }}",
        expect![[r#"
        template: bad/templates/x.yaml:1:3: executing "bad/templates/x.yaml" at <randAlphaNum 1000000000000>: error calling randAlphaNum: randAlphaNum would build 1000000000000 bytes: more than the 4194304 th…

          1 | {{ randAlphaNum 1000000000000 }}
            |    ^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "{{ $m := dict }}{{ range $i, $_ := until 10000000 }}{{ $_ := set $m (toString $i) $m }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:35: executing "bad/templates/x.yaml" at <until 10000000>: error calling until: until would build a list of 10000000 items: more than the 104857 that a chart may

              1 | {{ $m := dict }}{{ range $i, $_ := until 10000000 }}{{ $_ := set $m (toString $i) $m }}{{ end }}
                |                                    ^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range $i, $_ := until 4000 }}{{ $_ := tpl (printf \"%d%s\" $i (repeat 20000 \"{{1}}\")) $ }}{{ end }}",
        expect![[r#"
            bad/templates/x.yaml:1:87
              executing "bad/templates/x.yaml" at <$>:
                the templates take too long: more steps than the limit

              1 | {{ range $i, $_ := until 4000 }}{{ $_ := tpl (printf "%d%s" $i (repeat 20000 "{{1}}")) $ }}{{ end }}
                |                                                                                        ^
        "#]],
    );
}

#[test]
fn a_value_of_a_few_entries_that_stands_for_billions_is_not_walked() {
    let grow = "{{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}";
    for (call, expected) in [
        (
            "toYaml $l",
            expect![[r#"
            bad/templates/x.yaml:1:78
              executing "bad/templates/x.yaml" at <$l>:
                the templates take too long: more steps than the limit

              1 | {{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}{{ toYaml $l }}
                |                                                                               ^^
        "#]],
        ),
        (
            "toJson $l",
            expect![[r#"
            bad/templates/x.yaml:1:78
              executing "bad/templates/x.yaml" at <$l>:
                the templates take too long: more steps than the limit

              1 | {{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}{{ toJson $l }}
                |                                                                               ^^
        "#]],
        ),
        (
            "print $l",
            expect![[r#"
            bad/templates/x.yaml:1:77
              executing "bad/templates/x.yaml" at <$l>:
                the templates take too long: more steps than the limit

              1 | {{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}{{ print $l }}
                |                                                                              ^^
        "#]],
        ),
        (
            "deepCopy $l",
            expect![[r#"
            template: bad/templates/x.yaml:1:71: executing "bad/templates/x.yaml" at <deepCopy $l>: error calling deepCopy: deepCopy: the value is nested too deeply or too large

              1 | {{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}{{ deepCopy $l }}
                |                                                                        ^^^^^^^^^^^
        "#]],
        ),
        (
            "has 1 $l",
            expect![[r#"
            YAML parse error on bad/templates/x.yaml: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal bool into Go value of type util.SimpleHead
        "#]],
        ),
        (
            "deepEqual $l (list $l)",
            expect![[r#"
            YAML parse error on bad/templates/x.yaml: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal bool into Go value of type util.SimpleHead
        "#]],
        ),
        (
            "toToml (dict \"l\" $l)",
            expect![[r#"
            bad/templates/x.yaml:1:88
              executing "bad/templates/x.yaml" at <$l>:
                the templates take too long: more steps than the limit

              1 | {{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}{{ toToml (dict "l" $l) }}
                |                                                                                         ^^
        "#]],
        ),
        (
            "join \",\" $l",
            expect![[r#"
            bad/templates/x.yaml:1:80
              executing "bad/templates/x.yaml" at <$l>:
                the templates take too long: more steps than the limit

              1 | {{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}{{ join "," $l }}
                |                                                                                 ^^
        "#]],
        ),
    ] {
        check(&format!("{grow}{{{{ {call} }}}}"), expected);
    }
    check(
        "{{ $t := `a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]` }}{{ fail (toString (fromYaml $t)) }}",
        expect![[r#"
            execution error at (bad/templates/x.yaml:6:38): map[Error:error converting YAML to JSON: yaml: document contains excessive aliasing]

              6 | f: [*e,*e,*e,*e,*e,*e,*e,*e,*e]` }}{{ fail (toString (fromYaml $t)) }}
                |                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
}

#[test]
fn what_nests_without_end_is_refused() {
    let deep = |open: &str, middle: &str, close: &str| {
        open.repeat(20_000) + middle + &close.repeat(20_000)
    };
    check(
        &format!("{{{{ {} }}}}", deep("(", "1", ")")),
        expect![[r#"
        parse error at (bad/templates/x.yaml:1): max expression depth exceeded

          1 | {{ (((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((…
            |                                                                                                                                                                                                   …
    "#]],
    );
    check(
        &deep("{{ if 1 }}", "", "{{ end }}"),
        expect![[r#"
        parse error at (bad/templates/x.yaml:1): max expression depth exceeded

          1 | {{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ if 1 }}{{ i…
            |                                                                                                                                                                                                   …
    "#]],
    );
    check(
        "{{ $m := dict }}{{ range until 20000 }}{{ $m = dict \"a\" $m }}{{ end }}{{ toYaml $m }}",
        expect![[r#"
            renders:
        "#]],
    );
    check(
        "{{ $m := dict }}{{ range until 20000 }}{{ $m = dict \"a\" $m }}{{ end }}{{ $m }}",
        expect![[r#"
            bad/templates/x.yaml:1:73
              executing "bad/templates/x.yaml" at <$m>:
                a value is nested too deeply to be printed

              1 | {{ $m := dict }}{{ range until 20000 }}{{ $m = dict "a" $m }}{{ end }}{{ $m }}
                |                                                                          ^^
        "#]],
    );
    check(
        "{{ $m := dict }}{{ $_ := set $m \"self\" $m }}{{ toJson $m }}",
        expect![[r#"
            renders:
        "#]],
    );
    check(
        "{{ fromJson (repeat 20000 \"[\") }}",
        expect![[r#"
        YAML parse error on bad/templates/x.yaml: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go value of type util.SimpleHead
    "#]],
    );
    check(
        "{{ (fromYaml (repeat 20000 \"[\")).Error | fail }}",
        expect![[r#"
            execution error at (bad/templates/x.yaml:1:41): error converting YAML to JSON: yaml: line 1: recursion limit exceeded

              1 | {{ (fromYaml (repeat 20000 "[")).Error | fail }}
                |                                          ^^^^
        "#]],
    );
    check(
        "{{ (fromToml (printf \"a = %s\" (repeat 20000 \"[\"))).Error | fail }}",
        expect![[r#"
            execution error at (bad/templates/x.yaml:1:59): toml: line 1: cannot recurse further; max recursion depth met

              1 | {{ (fromToml (printf "a = %s" (repeat 20000 "["))).Error | fail }}
                |                                                            ^^^^
        "#]],
    );
    check_chart(
        &[("values.yaml", &("a: ".to_owned() + &deep("[", "", "]")))],
        serde_json::json!({}),
        expect![[r#"
            cannot load values.yaml: cannot unmarshal yaml document: error converting YAML to JSON: yaml: line 1: recursion limit exceeded
        "#]],
    );
    check(
        &("a: ".to_owned() + &deep("{a: ", "1", "}")),
        expect![[r#"
        YAML parse error on bad/templates/x.yaml: error converting YAML to JSON: yaml: line 1: exceeded max depth of 500
    "#]],
    );
}

#[test]
fn what_costs_a_processor_much_is_counted() {
    check(
        "{{ range until 1000 }}{{ genPrivateKey \"rsa\" }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:25: executing "bad/templates/x.yaml" at <genPrivateKey "rsa">: error calling genPrivateKey: genPrivateKey: the templates take too long: more steps than the limit

              1 | {{ range until 1000 }}{{ genPrivateKey "rsa" }}{{ end }}
                |                          ^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range until 1000 }}{{ bcrypt \"x\" }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:25: executing "bad/templates/x.yaml" at <bcrypt "x">: error calling bcrypt: bcrypt: the templates take too long: more steps than the limit

              1 | {{ range until 1000 }}{{ bcrypt "x" }}{{ end }}
                |                          ^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range until 1000 }}{{ htpasswd \"u\" \"x\" }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:25: executing "bad/templates/x.yaml" at <htpasswd "u" "x">: error calling htpasswd: htpasswd: the templates take too long: more steps than the limit

              1 | {{ range until 1000 }}{{ htpasswd "u" "x" }}{{ end }}
                |                          ^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range until 1000 }}{{ derivePassword 1 \"long\" \"p\" \"u\" \"s\" }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:25: executing "bad/templates/x.yaml" at <derivePassword 1 "long" "p" "u" "s">: error calling derivePassword: derivePassword: the templates take too long: more steps th…

              1 | {{ range until 1000 }}{{ derivePassword 1 "long" "p" "u" "s" }}{{ end }}
                |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range until 1000 }}{{ (genCA \"x\" 1).Cert }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:26: executing "bad/templates/x.yaml" at <genCA "x" 1>: error calling genCA: error generating rsa key: a certificate's key: the templates take too long: more steps than…

              1 | {{ range until 1000 }}{{ (genCA "x" 1).Cert }}{{ end }}
                |                           ^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range until 1000 }}{{ genPrivateKey \"dsa\" }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:25: executing "bad/templates/x.yaml" at <genPrivateKey "dsa">: error calling genPrivateKey: genPrivateKey: the templates take too long: more steps than the limit

              1 | {{ range until 1000 }}{{ genPrivateKey "dsa" }}{{ end }}
                |                          ^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ $s := repeat 4000000 \"x\" }}{{ range until 1000 }}{{ sha256sum $s }}{{ end }}",
        expect![[r#"
            bad/templates/x.yaml:1:65
              executing "bad/templates/x.yaml" at <$s>:
                the templates take too long: more steps than the limit

              1 | {{ $s := repeat 4000000 "x" }}{{ range until 1000 }}{{ sha256sum $s }}{{ end }}
                |                                                                  ^^
        "#]],
    );
    check(
        "{{ $s := repeat 4000000 \"a\" }}{{ range until 1000 }}{{ regexMatch \"(a*)*(a*)*b\" $s }}{{ end }}",
        expect![[r#"
            bad/templates/x.yaml:1:80
              executing "bad/templates/x.yaml" at <$s>:
                the templates take too long: more steps than the limit

              1 | {{ $s := repeat 4000000 "a" }}{{ range until 1000 }}{{ regexMatch "(a*)*(a*)*b" $s }}{{ end }}
                |                                                                                 ^^
        "#]],
    );
    check(
        "{{ mustRegexMatch \"((a{100}){100}){100}\" \"a\" }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:3: executing "bad/templates/x.yaml" at <mustRegexMatch "((a{100}){100}){100}" "a">: error calling mustRegexMatch: error parsing regexp: invalid repeat count: `{100}`

              1 | {{ mustRegexMatch "((a{100}){100}){100}" "a" }}
                |    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ mustRegexMatch (printf \"%sa%s\" (repeat 5000 \"(\") (repeat 5000 \")\")) \"a\" }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:3: executing "bad/templates/x.yaml" at <mustRegexMatch (printf "%sa%s" (repeat 5000 "(") (repeat 5000 ")")) "a">: error calling mustRegexMatch: error parsing regexp: e…

              1 | {{ mustRegexMatch (printf "%sa%s" (repeat 5000 "(") (repeat 5000 ")")) "a" }}
                |    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range until 100000 }}{{ semverCompare (repeat 1000 \">1 || \") \"1.2.3\" }}{{ end }}",
        expect![[r#"
            template: bad/templates/x.yaml:1:27: executing "bad/templates/x.yaml" at <semverCompare (repeat 1000 ">1 || ") "1.2.3">: error calling semverCompare: constraint string is too long (max 512 bytes)

              1 | {{ range until 100000 }}{{ semverCompare (repeat 1000 ">1 || ") "1.2.3" }}{{ end }}
                |                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "{{ range until 100000 }}{{ sortAlpha (until 10000) }}{{ end }}",
        expect![[r#"
            bad/templates/x.yaml:1:44
              executing "bad/templates/x.yaml" at <10000>:
                the templates take too long: more steps than the limit

              1 | {{ range until 100000 }}{{ sortAlpha (until 10000) }}{{ end }}
                |                                             ^^^^^
        "#]],
    );
    check(
        "{{ $l := until 20000 }}{{ uniq $l }}{{ without $l 1 }}{{ range $l }}{{ uniq $l }}{{ end }}",
        expect![[r#"
            bad/templates/x.yaml:1:31
              executing "bad/templates/x.yaml" at <$l>:
                the templates take too long: more steps than the limit

              1 | {{ $l := until 20000 }}{{ uniq $l }}{{ without $l 1 }}{{ range $l }}{{ uniq $l }}{{ end }}
                |                                ^^
        "#]],
    );
}

#[test]
fn a_template_of_very_many_parts_is_refused_or_soon_read() {
    let many = |of: &str, times: usize| -> String {
        (0..times)
            .map(|at| of.replace('#', &at.to_string()))
            .collect()
    };
    check(
        &many("{{1}}", 900_000),
        expect![[r#"
        bad/templates/x.yaml:1:1999997
          executing "bad/templates/x.yaml" at <1>:
            the templates take too long: more steps than the limit

          1 | {{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}}{{1}…
            |                                                                                                                                                                                                   …
    "#]],
    );
    check(
        &(many("{{$v#:=1}}", 100_000) + &many("{{$v0}}", 10)),
        expect![[r#"
            YAML parse error on bad/templates/x.yaml: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number into Go value of type util.SimpleHead
        "#]],
    );
    check(
        &(many("{{define \"t#\"}}{{end}}", 100_000) + "a: 1"),
        expect![[r#"
            renders:
            ---
            # Source: bad/templates/x.yaml
            a: 1
        "#]],
    );
    check(
        &("{{define \"t\"}}".to_owned()
            + &many("{{$v#:=1}}", 50_000)
            + "{{end}}{{range until 100000}}{{include \"t\" .}}{{end}}"),
        expect![[r#"
            bad/templates/x.yaml:1:688935
              executing "bad/templates/x.yaml" at <include "t" .>:
                error calling include:
            bad/templates/x.yaml:1:688257
              executing "t" at <1>:
                the templates take too long: more steps than the limit

              1 | {{define "t"}}{{$v0:=1}}{{$v1:=1}}{{$v2:=1}}{{$v3:=1}}{{$v4:=1}}{{$v5:=1}}{{$v6:=1}}{{$v7:=1}}{{$v8:=1}}{{$v9:=1}}{{$v10:=1}}{{$v11:=1}}{{$v12:=1}}{{$v13:=1}}{{$v14:=1}}{{$v15:=1}}{{$v16:=1}}{{$…
                |                                                                                                                                                                                                   …
              from bad/templates/x.yaml:1:688935 <include "t" .>
        "#]],
    );
    check(
        &("{{ 1".to_owned() + &many(" | print", 100_000) + " }}"),
        expect![[r#"
            YAML parse error on bad/templates/x.yaml: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number into Go value of type util.SimpleHead
        "#]],
    );
}

#[test]
fn what_a_template_may_not_ask_it_is_refused() {
    check(
        "a: 1\nb: {{ (lookup \"v1\" \"Secret\" \"kube-system\" \"admin\").data }}\n",
        expect![[r#"
            template: bad/templates/x.yaml:2:7: executing "bad/templates/x.yaml" at <lookup "v1" "Secret" "kube-system" "admin">: error calling lookup: secrets is forbidden: User "system:serviceaccount:shop:deplo…

              2 | b: {{ (lookup "v1" "Secret" "kube-system" "admin").data }}
                |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        "a: {{ getHostByName \"example.com\" | quote }}",
        expect![[r#"
            renders:
            ---
            # Source: bad/templates/x.yaml
            a: ""
        "#]],
    );
    check(
        "a: {{ env \"HOME\" }}",
        expect![[r#"
        parse error at (bad/templates/x.yaml:1): function "env" not defined

          1 | a: {{ env "HOME" }}
            |       ^^^
    "#]],
    );
    check(
        "a: {{ .Files.Get \"../../etc/passwd\" | quote }}",
        expect![[r#"
            renders:
            ---
            # Source: bad/templates/x.yaml
            a: ""
        "#]],
    );
}

#[test]
fn values_and_schemas_that_are_none_are_refused() {
    let chart =
        |files: &[(&str, &str)], expected| check_chart(files, serde_json::json!({}), expected);
    chart(
        &[("values.yaml", "- 1\n")],
        expect![[r#"
        cannot load values.yaml: cannot unmarshal yaml document: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}
    "#]],
    );
    chart(
        &[("values.yaml", "just text\n")],
        expect![[r#"
        cannot load values.yaml: cannot unmarshal yaml document: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go value of type map[string]interface {}
    "#]],
    );
    chart(
        &[("values.yaml", "a: 1\nb: {c: d\ne: f\n")],
        expect![[r#"
        cannot load values.yaml: cannot unmarshal yaml document: error converting YAML to JSON: yaml: line 3: while parsing a flow mapping, did not find expected ',' or '}'
    "#]],
    );
    chart(
        &[("values.schema.json", "{\"type\": ")],
        expect![[r#"
        values don't meet the specifications of the schema(s) in the following chart(s):
        bad:
        values.schema.json is no JSON: EOF while parsing a value at line 1 column 9
    "#]],
    );
    chart(
        &[("values.schema.json", "{\"type\": 5}")],
        expect![[r#"
        values don't meet the specifications of the schema(s) in the following chart(s):
        bad:
        values.schema.json: at '/type': 5 is not valid under any of the schemas listed in the 'anyOf' keyword
    "#]],
    );
    chart(
        &[
            (
                "values.schema.json",
                "{\"properties\": {\"a\": {\"$ref\": \"https://example.com/x.json\"}}}",
            ),
            ("values.yaml", "a: 1"),
        ],
        expect![[r#"
            values don't meet the specifications of the schema(s) in the following chart(s):
            bad:
            values.schema.json: $ref to 'https://example.com/x.json': schemas are read neither from the network nor from files; put it under "$defs"
        "#]],
    );
    chart(
        &[
            (
                "values.schema.json",
                "{\"properties\": {\"a\": {\"$ref\": \"file:///etc/passwd\"}}}",
            ),
            ("values.yaml", "a: 1"),
        ],
        expect![[r#"
            values don't meet the specifications of the schema(s) in the following chart(s):
            bad:
            values.schema.json: $ref to 'file:///etc/passwd': schemas are read neither from the network nor from files; put it under "$defs"
        "#]],
    );
    chart(
        &[("values.schema.json", "{\"$ref\": \"#\"}")],
        expect![[r#"
        renders:
    "#]],
    );
    chart(
        &[
            (
                "values.schema.json",
                "{\"required\": [\"image\"], \"properties\": {\"port\": {\"type\": \"integer\"}}}",
            ),
            ("values.yaml", "port: http\n"),
        ],
        expect![[r#"
            values don't meet the specifications of the schema(s) in the following chart(s):
            bad:
            - at '': missing property 'image'
            - at '/port': got string, want integer

        "#]],
    );
    chart(
        &[
            (
                "values.schema.json",
                "{\"properties\": {\"a\": {\"pattern\": \"^(((a+)+)+)+$\"}}}",
            ),
            ("values.yaml", &format!("a: {}!\n", "a".repeat(5000))),
        ],
        expect![[r#"
            values don't meet the specifications of the schema(s) in the following chart(s):
            bad:
            - at '/a': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…

        "#]],
    );
    chart(
        &[(
            "values.schema.json",
            &("{\"not\": ".repeat(5000) + "{}" + &"}".repeat(5000)),
        )],
        expect![[r#"
            values don't meet the specifications of the schema(s) in the following chart(s):
            bad:
            values.schema.json is no JSON: recursion limit exceeded at line 1 column 1017
        "#]],
    );
    check_chart(
        &[
            ("values.yaml", "a: {b: 1}"),
            ("templates/x.yaml", "a: {{ .Values.a.b }}"),
        ],
        serde_json::json!({"a": "text"}),
        expect![[r#"
            bad/templates/x.yaml:1:13
              executing "bad/templates/x.yaml" at <.Values.a.b>:
                can't evaluate field b in type interface {}

              1 | a: {{ .Values.a.b }}
                |       ^^^^^^^^^^^
              .Values.a is a string, "text"
        "#]],
    );
    check_chart(
        &[
            (
                "charts/sub/Chart.yaml",
                "apiVersion: v2\nname: sub\nversion: 0.1.0\n",
            ),
            ("charts/sub/values.yaml", "a: 1"),
        ],
        serde_json::json!({"sub": "text"}),
        expect![[r#"
            type mismatch on sub: %!t(string=text)
        "#]],
    );
}

#[test]
fn a_description_that_is_none_is_refused() {
    let chart = |text: &str, expected| {
        check_chart(&[("Chart.yaml", text)], serde_json::json!({}), expected);
    };
    chart(
        "apiVersion: v2\nname: x\nversion: [1",
        expect![[r#"
        cannot load Chart.yaml: error converting YAML to JSON: yaml: line 3: unclosed bracket '['
    "#]],
    );
    chart(
        "apiVersion: v2\nname: ../../x\nversion: 0.1.0",
        expect![[r#"
        validation: chart.metadata.name "../../x" is invalid
    "#]],
    );
    chart(
        "apiVersion: v2\nversion: 0.1.0",
        expect![[r#"
        validation: chart.metadata.name is required
    "#]],
    );
    chart(
        "apiVersion: v2\nname: x\nversion: one",
        expect![[r#"
        validation: chart.metadata.version "one" is invalid
    "#]],
    );
    chart(
        "apiVersion: v2\nname: x\nversion: 0.1.0\ntype: virus",
        expect![[r#"
            validation: chart.metadata.type must be application or library
        "#]],
    );
    chart(
        "apiVersion: v2\nname: x\nversion: 0.1.0\ndependencies:\n- {name: d, version: 1.x, repository: 'https://x', alias: '../y'}",
        expect![[r#"
            validation: dependency "d" has disallowed characters in the alias
        "#]],
    );
    chart(
        "apiVersion: v2\nname: x\nversion: 0.1.0\nkubeVersion: '>=99'",
        expect![[r#"
            chart requires kubeVersion: >=99 which is incompatible with Kubernetes v1.36.0
        "#]],
    );
    chart(
        "apiVersion: v9\nname: x\nversion: 0.1.0",
        expect![[r#"
        renders:
    "#]],
    );
}

#[test]
fn what_is_rendered_and_no_manifest_is_refused() {
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: b: c\n",
        expect![[r#"
            YAML parse error on bad/templates/x.yaml: error converting YAML to JSON: yaml: line 5: mapping values are not allowed in this context
        "#]],
    );
    check(
        "apiVersion: v1\nkind: Secret\n---\njust text\n",
        expect![[r#"
            YAML parse error on bad/templates/x.yaml: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go value of type util.SimpleHead
        "#]],
    );
    check(
        "kind: [x]\n",
        expect![[r#"
        YAML parse error on bad/templates/x.yaml: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go struct field SimpleHead.kind of type string
    "#]],
    );
    check(
        "a: {{ .Values.image.tag }}\n",
        expect![[r#"
        bad/templates/x.yaml:1:13
          executing "bad/templates/x.yaml" at <.Values.image.tag>:
            nil pointer evaluating interface {}.tag

          1 | a: {{ .Values.image.tag }}
            |       ^^^^^^^^^^^^^^^^^
          .Values.image is not set
    "#]],
    );
    check(
        "a: {{ if }}\n",
        expect![[r#"
        parse error at (bad/templates/x.yaml:1): missing value for if

          1 | a: {{ if }}
            |          ^^
    "#]],
    );
    check(
        "ok\n\n{{ nosuch . }}\n",
        expect![[r#"
        parse error at (bad/templates/x.yaml:3): function "nosuch" not defined

          3 | {{ nosuch . }}
            |    ^^^^^^
    "#]],
    );
    check(
        "ok\n{{ range .Values }}\nno end\n",
        expect![[r#"
        parse error at (bad/templates/x.yaml:4): unexpected EOF

          4 |
            | ^
    "#]],
    );
}
