//! A CustomResourceDefinition as the resources that it defines: one for each version.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use store::Cache;

use super::{
    columns, conversion,
    intern::{list, text},
    kind::CustomKind,
    path::{JsonPath, fields},
};
use crate::{
    kinds::{Names, ScalePaths, Subresource},
    object, schema,
    server::{conversion::Conversion, state::Resource},
};

/// What a definition defines.
pub(crate) struct Defined {
    /// Those that are served.
    pub(crate) served: Vec<Arc<Resource>>,
    /// The one that objects are stored as.
    pub(crate) stored: Option<Arc<Resource>>,
}

/// The resources of a definition whose names were accepted; nothing of one whose were not.
pub(crate) fn define(definition: &Value, cache: &Cache) -> Defined {
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let is_stored = |version: &&Value| version["storage"] == true;
    let Some(stored) = versions.iter().find(is_stored) else {
        return Defined {
            served: Vec::new(),
            stored: None,
        };
    };
    let stored_version = stored["name"].as_str().unwrap_or_default();
    let shared = Arc::new(conversion::Strategy::read(spec, cache));
    let all: Vec<_> = versions
        .iter()
        .map(|version| {
            let kind = Arc::new(kind(definition, version));
            let conversion = conversion::Conversion::new(&kind, stored_version, shared.clone());
            let resource = Resource {
                conversion: Conversion::Custom(Arc::new(conversion)),
                ..Resource::new(kind)
            };
            (version, Arc::new(resource))
        })
        .collect();
    Defined {
        served: all
            .iter()
            .filter(|(version, _)| version["served"] == true)
            .map(|(_, resource)| resource.clone())
            .collect(),
        stored: all
            .into_iter()
            .find(|(version, _)| is_stored(version))
            .map(|(_, resource)| resource),
    }
}

fn kind(definition: &Value, version: &Value) -> CustomKind {
    let spec = &definition["spec"];
    let group = spec["group"].as_str().unwrap_or_default();
    let own = version["name"].as_str().unwrap_or_default();
    let accepted = &definition["status"]["acceptedNames"];
    let name = |field: &str| accepted[field].as_str().unwrap_or_default();
    let texts = |field: &str| {
        let found = accepted[field].as_array().into_iter().flatten();
        list(found.filter_map(Value::as_str))
    };
    let names = Names {
        group: text(group),
        version: text(own),
        kind: text(name("kind")),
        plural: text(name("plural")),
        singular: text(name("singular")),
        short: texts("shortNames"),
        categories: texts("categories"),
        namespaced: spec["scope"] == "Namespaced",
        definition: text(&definition_name(group, own, name("kind"))),
    };
    let source = &version["schema"]["openAPIV3Schema"];
    let mut subresources = Vec::new();
    if version["subresources"]["status"].is_object() {
        subresources.push(Subresource::Status);
    }
    let scale = &version["subresources"]["scale"];
    if scale.is_object() {
        subresources.push(Subresource::Scale);
    }
    let selectable: Vec<_> = version["selectableFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|field| {
            let path = field["jsonPath"].as_str()?;
            Some((
                text(path.trim_start_matches('.')),
                JsonPath::parse(path).ok()?,
            ))
        })
        .collect();
    CustomKind {
        list_kind: name("listKind").to_owned(),
        schema: schema::custom(source),
        subresources,
        scale: scale_paths(scale),
        columns: columns::read(version),
        selectable_names: selectable.iter().map(|(name, _)| *name).collect(),
        selectable,
        deprecation: deprecation(spec, version, &names),
        terminating: object::deleting(definition),
        rules: OnceLock::new(),
        source: source.clone(),
        names,
    }
}

/// As Kubernetes names the schemas of custom kinds: `com.example.stable.v1.CronTab`.
fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<_> = group.split('.').rev().collect();
    parts.extend([version, kind]);
    parts.join(".")
}

fn scale_paths(scale: &Value) -> ScalePaths {
    let pointer = |field: &str| {
        let steps = fields(scale[field].as_str()?)?;
        Some(
            steps
                .iter()
                .map(|step| format!("/{step}"))
                .collect::<String>(),
        )
    };
    ScalePaths {
        spec_replicas: pointer("specReplicasPath").unwrap_or_default().into(),
        status_replicas: pointer("statusReplicasPath").unwrap_or_default().into(),
        selector: pointer("labelSelectorPath").unwrap_or_default().into(),
    }
}

fn deprecation(spec: &Value, version: &Value, names: &Names) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(warning) = version["deprecationWarning"].as_str() {
        return Some(warning.to_owned());
    }
    let own = names.api_version();
    let versions = spec["versions"].as_array().into_iter().flatten();
    let mut newer: Vec<_> = versions
        .filter(|other| other["served"] == true && other["deprecated"] != true)
        .filter_map(|other| other["name"].as_str())
        .collect();
    newer.sort_by_key(|version| crate::kinds::version::rank(version));
    let kind = names.kind;
    Some(match newer.first() {
        Some(newest) => format!(
            "{own} {kind} is deprecated; use {}/{newest} {kind}",
            names.group
        ),
        None => format!("{own} {kind} is deprecated"),
    })
}
