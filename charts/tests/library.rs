//! The charts of the library: nothing is found in them, and passwords that they make stay.

#![expect(clippy::unwrap_used, reason = "a test: what is missing fails it")]

use std::{cell::RefCell, path::PathBuf};

use charts::{
    Environment, Failure, Limits, Lookup, Map, Value,
    chart::Chart,
    lint::{self, Severity},
    render::{Capabilities, RenderOptions, render},
    values,
};
use rand::{SeedableRng as _, rngs::StdRng};

/// What each needs to be rendered at all.
const LIBRARY: &[(&str, &str)] = &[
    ("function", "image: hello"),
    ("nginx", "{}"),
    ("postgresql", "{}"),
    ("prometheus", "{}"),
    ("redis", "{}"),
];

fn directory(chart: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("library")
        .join(chart)
}

fn environment(seed: u64, lookup: Option<Box<dyn Lookup>>) -> Environment {
    Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(StdRng::seed_from_u64(seed)),
        lookup,
        dns: false,
        limits: Limits::default(),
    }
}

#[test]
fn lint_finds_nothing() {
    let there: Vec<String> = std::fs::read_dir(directory(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there.len(), LIBRARY.len(), "{there:?}");
    for (chart, given) in LIBRARY {
        let options = lint::Options {
            namespace: "default".to_owned(),
            capabilities: Capabilities::default(),
            skip_schema: false,
        };
        let given = values::load(given.as_bytes()).unwrap();
        let found = lint::lint(&directory(chart), &given, &options, &environment(1, None));
        let found: Vec<String> = found
            .iter()
            .filter(|finding| finding.severity > Severity::Info)
            .map(ToString::to_string)
            .collect();
        assert!(found.is_empty(), "{chart}: {found:#?}");
    }
}

/// A cluster with one Secret, `NAMESPACE/release-CHART`.
struct OneSecret(&'static str);

impl Lookup for OneSecret {
    fn lookup(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Failure> {
        let asked = [api_version, kind, namespace, name].join(" ");
        if asked != format!("v1 Secret default release-{}", self.0) {
            return Ok(Value::Map(Map::new()));
        }
        let secret = "{data: {password: b2xk}}";
        Ok(Value::Map(values::load(secret.as_bytes()).unwrap()))
    }
}

/// The line of the Secret that has the password.
fn password(chart: &str, given: &str, environment: &Environment) -> String {
    let loaded = Chart::load(&directory(chart)).unwrap();
    let options = RenderOptions {
        name: "release".to_owned(),
        ..RenderOptions::default()
    };
    let given = values::load(given.as_bytes()).unwrap();
    let rendered = render(&loaded, &given, &options, environment).unwrap();
    let secret = &rendered.files[&format!("{chart}/templates/secret.yaml")];
    let line = secret.lines().find(|line| line.starts_with("  password: "));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn a_password_is_the_one_that_is_given_or_was_there_or_a_new_one() {
    for chart in ["postgresql", "redis"] {
        let first = password(chart, "{}", &environment(1, None));
        let second = password(chart, "{}", &environment(2, None));
        assert_ne!(first, second);
        assert_eq!(first.len(), r#"password: """#.len() + 32, "{first}");

        let there = || environment(3, Some(Box::new(OneSecret(chart)) as Box<dyn Lookup>));
        assert_eq!(password(chart, "{}", &there()), r#"password: "b2xk""#);
        let given = "auth: {password: new}";
        assert_eq!(password(chart, given, &there()), r#"password: "bmV3""#);
        let elsewhere = "auth: {existingSecret: login}";
        assert_eq!(password(chart, elsewhere, &there()), "");
    }
}
