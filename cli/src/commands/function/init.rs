//! `wkctl fn init`: begins a project.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::{check_name, deploy::MANIFEST};
use crate::session::Session;

/// Begin a function's project in a directory of its name
#[derive(Args)]
pub(super) struct Init {
    /// Name of the function, and of the directory
    name: String,
    /// Language
    #[arg(long, value_enum, default_value_t = Template::Rust)]
    lang: Template,
    /// Directory [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Template {
    Rust,
    #[value(name = "js", alias = "javascript")]
    JavaScript,
}

impl Template {
    /// Files, with `NAME` where the function's name goes.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => &[
                ("Cargo.toml", include_str!("templates/rust/Cargo.toml")),
                ("src/lib.rs", include_str!("templates/rust/lib.rs")),
                (".gitignore", "/target\n"),
            ],
            Self::JavaScript => &[
                (
                    "package.json",
                    include_str!("templates/javascript/package.json"),
                ),
                (
                    "function.js",
                    include_str!("templates/javascript/function.js"),
                ),
                ("build.js", include_str!("templates/javascript/build.js")),
                (".gitignore", "/node_modules\n/function.wasm\n"),
            ],
        }
    }
}

impl Init {
    pub(super) fn run(self, session: &Session) -> Result<()> {
        check_name(&self.name)?;
        let directory = self
            .directory
            .clone()
            .unwrap_or_else(|| PathBuf::from(&self.name));
        let manifest = (MANIFEST, include_str!("templates/function.yaml"));
        let files: Vec<_> = self.lang.files().iter().chain([&manifest]).collect();
        if let Some((name, _)) = files.iter().find(|(name, _)| directory.join(name).exists()) {
            bail!("{} exists already", directory.join(name).display());
        }
        for (name, text) in files {
            write(&directory.join(name), &text.replace("NAME", &self.name))?;
        }
        let shown = directory.display();
        session.line(format_args!("Created {shown}"))?;
        session.note(format_args!(
            "Next:\n  wkctl fn deploy {} ./{shown}\n  wkctl fn dev ./{shown}       # builds and deploys at each change",
            self.name
        ));
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
