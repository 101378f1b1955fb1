//! From a chart and values to manifests: everything that Helm does before it speaks to a cluster.
//!
//! - [`capabilities`]: what templates know of the cluster. [`files`]: `.Files`. [`scope`]: the data of each template.
//! - [`manifest`]: cuts rendered texts into manifests and hooks, and sorts them.
//! - [`unread`]: values that the user gave and no template asked for.
//!
//! Never asks a cluster: `lookup` goes through the [`Environment`].

pub mod capabilities;
mod files;
pub mod manifest;
mod object;
mod scope;
mod unread;

use std::collections::BTreeMap;

use crate::{
    Environment, Map, Value,
    chart::{Chart, File, dependencies, schema},
    release::record::Hook,
    semver,
    template::{self, Rendering, TemplateError, Templates, ValuePath},
    values,
};

pub use capabilities::{Capabilities, KubeVersion};
pub use manifest::Manifest;

/// What a chart is rendered for.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    pub name: String,
    pub namespace: String,
    pub revision: u32,
    /// Whether it is an upgrade rather than an install.
    pub is_upgrade: bool,
    pub capabilities: Capabilities,
    /// Whether `crds/` comes first in the manifest.
    pub include_crds: bool,
    /// Whether the notes of subcharts are shown too.
    pub sub_notes: bool,
    pub skip_schema: bool,
    /// `required` and `fail` let pass, and a missing key is an error if `strict`.
    pub lint: bool,
    pub strict: bool,
}

impl Default for RenderOptions {
    fn default() -> RenderOptions {
        RenderOptions {
            name: "release-name".to_owned(),
            namespace: "default".to_owned(),
            revision: 1,
            is_upgrade: false,
            capabilities: Capabilities::default(),
            include_crds: false,
            sub_notes: false,
            skip_schema: false,
            lint: false,
            strict: false,
        }
    }
}

/// What a chart rendered to.
#[derive(Debug)]
pub struct Rendered {
    /// As `helm template` prints it: sorted by kind, each document after its `# Source:` line.
    pub manifest: String,
    /// The same, apart; without `crds/`.
    pub manifests: Vec<Manifest>,
    pub hooks: Vec<Hook>,
    pub notes: String,
    /// The files of `crds/`.
    pub crds: Vec<File>,
    /// What every template rendered to, by its path.
    pub files: BTreeMap<String, String>,
    /// The values that templates saw, at the end.
    pub values: Map,
    pub unread: Vec<Unread>,
    pub warnings: Vec<String>,
}

/// A value that the user gave and no template asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    pub path: ValuePath,
    /// A key that the chart knows and that may have been meant.
    pub suggestion: Option<String>,
}

/// Why a chart does not render.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The values do not fit the chart, or its schema.
    #[error("{0}")]
    Values(String),
    #[error("chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {version}")]
    KubeVersion { wanted: String, version: String },
    #[error(transparent)]
    Template(TemplateError),
    /// What was rendered is no YAML, or no manifest.
    #[error("YAML parse error on {path}: {message}")]
    Manifest {
        path: String,
        message: String,
        /// All that was rendered, to be looked at.
        files: BTreeMap<String, String>,
    },
}

/// Renders a chart with a user's values.
pub fn render(
    chart: &Chart,
    given: &Map,
    options: &RenderOptions,
    environment: &Environment,
) -> Result<Rendered, RenderError> {
    let mut warnings = chart_warnings(chart);
    let root =
        dependencies::Node::resolve(chart, given, &mut warnings).map_err(RenderError::Values)?;
    let merged = values::coalesce(&root, given, &mut warnings).map_err(RenderError::Values)?;
    warnings.sort();
    warnings.dedup();
    if !options.skip_schema {
        let json = values::to_json(&Value::Map(merged.clone()));
        schema::validate(&root, &json).map_err(RenderError::Values)?;
    }
    let version = &options.capabilities.kube_version;
    let wanted = &chart.metadata.kube_version;
    if !wanted.is_empty() && !semver::is_compatible(wanted, &version.version) {
        return Err(RenderError::KubeVersion {
            wanted: wanted.clone(),
            version: version.version.clone(),
        });
    }
    let scopes = scope::scopes(&root, &merged, options);
    let (files, template_warnings) = execute(&scopes, options, environment)?;
    warnings.extend(template_warnings);
    let unread = unread::unread(&root, given, &merged);
    assemble(chart, files, options).map(|rendered| Rendered {
        values: merged,
        unread,
        warnings,
        ..rendered
    })
}

fn chart_warnings(chart: &Chart) -> Vec<String> {
    let mut warnings = chart.warnings.clone();
    if chart.metadata.deprecated {
        warnings.push("this chart is deprecated".to_owned());
    }
    for subchart in &chart.subcharts {
        warnings.extend(subchart.warnings.iter().cloned());
    }
    warnings
}

type Texts = BTreeMap<String, String>;

/// Parses all templates, then renders those that are no partials: the deepest first, and backwards by name, so that
/// definitions of parents win.
fn execute(
    scopes: &[scope::Scope],
    options: &RenderOptions,
    environment: &Environment,
) -> Result<(Texts, Vec<String>), RenderError> {
    let mut ordered: Vec<(&str, &bytes::Bytes, &scope::Scope)> = scopes
        .iter()
        .flat_map(|scope| {
            let templates = scope.templates.iter();
            templates.map(move |(name, text)| (name.as_str(), text, scope))
        })
        .collect();
    let depth = |name: &str| name.matches('/').count();
    ordered.sort_by(|(a, ..), (b, ..)| depth(b).cmp(&depth(a)).then_with(|| b.cmp(a)));
    // Of two files of one name the later counts, as in a map.
    ordered.reverse();
    ordered.dedup_by(|(later, ..), (earlier, ..)| later == earlier);
    ordered.reverse();
    let mut templates = Templates::with_options(template::Options {
        strict: options.strict,
        lint: options.lint,
    });
    for (name, text, _) in &ordered {
        templates
            .add(name, (*text).clone())
            .map_err(RenderError::Template)?;
    }
    let rendering = Rendering::new(&templates, environment);
    let mut files = BTreeMap::new();
    for (name, _, scope) in ordered {
        let base = name.rsplit_once('/').map_or(name, |(_, base)| base);
        if base.starts_with('_') {
            continue;
        }
        scope.enter(name);
        let data = Value::Map(scope.data.clone());
        let text = rendering
            .execute(name, data)
            .map_err(RenderError::Template)?;
        files.insert(name.to_owned(), crate::json::text(&text).into_owned());
    }
    let warnings = rendering.into_warnings();
    let warnings = warnings.iter().map(ToString::to_string).collect();
    Ok((files, warnings))
}

/// Takes the notes out, and sorts the rest.
fn assemble(chart: &Chart, files: Texts, options: &RenderOptions) -> Result<Rendered, RenderError> {
    let mut notes = String::new();
    let own = format!("{}/templates/NOTES.txt", chart.name());
    for (name, text) in files.iter().filter(|(name, _)| is_notes(name)) {
        if options.sub_notes || *name == own {
            if !notes.is_empty() {
                notes.push('\n');
            }
            notes.push_str(text);
        }
    }
    let others = files.iter().filter(|(name, _)| !is_notes(name));
    let sorted = match manifest::sort(others) {
        Ok(sorted) => sorted,
        Err((path, message)) => {
            return Err(RenderError::Manifest {
                path,
                message,
                files,
            });
        }
    };
    let crds = chart.crds();
    let mut text = String::new();
    if options.include_crds {
        for crd in &crds {
            let data = crate::json::text(&crd.data);
            text.push_str(&format!("---\n# Source: {}\n{data}\n", crd.name));
        }
    }
    for manifest in &sorted.manifests {
        text.push_str(&manifest.text());
    }
    Ok(Rendered {
        manifest: text,
        manifests: sorted.manifests,
        hooks: sorted.hooks,
        notes,
        crds,
        files,
        values: Map::new(),
        unread: Vec::new(),
        warnings: Vec::new(),
    })
}

fn is_notes(name: &str) -> bool {
    name.ends_with("NOTES.txt")
}
