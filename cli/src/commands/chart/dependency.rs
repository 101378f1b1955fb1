//! `wkctl chart dependency`: the charts that a chart depends on, in its `charts/` and in `Chart.lock`.
//!
//! - [`resolve`]: which version of a dependency is meant, and its archive.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use charts::{
    chart::{Chart, Dependency as Asked, Lock, lock},
    semver,
};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{show_release, source};
use crate::session::Session;

mod resolve;

use resolve::Resolver;

/// Manage what a chart depends on
#[derive(Args)]
pub(super) struct Dependency {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List a chart's dependencies
    #[command(visible_alias = "ls")]
    List(Named),
    /// Fetch the newest versions that Chart.yaml allows, and write Chart.lock
    #[command(visible_alias = "up")]
    Update(Named),
    /// Fetch the versions that Chart.lock names
    Build(Named),
}

#[derive(Args)]
struct Named {
    /// The chart's directory
    #[arg(default_value = ".")]
    chart: PathBuf,
    /// Ask registries without TLS
    #[arg(long)]
    plain_http: bool,
}

impl Dependency {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        match self.command {
            Command::List(named) => list(session, &named.chart),
            Command::Update(named) => update(session, &named.chart, named.plain_http).await,
            Command::Build(named) => build(session, &named).await,
        }
    }
}

fn list(session: &Session, directory: &Path) -> Result<()> {
    let chart = source::local(&directory.to_string_lossy())?;
    let asked = &chart.metadata.dependencies;
    if asked.is_empty() {
        let path = directory.join("charts");
        session.note(format_args!(
            "WARNING: no dependencies at {}",
            path.display()
        ));
        return Ok(());
    }
    let mut rows = vec![
        ["NAME", "VERSION", "REPOSITORY", "STATUS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for one in asked {
        let cells = [&one.name, &one.version, &one.repository].map(String::to_owned);
        let mut cells = cells.to_vec();
        cells.push(status(&directory.join("charts"), one).to_owned());
        rows.push(cells);
    }
    session.text(&format!("{}\n", show_release::table(&rows)))?;
    for subchart in &chart.subcharts {
        if !asked.iter().any(|one| one.name == subchart.name()) {
            session.note(format_args!(
                "WARNING: {:?} is not in Chart.yaml.",
                subchart.name()
            ));
        }
    }
    Ok(())
}

/// How a dependency is there, in Helm's words.
fn status(charts: &Path, asked: &Asked) -> &'static str {
    let start = format!("{}-", asked.name);
    let names = archives(charts).unwrap_or_default();
    let found = names.iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // `a-b-1.0.0.tgz` is no version of `a`.
        name.strip_prefix(&start).is_some_and(|rest| {
            rest.starts_with(|first: char| first.is_ascii_digit() || first == 'v')
        })
    });
    let found: Vec<&PathBuf> = found.collect();
    let fits = |chart: &Chart, good| {
        if chart.name() != asked.name {
            "misnamed"
        } else if asked.version.is_empty()
            || asked.version == chart.metadata.version
            || semver::is_compatible(&asked.version, &chart.metadata.version)
        {
            good
        } else {
            "wrong version"
        }
    };
    match found.as_slice() {
        [archive] => match Chart::load(archive) {
            Ok(chart) => fits(&chart, "ok"),
            Err(_) => "corrupt",
        },
        [] => {
            let directory = charts.join(&asked.name);
            if !directory.exists() {
                return "missing";
            }
            if !directory.is_dir() {
                return "mispackaged";
            }
            match Chart::load(&directory) {
                Ok(chart) => fits(&chart, "unpacked"),
                Err(_) => "corrupt",
            }
        }
        _ => "too many matches",
    }
}

/// Fetches the newest versions that a directory's Chart.yaml allows, and writes its lock.
pub(super) async fn update(session: &Session, directory: &Path, plain_http: bool) -> Result<()> {
    let chart = source::local(&directory.to_string_lossy())?;
    let mut asked = chart.metadata.dependencies.clone();
    if asked.is_empty() {
        return Ok(());
    }
    let mut resolver = Resolver::new(session, directory, plain_http, &asked).await?;
    let mut resolved = Vec::new();
    let mut fetched = BTreeMap::new();
    for one in &mut asked {
        // A name of a repository counts as its address from here on, also in the digest.
        one.repository = resolver.address(&one.repository)?;
        let (locked, archive) = resolver.resolve(one).await?;
        resolved.push(locked);
        fetched.extend(archive);
    }
    save(session, directory, fetched)?;
    let digest = lock::digest(&asked, &resolved);
    if chart.lock.as_ref().is_some_and(|old| old.digest == digest) {
        return Ok(());
    }
    let lock = Lock {
        generated: Timestamp::now().to_string(),
        digest,
        dependencies: resolved,
    };
    let path = directory.join(lock_name(&chart));
    fs::write(&path, lock::text(&lock)).with_context(|| format!("write {}", path.display()))
}

async fn build(session: &Session, named: &Named) -> Result<()> {
    let directory = &named.chart;
    let chart = source::local(&directory.to_string_lossy())?;
    let Some(lock) = &chart.lock else {
        return update(session, directory, named.plain_http).await;
    };
    let original = &chart.metadata.dependencies;
    let mut resolver = Resolver::new(session, directory, named.plain_http, original).await?;
    let mut asked = original.clone();
    for one in &mut asked {
        one.repository = resolver.address(&one.repository)?;
    }
    let known = [original, &asked].map(|asked| lock::digest(asked, &lock.dependencies));
    if !known.contains(&lock.digest) {
        let name = lock_name(&chart);
        bail!(
            "the lock file ({name}) is out of sync with the dependencies file (Chart.yaml). Please update the dependencies (`wkctl chart dependency update`)"
        );
    }
    let mut fetched = BTreeMap::new();
    for locked in &lock.dependencies {
        let mut locked = locked.clone();
        locked.repository = resolver.address(&locked.repository)?;
        let (_, archive) = resolver.resolve(&locked).await?;
        fetched.extend(archive);
    }
    save(session, directory, fetched)
}

fn lock_name(chart: &Chart) -> &'static str {
    match chart.metadata.api_version.as_str() {
        "v1" => "requirements.lock",
        _ => "Chart.lock",
    }
}

/// Puts archives into `charts/`; other charts' archives there go. Directories stay.
fn save(session: &Session, directory: &Path, fetched: BTreeMap<String, Vec<u8>>) -> Result<()> {
    let charts = directory.join("charts");
    fs::create_dir_all(&charts).with_context(|| format!("make {}", charts.display()))?;
    for (name, bytes) in &fetched {
        let path = charts.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
        session.line(format_args!("Saved {}", path.display()))?;
    }
    for path in archives(&charts)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What is no chart is not ours to remove.
        if !fetched.contains_key(name.as_ref()) && Chart::load(&path).is_ok() {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            session.line(format_args!("Removed {}", path.display()))?;
        }
    }
    Ok(())
}

fn archives(charts: &Path) -> Result<Vec<PathBuf>> {
    if !charts.exists() {
        return Ok(Vec::new());
    }
    let doing = || format!("read {}", charts.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(charts).with_context(doing)? {
        let path = entry.with_context(doing)?.path();
        if path.extension().is_some_and(|extension| extension == "tgz") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
