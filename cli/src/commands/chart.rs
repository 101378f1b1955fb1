//! `wkctl chart`: Helm charts and their releases.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::session::Session;

mod cluster;
mod get;
mod history;
mod list;
mod show_release;
mod status;
mod values;

/// Install, upgrade and inspect Helm charts
#[derive(Args)]
pub(crate) struct Chart {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(visible_alias = "ls")]
    List(list::List),
    Status(status::Status),
    #[command(visible_alias = "hist")]
    History(history::History),
    Get(get::Get),
}

impl Chart {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        match self.command {
            Command::List(command) => command.run(session).await,
            Command::Status(command) => command.run(session).await,
            Command::History(command) => command.run(session).await,
            Command::Get(command) => command.run(session).await,
        }
    }
}
