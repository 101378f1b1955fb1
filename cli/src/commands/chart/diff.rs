//! `wkctl chart diff`.

use anyhow::{Result, bail};
use charts::release::{
    Release,
    action::{DryRun, Mode, Options},
};
use clap::Args;

use super::{
    cluster::{self, Live, told},
    difference::{Difference, Style},
    rendering::{ChartFlags, Given},
    upgrade::ReuseFlags,
};
use crate::session::{Exit, Session};

/// Show what an upgrade or a rollback would change
#[derive(Args)]
pub(super) struct Diff {
    /// Release
    name: String,
    /// Chart to upgrade to: a directory, an archive, or a reference
    #[arg(required_unless_present = "revision", conflicts_with = "revision")]
    chart: Option<String>,
    /// What rolling back to this revision would change
    #[arg(long)]
    revision: Option<u32>,
    /// With --revision, the changes from that revision to this one
    #[arg(long, requires = "revision")]
    to: Option<u32>,
    #[command(flatten)]
    reuse: ReuseFlags,
    #[command(flatten)]
    given: ChartFlags,
    /// What Secrets hold too
    #[arg(long)]
    show_secrets: bool,
    /// End with exit code 2 if there are changes
    #[arg(long)]
    exit_code: bool,
}

impl Diff {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let mut live = Live::connect(session, false).await?;
        let differences = match (&self.chart, self.revision, self.to) {
            (_, Some(old), Some(new)) => {
                let old = cluster::revision(&live, &self.name, Some(old)).await?;
                let new = cluster::revision(&live, &self.name, Some(new)).await?;
                self.between(&live, &old, &new).await?
            }
            (_, Some(revision), None) => {
                let next = cluster::revision(&live, &self.name, Some(revision)).await?;
                self.against_live(&live, &next).await?
            }
            (Some(chart), None, _) => {
                let next = self.rendered(session, &mut live, chart).await?;
                self.against_live(&live, &next).await?
            }
            (None, None, _) => bail!("name a chart to upgrade to, or a --revision"),
        };
        let style = Style {
            colour: session.colour(),
            secrets: self.show_secrets,
        };
        let mut changed = 0;
        for difference in differences {
            let text = difference.text(style)?;
            if !text.is_empty() {
                changed += 1;
                session.text(&text)?;
            }
        }
        if changed == 0 {
            session.note(format_args!(
                "release {:?}: nothing would change",
                self.name
            ));
        } else if self.exit_code {
            let message = format!("release {:?}: {changed} objects would change", self.name);
            return Err(Exit { code: 2, message }.into());
        }
        Ok(())
    }

    /// The revision that an upgrade would make.
    async fn rendered(&self, session: &Session, live: &mut Live, chart: &str) -> Result<Release> {
        let given = Given::new(session, chart, &self.given).await?;
        let renderer = given.renderer(live.cluster.clone());
        let options = Options {
            dry_run: DryRun::Client,
            reuse: self.reuse.reuse(),
            ..Options::default()
        };
        let values = given.values.clone();
        let deployed = live
            .run(session, &self.name, &options, async |action| {
                action
                    .deploy(Mode::UpgradeOrInstall, &renderer, values)
                    .await
            })
            .await?;
        Ok(deployed.release)
    }

    /// What applying a revision would change, and what it would remove.
    async fn against_live(&self, live: &Live, next: &Release) -> Result<Vec<Difference>> {
        let options = Options::default();
        let action = live.reading(&self.name, &options);
        let objects = action.resolve(&next.manifest).await.map_err(told)?;
        let previews = action.preview(&objects, true).await.map_err(told)?;
        let going = action.going(&objects).await.map_err(told)?;
        let mut differences: Vec<Difference> = objects
            .into_iter()
            .zip(previews)
            .map(|(object, preview)| Difference::of_apply(object, preview))
            .collect();
        differences.extend(going.into_iter().map(|(id, live)| Difference {
            id,
            old: Some(live),
            new: None,
        }));
        Ok(differences)
    }

    /// The changes from one revision's objects to another's, whatever the cluster has.
    async fn between(&self, live: &Live, old: &Release, new: &Release) -> Result<Vec<Difference>> {
        let options = Options::default();
        let action = live.reading(&self.name, &options);
        let before = action.resolve(&old.manifest).await.map_err(told)?;
        let mut differences = Vec::new();
        let mut after = action.resolve(&new.manifest).await.map_err(told)?;
        for old in before {
            let place = after.iter().position(|new| new.id.same_object(&old.id));
            let new = place.map(|place| after.remove(place).value);
            differences.push(Difference {
                id: old.id,
                old: Some(old.value),
                new,
            });
        }
        differences.extend(after.into_iter().map(|new| Difference {
            id: new.id,
            old: None,
            new: Some(new.value),
        }));
        Ok(differences)
    }
}
