//! What commands that render a chart share: the flags, and what is said of values that nothing read.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use anyhow::{Error, Result, bail};
use charts::{
    Environment, Limits, Map,
    chart::Chart,
    render::{self, Capabilities, KubeVersion, RenderError, RenderOptions, Rendered},
    values::Inputs,
};
use clap::Args;
use jiff::Timestamp;
use rand::{SeedableRng as _, rngs::StdRng};

use crate::session::Session;

/// How long a chart's templates may run, what they look up included.
pub(super) const TIME: Duration = Duration::from_secs(120);

/// What templates are told of the cluster.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct CapabilityFlags {
    /// Kubernetes version used for Capabilities.KubeVersion
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// Kubernetes API versions used for Capabilities.APIVersions (can be repeated)
    #[arg(short, long, value_name = "VERSIONS", value_delimiter = ',')]
    api_versions: Vec<String>,
}

impl CapabilityFlags {
    /// What is known without a cluster, and what the flags say.
    pub(super) fn capabilities(&self) -> Result<Capabilities> {
        let mut capabilities = Capabilities::default();
        if let Some(version) = &self.kube_version {
            capabilities.kube_version = KubeVersion::parse(version).map_err(Error::msg)?;
        }
        capabilities
            .api_versions
            .extend(self.api_versions.iter().cloned());
        Ok(capabilities)
    }
}

/// What templates may ask for without a cluster.
pub(super) fn offline(dns: bool) -> Environment {
    let now = Timestamp::now();
    Environment {
        now,
        random: RefCell::new(StdRng::from_rng(&mut rand::rng())),
        lookup: None,
        dns,
        limits: Limits {
            deadline: Instant::now().checked_add(TIME),
            ..Limits::default()
        },
    }
}

/// Renders, and prints warnings: what the chart is warned of, and values that nothing read, with where they came from.
pub(super) fn render(
    session: &Session,
    chart: &Chart,
    values: &Map,
    inputs: &Inputs,
    options: &RenderOptions,
    environment: &Environment,
) -> Result<Rendered, RenderError> {
    let rendered = render::render(chart, values, options, environment)?;
    for warning in &rendered.warnings {
        session.note(format_args!(
            "warning: {}",
            warning.trim_start_matches("warning: ")
        ));
    }
    for unread in &rendered.unread {
        let path: Vec<String> = unread
            .path
            .0
            .iter()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect();
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        let mut line = format!("warning: no template read the value {}", path.join("."));
        if let Some(origin) = inputs.origin(&keys) {
            line.push_str(&format!(" ({origin})"));
        }
        if let Some(suggestion) = &unread.suggestion {
            line.push_str(&format!("; did you mean {suggestion:?}?"));
        }
        session.note(format_args!("{line}"));
    }
    Ok(rendered)
}

/// A release's name and chart, of the arguments `[NAME] CHART`; the name is `default` if nothing says otherwise.
pub(super) fn name_and_chart(
    arguments: &[String],
    generate: bool,
    template: Option<&str>,
    default: Option<&str>,
) -> Result<(String, String)> {
    let (name, chart) = match arguments {
        [chart] => (None, chart),
        [name, chart] => (Some(name), chart),
        _ => bail!(
            "expected at most two arguments, unexpected arguments: {}",
            arguments[2..].join(", ")
        ),
    };
    let name = match (name, template) {
        (Some(_), _) if generate => bail!("cannot set --generate-name and also specify a name"),
        (Some(_), Some(_)) => bail!("cannot set --name-template and also specify a name"),
        (Some(name), None) => name.clone(),
        (None, Some(template)) => named(template)?,
        (None, None) if generate => generated(chart),
        (None, None) => match default {
            Some(default) => default.to_owned(),
            None => bail!("must either provide a name or specify --generate-name"),
        },
    };
    Ok((name, chart.clone()))
}

/// A name of a template, without data.
fn named(template: &str) -> Result<String> {
    let mut templates = charts::template::Templates::new();
    templates.add("name-template", template.to_owned())?;
    let executed = templates.execute("name-template", charts::Value::Nil, &offline(false))?;
    Ok(String::from_utf8_lossy(&executed.text).into_owned())
}

/// The chart's name and the moment.
fn generated(chart: &str) -> String {
    let base = chart
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(chart);
    let base = match base {
        "" | "." | ".." => "chart",
        base => base.split(".tgz").next().unwrap_or(base),
    };
    let seconds = offline(false).now.as_second();
    format!("{}-{seconds}", base.to_lowercase())
}
