//! `wkctl apply`.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::Global;
use crate::{apply, resources::Resources};

/// Make objects as manifests say
#[derive(Args)]
pub(super) struct Apply {
    /// File, directory, URL or - for stdin; may be given several times
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filenames: Vec<String>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Only say what would be done
    #[arg(long, value_enum, default_value_t = DryRun::None, num_args = 0..=1, default_missing_value = "server", require_equals = true)]
    dry_run: DryRun,
    /// What to do about fields that the server does not know
    #[arg(long, default_value = "strict", value_parser = ["strict", "warn", "ignore"])]
    validate: String,
}

/// Whether a write is carried out.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DryRun {
    None,
    Server,
}

impl Apply {
    pub(super) async fn run(self, global: &Global) -> Result<()> {
        let api = global.api().await?;
        let resources = Resources::discover(&api).await?;
        let namespace = global.namespace(&api);
        let (targets, mut errors) = apply::targets(
            &resources,
            &self.filenames,
            self.recursive,
            namespace,
            global.namespace.is_some(),
        )
        .await?;
        let validation = match self.validate.as_str() {
            "strict" => "Strict",
            "warn" => "Warn",
            _ => "Ignore",
        };
        let dry_run = self.dry_run == DryRun::Server;
        let query = format!(
            "fieldManager=wkctl&fieldValidation={validation}{}",
            if dry_run { "&dryRun=All" } else { "" }
        );
        for target in &targets {
            match apply::apply(&api, target, &query).await {
                Ok((outcome, _)) => {
                    let suffix = if dry_run { " (server dry run)" } else { "" };
                    super::out(format_args!("{} {outcome}{suffix}", target.display()))?;
                }
                Err(error) => errors.push(format!("{error:#}")),
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        bail!("{}", errors.join("\n"))
    }
}
