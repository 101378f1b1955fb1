//! `wkctl chart create`: a new chart to begin with.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use charts::chart::starter;
use clap::Args;

use crate::session::Session;

/// Create a new chart
#[derive(Args)]
pub(super) struct Create {
    /// Directory to make; its last part is the chart's name
    name: PathBuf,
}

impl Create {
    #[expect(clippy::unused_async, reason = "commands are run alike")]
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let directory = &self.name;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let Some(files) = starter::files(&name) else {
            bail!(
                "chart name {name:?} must be lower-case letters, digits and '-', begin with a letter, and have at most 63 characters"
            );
        };
        for file in files {
            let path = directory.join(&file.name);
            if path.exists() {
                session.note(format_args!(
                    "WARNING: File {} already exists. It is left as it is.",
                    path.display()
                ));
                continue;
            }
            let parent = path.parent().unwrap_or(directory);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, &file.data))
                .with_context(|| format!("write {}", path.display()))?;
        }
        session.line(format_args!("Creating {}", directory.display()))
    }
}
