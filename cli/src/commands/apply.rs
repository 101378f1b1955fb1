//! `wkctl apply`.

use anyhow::Result;
use clap::Args;

use crate::{
    apply,
    dry_run::DryRun,
    query,
    session::{Failures, Session},
};

/// Make objects as manifests say
#[derive(Args)]
pub(crate) struct Apply {
    /// File, directory, URL or - for stdin; may be given several times
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filenames: Vec<String>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    validation: Validation,
}

/// What happens to fields that the server does not know.
#[derive(Args)]
pub(crate) struct Validation {
    /// What to do about fields that the server does not know
    #[arg(long, default_value = "strict", default_missing_value = "strict", num_args = 0..=1, require_equals = true,
        value_parser = ["strict", "warn", "ignore", "true", "false"])]
    validate: String,
}

impl Validation {
    /// The value of `fieldValidation`.
    pub(crate) fn parameter(&self) -> &'static str {
        match self.validate.as_str() {
            "warn" => "Warn",
            "ignore" | "false" => "Ignore",
            _ => "Strict",
        }
    }
}

impl Apply {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let resources = session.resources().await?;
        let namespace = session.namespace().await?;
        let forced = session.namespace_given();
        let (targets, errors) = apply::targets(
            resources,
            &self.filenames,
            self.recursive,
            &namespace,
            forced,
        )
        .await?;
        let mut failures = Failures(errors.into_iter().map(anyhow::Error::msg).collect());
        let parameters = query::with(
            "",
            &[
                ("fieldManager", "wkctl"),
                ("fieldValidation", self.validation.parameter()),
                ("dryRun", self.dry_run.parameter()),
            ],
        );
        let parameters = parameters.trim_start_matches('?');
        for target in &targets {
            let applied = if self.dry_run.client() {
                apply::preview(api, target).await
            } else {
                let applied = apply::apply(api, target, parameters).await;
                applied.map(|(outcome, _)| outcome)
            };
            match applied {
                Ok(outcome) => session.line(format_args!(
                    "{} {outcome}{}",
                    target.display(),
                    self.dry_run
                ))?,
                Err(error) => failures.push(error)?,
            }
        }
        failures.finish()
    }
}
