//! A chart as it is stored: what its files say, and its subcharts. Plain data; nothing of it is rendered here.
//!
//! - [`metadata`]: `Chart.yaml` and `Chart.lock`.
//! - [`load`]: from named files to a chart.
//! - [`archive`], [`directory`]: where named files come from; both bounded. [`ignore`]: `.helmignore`.
//! - [`package`]: a chart's archive.
//! - [`dependencies`]: which subcharts take part, under which name, with which imported values.
//! - [`lock`]: the versions that dependencies were resolved to. [`starter`]: the files of a new chart.
//! - [`schema`]: what values must be, by `values.schema.json`.
//! - [`glob`]: patterns of file names.

use bytes::Bytes;

pub mod archive;
pub mod dependencies;
pub mod directory;
pub mod glob;
pub mod ignore;
mod load;
pub mod lock;
pub mod metadata;
pub mod package;
pub mod schema;
pub mod starter;

pub use metadata::{Dependency, ImportValues, Lock, Maintainer, Metadata};

/// A file of a chart: its path within the chart, with `/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    pub name: String,
    pub data: Bytes,
}

/// A chart and its subcharts.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Chart {
    pub metadata: Metadata,
    pub lock: Option<Lock>,
    /// Files under `templates/`.
    pub templates: Vec<File>,
    /// The defaults of `values.yaml`.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// `values.schema.json`.
    pub schema: Option<Bytes>,
    /// What is none of these: READMEs, `crds/`, anything a template may ask for.
    pub files: Vec<File>,
    /// All files as they were found, in the order they were found.
    pub raw: Vec<File>,
    /// The charts under `charts/`.
    pub subcharts: Vec<Chart>,
    /// What is odd about the chart, but no error.
    pub warnings: Vec<String>,
}

impl Chart {
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// A file that was found, by its path.
    pub fn file(&self, name: &str) -> Option<&File> {
        self.raw.iter().rev().find(|file| file.name == name)
    }

    /// The files under `crds/` of the chart and of its subcharts, each under its path from the root chart on.
    pub fn crds(&self) -> Vec<File> {
        let mut found = Vec::new();
        self.collect_crds(self.name(), &mut found);
        found
    }

    fn collect_crds(&self, path: &str, found: &mut Vec<File>) {
        let manifest = |name: &str| {
            let extension = name.rsplit_once('.').map(|(_, extension)| extension);
            extension.is_some_and(|extension| {
                ["yaml", "yml", "json"]
                    .iter()
                    .any(|known| extension.eq_ignore_ascii_case(known))
            })
        };
        let own = self.files.iter();
        let own = own.filter(|file| file.name.starts_with("crds/") && manifest(&file.name));
        found.extend(own.map(|file| File {
            name: format!("{path}/{}", file.name),
            data: file.data.clone(),
        }));
        for subchart in &self.subcharts {
            let path = format!("{path}/charts/{}", subchart.name());
            subchart.collect_crds(&path, found);
        }
    }

    /// Whether it only has templates for others to include.
    pub fn is_library(&self) -> bool {
        self.metadata.r#type.eq_ignore_ascii_case("library")
    }
}

/// Why something is no chart, in Helm's words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was read, and is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It could not be read.
    #[error("{doing}: {source}")]
    Io {
        doing: String,
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid(message.into())
    }

    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Io { doing, source }
    }
}
