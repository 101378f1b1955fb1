//! `wkctl chart package`: a chart's directory as an archive.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use charts::{
    chart::{dependencies, package},
    semver::Version,
};
use clap::Args;

use super::{render, source};
use crate::session::Session;

/// Package a chart's directory into an archive
#[derive(Args)]
pub(crate) struct Package {
    /// Directories of charts
    #[arg(required = true)]
    charts: Vec<String>,
    /// Directory to write the archive to
    #[arg(short, long, default_value = ".")]
    destination: PathBuf,
    /// Set the chart's version
    #[arg(long)]
    version: Option<String>,
    /// Set the chart's appVersion
    #[arg(long)]
    app_version: Option<String>,
}

impl Package {
    #[expect(clippy::unused_async, reason = "commands are run alike")]
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        for path in &self.charts {
            let mut chart = source::local(path)?;
            if let Some(version) = &self.version {
                if let Err(error) = Version::parse(version) {
                    bail!("{error}: {version}");
                }
                chart.metadata.version.clone_from(version);
            }
            if let Some(version) = &self.app_version {
                chart.metadata.app_version.clone_from(version);
            }
            let missing = dependencies::missing(&chart);
            if !missing.is_empty() {
                bail!(
                    "found in Chart.yaml, but missing in charts/ directory: {}",
                    missing.join(", ")
                );
            }
            let seconds = render::offline(false).now.as_second();
            let (name, bytes) = package::package(&chart, seconds.unsigned_abs())?;
            fs::create_dir_all(&self.destination)
                .with_context(|| format!("make {}", self.destination.display()))?;
            let target = self.destination.join(name);
            fs::write(&target, bytes).with_context(|| format!("write {}", target.display()))?;
            let target = target.canonicalize().unwrap_or(target);
            session.line(format_args!(
                "Successfully packaged chart and saved it to: {}",
                target.display()
            ))?;
        }
        Ok(())
    }
}
