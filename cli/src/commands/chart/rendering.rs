//! The chart and values of a command line, and the chart rendered for a cluster.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use charts::{
    chart::Chart,
    release::{
        Cluster,
        rendering::{ChartRenderer, PostRenderer, Rights},
    },
    values,
};
use clap::Args;
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use super::{
    post_render, render, source,
    values::{ValueFlags, merged},
};
use crate::session::Session;

/// A chart's values and how it is rendered.
#[derive(Args, Clone, Debug)]
pub(super) struct ChartFlags {
    #[command(flatten)]
    source: source::SourceFlags,
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
    /// Fetch what a chart's directory depends on, if it is not there
    #[arg(long)]
    dependency_update: bool,
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
        let update = flags.dependency_update;
        let loaded = source::load_complete(session, chart, &flags.source, update).await?;
        let inputs = flags.values.inputs().await?;
        let values = values::to_json_map(&merged(&inputs)?);
        Ok(Given {
            chart: loaded,
            values,
            rights: Rights {
                dns: flags.enable_dns,
                skip_schema: flags.skip_schema_validation,
                sub_notes: flags.render_subchart_notes,
                post_renderer: flags.post_renderer(),
                time: render::TIME,
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
        // It is called on a thread that may wait.
        Some(Arc::new(move |text| {
            let changed = post_render::run(&program, &arguments, text);
            let changed = Handle::current().block_on(changed);
            changed.map_err(|error| format!("{error:#}"))
        }))
    }
}
