//! `wkctl chart history`.

use anyhow::Result;
use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    cluster::{self, Live},
    show_release::{Format, ansic, row, table},
};
use crate::session::Session;

/// Show the revisions of a release
#[derive(Args)]
pub(super) struct History {
    /// Release
    name: String,
    /// Most revisions to print, the newest
    #[arg(long, default_value_t = 256)]
    max: usize,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl History {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let live = Live::connect(session, true).await?;
        let history = cluster::history(&live, &self.name).await?;
        let skipped = history.len().saturating_sub(self.max);
        let shown = &history[skipped..];
        let element = |release: &charts::release::Release| {
            json!({
                "revision": release.version,
                "updated": release.info.last_deployed,
                "status": release.info.status.text(),
                "chart": release.chart_name(),
                "app_version": release.metadata("appVersion"),
                "description": release.info.description,
            })
        };
        let rows = || {
            let names = [
                "REVISION",
                "UPDATED",
                "STATUS",
                "CHART",
                "APP VERSION",
                "DESCRIPTION",
            ];
            let mut rows = vec![row(&names)];
            for release in shown {
                let time = release.info.last_deployed;
                rows.push(row(&[
                    &release.version.to_string(),
                    &time.map_or_else(String::new, |time| ansic(time, &TimeZone::UTC)),
                    release.info.status.text(),
                    &release.chart_name(),
                    release.metadata("appVersion"),
                    &release.info.description,
                ]));
            }
            table(&rows)
        };
        self.output.print(
            session,
            || shown.iter().map(element).collect::<Value>(),
            rows,
        )
    }
}
