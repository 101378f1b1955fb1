//! `wkctl chart uninstall`.

use std::time::Duration;

use anyhow::Result;
use charts::release::{
    Error,
    action::{DryRun, Options, Wait},
    cluster::Propagation,
};
use clap::{Args, ValueEnum};

use super::{action_flags::WaitFor, cluster::Live};
use crate::{
    duration,
    session::{Failures, Session},
};

/// Remove releases and what they made
#[derive(Args)]
pub(super) struct Uninstall {
    /// Releases
    #[arg(required = true)]
    names: Vec<String>,
    /// Keep the records, marked as uninstalled, so that a rollback is possible
    #[arg(long)]
    keep_history: bool,
    /// What becomes of objects that the release's objects own
    #[arg(long, value_enum, default_value_t)]
    cascade: Cascade,
    /// Wait until the objects are gone (`watcher`, or `hookOnly` for hooks alone)
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "watcher", require_equals = true)]
    wait: WaitFor,
    /// How long each hook, and waiting, may take
    #[arg(long, value_parser = duration::parse, default_value = "5m0s", value_name = "DURATION")]
    timeout: Duration,
    /// Run no hooks
    #[arg(long)]
    no_hooks: bool,
    /// A release that is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// A sentence for the release's history
    #[arg(long)]
    description: Option<String>,
    /// Go on from an operation that Helm began and did not end, however short ago
    #[arg(long)]
    take_up: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Cascade {
    #[default]
    Background,
    Foreground,
    Orphan,
}

impl Uninstall {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let options = Options {
            keep_history: self.keep_history,
            cascade: match self.cascade {
                Cascade::Background => Propagation::Background,
                Cascade::Foreground => Propagation::Foreground,
                Cascade::Orphan => Propagation::Orphan,
            },
            wait: match self.wait {
                WaitFor::Watcher => Wait::ObjectsAndJobs,
                WaitFor::HookOnly => Wait::Hooks,
            },
            timeout: self.timeout,
            hooks: !self.no_hooks,
            dry_run: if self.dry_run {
                DryRun::Client
            } else {
                DryRun::No
            },
            description: self.description.clone(),
            take_up: self.take_up,
            ..Options::default()
        };
        let mut live = Live::connect(session, false).await?;
        let mut failures = Failures::default();
        for name in &self.names {
            let result = live
                .run(session, name, &options, async |action| {
                    action.uninstall().await
                })
                .await;
            match result {
                Ok(done) => {
                    if !done.kept.is_empty() {
                        session.line(format_args!(
                            "These resources were kept due to the resource policy:\n{}\n",
                            done.kept.join("\n")
                        ))?;
                    }
                    let rehearsed = if self.dry_run { " (dry run)" } else { "" };
                    session.line(format_args!("release {name:?} uninstalled{rehearsed}"))?;
                }
                Err(error)
                    if self.ignore_not_found
                        && matches!(error.downcast_ref(), Some(Error::NotFound)) => {}
                Err(error) => {
                    let doing = format!("uninstall: Release not loaded: {name}");
                    let missing = matches!(error.downcast_ref(), Some(Error::NotFound));
                    failures.push(if missing { error.context(doing) } else { error })?;
                }
            }
        }
        failures.finish()
    }
}
