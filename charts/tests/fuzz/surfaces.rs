//! What reads bytes from outside, each as a function of bytes that must return, whatever they are; and texts to begin with.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use charts::{
    Environment, Limits, Map, Value,
    chart::{Chart, File, archive, glob::Pattern, ignore::Rules, metadata::Metadata, schema},
    fetch::index::Index,
    json,
    release::{record, secret},
    render::{RenderOptions, render},
    semver,
    values::{
        self,
        strvals::{self, Kind},
    },
    yaml,
};
use flate2::{Compression, read::GzEncoder};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::json;
use std::io::Read as _;

/// Something that reads bytes.
pub(crate) struct Surface {
    pub(crate) name: &'static str,
    pub(crate) read: fn(&[u8]),
    pub(crate) seeds: &'static [&'static str],
}

pub(crate) const SURFACES: &[Surface] = &[
    Surface {
        name: "template",
        read: template,
        seeds: &[
            "{{- define \"t\" -}}{{ . | quote }}{{- end }}{{ template \"t\" .Values.a }}{{ include \"t\" (list 1 \"x\" nil) | nindent 2 }}",
            "{{ range $i, $x := .Values.l }}{{ if and $i (gt $i 1) }}{{ break }}{{ else if not $x }}{{ continue }}{{ end }}{{ printf \"%-5.2f|%v\" 1.5 $x }}{{ else }}-{{ end }}",
            "{{ with $y := .Values.a.b }}{{ $y | default `raw` | trunc 5 }}{{ end }}{{/* c */}}{{ $z := 0x1F }}{{ $z = add $z 'a' }}{{ toYaml .Values }}{{ tpl .Values.t . }}",
            "{{ (dict \"a\" (list 1 2)).a | toJson | fromJsonArray | join \",\" }}{{ index .Values \"l\" 0 }}{{ slice \"abc\" 1 2 }}{{ len .Values.l }}{{ .Files.Get \"x\" }}{{ .Capabilities.KubeVersion }}",
        ],
    },
    Surface {
        name: "yaml",
        read: |bytes| {
            if let Ok(value) = yaml::parse(bytes) {
                let written = yaml::emit(&value);
                let _ = yaml::parse(written.as_bytes());
                let _ = yaml::emit_pretty(&value);
            }
            let _ = values::load(bytes);
            let _ = yaml::split(bytes);
        },
        seeds: &[
            "a: &x {b: [1, 2.5, yes, ~], c: 'q'}\nd:\n  <<: *x\n  e: |-\n    text\n     more\n  f: >+\n    fold\n\n- x\n",
            "? complex\n: - a\n  - !!binary aGk=\n  - \"\\u00e9\\x41\"\n--- # two\n%YAML 1.1\n---\n0x1F: 12:30:45\n...\n",
            "a: [{b: *a, ? c : d}, 'it''s', \"x\\\n  y\"] # c\nlong: text over\n  several lines\n",
        ],
    },
    Surface {
        name: "json",
        read: |bytes| {
            if let Ok(value) = json::parse(bytes) {
                let _ = json::emit(&value);
                let _ = json::emit_pretty(&value);
                let _ = yaml::try_emit(&value);
            }
        },
        seeds: &[
            "{\"a\": [1, -2.5e10, \"\\ud83d\\ude00\\n\", true, null], \"b\": {\"c\": {}}}",
            "[[[[[1e400, 0.1]]]]]",
        ],
    },
    Surface {
        name: "set",
        read: |bytes| {
            let line = String::from_utf8_lossy(bytes);
            for kind in [
                Kind::Typed,
                Kind::Text,
                Kind::Json,
                Kind::Literal,
                Kind::With(&|text| Ok(Value::string(text.to_owned()))),
            ] {
                let _ = strvals::set(&line, &Map::new(), &kind);
            }
        },
        seeds: &[
            "a.b[0].c=1,d={x,\"y\",true},e\\.f=null,g[2][1]=z",
            "a={\"b\":[1,{\"c\":null}]},d=[1,2]",
        ],
    },
    Surface {
        name: "archive",
        read: |bytes| {
            // Bytes of a tarball: packed here, as else no mutation would get past the checksum.
            let mut packed = Vec::new();
            let _ = GzEncoder::new(bytes, Compression::none()).read_to_end(&mut packed);
            let _ = archive::read(&packed);
            let _ = Chart::load_archive(&packed);
            let _ = archive::read(bytes);
        },
        seeds: &[],
    },
    Surface {
        name: "chart.yaml",
        read: |bytes| {
            let _ = Metadata::parse(bytes);
            let data = bytes.to_vec().into();
            let _ = Chart::from_files(vec![File {
                name: "Chart.yaml".to_owned(),
                data,
            }]);
        },
        seeds: &[
            "apiVersion: v2\nname: c\nversion: 1.2.3\nappVersion: '1'\nkubeVersion: '>=1.20'\ntype: library\ndeprecated: true\nkeywords: [a]\nmaintainers: [{name: x, email: y, url: z}]\nannotations: {a: b}\ndependencies:\n- {name: d, version: ^1, repository: 'https://x', condition: a.b, tags: [t], alias: e, import-values: [data, {child: a, parent: b}]}\n",
        ],
    },
    Surface {
        name: "index.yaml",
        read: |bytes| {
            if let Ok(index) = Index::parse(bytes) {
                let names: Vec<String> = index.charts().map(str::to_owned).collect();
                for name in names {
                    let _ = index.find(&name, None);
                    let _ = index.find(&name, Some("^1"));
                }
            }
        },
        seeds: &[
            "apiVersion: v1\nentries:\n  c:\n  - {name: c, version: 1.2.3, urls: [c-1.2.3.tgz], digest: abc}\n  - {name: c, version: 2.0.0-rc.1, urls: ['https://x/c.tgz']}\ngenerated: 2024-01-01T00:00:00Z\n",
        ],
    },
    Surface {
        name: "schema",
        read: |bytes| {
            let values = json!({"a": 1, "s": "text", "l": [1, "x", null], "m": {"k": {"k": 2.5}}});
            let _ = schema::check(bytes, &values);
        },
        seeds: &[
            "{\"$schema\": \"http://json-schema.org/draft-07/schema#\", \"type\": \"object\", \"required\": [\"a\"], \"properties\": {\"a\": {\"type\": \"integer\", \"minimum\": 3}, \"s\": {\"pattern\": \"^(x+)+$\", \"format\": \"ipv4\"}, \"l\": {\"items\": {\"anyOf\": [{\"type\": \"string\"}, {\"$ref\": \"#/definitions/d\"}]}}}, \"definitions\": {\"d\": {\"$ref\": \"#\"}}}",
            "{\"$defs\": {\"x\": {\"$id\": \"urn:x\", \"$dynamicRef\": \"#y\"}}, \"patternProperties\": {\"^m\": {\"propertyNames\": {\"maxLength\": 0}, \"unevaluatedProperties\": false}}, \"if\": {\"const\": 1}, \"then\": false, \"not\": {\"enum\": [1]}}",
        ],
    },
    Surface {
        name: "release",
        read: |bytes| {
            let _ = serde_json::from_slice::<record::Release>(bytes);
            let twice = |bytes: &[u8]| BASE64_STANDARD.encode(BASE64_STANDARD.encode(bytes));
            let of = |data: String| json!({"metadata": {"name": "sh.helm.release.v1.r.v1"}, "data": {"release": data}});
            let _ = secret::decode(&of(twice(bytes)), &[]);
            let mut packed = Vec::new();
            let _ = GzEncoder::new(bytes, Compression::none()).read_to_end(&mut packed);
            let _ = secret::decode(&of(twice(&packed)), &[]);
            let _ = secret::decode(&of(String::from_utf8_lossy(bytes).into_owned()), &[]);
            if let Ok(secret) = serde_json::from_slice(bytes) {
                let _ = (
                    secret::decode(&secret, &[]),
                    secret::part_names(&secret),
                    secret::labels(&secret),
                );
            }
        },
        seeds: &[
            "{\"name\": \"r\", \"namespace\": \"ns\", \"version\": 1, \"info\": {\"first_deployed\": \"2024-01-01T00:00:00Z\", \"status\": \"deployed\", \"notes\": \"n\"}, \"chart\": {\"metadata\": {\"name\": \"c\", \"version\": \"1\"}}, \"config\": {\"a\": 1}, \"manifest\": \"---\\na: 1\\n\", \"hooks\": [{\"name\": \"h\", \"kind\": \"Job\", \"events\": [\"pre-install\"], \"weight\": 1, \"last_run\": {\"phase\": \"Succeeded\"}}], \"apply_method\": \"ssa\"}",
            "{\"metadata\": {\"name\": \"sh.helm.release.v1.r.v1\", \"labels\": {\"owner\": \"helm\", \"status\": \"deployed\", \"version\": \"1\"}, \"annotations\": {\"charts.wk.dev/parts\": \"3\"}}, \"data\": {\"release\": \"eA==\"}}",
        ],
    },
    Surface {
        name: "semver",
        read: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (range, version) = text.split_once('\n').unwrap_or((&text, "1.2.3-beta.1+b"));
            let _ = semver::is_compatible(range, version);
            let _ = semver::is_compatible(version, range);
        },
        seeds: &[
            ">=1.2.x <2 || ^0.0.3, ~1 !=1.5\nv1.2.3-rc.1+b5",
            "1.2 - 2.3.4 || *\n99999999999.0.1",
            "=>1, =<2, ~>3\n1",
        ],
    },
    Surface {
        name: "regex",
        read: regex,
        seeds: &[
            "^(?i:a[b-d]{2,3}|\\pL+?)*$\nabcd",
            "(?P<n>x+)(y|\\Q.\\E)?[^[:alpha:]\\d]\\b\nxxy1",
            "(a{20}){20}\n${1}$n",
        ],
    },
    Surface {
        name: "ignore",
        read: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(rules) = Rules::parse(&text) {
                let _ = (rules.ignore("a/b.txt", false), rules.ignore("a", true));
            }
            for pattern in [Pattern::file(&text), Pattern::glob(&text)]
                .into_iter()
                .flatten()
            {
                let _ = pattern.matches("a/b/c.yaml");
            }
        },
        seeds: &[
            "# c\n*.swp\n!x\n/a/b\ndir/\n[a-z]?.t\n",
            "{a,b*}/**/[!x]\\*",
        ],
    },
];

/// What a template may use here: enough to do something, little enough to be soon refused.
fn environment() -> Environment {
    Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits {
            steps: 300_000,
            output: 1 << 20,
            depth: 50,
            deadline: Some(Instant::now() + Duration::from_secs(20)),
        },
    }
}

fn rendered(text: &[u8], given: serde_json::Value) {
    let file = |name: &str, data: &[u8]| File {
        name: name.to_owned(),
        data: data.to_vec().into(),
    };
    let files = vec![
        file("Chart.yaml", b"apiVersion: v2\nname: c\nversion: 1.2.3\n"),
        file("x", b"a file"),
        file("templates/x.yaml", text),
    ];
    let Ok(chart) = Chart::from_files(files) else {
        return;
    };
    let given = values::from_json_map(given.as_object().expect("a map"));
    let _ = render(&chart, &given, &RenderOptions::default(), &environment())
        .map_err(|error| error.to_string());
}

fn template(bytes: &[u8]) {
    rendered(
        bytes,
        json!({"a": {"b": "c"}, "l": [1, null, "x", {"k": true}], "t": "{{ .Values.a.b }}", "n": 1e6}),
    );
}

fn regex(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (expression, subject) = text.split_once('\n').unwrap_or((&text, "some text"));
    rendered(
        b"{{ regexFindAll .Values.e .Values.s -1 }}{{ regexReplaceAll .Values.e .Values.s .Values.s }}{{ regexSplit .Values.e .Values.s 3 }}",
        json!({"e": expression, "s": subject}),
    );
}
