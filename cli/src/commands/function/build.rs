//! `wkctl fn build`: a project's component, made by its language's own tool.
//!
//! The language is told by the files that are there. A tool that is missing is named together with what installs it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;
use tokio::process::Command;

use crate::session::Session;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Language {
    Rust,
    JavaScript,
    Go,
    Python,
    C,
}

/// How a project is built: steps, and the file that they make. Pure.
struct Plan {
    steps: Vec<Step>,
    makes: PathBuf,
}

struct Step {
    program: &'static str,
    arguments: Vec<String>,
    /// What to do if the program is not there.
    install: &'static str,
}

/// Tells a project's language.
///
/// # Errors
/// There is nothing that it could be told by.
pub(super) fn language(directory: &Path) -> Result<Language> {
    let has = |name: &str| directory.join(name).is_file();
    let languages = [
        ("Cargo.toml", Language::Rust),
        ("package.json", Language::JavaScript),
        ("go.mod", Language::Go),
        ("app.py", Language::Python),
        ("function.c", Language::C),
    ];
    match languages.iter().find(|(name, _)| has(name)) {
        Some((_, language)) => Ok(*language),
        None => bail!(
            "{}: no Cargo.toml, package.json, go.mod, app.py or function.c tells what this is written in; wkctl fn init begins a project",
            directory.display()
        ),
    }
}

/// Builds a project; answers the component's file.
pub(super) async fn build(session: &Session, directory: &Path) -> Result<PathBuf> {
    let language = language(directory)?;
    let plan = plan(directory, language).await?;
    session.note(format_args!(
        "Building {} ({language:?})",
        directory.display()
    ));
    for step in &plan.steps {
        run(directory, step).await?;
    }
    if !plan.makes.is_file() {
        bail!("the build ended well and made no {}", plan.makes.display());
    }
    Ok(plan.makes)
}

async fn plan(directory: &Path, language: Language) -> Result<Plan> {
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let made = directory.join("function.wasm");
    Ok(match language {
        Language::Rust => Plan {
            steps: vec![Step {
                program: "cargo",
                arguments: words("build --release --target wasm32-wasip2"),
                install: "install Rust from https://rustup.rs, then: rustup target add wasm32-wasip2",
            }],
            makes: rust_artifact(directory).await?,
        },
        Language::JavaScript => {
            let mut steps = Vec::new();
            if !directory.join("node_modules").is_dir() {
                steps.push(Step {
                    program: "npm",
                    arguments: words("install --no-audit --no-fund"),
                    install: "install Node.js 20 or newer: https://nodejs.org",
                });
            }
            steps.push(Step {
                program: "npm",
                arguments: words("run --silent build"),
                install: "install Node.js 20 or newer: https://nodejs.org",
            });
            Plan { steps, makes: made }
        }
        Language::Go => Plan {
            steps: vec![Step {
                program: "tinygo",
                arguments: words(
                    "build -target=wasip2 --wit-package wit --wit-world function -o function.wasm .",
                ),
                install: "install TinyGo 0.34 or newer: https://tinygo.org/getting-started/install",
            }],
            makes: made,
        },
        Language::Python => Plan {
            steps: vec![Step {
                program: "componentize-py",
                arguments: words("-d wit -w function componentize app -o function.wasm"),
                install: "pip install componentize-py",
            }],
            makes: made,
        },
        Language::C => Plan {
            steps: vec![Step {
                program: "make",
                arguments: Vec::new(),
                install: "apt-get install make, and the WASI SDK: https://github.com/WebAssembly/wasi-sdk",
            }],
            makes: made,
        },
    })
}

/// Where cargo puts the component: asked of cargo, which knows workspaces and target directories.
async fn rust_artifact(directory: &Path) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    let output = command.current_dir(directory).kill_on_drop(true).output();
    let output = match output.await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("cargo is not installed: install Rust from https://rustup.rs")
        }
        output => output.context("start cargo")?,
    };
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let manifest = directory.join("Cargo.toml");
    let manifest = manifest.canonicalize().context("find Cargo.toml")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut own = packages.filter(|package| {
        manifest == Path::new(package["manifest_path"].as_str().unwrap_or_default())
    });
    let targets = own
        .next()
        .map(|package| package["targets"].clone())
        .unwrap_or_default();
    let targets = targets.as_array().into_iter().flatten();
    let is = |target: &Value, kind: &str| {
        target["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|own| own == kind))
    };
    let names: Vec<String> = targets
        .filter(|target| is(target, "cdylib") || is(target, "bin"))
        .filter_map(|target| {
            let name = target["name"].as_str()?;
            // A library's file has underscores.
            Some(if is(target, "bin") {
                name.to_owned()
            } else {
                name.replace('-', "_")
            })
        })
        .collect();
    let [name] = names.as_slice() else {
        bail!(
            "{}: it must have one target, a library with crate-type cdylib or a binary; it has {}",
            manifest.display(),
            names.len()
        );
    };
    let target = metadata["target_directory"].as_str().unwrap_or("target");
    Ok(Path::new(target)
        .join("wasm32-wasip2/release")
        .join(format!("{name}.wasm")))
}

async fn run(directory: &Path, step: &Step) -> Result<()> {
    let mut command = Command::new(step.program);
    command.args(&step.arguments).current_dir(directory);
    // What it says goes to stderr: stdout is the command's own answer.
    command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::inherit());
    let shown = format!("{} {}", step.program, step.arguments.join(" "));
    let status = match command.kill_on_drop(true).status().await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{} is not installed: {}", step.program, step.install)
        }
        status => status.with_context(|| format!("start {}", step.program))?,
    };
    if !status.success() {
        bail!(
            "{} failed ({status}); if a tool is missing: {}",
            shown.trim_end(),
            step.install
        );
    }
    Ok(())
}
