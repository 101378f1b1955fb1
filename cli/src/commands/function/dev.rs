//! `wkctl fn dev`: builds and deploys at each change of a project.
//!
//! The manifest is the one that `deploy` applies. The old revision serves until the new one does, so no request fails
//! meanwhile; what doesn't build or doesn't start is told, and changes nothing. [`watch`]: what is looked at.

mod watch;

use std::{
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use http::Method;
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::{
    build::{self, Language},
    check_name,
    deploy::{self, Code, MANIFEST},
    functions,
    manifest::Settings,
    text,
};
use crate::session::Session;
use watch::{Files, Watched};

/// How long a new revision may take to serve.
const DEADLINE: Duration = Duration::from_secs(300);

/// Deploy a project, and again at each change, until interrupted
#[derive(Args)]
#[command(
    after_help = "The function stays when this ends, at its last revision that worked; with --rm it is deleted."
)]
pub(super) struct Dev {
    /// Directory of the project, or a .wasm or .wat file
    #[arg(default_value = ".", value_name = "DIR|FILE")]
    source: PathBuf,
    /// Name of the function [default: its manifest's, else the directory's or the file's]
    #[arg(long)]
    name: Option<String>,
    /// Delete the function when this ends
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Dev {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let source = self.source.canonicalize();
        let source = source.with_context(|| format!("open {}", self.source.display()))?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => name_of(&source),
        };
        check_name(&name).context("choose one with --name")?;
        let mut stop = (
            signal(SignalKind::interrupt()).context("wait for Ctrl-C")?,
            signal(SignalKind::terminate()).context("wait for a signal")?,
        );
        let stopped = async {
            tokio::select! {
                _ = stop.0.recv() => {}
                _ = stop.1.recv() => {}
            }
        };
        tokio::select! {
            // It ends by an error alone: what is watched went.
            ended = self.follow(session, &name, &source) => return ended,
            () = pin!(stopped) => {}
        }
        self.end(session, &name).await
    }

    /// Deploys, and again at each change.
    async fn follow(&self, session: &Session, name: &str, source: &Path) -> Result<()> {
        let watched = watched(source);
        let shown = self.source.display();
        let mut serves = false;
        loop {
            // Before the build: what changes meanwhile is built next.
            let seen: Files = watched.look()?;
            match self.once(session, name, source).await {
                Ok(line) => {
                    serves = true;
                    session.line(format_args!("{line}"))?;
                }
                Err(error) if error.is::<crate::session::OutputClosed>() => return Err(error),
                Err(error) => {
                    session.note(format_args!("error: {error:#}"));
                    if serves {
                        session.note(format_args!("The last one that worked goes on serving."));
                    }
                }
            }
            session.note(format_args!("Watching {shown} (Ctrl-C ends)"));
            watched.changed(&seen).await?;
        }
    }

    /// From source to URL, once.
    async fn once(&self, session: &Session, name: &str, source: &Path) -> Result<String> {
        let begun = Instant::now();
        let (file, manifest, built) = match source.is_dir() {
            true => {
                let manifest = deploy::read_manifest(session, source, name).await?;
                let built = Language::of(source)?.is_some();
                (build::build(session, source).await?, manifest, built)
            }
            false => (source.to_owned(), None, false),
        };
        let build = begun.elapsed();
        let image = deploy::push(session, name, &file).await?;
        let push = begun.elapsed() - build;
        let code = Code { image, manifest };
        let written = deploy::write(session, name, &code, &self.settings).await?;
        let url = deploy::wait(session, &written, DEADLINE).await?;
        let swap = begun.elapsed() - build - push;
        let build = match built {
            true => format!("built in {:.1} s, ", build.as_secs_f64()),
            false => String::new(),
        };
        let (push, swap) = (push.as_millis(), swap.as_millis());
        Ok(format!(
            "{url} ({build}pushed in {push} ms, serving {swap} ms later)"
        ))
    }

    /// What is left when the user ends it.
    async fn end(&self, session: &Session, name: &str) -> Result<()> {
        // The terminal has shown ^C.
        session.note(format_args!(""));
        if !self.rm {
            session.note(format_args!(
                "Function {name:?} stays; wkctl fn delete {name} deletes it."
            ));
            return Ok(());
        }
        let path = format!("{}/{name}", functions(&session.namespace().await?));
        let options = json!({"propagationPolicy": "Background"});
        let api = session.api().await?;
        match api.send(Method::DELETE, &path, &options).await {
            // It never got as far as to be written.
            Err(error) if crate::api::code(&error) == Some(404) => Ok(()),
            outcome => {
                outcome?;
                session.line(format_args!("function.functions.wk.dev {name:?} deleted"))
            }
        }
    }
}

/// What is watched of a source: of a directory that is built, not what the build makes.
fn watched(source: &Path) -> Watched {
    match source.is_dir() {
        true => Watched::Directory {
            path: source.to_owned(),
            is_built: !matches!(Language::of(source), Ok(None)),
        },
        false => Watched::File(source.to_owned()),
    }
}

/// The name that a project's manifest gives, else that of the directory or file.
fn name_of(source: &Path) -> String {
    let manifest = std::fs::read_to_string(source.join(MANIFEST)).ok();
    let manifest: Option<serde_json::Value> =
        manifest.and_then(|manifest| serde_saphyr::from_str(&manifest).ok());
    let name = manifest.map(|manifest| text(&manifest["metadata"]["name"]).to_owned());
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        return name;
    }
    let name = match source.is_dir() {
        true => source.file_name(),
        false => source.file_stem(),
    };
    name.and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned()
}
