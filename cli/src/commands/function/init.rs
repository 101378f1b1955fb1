//! `wkctl fn init`: begins a project.
//!
//! What it writes is the user's from then on: nothing of it is written again, and `build` reads what is there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::{build::Language, check_name, deploy::MANIFEST};
use crate::session::Session;

/// Begin a function's project in a directory of its name
#[derive(Args)]
pub(super) struct Init {
    /// Name of the function, and of the directory
    name: String,
    /// Language
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// Directory [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// A path in the project and the text there, with `NAME` where the function's name goes.
type File = (&'static str, &'static str);

/// What the languages that have no crate or package of WASI's interfaces make their bindings of.
const WIT: File = ("wit/function.wit", include_str!("templates/function.wit"));

const RUST: &[File] = &[
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml")),
    ("src/main.rs", include_str!("templates/rust/main.rs")),
    (".gitignore", "/target\n"),
];

const JAVASCRIPT: &[File] = &[
    (
        "package.json",
        include_str!("templates/javascript/package.json"),
    ),
    ("index.js", include_str!("templates/javascript/index.js")),
    WIT,
    (".gitignore", "/node_modules\n/function.wasm\n"),
];

const GO: &[File] = &[
    ("go.mod", include_str!("templates/go/go.mod")),
    ("main.go", include_str!("templates/go/main.go")),
    (
        "wasihttp/handler.go",
        include_str!("templates/go/wasihttp/handler.go"),
    ),
    (
        "wasihttp/abi.go",
        include_str!("templates/go/wasihttp/abi.go"),
    ),
    WIT,
    (".gitignore", "/build\n/function.wasm\n"),
];

const PYTHON: &[File] = &[
    ("app.py", include_str!("templates/python/app.py")),
    ("requirements.txt", "componentize-py>=0.25,<0.26\n"),
    WIT,
    (".gitignore", "/.venv\n/function.wasm\n__pycache__\n"),
];

const C: &[File] = &[
    ("main.c", include_str!("templates/c/main.c")),
    ("http.c", include_str!("templates/c/http.c")),
    ("http.h", include_str!("templates/c/http.h")),
    WIT,
    (".gitignore", "/build\n/function.wasm\n"),
];

/// What the manifest says besides where the component holds a whole engine, of 12 MiB and more.
const DEADLINE: &str = "  # A node compiles the language's engine when it first sees it.\n  progressDeadlineSeconds: 300\n";

fn brings_an_engine(language: Language) -> bool {
    matches!(language, Language::JavaScript | Language::Python)
}

fn files(language: Language) -> &'static [File] {
    match language {
        Language::Rust => RUST,
        Language::JavaScript => JAVASCRIPT,
        Language::Go => GO,
        Language::Python => PYTHON,
        Language::C => C,
    }
}

impl Init {
    pub(super) fn run(self, session: &Session) -> Result<()> {
        check_name(&self.name)?;
        let named = PathBuf::from(&self.name);
        let directory = self.directory.as_ref().unwrap_or(&named);
        begin(&self.name, self.lang, directory)?;
        let shown = shown(directory);
        session.line(format_args!("Created {shown}"))?;
        let deploy = format!("wkctl fn deploy {} {shown}", self.name);
        let dev = format!("wkctl fn dev {shown}");
        let width = deploy.len();
        session.note(format_args!(
            "Next:\n  {deploy}    # builds it, and prints its URL\n  {dev:width$}    # the same at each change"
        ));
        Ok(())
    }
}

/// The directory as an argument that cannot be taken for an image's name.
fn shown(directory: &Path) -> String {
    let text = directory.display().to_string();
    let is_path = directory.is_absolute() || text.starts_with('.');
    if is_path { text } else { format!("./{text}") }
}

/// Writes a project, or nothing if any of its files is there.
///
/// # Errors
/// A file is there already, or cannot be written.
pub(super) fn begin(name: &str, language: Language, directory: &Path) -> Result<()> {
    let manifest = (MANIFEST, include_str!("templates/function.yaml"));
    let files: Vec<_> = files(language).iter().chain([&manifest]).collect();
    if let Some((name, _)) = files.iter().find(|(name, _)| directory.join(name).exists()) {
        bail!("{} exists already", directory.join(name).display());
    }
    for (path, text) in files {
        let mut text = text.replace("NAME", name);
        if *path == MANIFEST && brings_an_engine(language) {
            text.push_str(DEADLINE);
        }
        write(&directory.join(path), &text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
