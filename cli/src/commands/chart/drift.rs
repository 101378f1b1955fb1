//! `wkctl chart drift`.

use anyhow::Result;
use charts::release::{Error, Status, action::Options};
use clap::Args;

use super::{
    cluster::{self, Live, told},
    difference::{Difference, Style},
};
use crate::session::{Exit, Session};

/// Show where objects are no longer as their release made them
#[derive(Args)]
pub(super) struct Drift {
    /// Release
    name: String,
    /// What Secrets hold too
    #[arg(long)]
    show_secrets: bool,
    /// End with exit code 2 if there is any
    #[arg(long)]
    exit_code: bool,
}

impl Drift {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let live = Live::connect(session, false).await?;
        let history = cluster::history(&live, &self.name).await?;
        let deployed = history
            .iter()
            .rev()
            .find(|release| release.info.status == Status::Deployed)
            .ok_or_else(|| {
                told(Error::Refused(format!(
                    "{:?} has no deployed releases",
                    self.name
                )))
            })?;
        let options = Options::default();
        let action = live.reading(&self.name, &options);
        let objects = action.resolve(&deployed.manifest).await.map_err(told)?;
        let previews = action.preview(&objects, true).await.map_err(told)?;
        let style = Style {
            colour: session.colour(),
            secrets: self.show_secrets,
        };
        let mut drifted = 0;
        for (object, preview) in objects.into_iter().zip(previews) {
            // As it should be, then as it is.
            let Difference { id, old, new } = Difference::of_apply(object, preview);
            let difference = Difference {
                id,
                old: new,
                new: old,
            };
            let text = difference.text(style)?;
            if !text.is_empty() {
                drifted += 1;
                session.text(&text)?;
            }
        }
        let (name, version) = (&self.name, deployed.version);
        if drifted == 0 {
            session.note(format_args!(
                "release {name:?}: every object is as revision {version} made it"
            ));
            return Ok(());
        }
        let message =
            format!("release {name:?}: {drifted} objects are not as revision {version} made them");
        if self.exit_code {
            return Err(Exit { code: 2, message }.into());
        }
        session.note(format_args!("{message}"));
        Ok(())
    }
}
