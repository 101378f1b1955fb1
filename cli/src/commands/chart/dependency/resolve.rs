//! Which version of a dependency is meant, and its archive.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use charts::{
    chart::{Chart, Dependency, package},
    fetch::{
        index::{Index, Repository},
        oci::{Reference, Registry},
        repositories::Repositories,
    },
    semver,
};
use jiff::Timestamp;

use super::super::source::{network::Network, places::Places};
use crate::session::Session;

/// An archive's file name and bytes.
type Archive = (String, Vec<u8>);

/// Asks repositories and registries; each index once.
pub(super) struct Resolver {
    directory: PathBuf,
    network: Network,
    places: Places,
    repositories: Repositories,
    plain_http: bool,
    indexes: HashMap<String, (Repository, Index)>,
}

impl Resolver {
    /// For the chart in a directory.
    pub(super) async fn new(
        session: &Session,
        directory: &Path,
        plain_http: bool,
        asked: &[Dependency],
    ) -> Result<Resolver> {
        let own = asked.iter().any(|one| {
            Reference::parse(&format!("{}/x", one.repository), None)
                .is_some_and(|reference| reference.own())
        });
        let places = Places::new()?;
        Ok(Resolver {
            directory: directory.to_owned(),
            network: Network::connect(session, own).await?,
            repositories: places.repositories()?,
            places,
            plain_http,
            indexes: HashMap::new(),
        })
    }

    /// `@name` and `alias:name` as the repository's address.
    pub(super) fn address(&self, repository: &str) -> Result<String> {
        let name = repository
            .strip_prefix('@')
            .or_else(|| repository.strip_prefix("alias:"));
        match name {
            None => Ok(repository.to_owned()),
            Some(name) => Ok(self
                .repositories
                .find(name)
                .with_context(|| format!("no repository definition for {repository}. Please add the missing repo (`wkctl chart repo add`)"))?
                .url),
        }
    }

    /// What a dependency is locked to; its archive unless it lies in `charts/` already.
    pub(super) async fn resolve(
        &mut self,
        asked: &Dependency,
    ) -> Result<(Dependency, Option<Archive>)> {
        let found = self.find(asked).await;
        let (version, archive) = found.with_context(|| format!("dependency {:?}", asked.name))?;
        let locked = Dependency {
            name: asked.name.clone(),
            version,
            repository: asked.repository.clone(),
            ..Dependency::default()
        };
        Ok((locked, archive))
    }

    async fn find(&mut self, asked: &Dependency) -> Result<(String, Option<Archive>)> {
        let Dependency {
            name,
            version,
            repository,
            ..
        } = asked;
        let wanted = Some(version.as_str()).filter(|version| !version.is_empty());
        if repository.is_empty() {
            let chart = Chart::load(&self.directory.join("charts").join(name))?;
            check(&chart, wanted)?;
            return Ok((version.clone(), None));
        }
        if let Some(path) = repository.strip_prefix("file://") {
            let chart = Chart::load(&self.directory.join(path))?;
            check(&chart, wanted)?;
            let seconds = Timestamp::now().as_second().unsigned_abs();
            let archive = package::package(&chart, seconds)?;
            return Ok((chart.metadata.version.clone(), Some(archive)));
        }
        let bytes = if repository.starts_with("oci://") {
            let text = format!("{}/{name}", repository.trim_end_matches('/'));
            let reference = Reference::parse(&text, wanted)
                .with_context(|| format!("{repository:?} is not oci://HOST/PATH"))?;
            let login = self.places.login(&reference.host)?;
            let mut registry =
                Registry::new(&self.network, &reference, login.as_ref(), self.plain_http);
            registry.pull(&reference).await?.archive
        } else if repository.starts_with("https://") || repository.starts_with("http://") {
            if !self.indexes.contains_key(repository) {
                let known = match self.repositories.at(repository) {
                    Some((_, known)) => known,
                    None => Repository {
                        url: repository.clone(),
                        ..Repository::default()
                    },
                };
                let (_, index) = known.index(&self.network).await?;
                self.indexes.insert(repository.clone(), (known, index));
            }
            let (known, index) = &self.indexes[repository];
            let entry = index.find(name, wanted)?;
            known.archive(&self.network, &entry).await?
        } else {
            bail!(
                "repository {repository:?} is none of file://, https://, oci://, @NAME: correct it in Chart.yaml"
            );
        };
        let chart = Chart::load_archive(&bytes)?;
        let version = chart.metadata.version.clone();
        Ok((
            version.clone(),
            Some((format!("{}-{version}.tgz", chart.name()), bytes)),
        ))
    }
}

fn check(chart: &Chart, wanted: Option<&str>) -> Result<()> {
    let found = &chart.metadata.version;
    match wanted {
        Some(wanted) if wanted != found && !semver::is_compatible(wanted, found) => {
            bail!("can't get a valid version: {wanted} is wanted, {found} is there")
        }
        _ => Ok(()),
    }
}
