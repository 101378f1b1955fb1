//! The chart and values of a command line, and the chart rendered for a cluster.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow};
use charts::{
    chart::Chart,
    release::{
        Cluster,
        rendering::{ChartRenderer, PostRenderer, Rights},
    },
    values::{self, inputs::Inputs},
};
use clap::Args;
use serde_json::{Map, Value};

use super::values::ValueFlags;
use crate::{download, session::Session};

/// Largest file of values, in bytes.
const LARGEST: usize = 16 << 20;

/// A chart's values and how it is rendered.
#[derive(Args, Clone, Debug)]
pub(super) struct ChartFlags {
    #[command(flatten)]
    values: ValueFlags,
    /// Program that is given the objects and answers those to apply
    #[arg(long, value_name = "PROGRAM")]
    post_renderer: Option<PathBuf>,
    /// An argument of the post-renderer (can be repeated)
    #[arg(
        long,
        value_name = "ARGUMENT",
        requires = "post_renderer",
        allow_hyphen_values = true
    )]
    post_renderer_args: Vec<String>,
    /// Let templates ask for addresses of hosts
    #[arg(long)]
    enable_dns: bool,
    /// Take values that don't fit the chart's schema
    #[arg(long)]
    skip_schema_validation: bool,
    /// Show subcharts' notes too
    #[arg(long)]
    render_subchart_notes: bool,
}

/// What a command line names.
pub(super) struct Given {
    chart: Chart,
    pub(super) values: Map<String, Value>,
    rights: Rights,
}

impl Given {
    /// Reads the chart and the values.
    pub(super) async fn new(session: &Session, chart: &str, flags: &ChartFlags) -> Result<Given> {
        let path = Path::new(chart);
        if !path.exists() {
            return Err(anyhow!(
                "path {chart:?} not found: expected a chart's directory or archive"
            ));
        }
        let loaded = Chart::load(path).with_context(|| format!("chart {chart:?}"))?;
        for warning in &loaded.warnings {
            session.note(format_args!("Warning: {warning}"));
        }
        if loaded.is_library() {
            return Err(anyhow!("library charts are not installable"));
        }
        if loaded.metadata.deprecated {
            session.note(format_args!("Warning: This chart is deprecated"));
        }
        Ok(Given {
            chart: loaded,
            values: merged(&flags.values).await?,
            rights: Rights {
                dns: flags.enable_dns,
                skip_schema: flags.skip_schema_validation,
                sub_notes: flags.render_subchart_notes,
                post_renderer: flags.post_renderer(),
            },
        })
    }

    /// Renders for a cluster.
    pub(super) fn renderer(&self, cluster: Arc<dyn Cluster>) -> ChartRenderer {
        ChartRenderer::new(self.chart.clone(), cluster, self.rights.clone())
    }
}

impl ChartFlags {
    fn post_renderer(&self) -> Option<PostRenderer> {
        let program = self.post_renderer.clone()?;
        let arguments = self.post_renderer_args.clone();
        Some(Arc::new(move |text| run(&program, &arguments, text)))
    }
}

/// What a program makes of a text.
fn run(program: &Path, arguments: &[String], text: &str) -> Result<String, String> {
    let told = |why: &dyn std::fmt::Display| format!("post-renderer {}: {why}", program.display());
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| told(&error))?;
    let mut input = process.stdin.take();
    let text = text.as_bytes().to_vec();
    // It may write before it has read everything.
    let writer = std::thread::spawn(move || {
        if let Some(input) = &mut input {
            // One that does not read to the end has what it wants.
            let _ = input.write_all(&text);
        }
    });
    let output = process.wait_with_output().map_err(|error| told(&error))?;
    let _ = writer.join();
    if !output.status.success() {
        return Err(told(&output.status));
    }
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Err(told(&"it wrote nothing"));
    }
    String::from_utf8(output.stdout).map_err(|_| told(&"what it wrote is not UTF-8"))
}

/// The values of files and flags.
async fn merged(flags: &ValueFlags) -> Result<Map<String, Value>> {
    let mut files = Vec::new();
    for name in &flags.values {
        let text = match name.as_str() {
            "-" => {
                let text = std::io::read_to_string(std::io::stdin()).context("read stdin")?;
                text.into_bytes()
            }
            url if url.starts_with("http://") || url.starts_with("https://") => {
                download::get(url, LARGEST)
                    .await
                    .with_context(|| format!("read {url}"))?
            }
            path => std::fs::read(path).with_context(|| format!("open {path}"))?,
        };
        files.push((name.clone(), text));
    }
    let inputs = Inputs {
        files,
        set_json: flags.set_json.clone(),
        set: flags.set.clone(),
        set_string: flags.set_string.clone(),
        set_file: flags.set_file.clone(),
        set_literal: flags.set_literal.clone(),
    };
    let read = |path: &str| std::fs::read(path).map_err(|error| format!("open {path}: {error}"));
    let merged = inputs.merge(&read).map_err(anyhow::Error::msg)?;
    Ok(values::to_json_map(&merged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_renderer_changes_the_text() {
        let upper = run(
            Path::new("tr"),
            &["a".to_owned(), "b".to_owned()],
            "banana\n",
        );
        assert_eq!(upper.unwrap(), "bbnbnb\n");
        let failed = run(Path::new("false"), &[], "x").unwrap_err();
        assert_eq!(failed, "post-renderer false: exit status: 1");
        let silent = run(Path::new("true"), &[], "x").unwrap_err();
        assert_eq!(silent, "post-renderer true: it wrote nothing");
        assert!(run(Path::new("/nowhere"), &[], "x").is_err());
    }
}
