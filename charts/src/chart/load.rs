//! From named files to a chart, with Helm's rules and messages.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;

use super::{
    Chart, Error, File, Lock, Metadata,
    archive::{self, Budget},
    directory,
};
use crate::values;

/// Charts within charts.
const MAX_DEPTH: usize = 32;

impl Chart {
    /// Reads a chart's directory, or its archive.
    pub fn load(path: &Path) -> Result<Chart, Error> {
        let doing = || format!("read {}", path.display());
        let found = std::fs::metadata(path).map_err(Error::io(doing()))?;
        if found.is_dir() {
            return Chart::from_files(directory::read(path)?);
        }
        let size = found.len();
        if size > archive::MAX_PACKED {
            return Err(Error::Invalid(format!(
                "chart archive {} is larger than the maximum size {}",
                path.display(),
                archive::MAX_PACKED
            )));
        }
        let bytes = std::fs::read(path).map_err(Error::io(doing()))?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(Error::Invalid(format!(
                "file '{}' does not appear to be a gzipped archive",
                path.display()
            )));
        }
        Chart::load_archive(&bytes)
    }

    /// Reads a chart's archive.
    pub fn load_archive(bytes: &[u8]) -> Result<Chart, Error> {
        let mut budget = Budget::default();
        let files = archive::read_within(bytes, &mut budget)?;
        from_files(files, 0, &mut budget)
    }

    /// Makes a chart of its files.
    pub fn from_files(files: Vec<File>) -> Result<Chart, Error> {
        from_files(files, 0, &mut Budget::default())
    }
}

fn from_files(files: Vec<File>, depth: usize, budget: &mut Budget) -> Result<Chart, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("charts are nested too deeply"));
    }
    let mut chart = Chart::default();
    let manifest = files.iter().rev().find(|file| file.name == "Chart.yaml");
    let in_file = |name: &'static str| {
        move |error: String| Error::Invalid(format!("cannot load {name}: {error}"))
    };
    if let Some(manifest) = manifest {
        chart.metadata = Metadata::parse(&manifest.data).map_err(|error| {
            match error.starts_with("validation: ") {
                true => Error::Invalid(error),
                false => in_file("Chart.yaml")(error),
            }
        })?;
        if chart.metadata.api_version.is_empty() {
            chart.metadata.api_version = "v1".to_owned();
        }
    }
    let v1 = chart.metadata.api_version == "v1";
    let mut packed: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for file in &files {
        match file.name.as_str() {
            "Chart.yaml" => {}
            "Chart.lock" => {
                let lock = Lock::parse(&file.data).map_err(in_file("Chart.lock"))?;
                chart.lock = Some(lock);
            }
            "values.yaml" => {
                let values = values::load(&file.data).map_err(|error| {
                    in_file("values.yaml")(format!("cannot unmarshal yaml document: {error}"))
                })?;
                chart.values = values::to_json_map(&values);
            }
            "values.schema.json" => chart.schema = Some(file.data.clone()),
            "requirements.yaml" => {
                let read = chart.metadata.read(&file.data);
                read.map_err(in_file("requirements.yaml"))?;
                match v1 {
                    true => chart.files.push(file.clone()),
                    false => chart.warnings.push(
                        "Dependencies are handled in Chart.yaml since apiVersion \"v2\". We recommend migrating dependencies to Chart.yaml."
                            .to_owned(),
                    ),
                }
            }
            "requirements.lock" => {
                let lock = Lock::parse(&file.data).map_err(in_file("requirements.lock"))?;
                chart.lock = Some(lock);
                match v1 {
                    true => chart.files.push(file.clone()),
                    false => chart.warnings.push(
                        "Dependency locking is handled in Chart.lock since apiVersion \"v2\". We recommend migrating to Chart.lock."
                            .to_owned(),
                    ),
                }
            }
            name if name.starts_with("templates/") => chart.templates.push(file.clone()),
            name if name.starts_with("charts/") => match name.ends_with(".prov") {
                true => chart.files.push(file.clone()),
                false => {
                    let name = &name["charts/".len()..];
                    let subchart = name.split('/').next().unwrap_or(name).to_owned();
                    packed.entry(subchart).or_default().push(File {
                        name: name.to_owned(),
                        data: file.data.clone(),
                    });
                }
            },
            _ => chart.files.push(file.clone()),
        }
    }
    if manifest.is_none() {
        return Err(Error::invalid("Chart.yaml file is missing"));
    }
    chart.metadata.validate().map_err(Error::Invalid)?;
    chart.raw = files;
    for (name, files) in packed {
        if name.starts_with(['_', '.']) {
            continue;
        }
        let subchart = subchart(chart.name(), &name, files, depth + 1, budget)?;
        chart.subcharts.push(subchart);
    }
    Ok(chart)
}

fn subchart(
    parent: &str,
    name: &str,
    files: Vec<File>,
    depth: usize,
    budget: &mut Budget,
) -> Result<Chart, Error> {
    let within = |error: Error| {
        Error::Invalid(format!(
            "error unpacking subchart {name} in {parent}: {error}"
        ))
    };
    if !name.ends_with(".tgz") {
        let files = files.into_iter().filter_map(|file| {
            let (_, name) = file.name.split_once('/')?;
            Some(File {
                name: name.to_owned(),
                data: file.data,
            })
        });
        return from_files(files.collect(), depth, budget).map_err(within);
    }
    match files.first() {
        Some(file) if file.name == name => {
            let files = archive::read_within(&file.data, budget).map_err(within)?;
            from_files(files, depth, budget).map_err(within)
        }
        file => {
            let found = file.map_or("nothing", |file| &file.name);
            Err(Error::Invalid(format!(
                "error unpacking subchart tar in {parent}: expected {name}, got {found}"
            )))
        }
    }
}

/// File contents start after a byte-order mark.
pub(super) fn without_mark(data: Vec<u8>) -> Bytes {
    match data.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => Bytes::copy_from_slice(rest),
        None => Bytes::from(data),
    }
}
