//! `wkctl chart lint`: what is wrong or odd with a chart, as `helm lint` prints it.

use std::path::Path;

use anyhow::{Result, bail};
use charts::lint::{self, Finding, Severity};
use clap::Args;

use super::{render, values};
use crate::session::Session;

/// Examine a chart for possible issues
#[derive(Args)]
pub(crate) struct Lint {
    /// Directories of charts
    #[arg(default_value = ".")]
    charts: Vec<String>,
    #[command(flatten)]
    values: values::ValueFlags,
    #[command(flatten)]
    capabilities: render::CapabilityFlags,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
    /// Print only warnings and errors
    #[arg(long)]
    quiet: bool,
    /// Lint subcharts too
    #[arg(long)]
    with_subcharts: bool,
    /// Do not check values against the chart's schema
    #[arg(long)]
    skip_schema_validation: bool,
}

impl Lint {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let inputs = self.values.inputs().await?;
        let given = values::merged(&inputs)?;
        let options = lint::Options {
            namespace: session.namespace_or_default(),
            capabilities: self.capabilities.capabilities()?,
            skip_schema: self.skip_schema_validation,
        };
        let mut paths = self.charts.clone();
        if self.with_subcharts {
            for path in &self.charts {
                paths.extend(subcharts(Path::new(path)));
            }
        }
        let (mut failed, total) = (0, paths.len());
        for path in &paths {
            let environment = render::offline(false);
            let findings = lint::lint(Path::new(path), &given, &options, &environment);
            let worst = findings.iter().map(|finding| finding.severity).max();
            let bound = if self.strict {
                Severity::Warning
            } else {
                Severity::Error
            };
            let wrong = worst.is_some_and(|worst| worst >= bound);
            failed += usize::from(wrong);
            let shown = |finding: &&Finding| !self.quiet || finding.severity > Severity::Info;
            let lines: Vec<String> = findings
                .iter()
                .filter(shown)
                .map(Finding::to_string)
                .collect();
            if !self.quiet || !lines.is_empty() {
                session.line(format_args!("==> Linting {path}"))?;
                for line in lines {
                    session.line(format_args!("{line}"))?;
                }
                session.line(format_args!(""))?;
            }
        }
        let summary = format!("{total} chart(s) linted, {failed} chart(s) failed");
        if failed > 0 {
            bail!("{summary}");
        }
        match self.quiet {
            true => Ok(()),
            false => session.line(format_args!("{summary}")),
        }
    }
}

/// The directories of a chart's subcharts.
fn subcharts(chart: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(chart.join("charts")) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("Chart.yaml").is_file())
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    found
}
