//! `wkctl fn dev`: builds and deploys at each change of a project.
//!
//! The manifest is the one that `deploy` applies. The old revision serves until the new one does, so no request fails
//! meanwhile; what doesn't build or doesn't start is told, and changes nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::time::Instant;

use super::{check_name, deploy, manifest::Settings, source::Source};
use crate::session::Session;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a new revision may take to serve.
const DEADLINE: Duration = Duration::from_secs(60);
/// Directories that builds write to, or that hold no source.
const SKIPPED: [&str; 5] = ["target", "node_modules", ".git", "build", "__pycache__"];
/// More files than this are no function's project.
const MOST: usize = 20_000;

/// Deploy a project, and again at each change, until interrupted
#[derive(Args)]
pub(super) struct Dev {
    /// Directory of the project
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Name of the function [default: the directory's]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

impl Dev {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let directory = self.directory.canonicalize();
        let directory = directory.with_context(|| format!("open {}", self.directory.display()))?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => directory
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
                .to_owned(),
        };
        check_name(&name)?;
        let source = Source::Project(directory.clone());
        let mut seen = look(&directory)?;
        let mut serves = false;
        loop {
            let begun = Instant::now();
            let built = async {
                let code = deploy::prepare(session, &name, &source).await?;
                let built = begun.elapsed();
                let written = deploy::write(session, &name, &code, &self.settings).await?;
                let url = deploy::wait(session, &written, DEADLINE).await?;
                anyhow::Ok((url, built))
            };
            match built.await {
                Ok((url, built)) => {
                    serves = true;
                    let swapped = begun.elapsed().saturating_sub(built);
                    session.line(format_args!(
                        "{url} (built and pushed in {:.2} s, serving {} ms later)",
                        built.as_secs_f64(),
                        swapped.as_millis()
                    ))?;
                }
                Err(error) => {
                    session.note(format_args!("error: {error:#}"));
                    if serves {
                        session.note(format_args!("The last one that worked goes on serving."));
                    }
                }
            }
            session.note(format_args!(
                "Waiting for changes in {}",
                directory.display()
            ));
            seen = changed(&directory, seen).await?;
        }
    }
}

/// When each file was changed last, and how long it is.
type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Waits until the files differ from what was seen, and then until they have come to rest.
async fn changed(directory: &Path, seen: Seen) -> Result<Seen> {
    let mut before = seen;
    let mut differs = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = look(directory)?;
        if now != before {
            (before, differs) = (now, true);
        } else if differs {
            return Ok(before);
        }
    }
}

fn look(directory: &Path) -> Result<Seen> {
    let mut seen = Seen::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        let entries = match std::fs::read_dir(&next) {
            Ok(entries) => entries,
            // It went while this looked.
            Err(_) if next != directory => continue,
            Err(error) => return Err(error).with_context(|| format!("read {}", next.display())),
        };
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.is_dir() {
                if !SKIPPED.iter().any(|skipped| name == *skipped) {
                    left.push(path);
                }
            } else if about.is_file()
                && path.extension().is_none_or(|extension| extension != "wasm")
            {
                let time = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                // A build writes its lock.
                if name != "Cargo.lock" && name != "package-lock.json" {
                    seen.insert(path, (time, about.len()));
                }
            }
            if seen.len() > MOST {
                bail!(
                    "{}: more than {MOST} files: this is no function's project",
                    directory.display()
                );
            }
        }
    }
    Ok(seen)
}
