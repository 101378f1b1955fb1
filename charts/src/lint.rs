//! What is wrong or odd with a chart's directory, in Helm's words. Reads files; renders with the defaults.

use std::{collections::BTreeMap, fmt, path::Path};

use crate::{
    Environment, Map, Value,
    chart::{Chart, dependencies},
    render::{self, Capabilities, RenderError, RenderOptions, manifest},
    semver::Version,
    values, yaml,
};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// One thing that was found; prints as `helm lint` prints it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub severity: Severity,
    /// A path within the chart, empty for the chart itself.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Info => "INFO",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        };
        write!(f, "[{severity}] {}: {}", self.path, self.message)
    }
}

/// How a chart is rendered to be examined.
pub struct Options {
    pub namespace: String,
    pub capabilities: Capabilities,
    pub skip_schema: bool,
}

/// Examines the chart in a directory.
pub fn lint(
    directory: &Path,
    given: &Map,
    options: &Options,
    environment: &Environment,
) -> Vec<Finding> {
    let mut found = Findings::default();
    let manifest = match std::fs::read(directory.join("Chart.yaml")) {
        Ok(manifest) => manifest,
        Err(error) => {
            let message = format!("unable to check Chart.yaml file in chart: {error}");
            found.add(Severity::Error, "", message);
            return found.0;
        }
    };
    definition(&manifest, &mut found);
    let values = std::fs::read(directory.join("values.yaml"));
    match &values {
        Err(_) => found.add(Severity::Info, "values.yaml", "file does not exist"),
        Ok(text) => {
            if let Err(error) = values::load(text) {
                let message = format!("unable to parse YAML: {error}");
                found.add(Severity::Error, "values.yaml", message);
            }
        }
    }
    if !directory.join("templates").is_dir() {
        found.add(Severity::Warning, "templates/", "directory does not exist");
    }
    match Chart::load(directory) {
        Err(error) => {
            found.add(Severity::Error, "templates/", error.to_string());
            found.add(
                Severity::Error,
                "",
                format!("unable to load chart\n\t{error}"),
            );
        }
        Ok(chart) => {
            templates(&chart, given, options, environment, &mut found);
            crds(&chart, &mut found);
            let missing = dependencies::missing(&chart);
            if !missing.is_empty() {
                let path = directory.display().to_string();
                let missing = missing.join(",");
                let message = format!("chart directory is missing these dependencies: {missing}");
                found.add(Severity::Warning, &path, message);
            }
        }
    }
    found.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, path: &str, message: impl Into<String>) {
        self.0.push(Finding {
            severity,
            path: path.to_owned(),
            message: message.into(),
        });
    }

    fn require(&mut self, fits: bool, severity: Severity, message: impl Into<String>) {
        if !fits {
            self.add(severity, "Chart.yaml", message);
        }
    }
}

/// `Chart.yaml`, field by field.
fn definition(text: &[u8], found: &mut Findings) {
    use Severity::{Error, Info, Warning};
    let map = match yaml::parse_map(text) {
        Ok(map) => map,
        Err(error) => {
            let message = format!("unable to parse YAML\n\t{error}");
            return found.require(false, Error, message);
        }
    };
    for field in ["version", "appVersion"] {
        let kind = match map.peek(field.as_bytes()) {
            Some(Value::Float(_)) => "float64",
            Some(Value::Bool(_)) => "bool",
            _ => continue,
        };
        let message = format!("{field} should be of type string but it's of type {kind}");
        found.require(false, Error, message);
    }
    let text = |field: &str| {
        let value = map.peek(field.as_bytes()).unwrap_or_default();
        match value {
            Value::Nil => String::new(),
            value => crate::json::text(&crate::format::sprint(&value)).into_owned(),
        }
    };
    let (name, api_version) = (text("name"), text("apiVersion"));
    found.require(!name.is_empty(), Error, "name is required");
    found.require(
        !api_version.is_empty(),
        Error,
        "apiVersion is required. The value must be either \"v1\" or \"v2\"",
    );
    found.require(
        api_version.is_empty() || ["v1", "v2"].contains(&api_version.as_str()),
        Error,
        format!(
            "apiVersion '{api_version}' is not valid. The value must be either \"v1\" or \"v2\""
        ),
    );
    let version = text("version");
    found.require(!version.is_empty(), Error, "version is required");
    found.require(
        version.is_empty() || Version::parse(&version).is_ok(),
        Error,
        format!("version '{version}' is not a valid SemVer"),
    );
    let (numbers, _) = version.split_once(['-', '+']).unwrap_or((&version, ""));
    found.require(
        version.is_empty() || numbers.split('.').count() == 3,
        Warning,
        format!("version '{version}' is not a valid SemVerV2"),
    );
    let is_url = |text: &str| text.contains("://");
    for source in items(&map, "sources") {
        let source = crate::json::text(&crate::format::sprint(&source)).into_owned();
        found.require(
            is_url(&source),
            Error,
            format!("invalid source URL '{source}'"),
        );
    }
    for maintainer in items(&map, "maintainers") {
        let named = match maintainer {
            Value::Map(maintainer) => maintainer.peek(b"name").is_some(),
            _ => false,
        };
        found.require(named, Error, "each maintainer requires a name");
    }
    let icon = text("icon");
    found.require(!icon.is_empty(), Info, "icon is recommended");
    found.require(
        icon.is_empty() || is_url(&icon),
        Error,
        format!("invalid icon URL '{icon}'"),
    );
    let kind = text("type");
    found.require(
        kind.is_empty() || api_version != "v1",
        Error,
        "chart type is not valid in apiVersion 'v1'. It is valid in apiVersion 'v2'",
    );
    found.require(
        map.peek(b"dependencies").is_none() || api_version != "v1",
        Error,
        "dependencies are not valid in the Chart file with apiVersion 'v1'. They are valid in apiVersion 'v2'",
    );
}

fn items(map: &Map, field: &str) -> Vec<Value> {
    match map.peek(field.as_bytes()) {
        Some(Value::List(list)) => list.items.to_vec(),
        _ => Vec::new(),
    }
}

/// What the templates render to.
fn templates(
    chart: &Chart,
    given: &Map,
    options: &Options,
    environment: &Environment,
    found: &mut Findings,
) {
    let options = RenderOptions {
        name: "test-release".to_owned(),
        namespace: options.namespace.clone(),
        capabilities: options.capabilities.clone(),
        skip_schema: options.skip_schema,
        lint: true,
        ..RenderOptions::default()
    };
    for file in &chart.templates {
        let extension = file
            .name
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension);
        if !["yaml", "yml", "tpl", "txt"].contains(&extension) {
            let message = format!(
                "file extension '.{extension}' not valid. Valid extensions are .yaml, .yml, .tpl, or .txt"
            );
            found.add(Severity::Error, &file.name, message);
        }
    }
    let files = match render::render(chart, given, &options, environment) {
        Ok(rendered) => {
            for warning in &rendered.warnings {
                found.add(Severity::Warning, "templates/", warning.clone());
            }
            rendered.files
        }
        Err(RenderError::Manifest { files, .. }) => files,
        Err(error) => {
            return found.add(Severity::Error, "templates/", error.to_string());
        }
    };
    manifests(chart, &files, found);
}

fn manifests(chart: &Chart, files: &BTreeMap<String, String>, found: &mut Findings) {
    for (name, text) in files {
        let Some(path) = name.strip_prefix(&format!("{}/", chart.name())) else {
            continue;
        };
        if path.starts_with("charts/") || !(path.ends_with(".yaml") || path.ends_with(".yml")) {
            continue;
        }
        for document in manifest::split(text) {
            match yaml::parse_map(document.as_bytes()) {
                Err(error) => {
                    let message = format!("unable to parse YAML: {error}");
                    found.add(Severity::Error, path, message);
                }
                Ok(object) => object_findings(&object, path, found),
            }
        }
    }
}

fn object_findings(object: &Map, path: &str, found: &mut Findings) {
    if object.is_empty() {
        return;
    }
    let name = match values::leaf(object, "metadata.name") {
        Some(Value::String(name)) => crate::json::text(&name).into_owned(),
        _ => String::new(),
    };
    let kind = match object.peek(b"kind") {
        Some(Value::String(kind)) => crate::json::text(&kind).into_owned(),
        _ => String::new(),
    };
    if kind == "List" || kind.ends_with("List") && object.peek(b"items").is_some() {
        return;
    }
    // Roles and their bindings may have any name that is a path segment.
    let free =
        ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"].contains(&kind.as_str());
    if !free && !is_subdomain(&name) {
        found.add(
            Severity::Warning,
            path,
            format!("object name does not conform to Kubernetes naming requirements: {name:?}"),
        );
    }
    if ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"].contains(&kind.as_str())
        && values::table(object, "spec.selector").is_none_or(|selector| selector.is_empty())
    {
        found.add(
            Severity::Error,
            path,
            format!("a {kind} must contain matchLabels or matchExpressions, and {name:?} does not"),
        );
    }
}

fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// `crds/` holds definitions of custom kinds alone.
fn crds(chart: &Chart, found: &mut Findings) {
    for crd in &chart.crds() {
        let Some((_, path)) = crd.name.split_once('/') else {
            continue;
        };
        if path.starts_with("charts/") {
            continue;
        }
        for (_, document) in yaml::split(&crd.data) {
            let object = match yaml::parse_map(document) {
                Ok(object) if object.is_empty() => continue,
                Ok(object) => object,
                Err(error) => {
                    let message = format!("unable to parse YAML: {error}");
                    found.add(Severity::Error, path, message);
                    continue;
                }
            };
            let is =
                |field: &str, wanted: &dyn Fn(&[u8]) -> bool| match object.peek(field.as_bytes()) {
                    Some(Value::String(text)) => wanted(&text),
                    _ => false,
                };
            if !is("apiVersion", &|text| {
                text.starts_with(b"apiextensions.k8s.io")
            }) {
                let message = "apiVersion is not in 'apiextensions.k8s.io'";
                found.add(Severity::Error, path, message);
            }
            if !is("kind", &|text| text == b"CustomResourceDefinition") {
                let message = "object kind is not 'CustomResourceDefinition'";
                found.add(Severity::Error, path, message);
            }
        }
    }
}
