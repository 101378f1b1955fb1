//! `wkctl chart push`: a chart's archive into a registry, the cluster's own too.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use charts::fetch::oci::{Reference, Registry};
use clap::Args;
use jiff::Timestamp;

use super::source::{self, LoginFlags, network::Network, places::Places};
use crate::session::Session;

/// Upload a chart to a registry
#[derive(Args)]
pub(super) struct Push {
    /// The chart's archive, as `wkctl chart package` makes it
    archive: PathBuf,
    /// oci://HOST/PATH that the chart gets its place under; oci://registry.wk.internal/NAMESPACE is the cluster's own
    remote: String,
    #[command(flatten)]
    login: LoginFlags,
}

impl Push {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let Some(place) = self.remote.strip_prefix("oci://") else {
            bail!("{:?} is no registry: name oci://HOST/PATH", self.remote);
        };
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        if host.is_empty() || path.contains(['@', ':']) {
            bail!(
                "{:?}: the chart's name and version become repository and tag: name oci://HOST/PATH",
                self.remote
            );
        }
        let below = Reference {
            host: host.to_owned(),
            path: path.trim_matches('/').to_owned(),
            version: None,
        };
        let below = source::at_home(session, below).await;
        if below.own() && below.path.is_empty() {
            bail!(
                "{:?}: repositories are in namespaces: name oci://{host}/NAMESPACE",
                self.remote
            );
        }
        let archive = tokio::fs::read(&self.archive).await;
        let archive = archive.with_context(|| format!("read {}", self.archive.display()))?;
        let network = Network::connect(session, below.own()).await?;
        let login = self.login.login(&Places::new()?, &below.host)?;
        let mut registry = Registry::new(&network, &below, login.as_ref(), self.login.plain_http);
        let created = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (reference, digest) = registry
            .push(&below, archive, &created)
            .await
            .with_context(|| format!("push {}", self.archive.display()))?;
        session.line(format_args!("Pushed: {reference}"))?;
        session.line(format_args!("Digest: {digest}"))
    }
}
