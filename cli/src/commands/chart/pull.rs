//! `wkctl chart pull`: a chart's archive from a registry, a repository or a URL.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use charts::chart::{Chart, archive};
use clap::Args;

use super::source::{self, SourceFlags};
use crate::session::Session;

/// Download a chart
#[derive(Args)]
pub(super) struct Pull {
    /// Charts: oci://HOST/PATH, REPOSITORY/NAME, or a URL
    #[arg(required = true)]
    charts: Vec<String>,
    #[command(flatten)]
    source: SourceFlags,
    /// Directory to write to
    #[arg(short, long, default_value = ".")]
    destination: PathBuf,
    /// Unpack the archive
    #[arg(long)]
    untar: bool,
    /// Directory below the destination to unpack into
    #[arg(long, default_value = ".", requires = "untar")]
    untardir: PathBuf,
}

impl Pull {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        for reference in &self.charts {
            let fetched = source::fetch(session, reference, &self.source).await?;
            if let Some((name, digest)) = &fetched.pulled {
                session.line(format_args!("Pulled: {name}"))?;
                session.line(format_args!("Digest: {digest}"))?;
            }
            let chart = Chart::load_archive(&fetched.bytes)
                .with_context(|| format!("{reference} is no chart"))?;
            if self.untar {
                let into = self.destination.join(&self.untardir);
                unpack(&fetched.bytes, &into.join(chart.name()))?;
                continue;
            }
            let name = format!("{}-{}.tgz", chart.name(), chart.metadata.version);
            let target = self.destination.join(name);
            fs::create_dir_all(&self.destination)
                .and_then(|()| fs::write(&target, &fetched.bytes))
                .with_context(|| format!("write {}", target.display()))?;
        }
        Ok(())
    }
}

/// Writes an archive's files below a directory that must not be there. Their names were checked as they were read.
fn unpack(bytes: &[u8], directory: &Path) -> Result<()> {
    if directory.exists() {
        bail!(
            "failed to untar: a file or directory with the name {} already exists",
            directory.display()
        );
    }
    for file in archive::read(bytes)? {
        let path = directory.join(&file.name);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, &file.data))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
