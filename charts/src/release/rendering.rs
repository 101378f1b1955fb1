//! Renders a chart for a release: what the cluster serves, what templates may look up, and the chart as the record keeps it.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{channel::oneshot, executor::block_on};
use jiff::Timestamp;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    Cluster, Error, ObjectId, Report,
    action::{Renderer, Rendering, Request},
    cluster::{Scope, Served},
};
use crate::{
    Environment, Failure, Limits, Lookup,
    chart::{Chart, File, dependencies},
    render::{self, Capabilities, KubeVersion, RenderOptions, Unread},
    values,
};

/// Changes what was rendered before it is applied; answers the new text, or why there is none.
pub type PostRenderer = Arc<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// How long templates may run unless somebody says otherwise, what they look up included.
pub const TIME: Duration = Duration::from_secs(60);

/// How a chart is rendered.
#[derive(Clone)]
pub struct Rights {
    /// Whether templates may ask for addresses of hosts.
    pub dns: bool,
    /// Whether values need not fit the chart's schema.
    pub skip_schema: bool,
    /// Whether subcharts' notes are shown too.
    pub sub_notes: bool,
    pub post_renderer: Option<PostRenderer>,
    /// How long templates may run, what they look up included.
    pub time: Duration,
}

impl Default for Rights {
    fn default() -> Rights {
        Rights {
            dns: false,
            skip_schema: false,
            sub_notes: false,
            post_renderer: None,
            time: TIME,
        }
    }
}

/// A chart, and the cluster that it is rendered for.
pub struct ChartRenderer {
    chart: Arc<Chart>,
    cluster: Arc<dyn Cluster>,
    rights: Rights,
}

impl ChartRenderer {
    pub fn new(chart: Chart, cluster: Arc<dyn Cluster>, rights: Rights) -> ChartRenderer {
        ChartRenderer {
            chart: Arc::new(chart),
            cluster,
            rights,
        }
    }

    /// Reads a packed chart.
    ///
    /// # Errors
    /// When it is none, or none that can be installed.
    pub fn from_archive(
        archive: &[u8],
        cluster: Arc<dyn Cluster>,
        rights: Rights,
    ) -> Result<ChartRenderer, Error> {
        let chart =
            Chart::load_archive(archive).map_err(|error| Error::Refused(error.to_string()))?;
        if chart.is_library() {
            let why = "library charts are not installable";
            return Err(Error::Refused(why.to_owned()));
        }
        let missing = dependencies::missing(&chart);
        if !missing.is_empty() {
            return Err(Error::Refused(format!(
                "found in Chart.yaml, but missing in charts/ directory: {}",
                missing.join(", ")
            )));
        }
        Ok(ChartRenderer::new(chart, cluster, rights))
    }

    /// The chart's version.
    pub fn version(&self) -> &str {
        &self.chart.metadata.version
    }
}

#[async_trait]
impl Renderer for ChartRenderer {
    async fn crds(&self) -> Result<Vec<(String, String)>, Error> {
        let text = |file: File| {
            let text = String::from_utf8_lossy(&file.data).into_owned();
            (file.name, text)
        };
        Ok(self.chart.crds().into_iter().map(text).collect())
    }

    async fn render(&self, request: Request) -> Result<Rendering, Error> {
        let served = self
            .cluster
            .served()
            .await
            .map_err(Error::call("ask the server what it serves"))?;
        let (chart, cluster, rights) = (
            self.chart.clone(),
            self.cluster.clone(),
            self.rights.clone(),
        );
        let now = self.cluster.now();
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            // Nobody may be waiting any more.
            let _ = sender.send(render(&chart, cluster, &rights, &served, &request, now));
        };
        self.cluster.blocking(Box::new(work)).await;
        let (rendering, warnings) = receiver
            .await
            .map_err(|_| Error::Refused("the rendering was given up".to_owned()))??;
        for warning in warnings {
            self.cluster
                .report(Report::Note(format!("Warning: {warning}")))
                .await;
        }
        Ok(rendering)
    }
}

/// Looks up what templates ask for, on a thread that may wait.
struct Live(Arc<dyn Cluster>);

impl Lookup for Live {
    fn lookup(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<crate::Value, Failure> {
        block_on(self.ask(api_version, kind, namespace, name))
            .map(|found| values::from_json(&found))
            .map_err(|error| Failure::new(error.line()))
    }
}

impl Live {
    async fn ask(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Error> {
        let doing = || Error::call(format!("lookup {api_version} {kind} {namespace}/{name}"));
        let scope = self.0.scope(api_version, kind).await.map_err(doing())?;
        let Some(scope) = scope else {
            return Err(Error::Refused(format!(
                "unable to get apiresource from unstructured: no matches for kind {kind:?} in version {api_version:?}"
            )));
        };
        if name.is_empty() {
            let within = (scope == Scope::Namespaced && !namespace.is_empty()).then_some(namespace);
            let items = self.0.list(api_version, kind, within, "").await;
            let items = items.map_err(doing())?;
            return Ok(json!({
                "apiVersion": api_version, "kind": format!("{kind}List"), "items": items,
            }));
        }
        let namespace = if scope == Scope::Cluster {
            ""
        } else {
            namespace
        };
        let id = ObjectId::new(api_version, kind, namespace, name);
        let found = self.0.find(&id).await.map_err(doing())?;
        Ok(found.unwrap_or_else(|| json!({})))
    }
}

/// A chart as a record keeps it, without its subcharts, as Helm does.
pub fn record(chart: &Chart) -> Value {
    let files = |files: &[File]| -> Vec<Value> {
        let file =
            |file: &File| json!({"name": file.name, "data": BASE64_STANDARD.encode(&file.data)});
        files.iter().map(file).collect()
    };
    json!({
        "metadata": chart.metadata,
        "lock": chart.lock,
        "templates": files(&chart.templates),
        "values": chart.values,
        "schema": chart.schema.as_ref().map(|schema| BASE64_STANDARD.encode(schema)),
        "files": files(&chart.files),
    })
}

/// Renders; answers what came of it and what was odd. May wait for the cluster.
fn render(
    chart: &Chart,
    cluster: Arc<dyn Cluster>,
    rights: &Rights,
    served: &Served,
    request: &Request,
    now: Timestamp,
) -> Result<(Rendering, Vec<String>), Error> {
    let refused = |why: String| Error::Refused(why);
    let with_defaults;
    let chart = match &request.defaults {
        None => chart,
        Some(defaults) => {
            with_defaults = Chart {
                values: defaults.clone(),
                ..chart.clone()
            };
            &with_defaults
        }
    };
    let options = RenderOptions {
        name: request.name.clone(),
        namespace: request.namespace.clone(),
        revision: request.revision,
        is_upgrade: request.upgrade,
        capabilities: Capabilities {
            kube_version: KubeVersion::parse(&served.version).map_err(refused)?,
            api_versions: served.api_versions.clone(),
        },
        sub_notes: rights.sub_notes,
        skip_schema: rights.skip_schema,
        ..RenderOptions::default()
    };
    let environment = Environment {
        now,
        random: RefCell::new(StdRng::from_seed(rand::random())),
        lookup: Some(Box::new(Live(cluster))),
        dns: rights.dns,
        limits: Limits {
            deadline: Instant::now().checked_add(rights.time),
            ..Limits::default()
        },
    };
    let given = values::from_json_map(&request.values);
    let rendered = render::render(chart, &given, &options, &environment)
        .map_err(|error| refused(error.to_string()))?;
    let mut manifest = rendered.manifest;
    if let Some(change) = &rights.post_renderer {
        manifest = change(&manifest).map_err(refused)?;
    }
    let mut warnings = rendered.warnings;
    warnings.extend(rendered.unread.iter().map(unread));
    let rendering = Rendering {
        chart: record(chart),
        manifest,
        hooks: rendered.hooks,
        notes: rendered.notes,
    };
    Ok((rendering, warnings))
}

/// A value that was given for nothing.
fn unread(unread: &Unread) -> String {
    let path = &unread.path;
    match &unread.suggestion {
        Some(known) => format!("no template reads the value {path}: did you mean {known}?"),
        None => format!("no template reads the value {path}"),
    }
}
