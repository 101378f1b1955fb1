//! `wkctl chart`: Helm charts and their releases.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::session::Session;

mod values;

/// Install, upgrade and inspect Helm charts
#[derive(Args)]
pub(crate) struct Chart {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {}

impl Chart {
    #[expect(clippy::unused_async, reason = "commands of releases call the server")]
    pub(super) async fn run(self, _session: &Session) -> Result<()> {
        match self.command {}
    }
}
