//! `wkctl fn build`: a project's component, made by its language's own tool.
//!
//! The language is told by the files that are there. A tool that is missing is named together with what installs it,
//! before anything is built; what a tool says of the source is the user's to read, and is not said again.
//!
//! - [`tool`]: finds and runs the tools. [`rust`], [`javascript`], [`go`], [`python`], [`c`]: how each is used.
//! - [`component`]: makes a component of a core module, for the languages whose compilers make those. Pure.

mod c;
mod component;
mod go;
mod javascript;
mod python;
mod rust;
mod tool;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tokio::time::Instant;

use crate::{commands::image::size, session::Session};

/// The file that a build makes, in most languages.
const MADE: &str = "function.wasm";
/// What the compilers of core modules make, and what they are given besides.
const BUILD: &str = "build";
const CORE: &str = "build/core.wasm";

/// Build the component of a project
#[derive(Args)]
pub(super) struct Build {
    /// Directory of the project
    #[arg(default_value = ".")]
    directory: PathBuf,
}

impl Build {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let file = build(session, &self.directory).await?;
        session.line(format_args!("{}", file.display()))
    }
}

/// What a project is written in.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(super) enum Language {
    Rust,
    #[value(name = "js", alias = "javascript")]
    JavaScript,
    Go,
    Python,
    C,
}

/// By which file a language is told, in the order in which they are looked for.
const TOLD_BY: [(&str, Language); 5] = [
    ("Cargo.toml", Language::Rust),
    ("package.json", Language::JavaScript),
    ("go.mod", Language::Go),
    ("app.py", Language::Python),
    ("main.c", Language::C),
];

/// Components that need no build, in the order in which they are looked for.
const COMPONENTS: [&str; 2] = ["function.wat", MADE];

impl Language {
    /// Tells a project's language; `None` of a directory with a component as it is.
    ///
    /// # Errors
    /// There is nothing that it could be told by.
    pub(super) fn of(directory: &Path) -> Result<Option<Language>> {
        let has = |name: &str| directory.join(name).is_file();
        if let Some((_, language)) = TOLD_BY.iter().find(|(name, _)| has(name)) {
            return Ok(Some(*language));
        }
        if COMPONENTS.iter().any(|name| has(name)) {
            return Ok(None);
        }
        bail!(
            "{}: no Cargo.toml, package.json, go.mod, app.py or main.c tells what this is written in, and it has no function.wat or function.wasm; wkctl fn init begins a project",
            directory.display()
        )
    }
}

/// Builds a project; answers the component's file.
pub(super) async fn build(session: &Session, directory: &Path) -> Result<PathBuf> {
    if !directory.is_dir() {
        bail!("{} is no directory", directory.display());
    }
    let Some(language) = Language::of(directory)? else {
        let mut files = COMPONENTS.iter().map(|name| directory.join(name));
        return files
            .find(|file| file.is_file())
            .context("the component was removed meanwhile");
    };
    session.note(format_args!(
        "Building {} ({language:?})",
        directory.display()
    ));
    let begun = Instant::now();
    let made = match language {
        Language::Rust => rust::build(directory).await?,
        Language::JavaScript => javascript::build(directory).await?,
        Language::Go => go::build(directory).await?,
        Language::Python => python::build(directory).await?,
        Language::C => c::build(directory).await?,
    };
    let about = std::fs::metadata(&made);
    let about =
        about.with_context(|| format!("the build ended well and made no {}", made.display()))?;
    session.note(format_args!(
        "Built {} ({}) in {:.1} s",
        made.display(),
        size(about.len()),
        begun.elapsed().as_secs_f64()
    ));
    Ok(made)
}

#[cfg(test)]
mod tests;
