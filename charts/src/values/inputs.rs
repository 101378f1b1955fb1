//! What users give a chart: files and flags, merged in Helm's order; and which of them a value came from.

use std::fmt;

use super::{
    load, overlay,
    strvals::{self, Kind},
};
use crate::{Map, Value, json, yaml};

/// Files and flags, each in the order given. Files come first, then the flags in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Names and texts of the files of `--values`.
    pub files: Vec<(String, Vec<u8>)>,
    pub set_json: Vec<String>,
    pub set: Vec<String>,
    pub set_string: Vec<String>,
    pub set_file: Vec<String>,
    pub set_literal: Vec<String>,
}

/// Where a value came from: prints as `values.yaml:12` or `--set a.b=1`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    File { name: String, line: usize },
    Flag { flag: &'static str, text: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Flag { flag, text } => write!(f, "--{flag} {text}"),
        }
    }
}

impl Inputs {
    /// All values, merged. `read` answers the content of a file of `--set-file`.
    pub fn merge(&self, read: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<Map, String> {
        let mut values = Map::new();
        for (name, text) in &self.files {
            let file = load(text).map_err(|error| format!("failed to parse {name}: {error}"))?;
            values = overlay(&values, &file);
        }
        for line in &self.set_json {
            let trimmed = line.trim();
            if trimmed.starts_with('{') {
                match json::parse(trimmed.as_bytes()) {
                    Ok(Value::Map(map)) => values = overlay(&values, &map),
                    _ => return Err(format!("failed parsing --set-json data JSON: {line}")),
                }
            } else {
                strvals::set(line, &values, &Kind::Json)
                    .map_err(|_| format!("failed parsing --set-json data {line}"))?;
            }
        }
        let content = |path: &str| Ok(Value::string(read(path)?));
        for (flag, lines, kind) in self.flags(&content) {
            for line in lines {
                strvals::set(line, &values, &kind)
                    .map_err(|error| format!("failed parsing --{flag} data: {error}"))?;
            }
        }
        Ok(values)
    }

    /// Which file or flag gave the value at a path its say: the last that names it.
    pub fn origin(&self, path: &[&str]) -> Option<Origin> {
        let nothing = |_: &str| Ok(Value::string(""));
        let mut flags = self.flags(&nothing);
        flags.insert(0, ("set-json", &self.set_json, Kind::Json));
        for (flag, lines, kind) in flags.iter().rev() {
            let of_flag = lines.iter().rev().find(|line| {
                let values = match (kind, json::parse(line.trim().as_bytes())) {
                    (Kind::Json, Ok(Value::Map(map))) => map,
                    _ => {
                        let values = Map::new();
                        // A wrong line was refused when values were merged.
                        let _ = strvals::set(line, &values, kind);
                        values
                    }
                };
                names(&Value::Map(values), path)
            });
            if let Some(text) = of_flag {
                let text = text.clone();
                return Some(Origin::Flag { flag, text });
            }
        }
        self.files.iter().rev().find_map(|(name, text)| {
            let documents = yaml::split(text).into_iter().rev();
            let mut documents = documents
                .filter_map(|(line, document)| yaml::Document::parse_at(document, line).ok());
            documents.find_map(|document| {
                let line = document.line(path)?;
                let name = name.clone();
                Some(Origin::File { name, line })
            })
        })
    }

    /// The flags of one grammar, in Helm's order.
    fn flags<'a>(
        &'a self,
        read: &'a dyn Fn(&str) -> Result<Value, String>,
    ) -> Vec<(&'static str, &'a [String], Kind<'a>)> {
        vec![
            ("set", &self.set, Kind::Typed),
            ("set-string", &self.set_string, Kind::Text),
            ("set-file", &self.set_file, Kind::With(read)),
            ("set-literal", &self.set_literal, Kind::Literal),
        ]
    }
}

/// Whether a path leads somewhere in a value.
fn names(value: &Value, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return true;
    };
    let next = match value {
        Value::Map(map) => map.peek(first.as_bytes()),
        Value::List(list) => first
            .parse::<usize>()
            .ok()
            .and_then(|at| list.items.get(at).cloned()),
        _ => None,
    };
    next.is_some_and(|next| names(&next, rest))
}

#[cfg(test)]
mod tests {
    use super::Inputs;
    use crate::{Value, json};

    fn inputs() -> Inputs {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Inputs {
            files: vec![
                (
                    "a.yaml".to_owned(),
                    b"x: 1\nw:\n  z: 2\n  q: {r: 1}\n---\nt: 1\n".to_vec(),
                ),
                ("b.yaml".to_owned(), b"# b\nw:\n  z: 3\n".to_vec()),
            ],
            set_json: lines(&[r#"{"j": [1]}"#, r#"k={"l": 1}"#]),
            set: lines(&["x=5,m.n=1", "m.o[1]=2"]),
            set_string: lines(&["s=1"]),
            set_file: lines(&["f=path"]),
            set_literal: lines(&["l=a,b"]),
        }
    }

    #[test]
    fn files_and_flags_are_merged_in_helms_order() {
        let read = |path: &str| Ok(format!("<{path}>").into_bytes());
        let values = inputs().merge(&read).unwrap();
        let text = json::emit_raw(&Value::Map(values)).unwrap();
        let expected = r#"{"f":"<path>","j":[1],"k":{"l":1},"l":"a,b","m":{"n":1,"o":[null,2]},"s":"1","t":1,"w":{"q":{"r":1},"z":3},"x":5}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_value_knows_what_set_it() {
        let origin = |path: &[&str]| inputs().origin(path).map(|origin| origin.to_string());
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(origin(&["x"]), is("--set x=5,m.n=1"));
        assert_eq!(origin(&["w", "z"]), is("b.yaml:3"));
        assert_eq!(origin(&["w", "q", "r"]), is("a.yaml:4"));
        assert_eq!(origin(&["t"]), is("a.yaml:6"));
        assert_eq!(origin(&["m", "o", "1"]), is("--set m.o[1]=2"));
        assert_eq!(origin(&["j"]), is(r#"--set-json {"j": [1]}"#));
        assert_eq!(origin(&["k", "l"]), is(r#"--set-json k={"l": 1}"#));
        assert_eq!(origin(&["nope"]), None);
    }

    #[test]
    fn a_wrong_file_or_flag_is_named() {
        let read = |_: &str| Err("open path: no such file".to_owned());
        let wrong = Inputs {
            files: vec![("bad.yaml".to_owned(), b"- a\n".to_vec())],
            ..Inputs::default()
        };
        assert_eq!(
            wrong.merge(&read).unwrap_err(),
            "failed to parse bad.yaml: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}"
        );
        let wrong = Inputs {
            set: vec!["a".to_owned()],
            ..Inputs::default()
        };
        assert_eq!(
            wrong.merge(&read).unwrap_err(),
            "failed parsing --set data: key \"a\" has no value"
        );
        let wrong = Inputs {
            set_file: vec!["a=path".to_owned()],
            ..Inputs::default()
        };
        assert_eq!(
            wrong.merge(&read).unwrap_err(),
            "failed parsing --set-file data: open path: no such file"
        );
    }
}
