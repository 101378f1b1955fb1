//! The flags that set a chart's values, as Helm's commands take them.

use std::io::Read as _;

use anyhow::{Context as _, Error, Result};
use charts::{Map, chart::archive::MAX_FILE, values::Inputs};
use clap::Args;

use crate::download;

/// Values for a chart. Files come first, then each kind of flag, in the order of the fields; later ones win.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ValueFlags {
    /// Values in a YAML file or at a URL, `-` for stdin (can be repeated)
    #[arg(short = 'f', long, value_name = "FILE", value_delimiter = ',')]
    pub(super) values: Vec<String>,
    /// Set JSON values (key1=jsonval1,key2=jsonval2, or a whole object; can be repeated)
    #[arg(long, value_name = "PATH=JSON")]
    pub(super) set_json: Vec<String>,
    /// Set values (key1=val1,key2=val2; can be repeated)
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set: Vec<String>,
    /// Set STRING values (key1=val1,key2=val2; can be repeated)
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set_string: Vec<String>,
    /// Set values from files (key1=path1,key2=path2; can be repeated)
    #[arg(long, value_name = "PATH=FILE")]
    pub(super) set_file: Vec<String>,
    /// Set a literal STRING value (can be repeated)
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set_literal: Vec<String>,
}

impl ValueFlags {
    /// Reads the files that the flags name.
    pub(super) async fn inputs(&self) -> Result<Inputs> {
        let mut files = Vec::new();
        for name in &self.values {
            files.push((name.clone(), read(name).await?));
        }
        Ok(Inputs {
            files,
            set_json: self.set_json.clone(),
            set: self.set.clone(),
            set_string: self.set_string.clone(),
            set_file: self.set_file.clone(),
            set_literal: self.set_literal.clone(),
        })
    }
}

/// All values of files and flags, merged.
pub(super) fn merged(inputs: &Inputs) -> Result<Map> {
    let read = |path: &str| {
        let read = std::fs::read(path);
        read.map_err(|error| format!("open {path}: {error}"))
    };
    inputs.merge(&read).map_err(Error::msg)
}

/// A file of values: from disk, stdin or a URL.
async fn read(name: &str) -> Result<Vec<u8>> {
    if name == "-" {
        let mut text = Vec::new();
        let stdin = std::io::stdin().lock();
        stdin
            .take(MAX_FILE)
            .read_to_end(&mut text)
            .context("read values from stdin")?;
        return Ok(text);
    }
    if name.starts_with("http://") || name.starts_with("https://") {
        let limit = usize::try_from(MAX_FILE).unwrap_or(usize::MAX);
        return download::get(name, limit).await;
    }
    std::fs::read(name).with_context(|| format!("open {name}"))
}
