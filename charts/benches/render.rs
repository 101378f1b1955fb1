//! How fast templates are parsed and executed: no files, no cluster, one thread, templates of the kinds that charts have.
//!
//! Microseconds are of the thread's CPU time, the best of several rounds. Names of cases as arguments run only those.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::{cell::RefCell, time::Duration};

use charts::{
    Environment, Limits, Map, Value,
    template::{Rendering, Templates},
};
use nix::time::{ClockId, clock_gettime};
use rand::SeedableRng;

/// One row.
struct Case {
    name: &'static str,
    template: &'static str,
}

const HELPERS: &str = r#"
{{- define "web.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- define "web.labels" -}}
app.kubernetes.io/name: {{ include "web.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- range $key, $value := .Values.labels }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end -}}
"#;

const DEPLOYMENT: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-{{ include "web.name" . }}
  labels: {{- include "web.labels" . | nindent 4 }}
spec:
  {{- if not .Values.autoscaling }}
  replicas: {{ .Values.replicas }}
  {{- end }}
  template:
    metadata:
      labels: {{- include "web.labels" . | nindent 8 }}
    spec:
      containers:
        - name: web
          image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default "latest") | quote }}
          {{- with .Values.image.pullPolicy }}
          imagePullPolicy: {{ . }}
          {{- end }}
          env:
            {{- range $i, $variable := .Values.env }}
            - name: {{ $variable.name }}
              value: {{ $variable.value | quote }}
            {{- else }}
            []
            {{- end }}
"#;

const CASES: &[Case] = &[
    Case {
        name: "a deployment with helpers",
        template: DEPLOYMENT,
    },
    Case {
        name: "a thousand turns",
        template: "{{ range $i, $n := .Values.numbers }}{{ if gt $i 500 }}{{ $n }}{{ else }}-{{ end }}\n{{ end }}",
    },
    Case {
        name: "a thousand includes",
        template: "{{ range .Values.numbers }}{{ include \"web.name\" $ }}\n{{ end }}",
    },
    Case {
        name: "a thousand tpl",
        template: "{{ range .Values.numbers }}{{ tpl $.Values.text $ }}\n{{ end }}",
    },
];

fn map(entries: Vec<(&'static str, Value)>) -> Value {
    let map = Map::new();
    for (key, value) in entries {
        map.insert(key, value);
    }
    Value::Map(map)
}

fn data() -> Value {
    let variable = |i: i64| {
        map(vec![
            ("name", Value::string(format!("VARIABLE_{i}"))),
            ("value", Value::string(format!("value {i}"))),
        ])
    };
    let image = vec![
        ("repository", Value::string("registry.example/web")),
        ("pullPolicy", Value::string("IfNotPresent")),
    ];
    let labels = vec![
        ("team", Value::string("one")),
        ("tier", Value::string("front")),
    ];
    let values = vec![
        ("replicas", Value::Float(3.0)),
        ("image", map(image)),
        ("labels", map(labels)),
        ("env", Value::list((0..20).map(variable).collect())),
        ("numbers", Value::list((0..1000).map(Value::int).collect())),
        (
            "text",
            Value::string("{{ .Release.Name }}-{{ .Values.replicas }}"),
        ),
    ];
    map(vec![
        ("Values", map(values)),
        ("Chart", map(vec![("Name", Value::string("web"))])),
        ("Release", map(vec![("Name", Value::string("release"))])),
    ])
}

fn environment() -> Environment {
    Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(rand::rngs::StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits::default(),
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// The best time of a few rounds of many repetitions, for one repetition.
fn measure(mut once: impl FnMut()) -> Duration {
    const ROUNDS: u32 = 5;
    const TIMES: u32 = 200;
    let round = |_| {
        let start = cpu();
        (0..TIMES).for_each(|_| once());
        (cpu() - start) / TIMES
    };
    (0..ROUNDS).map(round).min().unwrap()
}

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    println!(
        "{:<28} {:>10} {:>10} {:>10}",
        "template", "parse µs", "render µs", "bytes"
    );
    for case in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|name| case.name.contains(name.as_str())) {
            continue;
        }
        let parse = || {
            let mut templates = Templates::new();
            templates.add("helpers.tpl", HELPERS).unwrap();
            templates.add("x.yaml", case.template).unwrap();
            templates
        };
        let parsing = measure(|| drop(parse()));
        let (templates, data, environment) = (parse(), data(), environment());
        let mut length = 0;
        let rendering = measure(|| {
            let text = Rendering::new(&templates, &environment).execute("x.yaml", data.clone());
            length = text.unwrap().len();
        });
        println!(
            "{:<28} {:>10.1} {:>10.1} {length:>10}",
            case.name,
            parsing.as_secs_f64() * 1e6,
            rendering.as_secs_f64() * 1e6,
        );
    }
}
