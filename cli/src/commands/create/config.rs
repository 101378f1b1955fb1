//! ConfigMaps and Secrets from literals, files and environment files.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Value, json};

/// Where the data of a ConfigMap or Secret comes from.
#[derive(Args)]
pub(super) struct Config {
    /// Name of the object
    name: String,
    /// KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// [KEY=]FILE, or a directory whose files become keys; may be given several times
    #[arg(long, value_name = "[KEY=]FILE")]
    from_file: Vec<String>,
    /// File of KEY=VALUE lines; may be given several times
    #[arg(long, value_name = "FILE")]
    from_env_file: Vec<String>,
}

impl Config {
    /// As a ConfigMap; what is not UTF-8 is binary data.
    pub(super) fn config_map(&self) -> Result<Value> {
        let mut object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}});
        for (key, bytes) in self.data()? {
            match String::from_utf8(bytes) {
                Ok(text) => object["data"][key] = text.into(),
                Err(error) => object["binaryData"][key] = STANDARD.encode(error.as_bytes()).into(),
            }
        }
        Ok(object)
    }

    /// As a Secret.
    pub(super) fn secret(&self, kind: Option<&str>) -> Result<Value> {
        let mut object =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name}});
        if let Some(kind) = kind {
            object["type"] = kind.into();
        }
        for (key, bytes) in self.data()? {
            object["data"][key] = STANDARD.encode(bytes).into();
        }
        Ok(object)
    }

    fn data(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut data = BTreeMap::new();
        for literal in &self.from_literal {
            let Some((key, value)) = literal.split_once('=').filter(|(key, _)| !key.is_empty())
            else {
                bail!("invalid literal source {literal:?}, expected key=value");
            };
            add(&mut data, key, value.as_bytes().to_vec())?;
        }
        for source in &self.from_file {
            let (key, path) = match source.split_once('=') {
                Some((key, path)) => (Some(key), Path::new(path)),
                None => (None, Path::new(source)),
            };
            for (name, bytes) in read(path)? {
                add(&mut data, key.unwrap_or(&name), bytes)?;
            }
        }
        for path in &self.from_env_file {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
            for (key, value) in env_lines(&text) {
                add(&mut data, key, value.as_bytes().to_vec())?;
            }
        }
        Ok(data)
    }
}

fn add(data: &mut BTreeMap<String, Vec<u8>>, key: &str, value: Vec<u8>) -> Result<()> {
    if data.insert(key.to_owned(), value).is_some() {
        bail!("cannot add key {key:?}, another key by that name already exists");
    }
    Ok(())
}

/// A file, or the files right below a directory, by name.
fn read(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let failed = || format!("read {}", path.display());
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            if entry.path().is_file() {
                files.push(entry.path());
            }
        }
    } else {
        files.push(path.to_owned());
    }
    let read = |file: std::path::PathBuf| {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        Ok((name, bytes))
    };
    files.into_iter().map(read).collect()
}

/// The `KEY=VALUE` lines of a text, without comments and blanks.
fn env_lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim_start);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_their_keys_become_data() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("text"), "a").unwrap();
        std::fs::write(directory.path().join("raw"), [0xff]).unwrap();
        std::fs::write(directory.path().join("env"), "# no\nX=1\n\nY=a=b\n").unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = Config {
            name: "a".to_owned(),
            from_literal: Vec::new(),
            from_file: vec![format!("t={}", path("text")), path("raw")],
            from_env_file: vec![path("env")],
        };
        let made = config.config_map().unwrap();
        assert_eq!(made["data"], json!({"t": "a", "X": "1", "Y": "a=b"}));
        assert_eq!(made["binaryData"], json!({"raw": "/w=="}));
    }
}
