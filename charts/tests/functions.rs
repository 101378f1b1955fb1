//! Every function gives what real Helm gave for its probes (`probes/functions/*.txt`, answered by `probes/ask.py`), errors
//! too.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{cell::RefCell, collections::BTreeMap, fmt::Write as _, path::PathBuf};

use charts::{Environment, Limits, Map, Value, template::Templates};
use rand::SeedableRng as _;

const TEMPLATE: &str = "probe/templates/probe.yaml";

/// Probes are few lines: what they build is small, unless they try to build too much.
fn environment() -> Environment {
    Environment {
        now: "2024-02-29T12:34:56Z".parse().unwrap(),
        random: RefCell::new(rand::rngs::StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits {
            output: 16 << 20,
            ..Limits::default()
        },
    }
}

struct Probe {
    template: String,
    values: Value,
    /// The lines of Helm's answer.
    answer: Vec<String>,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/probes/functions")
}

fn probes(text: &str) -> Vec<Probe> {
    let mut probes: Vec<Probe> = Vec::new();
    let mut values = Value::Nil;
    for line in text.lines() {
        match line.as_bytes().first() {
            Some(b'%') => values = charts::yaml::parse(&line.as_bytes()[1..]).unwrap(),
            Some(b'?') => {
                let text = line.get(2..).unwrap_or_default();
                match probes.last_mut() {
                    Some(probe) if probe.answer.is_empty() => {
                        probe.template.push('\n');
                        probe.template.push_str(text);
                    }
                    _ => probes.push(Probe {
                        template: text.to_owned(),
                        values: values.clone(),
                        answer: Vec::new(),
                    }),
                }
            }
            Some(b'=' | b'!') => probes.last_mut().unwrap().answer.push(line.to_owned()),
            _ => {}
        }
    }
    probes
}

/// What a template renders to, or why not: as Helm says it, without the template's name and place.
fn render(template: &str, values: &Value, environment: &Environment) -> Result<String, String> {
    let mut templates = Templates::new();
    let data = Map::new();
    let values = match values {
        Value::Nil => Map::new(),
        Value::Map(map) => map.clone(),
        _ => panic!("values are a map"),
    };
    let shared = Map::of_type("common.Values");
    for (key, value) in values.entries() {
        shared.insert(key, value);
    }
    data.insert("Values", Value::Map(shared));
    let chart = Map::new();
    chart.insert("Name", Value::string("probe"));
    data.insert("Chart", Value::Map(chart));
    templates
        .add(TEMPLATE, template.to_owned())
        .map_err(|error| why(&error.helm()))?;
    match templates.execute(TEMPLATE, Value::Map(data), environment) {
        Ok(executed) => Ok(String::from_utf8_lossy(&executed.text).into_owned()),
        Err(error) => Err(why(&error.helm())),
    }
}

fn why(error: &str) -> String {
    if let Some((_, rest)) = error.split_once("\" at <")
        && error.starts_with("template: ")
    {
        return format!("<{rest}");
    }
    if let Some((_, rest)) = error.split_once("\n  <")
        && let Some((place, message)) = rest.split_once(">:\n    ")
    {
        return format!("<{place}>: {message}");
    }
    match error
        .strip_prefix("parse error at (")
        .and_then(|rest| rest.split_once("): "))
    {
        Some((_, message)) => message.to_owned(),
        None => error.to_owned(),
    }
}

/// As `ask.py` writes an answer down.
fn written(rendered: Result<String, String>) -> Vec<String> {
    let text = match rendered {
        Ok(text) => text,
        Err(message) if message.contains('\n') => {
            let quoted = serde_json::to_string(&message).unwrap();
            return vec![format!("! {}", &quoted[1..quoted.len() - 1])];
        }
        Err(message) => return vec![format!("! {message}")],
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let control = text
        .chars()
        .any(|c| c != '\n' && (c < ' ' || c == '\u{7F}'));
    if control || lines.iter().any(|line| line.trim_end() != *line) {
        return vec![format!("={}", serde_json::to_string(&text).unwrap())];
    }
    lines
        .iter()
        .map(|line| format!("= {line}").trim_end().to_owned())
        .collect()
}

#[track_caller]
fn check(family: &str) {
    let text = std::fs::read_to_string(directory().join(format!("{family}.txt"))).unwrap();
    let probes = probes(&text);
    let mut wrong = String::new();
    let mut count = 0;
    for probe in &probes {
        let ours = written(render(&probe.template, &probe.values, &environment()));
        if ours != probe.answer {
            count += 1;
            let (helm, ours) = (probe.answer.join("\n     "), ours.join("\n     "));
            writeln!(wrong, "{}\n  helm {helm}\n  ours {ours}", probe.template).unwrap();
        }
    }
    assert!(count == 0, "{count} of {} differ:\n{wrong}", probes.len());
}

macro_rules! families {
    ($($family:ident)*) => {
        $(#[test]
        fn $family() {
            check(stringify!($family));
        })*

        #[test]
        fn every_file_of_probes_is_tested() {
            let mut known = vec![$(stringify!($family)),*];
            let files = std::fs::read_dir(directory()).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            let mut found: Vec<String> =
                names.map(|name| name.trim_end_matches(".txt").to_owned()).collect();
            known.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, known);
        }
    };
}

families! {
    cryptography dates defaults dicts documents encoding floats integers lists paths regexes
    strings types urls versions words
}

/// What differs from run to run is checked by its properties, in the families' own tests.
const RANDOM: &[&str] = &[
    "genCA",
    "genCAWithKey",
    "genPrivateKey",
    "genSelfSignedCert",
    "genSelfSignedCertWithKey",
    "genSignedCert",
    "genSignedCertWithKey",
    "now",
    "ago",
    "randAlpha",
    "randAlphaNum",
    "randAscii",
    "randBytes",
    "randInt",
    "randNumeric",
    "shuffle",
    "uuidv4",
    "encryptAES",
    "bcrypt",
    "htpasswd",
    "hello",
    "getHostByName",
];

#[test]
fn every_function_has_three_probes() {
    let names = include_str!("../src/functions/names.txt");
    let mut counts: BTreeMap<&str, usize> = names
        .lines()
        .filter(|name| !name.starts_with('#') && !RANDOM.contains(name))
        .map(|name| (name, 0))
        .collect();
    for file in std::fs::read_dir(directory()).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for probe in probes(&text) {
            let mut words: Vec<&str> = probe
                .template
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .collect();
            words.sort_unstable();
            words.dedup();
            for word in words {
                if let Some(count) = counts.get_mut(word) {
                    *count += 1;
                }
            }
        }
    }
    counts.retain(|_, count| *count < 3);
    assert_eq!(counts, BTreeMap::new());
}
