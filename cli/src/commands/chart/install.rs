//! `wkctl chart install`.

use anyhow::{Result, bail};
use charts::release::{
    action::{DryRun, Mode},
    manifest,
};
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};

use super::{
    action_flags::{ActionFlags, labels},
    cluster::Live,
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
    /// Leave out the definitions of custom kinds in crds/
    #[arg(long)]
    pub(super) skip_crds: bool,
    /// Bring definitions of custom kinds that are there up to date, if nothing breaks
    #[arg(long, conflicts_with = "skip_crds")]
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

impl Install {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let (name, chart) = self.name_and_chart(Timestamp::now())?;
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

    fn name_and_chart(&self, now: Timestamp) -> Result<(String, String)> {
        match self.names.as_slice() {
            [_, _] if self.generate_name => {
                bail!("cannot set --generate-name and also specify a name")
            }
            [name, chart] => Ok((name.clone(), chart.clone())),
            [chart] if self.generate_name => {
                let file = chart.trim_end_matches('/').rsplit('/').next();
                let base = file.unwrap_or_default().split('.').next();
                let base = base.filter(|base| !base.is_empty()).unwrap_or("chart");
                Ok((format!("{base}-{}", now.as_second()), chart.clone()))
            }
            _ => bail!("must either provide a name or specify --generate-name"),
        }
    }
}

impl ShownFlags {
    pub(super) fn apply_to(&self, options: &mut charts::release::action::Options) -> Result<()> {
        if self.hide_secret && options.dry_run == DryRun::No {
            bail!("hiding Kubernetes secrets requires a dry-run mode");
        }
        options.crds = !self.skip_crds;
        options.upgrade_crds = self.upgrade_crds;
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
