//! `wkctl chart install`.

use anyhow::{Result, bail};
use charts::release::{
    action::{Crds, DryRun, Mode},
    manifest,
};
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::{
    action_flags::{ActionFlags, labels},
    cluster::Live,
    render,
    rendering::{ChartFlags, Given},
    show_release::{self, Format, View},
};
use crate::session::Session;

/// Install a chart
#[derive(Args)]
pub(super) struct Install {
    /// Release and chart, or the chart alone with --generate-name: a directory, an archive, or a reference
    #[arg(required = true, num_args = 1..=2, value_names = ["NAME", "CHART"])]
    names: Vec<String>,
    /// Make up a name
    #[arg(short, long)]
    generate_name: bool,
    /// Template of the release's name
    #[arg(long, value_name = "TEMPLATE")]
    name_template: Option<String>,
    /// Make the namespace if it is not there
    #[arg(long)]
    create_namespace: bool,
    /// Over a release of this name that failed or whose history was kept
    #[arg(long)]
    replace: bool,
    /// When it fails, uninstall it; waits for the objects
    #[arg(long, visible_alias = "atomic")]
    rollback_on_failure: bool,
    #[command(flatten)]
    chart: ChartFlags,
    #[command(flatten)]
    flags: ActionFlags,
    #[command(flatten)]
    shown: ShownFlags,
}

/// What of a chart's definitions and labels goes with a release, and how the result is printed; of `install` and
/// `upgrade`.
#[derive(Args, Clone, Debug)]
pub(super) struct ShownFlags {
    /// What becomes of the definitions of custom kinds in crds/
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(super) crds: Definitions,
    /// As --crds=skip
    #[arg(long, conflicts_with = "crds")]
    pub(super) skip_crds: bool,
    /// As --crds=upgrade
    #[arg(long, conflicts_with_all = ["crds", "skip_crds"])]
    pub(super) upgrade_crds: bool,
    /// Labels of the release's record (name=value; `null` removes one)
    #[arg(short, long, value_name = "LABELS")]
    pub(super) labels: Vec<String>,
    /// With --dry-run, don't print what Secrets hold
    #[arg(long)]
    pub(super) hide_secret: bool,
    /// Don't print what the chart has to say
    #[arg(long)]
    pub(super) hide_notes: bool,
    /// Take fields that the server does not know for a warning, not an error
    #[arg(long)]
    pub(super) disable_openapi_validation: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Format,
}

/// What becomes of definitions of custom kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(super) enum Definitions {
    /// An install makes those that are not there
    #[default]
    Create,
    /// Those that are there are brought up to date, unless that would lose something
    Upgrade,
    /// Those that are there are brought up to date, whatever is lost
    Force,
    /// They are left out
    Skip,
}

impl From<Definitions> for Crds {
    fn from(definitions: Definitions) -> Crds {
        match definitions {
            Definitions::Create => Crds::Create,
            Definitions::Upgrade => Crds::Upgrade,
            Definitions::Force => Crds::Force,
            Definitions::Skip => Crds::Skip,
        }
    }
}

impl Install {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let template = self.name_template.as_deref();
        let (name, chart) =
            render::name_and_chart(&self.names, self.generate_name, template, None)?;
        let mut options = self.flags.options();
        options.create_namespace = self.create_namespace;
        self.shown.apply_to(&mut options)?;
        if self.rollback_on_failure {
            options.roll_back();
        }
        let replace = self.replace;
        let given = Given::new(session, &chart, &self.chart).await?;
        let mode = Mode::Install { replace };
        deploy(session, &name, mode, given, options, &self.shown).await
    }
}

impl ShownFlags {
    pub(super) fn apply_to(&self, options: &mut charts::release::action::Options) -> Result<()> {
        if self.hide_secret && options.dry_run == DryRun::No {
            bail!("hiding Kubernetes secrets requires a dry-run mode");
        }
        options.crds = match (self.skip_crds, self.upgrade_crds) {
            (true, _) => Crds::Skip,
            (_, true) => Crds::Upgrade,
            _ => self.crds.into(),
        };
        options.labels = labels(&self.labels)?;
        Ok(())
    }
}

/// Installs or upgrades, and prints what came of it.
pub(super) async fn deploy(
    session: &Session,
    name: &str,
    mode: Mode,
    given: Given,
    options: charts::release::action::Options,
    shown: &ShownFlags,
) -> Result<()> {
    let mut live = Live::connect(session, !shown.disable_openapi_validation).await?;
    let renderer = given.renderer(live.cluster.clone());
    let values = given.values.clone();
    let deployed = live
        .run(session, name, &options, async |action| {
            action.deploy(mode, &renderer, values).await
        })
        .await?;
    let mut release = deployed.release;
    let rehearsed = options.dry_run != DryRun::No;
    if rehearsed && shown.hide_secret {
        release.manifest = manifest::hide_secrets(&release.manifest);
    }
    let view = View {
        metadata: false,
        hide_notes: shown.hide_notes,
        manifest: rehearsed,
    };
    if shown.output == Format::Table
        && matches!(mode, Mode::Upgrade | Mode::UpgradeOrInstall)
        && !rehearsed
    {
        if deployed.installed {
            session.line(format_args!(
                "Release {name:?} does not exist. Installing it now."
            ))?;
        } else {
            session.line(format_args!(
                "Release {name:?} has been upgraded. Happy Helming!"
            ))?;
        }
    }
    shown.output.print(
        session,
        || show_release::value(&release),
        || show_release::status(&release, view, &TimeZone::system()),
    )
}
