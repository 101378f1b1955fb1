//! Cuts rendered texts into documents, tells hooks from the rest, and sorts both as Helm does.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    Map, Value, json,
    release::{
        manifest::place,
        record::{DeletePolicy, Event, Hook},
    },
    yaml,
};

/// A document that is no hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The template that it came from.
    pub source: String,
    pub content: String,
    pub kind: String,
}

impl Manifest {
    /// As `helm template` prints it.
    pub fn text(&self) -> String {
        format!("---\n# Source: {}\n{}\n", self.source, self.content)
    }
}

/// Rendered texts, sorted.
pub(super) struct Sorted {
    pub(super) manifests: Vec<Manifest>,
    pub(super) hooks: Vec<Hook>,
}

/// Sorts the documents of rendered texts, given in the order of their names; an error names the text that is no YAML.
pub(super) fn sort<'a>(
    files: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Sorted, (String, String)> {
    let mut sorted = Sorted {
        manifests: Vec::new(),
        hooks: Vec::new(),
    };
    for (name, text) in files {
        if text.trim().is_empty() {
            continue;
        }
        for document in split(text) {
            let head = Head::read(document).map_err(|message| (name.clone(), message))?;
            match head.annotation("helm.sh/hook") {
                Some(events) => sorted.hooks.extend(hook(name, document, &head, &events)),
                None => sorted.manifests.push(Manifest {
                    source: name.clone(),
                    content: document.to_owned(),
                    kind: head.kind,
                }),
            }
        }
    }
    sorted
        .manifests
        .sort_by(|a, b| place(&a.kind).cmp(&place(&b.kind)));
    sorted
        .hooks
        .sort_by(|a, b| place(&a.kind).cmp(&place(&b.kind)));
    Ok(sorted)
}

/// The documents of a text, without white space before them.
pub fn split(text: &str) -> Vec<&str> {
    static SEPARATOR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:^|[\t\n\x0c\r ]*\n)---[\t\n\x0c\r ]*")
            .expect("the expression is a constant that compiles")
    });
    let documents = SEPARATOR.split(text.trim_start());
    let documents = documents.filter(|document| !document.is_empty());
    documents.map(str::trim_start).collect()
}

/// A hook; none if an event is unknown.
fn hook(path: &str, document: &str, head: &Head, events: &str) -> Option<Hook> {
    let word = |word: &str| word.trim().to_lowercase();
    let events = events.split(',').map(|event| Event::parse(&word(event)));
    let policies = |annotation: &str| -> Vec<DeletePolicy> {
        let policies = head.annotation(annotation).unwrap_or_default();
        let policies = policies
            .split(',')
            .map(word)
            .filter(|word| !word.is_empty());
        policies
            .map(|policy| DeletePolicy::parse(&policy).unwrap_or(DeletePolicy::Other))
            .collect()
    };
    let weight = head.annotation("helm.sh/hook-weight");
    Some(Hook {
        name: head.name.clone(),
        kind: head.kind.clone(),
        path: path.to_owned(),
        manifest: document.to_owned(),
        events: events.collect::<Option<_>>()?,
        weight: weight.and_then(|weight| weight.parse().ok()).unwrap_or(0),
        delete_policies: policies("helm.sh/hook-delete-policy"),
        output_log_policies: policies("helm.sh/hook-output-log-policy"),
        ..Hook::default()
    })
}

/// What Helm looks at in a document.
struct Head {
    kind: String,
    name: String,
    annotations: Map,
}

impl Head {
    fn read(document: &str) -> Result<Head, String> {
        let wrong = |found: &Value, wanted: &str| {
            let found = json::kind(found);
            format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into {wanted}"
            )
        };
        let map = match yaml::parse(document.as_bytes()).map_err(|error| error.to_string())? {
            Value::Map(map) => map,
            Value::Nil => Map::new(),
            other => return Err(wrong(&other, "Go value of type util.SimpleHead")),
        };
        let text = |map: &Map, key: &str, field: &str| match map.peek(key.as_bytes()) {
            None | Some(Value::Nil) => Ok(String::new()),
            Some(other @ (Value::Map(_) | Value::List(_))) => {
                let wanted = format!("Go struct field {field} of type string");
                Err(wrong(&other, &wanted))
            }
            Some(scalar) => Ok(json::text(&crate::format::sprint(&scalar)).into_owned()),
        };
        text(&map, "apiVersion", "SimpleHead.apiVersion")?;
        let kind = text(&map, "kind", "SimpleHead.kind")?;
        let metadata = match map.peek(b"metadata") {
            None | Some(Value::Nil) => Map::new(),
            Some(Value::Map(metadata)) => metadata,
            Some(other) => {
                let wanted = "Go struct field SimpleHead.metadata of type object";
                return Err(wrong(&other, wanted));
            }
        };
        let name = text(&metadata, "name", "SimpleHead.metadata.name")?;
        let annotations = match metadata.peek(b"annotations") {
            None | Some(Value::Nil) => Map::new(),
            Some(Value::Map(annotations)) => annotations,
            Some(other) => {
                let wanted =
                    "Go struct field SimpleHead.metadata.annotations of type map[string]string";
                return Err(wrong(&other, wanted));
            }
        };
        for (key, _, _) in annotations.reads() {
            text(
                &annotations,
                &json::text(&key),
                "SimpleHead.metadata.annotations",
            )?;
        }
        Ok(Head {
            kind,
            name,
            annotations,
        })
    }

    fn annotation(&self, name: &str) -> Option<String> {
        let value = self.annotations.peek(name.as_bytes())?;
        match value {
            Value::Nil => Some(String::new()),
            value => Some(json::text(&crate::format::sprint(&value)).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn documents_are_cut_where_helm_cuts_them() {
        let text = "\n\n---\na: 1\n--- \nb: |\n  ---\n\n  x\n---\n\n---   \nc: 1\n---d: 2\n\n";
        assert_eq!(
            split(text),
            ["a: 1", "b: |\n  ---\n\n  x", "---   \nc: 1", "d: 2\n\n"]
        );
        assert_eq!(split(""), [""; 0]);
        assert_eq!(split("a: 1---\n"), ["a: 1---\n"]);
    }
}
