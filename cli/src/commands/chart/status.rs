//! `wkctl chart status`.

use anyhow::Result;
use clap::Args;
use jiff::tz::TimeZone;

use super::{
    cluster::{self, Live},
    show_release::{self, Format, View},
};
use crate::session::Session;

/// Show the state of a release
#[derive(Args)]
pub(super) struct Status {
    /// Release
    name: String,
    /// Of this revision rather than the newest
    #[arg(long)]
    revision: Option<u32>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Status {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let live = Live::connect(session, true).await?;
        let release = cluster::revision(&live, &self.name, self.revision).await?;
        self.output.print(
            session,
            || show_release::value(&release),
            || show_release::status(&release, View::default(), &TimeZone::system()),
        )
    }
}
