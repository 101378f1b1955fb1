//! Manifests: files, directories, URLs and stdin, each of several documents, read as `kubectl` reads them.
//!
//! A document that cannot be read is reported by file and number and does not hide the others.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Number, Value};

/// One object of a manifest, or why it is none.
#[derive(Debug)]
pub struct Document {
    /// `hello.yaml`, or `hello.yaml, document 2` if there are several.
    pub source: String,
    pub object: Result<Value, String>,
}

/// Largest manifest that is read from a URL, in bytes.
const MAX_DOWNLOAD: usize = 16 << 20;

/// Reads every document of every source; `-` is stdin, a directory stands for its `.yaml`, `.yml`
/// and `.json` files. Fails only if a source cannot be read at all.
pub async fn read(sources: &[String], recursive: bool) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for source in sources {
        if source == "-" {
            let text = std::io::read_to_string(std::io::stdin()).context("read stdin")?;
            documents.extend(parse("stdin", &text));
        } else if source.starts_with("http://") || source.starts_with("https://") {
            documents.extend(parse(source, &download(source).await?));
        } else {
            let path = Path::new(source);
            if !path.exists() {
                bail!("the path {source:?} does not exist");
            }
            let mut files = Vec::new();
            collect(path, recursive, true, &mut files)?;
            if files.is_empty() {
                bail!("the directory {source:?} has no .yaml, .yml or .json file");
            }
            for file in files {
                let bytes =
                    std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
                let name = file.display().to_string();
                match String::from_utf8(bytes) {
                    Ok(text) => documents.extend(parse(&name, &text)),
                    Err(_) => documents.push(Document {
                        source: name,
                        object: Err("it is not UTF-8".to_owned()),
                    }),
                }
            }
        }
    }
    Ok(documents)
}

fn collect(
    path: &Path,
    recursive: bool,
    top: bool,
    files: &mut Vec<std::path::PathBuf>,
) -> Result<()> {
    if !path.is_dir() {
        let manifest = matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("yaml" | "yml" | "json")
        );
        if top || manifest {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    if !top && !recursive {
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(path)
        .and_then(Iterator::collect::<Result<_, _>>)
        .with_context(|| format!("read directory {}", path.display()))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        collect(&entry.path(), recursive, false, files)?;
    }
    Ok(())
}

async fn download(url: &str) -> Result<String> {
    let answer = crate::download::get(url, MAX_DOWNLOAD)
        .await
        .with_context(|| format!("read {url}"))?;
    String::from_utf8(answer).with_context(|| format!("read {url}: it is not UTF-8"))
}

/// Splits a text into its documents and reads each. Lists are taken apart. Pure.
pub fn parse(source: &str, text: &str) -> Vec<Document> {
    let parts = split(text);
    let several = parts.len() > 1;
    let mut documents = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let source = if several {
            format!("{source}, document {}", index + 1)
        } else {
            source.to_owned()
        };
        match value(part) {
            Ok(Value::Null) => {}
            Ok(list)
                if list["kind"]
                    .as_str()
                    .is_some_and(|kind| kind.ends_with("List"))
                    && list["items"].is_array() =>
            {
                for (item, object) in list["items"].as_array().into_iter().flatten().enumerate() {
                    let source = format!("{source}, items[{item}]");
                    documents.push(Document {
                        source,
                        object: check(object.clone()),
                    });
                }
            }
            Ok(object) => documents.push(Document {
                source,
                object: check(object),
            }),
            Err(error) => documents.push(Document {
                source,
                object: Err(error),
            }),
        }
    }
    documents
}

/// The texts between lines that start with `---`; those of comments and blanks only are left out.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        let separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(" #"));
        if separator {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let blank = |part: &String| {
        part.lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    };
    parts.retain(|part| !blank(part));
    parts
}

fn check(object: Value) -> Result<Value, String> {
    if !object.is_object() {
        return Err("it is not an object: expected apiVersion, kind and metadata".to_owned());
    }
    for field in ["apiVersion", "kind"] {
        if object[field].as_str().is_none_or(str::is_empty) {
            return Err(format!("{field} is not set"));
        }
    }
    let metadata = &object["metadata"];
    if metadata["name"].as_str().is_none_or(str::is_empty)
        && metadata["generateName"].as_str().is_none_or(str::is_empty)
    {
        return Err("metadata.name is not set".to_owned());
    }
    Ok(object)
}

/// Reads one YAML (or JSON) document: YAML 1.1 booleans, legacy octal, merge keys, last key wins.
fn value(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let value: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    Ok(integral(value))
}

/// `1.0` and `1e3` are integers to Kubernetes.
fn integral(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let whole = number
                .as_f64()
                .filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < 9e15);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "checked to be integral and below 2^53"
            )]
            Value::Number(whole.map_or(number, |f| Number::from(f as i64)))
        }
        Value::Array(items) => Value::Array(items.into_iter().map(integral).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(k, v)| (k, integral(v))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        let lines: Vec<String> = parse("a.yaml", text)
            .into_iter()
            .map(|d| match d.object {
                Ok(object) => format!("{}: {object}", d.source),
                Err(error) => format!("{}: error: {error}", d.source),
            })
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn documents_are_read_one_by_one_and_empty_ones_skipped() {
        check(
            "---\n# nothing\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\napiVersion: v1\nkind: B\nmetadata: {name: b}\n",
            expect![[r#"
                a.yaml, document 1: {"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}
                a.yaml, document 2: {"apiVersion":"v1","kind":"B","metadata":{"name":"b"}}"#]],
        );
    }

    #[test]
    fn a_broken_document_does_not_hide_the_next() {
        check(
            "kind: A\nmetadata: {name: a}\n---\napiVersion: v1\nkind: B\nmetadata: {name: b}\n",
            expect![[r#"
                a.yaml, document 1: error: apiVersion is not set
                a.yaml, document 2: {"apiVersion":"v1","kind":"B","metadata":{"name":"b"}}"#]],
        );
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        check(
            "apiVersion: v1\nkind: A\nmetadata: {name: a}\na: yes\nb: 0644\nc: 1e3\nd: 1.0\ne: 08\nf: '1'\n",
            expect![[
                r#"a.yaml: {"a":true,"apiVersion":"v1","b":420,"c":1000,"d":1,"e":8,"f":"1","kind":"A","metadata":{"name":"a"}}"#
            ]],
        );
    }

    #[test]
    fn a_list_is_taken_apart() {
        check(
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: A, metadata: {name: a}}\n- {apiVersion: v1, kind: B}\n",
            expect![[r#"
                a.yaml, items[0]: {"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}
                a.yaml, items[1]: error: metadata.name is not set"#]],
        );
    }
}
