//! Where a command's chart comes from: a directory or an archive on this machine, a registry, a repository, a URL.
//!
//! - [`network`]: the way to registries and repositories. [`places`]: Helm's files on this machine. [`refused`]: flags of
//!   Helm that are not supported.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use charts::{
    chart::{Chart, dependencies},
    fetch::{
        self, ARCHIVE, Login,
        index::Repository,
        oci::{OWN, Reference, Registry},
    },
};
use clap::Args;

use super::dependency;
use crate::{api::Api, session::Session};

pub(super) mod network;
pub(super) mod places;
mod refused;

use network::Network;
use places::Places;

/// Which chart is meant by a reference.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct SourceFlags {
    /// Version of the chart, or a range of versions; the newest release if not given
    #[arg(long)]
    pub(super) version: Option<String>,
    /// Address of the repository that the chart is in
    #[arg(long, value_name = "URL")]
    pub(super) repo: Option<String>,
    /// Pre-releases too, if no --version is given
    #[arg(long)]
    pub(super) devel: bool,
    /// Give the login to other hosts that the repository's index names, too
    #[arg(long)]
    pub(super) pass_credentials: bool,
    #[command(flatten)]
    provenance: refused::Provenance,
    #[command(flatten)]
    pub(super) login: LoginFlags,
}

/// How to be let in.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct LoginFlags {
    /// User of the registry or repository
    #[arg(long, requires = "password")]
    username: Option<String>,
    /// Password of that user
    #[arg(long, requires = "username")]
    password: Option<String>,
    /// Ask a registry without TLS
    #[arg(long)]
    pub(super) plain_http: bool,
    #[command(flatten)]
    trust: refused::Trust,
}

impl LoginFlags {
    /// What the flags say, or what Helm or Docker was told for the host.
    ///
    /// # Errors
    /// When the flags ask for what is not supported, or a file of logins cannot be read.
    pub(super) fn login(&self, places: &Places, host: &str) -> Result<Option<Login>> {
        self.check()?;
        match self.given() {
            Some(login) => Ok(Some(login)),
            None => places.login(host),
        }
    }

    /// Refuses what is not supported.
    pub(super) fn check(&self) -> Result<()> {
        self.trust.check()
    }

    pub(super) fn given(&self) -> Option<Login> {
        Some(Login {
            name: self.username.clone()?,
            password: self.password.clone()?,
        })
    }
}

impl SourceFlags {
    fn wanted(&self) -> Option<&str> {
        let devel = self.devel.then_some(">0.0.0-0");
        self.version.as_deref().or(devel)
    }
}

/// An archive from elsewhere.
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    /// Of a registry: the reference and digest that it has there.
    pub(super) pulled: Option<(String, String)>,
}

/// Reads the chart that a command names.
pub(super) async fn load(session: &Session, reference: &str, flags: &SourceFlags) -> Result<Chart> {
    flags.provenance.check()?;
    flags.login.check()?;
    if is_local(reference) {
        return local(reference);
    }
    let fetched = fetch(session, reference, flags).await?;
    Ok(Chart::load_archive(&fetched.bytes)?)
}

/// Reads a chart's directory or archive on this machine.
pub(super) fn local(reference: &str) -> Result<Chart> {
    let path = Path::new(reference);
    if !path.exists() {
        bail!("path {reference:?} not found");
    }
    Ok(Chart::load(path)?)
}

/// Reads the chart that a command names, once what it depends on is there.
pub(super) async fn load_complete(
    session: &Session,
    reference: &str,
    flags: &SourceFlags,
    update: bool,
) -> Result<Chart> {
    let chart = load(session, reference, flags).await?;
    let directory = Path::new(reference);
    if update && directory.is_dir() && !dependencies::missing(&chart).is_empty() {
        dependency::update(session, directory, flags.login.plain_http).await?;
        let chart = local(reference)?;
        check_installable(&chart)?;
        return Ok(chart);
    }
    check_installable(&chart)?;
    Ok(chart)
}

fn is_local(reference: &str) -> bool {
    let path = Path::new(reference);
    path.exists() || path.is_absolute() || reference.starts_with('.')
}

/// A reference as it is meant: the API's own address is the cluster's own registry, asked with the kubeconfig's account.
pub(super) async fn at_home(session: &Session, mut reference: Reference) -> Reference {
    if reference.own() {
        return reference;
    }
    // Without a cluster it is somebody else's.
    let config = session.api().await.ok().and_then(Api::config);
    let address = config.and_then(|config| config.cluster_url.authority());
    if address.is_some_and(|address| address.as_str() == reference.host) {
        OWN.clone_into(&mut reference.host);
    }
    reference
}

/// Fetches the archive that a reference means.
pub(super) async fn fetch(
    session: &Session,
    reference: &str,
    flags: &SourceFlags,
) -> Result<Fetched> {
    flags.provenance.check()?;
    flags.login.check()?;
    let places = Places::new()?;
    let plain = |bytes| Fetched {
        bytes,
        pulled: None,
    };
    if reference.starts_with("oci://") {
        let parsed = Reference::parse(reference, flags.wanted())
            .with_context(|| format!("{reference:?} is not oci://HOST/PATH"))?;
        let parsed = at_home(session, parsed).await;
        let network = Network::connect(session, parsed.own()).await?;
        let login = flags.login.login(&places, &parsed.host)?;
        let mut registry = Registry::new(&network, &parsed, login.as_ref(), flags.login.plain_http);
        let pulled = registry.pull(&parsed).await;
        let pulled = pulled.with_context(|| format!("pull {reference}"))?;
        return Ok(Fetched {
            bytes: pulled.archive,
            pulled: Some((pulled.reference, pulled.digest)),
        });
    }
    let network = Network::connect(session, false).await?;
    if let Some(url) = &flags.repo {
        let repository = Repository {
            url: url.clone(),
            login: flags.login.given(),
            pass_everywhere: flags.pass_credentials,
        };
        let (_, index) = repository
            .index(&network)
            .await
            .with_context(|| format!("read the repository {url}"))?;
        let entry = index.find(reference, flags.wanted())?;
        return Ok(plain(repository.archive(&network, &entry).await?));
    }
    if reference.starts_with("https://") || reference.starts_with("http://") {
        let login = flags.login.given();
        let archive = fetch::get(&network, reference, ARCHIVE, login.as_ref()).await?;
        return Ok(plain(archive));
    }
    let Some((name, chart)) = reference.split_once('/') else {
        bail!(
            "path {reference:?} not found (a chart elsewhere is REPOSITORY/NAME, a URL, or oci://HOST/PATH)"
        );
    };
    let repositories = places.repositories()?;
    let mut repository = repositories.find(name).with_context(|| {
        format!("path {reference:?} not found, and no repository is named {name:?} (`wkctl chart repo add`)")
    })?;
    if let Some(login) = flags.login.given() {
        repository.login = Some(login);
    }
    let index = places.index(name, &repository, &network).await?;
    let entry = index.find(chart, flags.wanted()).with_context(|| {
        format!("find {reference} (`wkctl chart repo update {name}` looks for newer ones)")
    })?;
    Ok(plain(repository.archive(&network, &entry).await?))
}

/// Refuses charts that are libraries, or lack what they depend on.
fn check_installable(chart: &Chart) -> Result<()> {
    if chart.is_library() {
        bail!("library charts are not installable");
    }
    let missing = dependencies::missing(chart);
    if !missing.is_empty() {
        bail!(
            "An error occurred while checking for chart dependencies. You may need to run \
             `wkctl chart dependency build` (or add --dependency-update) to fetch missing dependencies: found in Chart.yaml, but missing in \
             charts/ directory: {}",
            missing.join(", ")
        );
    }
    Ok(())
}
