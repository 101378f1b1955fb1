//! The data that each chart's templates see: `.Values`, `.Chart`, `.Release` and the rest, chart by chart.

use std::rc::Rc;

use bytes::Bytes;

use super::{RenderOptions, files::Files};
use crate::{
    Map, Value,
    chart::{Dependency, ImportValues, Maintainer, Metadata, dependencies::Node},
};

/// What Helm calls the type of `.Values`.
const VALUES: &str = "common.Values";

/// The templates of one chart, and their data.
pub(super) struct Scope {
    /// By their paths from the root chart on.
    pub(super) templates: Vec<(String, Bytes)>,
    pub(super) data: Map,
    /// Where the templates are, as `.Template.BasePath` says.
    base: String,
}

impl Scope {
    /// Says in the data which template is rendered.
    pub(super) fn enter(&self, name: &str) {
        let template = Map::new();
        template.insert("Name", Value::string(name.to_owned()));
        template.insert("BasePath", Value::string(self.base.clone()));
        self.data.insert("Template", Value::Map(template));
    }
}

/// The scopes of a chart and its subcharts.
pub(super) fn scopes(root: &Node<'_>, values: &Map, options: &RenderOptions) -> Vec<Scope> {
    let release = Map::new();
    release.insert("Name", Value::string(options.name.clone()));
    release.insert("Namespace", Value::string(options.namespace.clone()));
    release.insert("IsUpgrade", Value::Bool(options.is_upgrade));
    release.insert("IsInstall", Value::Bool(!options.is_upgrade));
    release.insert("Revision", Value::int(i64::from(options.revision)));
    release.insert("Service", Value::string("Helm"));
    let shared = [
        ("Release", Value::Map(release)),
        ("Capabilities", options.capabilities.value()),
    ];
    let mut scopes = Vec::new();
    collect(
        root,
        values.clone(),
        root.metadata.name.clone(),
        true,
        &shared,
        &mut scopes,
    );
    scopes
}

fn collect(
    node: &Node<'_>,
    values: Map,
    path: String,
    is_root: bool,
    shared: &[(&'static str, Value)],
    scopes: &mut Vec<Scope>,
) -> Map {
    let subcharts = Map::new();
    let data = Map::of_type("common.Values");
    data.insert("Chart", chart(&node.metadata, is_root));
    let files = Files::new(&node.chart.files);
    data.insert("Files", Value::Object(Rc::new(files)));
    for (name, value) in shared {
        data.insert(*name, value.clone());
    }
    // The map of a parent's values that a subchart sees as its own is of a plain type there.
    data.insert("Values", Value::Map(values.as_type(VALUES)));
    data.insert("Subcharts", Value::Map(subcharts.clone()));
    for child in &node.subcharts {
        let name = child.metadata.name.as_str();
        let values = match values.peek(name.as_bytes()) {
            Some(Value::Map(values)) => values,
            _ => Map::new(),
        };
        let path = format!("{path}/charts/{name}");
        let child = collect(child, values, path, false, shared, scopes);
        subcharts.insert(
            name.to_owned(),
            Value::Map(child.as_type("map[string]interface {}")),
        );
    }
    let library = node.chart.is_library();
    let is_partial = |name: &str| {
        let base = name.rsplit_once('/').map_or(name, |(_, base)| base);
        base.starts_with('_')
    };
    let templates = node.chart.templates.iter();
    let templates = templates
        .filter(|file| !library || is_partial(&file.name))
        .map(|file| (format!("{path}/{}", file.name), file.data.clone()));
    scopes.push(Scope {
        templates: templates.collect(),
        data: data.clone(),
        base: format!("{path}/templates"),
    });
    data
}

/// `.Chart`: the metadata under its names in Go.
fn chart(metadata: &Metadata, is_root: bool) -> Value {
    let map = Map::new();
    let texts = [
        ("Name", &metadata.name),
        ("Home", &metadata.home),
        ("Version", &metadata.version),
        ("Description", &metadata.description),
        ("Icon", &metadata.icon),
        ("APIVersion", &metadata.api_version),
        ("Condition", &metadata.condition),
        ("Tags", &metadata.tags),
        ("AppVersion", &metadata.app_version),
        ("KubeVersion", &metadata.kube_version),
        ("Type", &metadata.r#type),
    ];
    for (name, text) in texts {
        map.insert(name, Value::string(text.clone()));
    }
    map.insert("IsRoot", Value::Bool(is_root));
    map.insert("Deprecated", Value::Bool(metadata.deprecated));
    map.insert("Sources", list(&metadata.sources));
    map.insert("Keywords", list(&metadata.keywords));
    let maintainers = metadata.maintainers.iter().map(maintainer);
    map.insert("Maintainers", Value::list(maintainers.collect()));
    let dependencies = metadata.dependencies.iter().map(dependency);
    map.insert("Dependencies", Value::list(dependencies.collect()));
    let annotations = Map::of_type("map[string]string");
    for (key, value) in metadata.annotations.iter().flatten() {
        annotations.insert(key.clone(), Value::string(value.clone()));
    }
    map.insert("Annotations", Value::Map(annotations));
    Value::Map(map)
}

fn list(texts: &[String]) -> Value {
    Value::list(texts.iter().cloned().map(Value::string).collect())
}

fn maintainer(maintainer: &Maintainer) -> Value {
    let map = Map::new();
    map.insert("Name", Value::string(maintainer.name.clone()));
    map.insert("Email", Value::string(maintainer.email.clone()));
    map.insert("URL", Value::string(maintainer.url.clone()));
    Value::Map(map)
}

fn dependency(dependency: &Dependency) -> Value {
    let map = Map::new();
    let texts = [
        ("Name", &dependency.name),
        ("Version", &dependency.version),
        ("Repository", &dependency.repository),
        ("Condition", &dependency.condition),
        ("Alias", &dependency.alias),
    ];
    for (name, text) in texts {
        map.insert(name, Value::string(text.clone()));
    }
    map.insert("Tags", list(&dependency.tags));
    map.insert("Enabled", Value::Bool(dependency.enabled));
    let imports = dependency.import_values.iter().map(|import| {
        let (child, parent) = match import {
            ImportValues::Export(name) => (format!("exports.{name}"), ".".to_owned()),
            ImportValues::Paths { child, parent } => (child.clone(), parent.clone()),
        };
        let map = Map::of_type("map[string]string");
        map.insert("child", Value::string(child));
        map.insert("parent", Value::string(parent));
        Value::Map(map)
    });
    map.insert("ImportValues", Value::list(imports.collect()));
    Value::Map(map)
}
