//! `wkctl chart test`.

use std::time::Duration;

use anyhow::{Result, bail};
use charts::release::action::{Options, Tests};
use clap::Args;
use jiff::tz::TimeZone;

use super::{
    cluster::{Live, told},
    show_release::{self, View},
};
use crate::{duration, session::Session};

/// Run the tests of a release
#[derive(Args)]
pub(super) struct Test {
    /// Release
    name: String,
    /// Only, or with `!` not, the tests of these names (name=a,name=b or '!name=c')
    #[arg(long, value_delimiter = ',', value_name = "name=TEST")]
    filter: Vec<String>,
    /// Print what the tests' pods wrote
    #[arg(long)]
    logs: bool,
    /// How long each test may take
    #[arg(long, value_parser = duration::parse, default_value = "5m0s", value_name = "DURATION")]
    timeout: Duration,
}

impl Test {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let tests = self.tests()?;
        let options = Options {
            timeout: self.timeout,
            ..Options::default()
        };
        let mut live = Live::connect(session, false).await?;
        let (release, result) = live
            .run(session, &self.name, &options, async |action| {
                action.test(&tests).await
            })
            .await?;
        let view = View {
            hide_notes: true,
            ..View::default()
        };
        session.text(&show_release::status(&release, view, &TimeZone::system()))?;
        result.map_err(told)
    }

    fn tests(&self) -> Result<Tests> {
        let mut tests = Tests {
            logs: self.logs,
            ..Tests::default()
        };
        for filter in &self.filter {
            let (into, rest) = match filter.strip_prefix('!') {
                Some(rest) => (&mut tests.exclude, rest),
                None => (&mut tests.include, filter.as_str()),
            };
            match rest.split_once('=') {
                Some(("name", name)) => into.push(name.to_owned()),
                _ => bail!("--filter {filter:?}: expected name=TEST or !name=TEST"),
            }
        }
        Ok(tests)
    }
}
