//! Where a command's chart comes from: a directory or an archive on this machine.

use std::path::Path;

use anyhow::{Result, bail};
use charts::chart::{Chart, dependencies};

/// Reads the chart that a command names.
pub(super) fn load(reference: &str) -> Result<Chart> {
    let path = Path::new(reference);
    if !path.exists() {
        bail!("path {reference:?} not found");
    }
    Ok(Chart::load(path)?)
}

/// Refuses charts that are libraries, or lack what they depend on.
pub(super) fn check_installable(chart: &Chart) -> Result<()> {
    if chart.is_library() {
        bail!("library charts are not installable");
    }
    let missing = dependencies::missing(chart);
    if !missing.is_empty() {
        bail!(
            "An error occurred while checking for chart dependencies. You may need to run \
             `wkctl chart dependency build` to fetch missing dependencies: found in Chart.yaml, but missing in \
             charts/ directory: {}",
            missing.join(", ")
        );
    }
    Ok(())
}
