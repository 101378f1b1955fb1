//! The image registry in this process: its flags, who may use it, where it is served, and the nodelet's way to it.
//!
//! [`access`]: the cluster's identities, roles and namespaces, as the registry asks for them. [`source`]: pulls of this
//! node's pods, without a socket.

mod access;
mod source;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use api::Apiserver;
use jiff::SignedDuration;
use registry::{Config, Registry, Scheme, Storage, metrics::RegistryMetrics};
use tokio::net::TcpListener;

use crate::{data_dir::DataDir, tasks::Tasks};

pub(crate) use source::RegistrySource;

/// Flags of the registry.
#[derive(clap::Args)]
#[command(next_help_heading = "Image registry")]
#[group(id = "registry")]
pub(crate) struct Flags {
    /// Where the image registry is served in the clear, for clients on this host; none: only over TLS, with the API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000", value_parser = listen)]
    registry_listen: Listen,
    /// Where the image registry keeps images: a directory, or s3://BUCKET/PREFIX with the AWS_… variables [default: registry in the data directory]
    #[arg(long, value_name = "PLACE")]
    registry_storage: Option<String>,
    /// How often the image registry removes what nothing names; 0s: never
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    registry_gc_interval: Duration,
    /// How long a blob that no manifest names is kept: so long may a push take
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = duration)]
    registry_gc_grace: Duration,
    /// Remove manifests that no tag names after so long [default: they are kept, since pods may name their digests]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    registry_keep_untagged: Option<Duration>,
}

/// Whether it is served in the clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listen {
    Nowhere,
    At(SocketAddr),
}

fn listen(text: &str) -> Result<Listen, String> {
    if text == "none" {
        return Ok(Listen::Nowhere);
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "neither none nor an address such as 127.0.0.1:5000".to_owned())?;
    if !address.ip().is_loopback() {
        return Err(
            "passwords would cross the network in the clear: only a loopback address is taken (over the network the registry is served with the API, over TLS)"
                .to_owned(),
        );
    }
    Ok(Listen::At(address))
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| "not a duration such as 15m or 6h")?;
    Duration::try_from(duration).map_err(|_| "must not be negative".to_owned())
}

/// The running registry.
pub(crate) struct Running {
    pub(crate) registry: Registry,
    /// Where clients on this host reach it in the clear, if they can.
    pub(crate) local: Option<SocketAddr>,
}

impl Running {
    /// Where it is, in words.
    pub(crate) fn shown(&self, url: &str) -> String {
        match self.local {
            Some(local) => format!("localhost:{}/NAMESPACE/NAME, {url}/v2/", local.port()),
            None => format!("{url}/v2/"),
        }
    }
}

impl Flags {
    /// Opens the registry; nothing is served yet.
    pub(crate) fn open(
        &self,
        data: &DataDir,
        apiserver: &Apiserver,
        metrics: &metrics::Metrics,
        is_shared: bool,
    ) -> Result<Registry> {
        let storage = match &self.registry_storage {
            Some(place) => {
                Storage::open(place).map_err(|why| anyhow!("--registry-storage {why}"))?
            }
            None => {
                let own = Storage::directory(&data.path("registry"));
                own.map_err(|why| anyhow!("open the registry's directory {why}"))?
            }
        };
        if is_shared && storage.is_local() {
            tracing::warn!(
                "images that are pushed to this process are in its own directory: other processes of this cluster do not \
                 have them (--registry-storage s3://BUCKET/PREFIX is shared)"
            );
        }
        let config = Config {
            grace: self.registry_gc_grace,
            collect_every: Some(self.registry_gc_interval).filter(|every| !every.is_zero()),
            untagged: self.registry_keep_untagged,
            ..Config::default()
        };
        let access = Arc::new(access::ClusterAccess::new(apiserver.clone()));
        let metrics = metrics.register(RegistryMetrics::new);
        Ok(Registry::new(storage, access, config, metrics))
    }

    /// Serves it in the clear, if that is wanted and the port is free.
    pub(crate) async fn serve(&self, tasks: &mut Tasks, registry: Registry) -> Running {
        let listener = match self.registry_listen {
            Listen::Nowhere => None,
            Listen::At(address) => match TcpListener::bind(address).await {
                Ok(listener) => Some(listener),
                Err(error) => {
                    eprintln!(
                        "warning: the image registry is not served on {address}: {error}; name another address, or none, \
                         with --registry-listen"
                    );
                    None
                }
            },
        };
        let local = listener.as_ref().and_then(|own| own.local_addr().ok());
        if let Some(listener) = listener {
            let (stop, router) = (tasks.stop(), registry.router(Scheme::Http));
            tasks.start("registry listener", async move {
                let serve = axum::serve(listener, router);
                let serve = serve.with_graceful_shutdown(stop.clone().cancelled_owned());
                tokio::select! {
                    served = async { serve.await } => served.context("serve the image registry"),
                    // A client that reads slowly is not waited for.
                    () = after(stop, DRAIN) => Ok(()),
                }
            });
        }
        let (stop, own) = (tasks.stop(), registry.clone());
        tasks.start("registry writes", async move {
            stop.cancelled().await;
            own.drain().await;
            Ok(())
        });
        Running { registry, local }
    }
}

/// How long answers in progress may take once the process stops.
const DRAIN: Duration = Duration::from_secs(10);

async fn after(stop: tokio_util::sync::CancellationToken, wait: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(wait).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_served_in_the_clear() {
        assert_eq!(listen("none"), Ok(Listen::Nowhere));
        assert!(matches!(listen("[::1]:5000"), Ok(Listen::At(_))));
        for wrong in ["0.0.0.0:5000", "10.0.0.1:5000", "5000", ""] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }
}
