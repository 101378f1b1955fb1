//! Which subcharts take part: conditions, tags, aliases; and values that parents import from them.
//!
//! Makes a [`Node`] tree of a chart: the same charts, under the names they have in their parents, with the defaults
//! they have after importing.

use super::{Chart, ImportValues, Metadata};
use crate::{
    Map, Value,
    semver::is_compatible,
    values::{self, coalesce, deep_copy_map},
};

/// A chart that takes part, with its metadata and defaults as they are there.
#[derive(Debug)]
pub struct Node<'a> {
    pub chart: &'a Chart,
    /// With the alias for a name, and without dependencies that are off.
    pub metadata: Metadata,
    pub values: Map,
    pub subcharts: Vec<Node<'a>>,
}

impl coalesce::Defaults for Node<'_> {
    fn name(&self) -> &str {
        &self.metadata.name
    }

    fn values(&self) -> &Map {
        &self.values
    }

    fn subcharts(&self) -> &[Self] {
        &self.subcharts
    }
}

impl<'a> Node<'a> {
    /// The charts that take part in a rendering with a user's values.
    pub fn resolve(
        chart: &'a Chart,
        values: &Map,
        warnings: &mut Vec<String>,
    ) -> Result<Node<'a>, String> {
        let mut root = Node::new(chart);
        root.enable(values, "", warnings)?;
        root.import(warnings)?;
        Ok(root)
    }

    fn new(chart: &'a Chart) -> Node<'a> {
        Node {
            chart,
            metadata: chart.metadata.clone(),
            values: values::from_json_map(&chart.values),
            subcharts: chart.subcharts.iter().map(Node::new).collect(),
        }
    }

    /// Takes subcharts out that are off, and gives those with an alias their name.
    fn enable(
        &mut self,
        given: &Map,
        path: &str,
        warnings: &mut Vec<String>,
    ) -> Result<(), String> {
        if self.metadata.dependencies.is_empty() {
            return Ok(());
        }
        let mut found = Vec::new();
        for subchart in &self.chart.subcharts {
            let declared = self.metadata.dependencies.iter();
            let mut declared = declared
                .filter(|dependency| is_of(&dependency.name, &dependency.version, subchart));
            if declared.next().is_none() {
                found.push(Node::new(subchart));
            }
        }
        for dependency in &mut self.metadata.dependencies {
            let mut charts = self.chart.subcharts.iter();
            let chart = charts.find(|chart| is_of(&dependency.name, &dependency.version, chart));
            if let Some(chart) = chart {
                let mut node = Node::new(chart);
                if !dependency.alias.is_empty() {
                    node.metadata.name.clone_from(&dependency.alias);
                }
                found.push(node);
            }
            if !dependency.alias.is_empty() {
                dependency.name.clone_from(&dependency.alias);
            }
            dependency.enabled = true;
        }
        self.subcharts = found;
        let merged = values::coalesce(self, given, warnings)?;
        self.by_tags(&merged, warnings);
        self.by_conditions(&merged, path, warnings);
        let off: Vec<String> = self
            .metadata
            .dependencies
            .extract_if(.., |dependency| !dependency.enabled)
            .map(|dependency| dependency.name)
            .collect();
        self.subcharts
            .retain(|subchart| !off.contains(&subchart.metadata.name));
        for subchart in &mut self.subcharts {
            let path = format!("{path}{}.", subchart.metadata.name);
            subchart.enable(&merged, &path, warnings)?;
        }
        Ok(())
    }

    fn by_tags(&mut self, values: &Map, warnings: &mut Vec<String>) {
        let Some(tags) = values::table(values, "tags") else {
            return;
        };
        for dependency in &mut self.metadata.dependencies {
            let (mut on, mut off) = (false, false);
            for tag in &dependency.tags {
                match tags.peek(tag.as_bytes()) {
                    None => {}
                    Some(Value::Bool(true)) => on = true,
                    Some(Value::Bool(false)) => off = true,
                    Some(_) => warnings.push(format!(
                        "tag {tag} of dependency {} is neither true nor false",
                        dependency.name
                    )),
                }
            }
            dependency.enabled = on || !off;
        }
    }

    fn by_conditions(&mut self, values: &Map, path: &str, warnings: &mut Vec<String>) {
        for dependency in &mut self.metadata.dependencies {
            for condition in dependency.condition.trim().split(',') {
                match values::leaf(values, &format!("{path}{condition}")) {
                    Some(Value::Bool(enabled)) => {
                        dependency.enabled = enabled;
                        break;
                    }
                    Some(_) if !condition.is_empty() => warnings.push(format!(
                        "condition {condition} of dependency {} is neither true nor false",
                        dependency.name
                    )),
                    _ => {}
                }
            }
        }
    }

    /// Gives parents the values they import, subcharts first.
    fn import(&mut self, warnings: &mut Vec<String>) -> Result<(), String> {
        for subchart in &mut self.subcharts {
            subchart.import(warnings)?;
        }
        if self.metadata.dependencies.is_empty() {
            return Ok(());
        }
        let mut unimportant = Vec::new();
        let merged = values::merge(self, &Map::new(), &mut unimportant)?;
        let imported = Map::new();
        for dependency in &self.metadata.dependencies {
            for import in &dependency.import_values {
                let (child, parent) = match import {
                    ImportValues::Export(name) => (format!("exports.{name}"), "."),
                    ImportValues::Paths { child, parent } => (child.clone(), parent.as_str()),
                };
                let name = &dependency.name;
                match values::table(&merged, &format!("{name}.{child}")) {
                    Some(table) => {
                        // Not a copy: what is imported into it later shows in the subchart too, as in Helm.
                        let table = at_path(parent, table);
                        coalesce::tables(&imported, &table, "", true, warnings);
                    }
                    None => warnings.push(format!(
                        "ImportValues missing table from chart {name}: {child:?} is not a table"
                    )),
                }
            }
        }
        let merged = deep_copy_map(&merged);
        coalesce::tables(&merged, &imported, "", true, warnings);
        self.values = merged;
        Ok(())
    }
}

/// The names of dependencies that are declared and not there.
pub fn missing(chart: &Chart) -> Vec<&str> {
    let there = |name: &str| {
        chart
            .subcharts
            .iter()
            .any(|subchart| subchart.name() == name)
    };
    let names = chart.metadata.dependencies.iter();
    let names = names.map(|dependency| dependency.name.as_str());
    names.filter(|name| !there(name)).collect()
}

/// Whether a chart is the one that a dependency means.
fn is_of(name: &str, version: &str, chart: &Chart) -> bool {
    chart.name() == name && is_compatible(version, &chart.metadata.version)
}

/// A map under a path of keys; `.` is the root.
fn at_path(path: &str, map: Map) -> Map {
    if path == "." {
        return map;
    }
    path.rsplit('.').fold(map, |inner, key| {
        let outer = Map::new();
        outer.insert(key.to_owned(), Value::Map(inner));
        outer
    })
}
