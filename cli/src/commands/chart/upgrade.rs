//! `wkctl chart upgrade`.

use anyhow::Result;
use charts::release::{action::Mode, plan::Reuse};
use clap::Args;

use super::{
    action_flags::ActionFlags,
    install::{ShownFlags, deploy},
    rendering::{ChartFlags, Given},
};
use crate::session::Session;

/// Upgrade a release to a chart and values
#[derive(Args)]
pub(super) struct Upgrade {
    /// Release
    name: String,
    /// Chart: a directory, an archive, or a reference
    chart: String,
    /// Install it if there is no such release
    #[arg(short, long)]
    install: bool,
    /// With --install, make the namespace if it is not there
    #[arg(long, requires = "install")]
    create_namespace: bool,
    #[command(flatten)]
    reuse: ReuseFlags,
    /// When it fails, roll back; waits for the objects
    #[arg(long, visible_alias = "atomic")]
    rollback_on_failure: bool,
    #[command(flatten)]
    given: ChartFlags,
    #[command(flatten)]
    flags: ActionFlags,
    #[command(flatten)]
    shown: ShownFlags,
}

/// Which values of the last revision stay.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct ReuseFlags {
    /// Keep the last revision's values, and its chart's defaults, under the given ones
    #[arg(long)]
    reuse_values: bool,
    /// Only the given values
    #[arg(long, conflicts_with = "reuse_values")]
    reset_values: bool,
    /// Keep the last revision's values under the given ones, over the new chart's defaults
    #[arg(long, conflicts_with_all = ["reuse_values", "reset_values"])]
    reset_then_reuse_values: bool,
}

impl ReuseFlags {
    pub(super) fn reuse(self) -> Reuse {
        match self {
            ReuseFlags {
                reset_values: true, ..
            } => Reuse::Reset,
            ReuseFlags {
                reuse_values: true, ..
            } => Reuse::Reuse,
            ReuseFlags {
                reset_then_reuse_values: true,
                ..
            } => Reuse::ResetThenReuse,
            _ => Reuse::UnlessGiven,
        }
    }
}

impl Upgrade {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let mut options = self.flags.options();
        options.create_namespace = self.create_namespace;
        options.reuse = self.reuse.reuse();
        self.shown.apply_to(&mut options)?;
        if self.rollback_on_failure {
            options.roll_back();
        }
        let given = Given::new(session, &self.chart, &self.given).await?;
        let mode = if self.install {
            Mode::UpgradeOrInstall
        } else {
            Mode::Upgrade
        };
        deploy(session, &self.name, mode, given, options, &self.shown).await
    }
}
