//! `wkctl chart rollback`.

use anyhow::Result;
use clap::Args;

use super::{action_flags::ActionFlags, cluster::Live};
use crate::session::Session;

/// Return a release to an earlier revision
#[derive(Args)]
pub(super) struct Rollback {
    /// Release
    name: String,
    /// Revision to return to; the one before the newest if none is named
    revision: Option<u32>,
    #[command(flatten)]
    flags: ActionFlags,
}

impl Rollback {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let options = self.flags.options();
        let mut live = Live::connect(session, false).await?;
        let revision = self.revision;
        live.run(session, &self.name, &options, async |action| {
            action.rollback(revision).await
        })
        .await?;
        session.line(format_args!("Rollback was a success! Happy Helming!"))
    }
}
