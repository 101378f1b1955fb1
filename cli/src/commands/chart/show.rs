//! `wkctl chart show`: what a chart says about itself.

use anyhow::Result;
use charts::chart::{Chart, package};
use clap::{Args, Subcommand};

use super::source::{self, SourceFlags};
use crate::session::Session;

/// Show a chart's description, values, README or CRDs
#[derive(Args)]
pub(crate) struct Show {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show all of a chart's information
    All(Named),
    /// Show the chart's definition
    Chart(Named),
    /// Show the chart's values
    Values(Named),
    /// Show the chart's README
    Readme(Named),
    /// Show the chart's CRDs
    Crds(Named),
}

#[derive(Args)]
struct Named {
    /// The chart: a directory, an archive, or a reference
    chart: String,
    #[command(flatten)]
    source: SourceFlags,
}

impl Named {
    async fn load(&self, session: &Session) -> Result<Chart> {
        source::load(session, &self.chart, &self.source).await
    }
}

impl Show {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let text = match self.command {
            Command::All(named) => all(&named.load(session).await?),
            Command::Chart(named) => definition(&named.load(session).await?),
            Command::Values(named) => values(&named.load(session).await?),
            Command::Readme(named) => readme(&named.load(session).await?).unwrap_or_default(),
            Command::Crds(named) => crds(&named.load(session).await?),
        };
        session.text(&text)
    }
}

fn all(chart: &Chart) -> String {
    let mut text = definition(chart);
    if chart.file("values.yaml").is_some() {
        text.push_str(&format!("---\n{}", values(chart)));
    }
    if let Some(readme) = readme(chart) {
        text.push_str(&format!("---\n{readme}"));
    }
    text.push_str(&crds(chart));
    text
}

fn definition(chart: &Chart) -> String {
    format!("{}\n", package::manifest(chart))
}

fn values(chart: &Chart) -> String {
    let file = chart.file("values.yaml");
    file.map_or_else(String::new, |file| line(&file.data))
}

fn readme(chart: &Chart) -> Option<String> {
    let names = ["readme.md", "readme.txt", "readme"];
    let mut files = chart.files.iter();
    let file = files.find(|file| {
        names
            .iter()
            .any(|name| file.name.eq_ignore_ascii_case(name))
    })?;
    Some(line(&file.data))
}

fn crds(chart: &Chart) -> String {
    let crds = chart.crds();
    let texts = crds.iter().map(|crd| {
        let text = line(&crd.data);
        match text.starts_with("---") {
            true => text,
            false => format!("---\n{text}"),
        }
    });
    texts.collect()
}

/// A file's text, and the end of its last line once more, as `helm show` prints it.
fn line(data: &[u8]) -> String {
    format!("{}\n", String::from_utf8_lossy(data))
}
