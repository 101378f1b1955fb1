//! A chart's archive, as `helm package` makes it: reproducible but for the moment it carries.

use std::io::Write;

use flate2::{Compression, GzBuilder};

use super::{Chart, Error, File};
use crate::{Value, values, yaml};

/// The archive's file name and bytes. Metadata, values and lock are written anew; other files are taken as they are.
pub fn package(chart: &Chart, seconds: u64) -> Result<(String, Vec<u8>), Error> {
    let failed = |error: std::io::Error| Error::io("write the archive")(error);
    // The comment and the extra field are Helm's mark.
    let gzip = GzBuilder::new()
        .extra(b"+aHR0cHM6Ly95b3V0dS5iZS96OVV6MWljandyTQo=".to_vec())
        .comment("Helm")
        .write(Vec::new(), Compression::default());
    let mut archive = tar::Builder::new(gzip);
    add(&mut archive, chart, "", seconds).map_err(failed)?;
    let mut gzip = archive.into_inner().map_err(failed)?;
    gzip.flush().map_err(failed)?;
    let bytes = gzip.finish().map_err(failed)?;
    let name = format!("{}-{}.tgz", chart.name(), chart.metadata.version);
    Ok((name, bytes))
}

fn add(
    archive: &mut tar::Builder<impl Write>,
    chart: &Chart,
    prefix: &str,
    seconds: u64,
) -> std::io::Result<()> {
    let root = format!("{prefix}{}", chart.name());
    let mut put = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.set_mtime(seconds);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, format!("{root}/{name}"), data)
    };
    put("Chart.yaml", manifest(chart).as_bytes())?;
    if chart.metadata.api_version != "v1"
        && let Some(lock) = &chart.lock
    {
        let lock = serde_json::to_value(lock).map_err(std::io::Error::other)?;
        put("Chart.lock", text(&lock).as_bytes())?;
    }
    let is_own = |name: &str| {
        matches!(name, "values.yaml" | "values.schema.json")
            || name.starts_with("templates/")
            || !(matches!(
                name,
                "Chart.yaml" | "Chart.lock" | "requirements.yaml" | "requirements.lock"
            ) || name.starts_with("charts/"))
    };
    let v1 = |name: &str| {
        chart.metadata.api_version == "v1"
            && matches!(name, "requirements.yaml" | "requirements.lock")
    };
    let files = chart.raw.iter();
    for File { name, data } in files.filter(|file| is_own(&file.name) || v1(&file.name)) {
        put(name, data)?;
    }
    for subchart in &chart.subcharts {
        add(archive, subchart, &format!("{root}/charts/"), seconds)?;
    }
    Ok(())
}

/// `Chart.yaml` of what is known, without dependencies that stand in `requirements.yaml`.
pub fn manifest(chart: &Chart) -> String {
    let mut metadata = chart.metadata.clone();
    if metadata.api_version == "v1" {
        metadata.dependencies.clear();
    }
    let json = serde_json::to_value(&metadata).unwrap_or_default();
    text(&json)
}

pub(super) fn text(json: &serde_json::Value) -> String {
    let value: Value = values::from_json(json);
    let mut text = yaml::emit(&value);
    text.push('\n');
    text
}
