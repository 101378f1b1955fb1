//! Pulls: what a reference names, brought into the content store.
//!
//! A container image's layers come as they are packed, some at a time; blobs that are here are not fetched again. Of
//! a container image that starts a `.wasm` file only that file is kept. What a pull needs is leased until the index
//! names it, so that nothing removes it meanwhile.

use std::{path::PathBuf, sync::Arc};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use oci_spec::image::Descriptor;
use tokio::time::Instant;

use super::{
    Credentials, ImageKind,
    blobs::{Blobs, Lease},
    digest_of,
    download::{Meter, blocking, download},
    file,
    index::Entry,
    manifest::{self, Content},
    module, packed,
    platform::Platform,
    registry::{self, Source},
    store::Config,
    too_big,
};

/// Layers of one image that are downloaded at once.
const CONCURRENT_LAYERS: usize = 3;

/// An image whose blobs are all here.
pub(super) struct Pulled {
    pub(super) entry: Entry,
    /// To be held until the index names them.
    pub(super) leases: Vec<Lease>,
}

/// What a pull works with.
pub(super) struct Puller<'a> {
    pub(super) blobs: &'a Arc<Blobs>,
    pub(super) config: &'a Config,
    pub(super) meter: &'a Meter,
    /// What the reference was until now.
    pub(super) known: Option<Entry>,
}

impl Puller<'_> {
    /// Reads a module from a file.
    pub(super) async fn pull_file(&self, path: PathBuf) -> Result<Pulled, String> {
        let max_bytes = self.config.max_bytes;
        let read = move || {
            let (bytes, stamp) = file::read(&path, max_bytes)?;
            module::check(&bytes)?;
            Ok::<_, String>((bytes, stamp))
        };
        let (bytes, stamp) = blocking(read).await??;
        let mut pulled = self.keep_module(bytes).await?;
        pulled.entry.file = Some(stamp);
        Ok(pulled)
    }

    /// Pulls from a registry.
    pub(super) async fn pull_registry(
        &self,
        reference: &oci_client::Reference,
        credentials: &[Credentials],
        deadline: Instant,
    ) -> Result<Pulled, String> {
        let source = match self.config.source_of(reference.registry()) {
            Some(here) => registry::find_here(here, reference).await?,
            None => {
                let hosts_dir = self.config.hosts_dir.as_deref();
                registry::find(reference, credentials, hosts_dir, deadline).await?
            }
        };
        let mut pulled = match &source.content {
            Content::Module(module) => self.pull_module(&source, module).await?,
            Content::Container { config, layers } => {
                self.pull_container(&source, config, layers).await?
            }
        };
        if pulled.entry.kind == ImageKind::Wasm {
            pulled.entry.manifest = Some(source.digest.clone());
        }
        pulled.entry.list = source.list;
        Ok(pulled)
    }

    /// A module that is a layer by itself.
    async fn pull_module(&self, source: &Source, module: &Descriptor) -> Result<Pulled, String> {
        let max_bytes = self.config.max_bytes;
        if module.size() > max_bytes {
            return Err(too_big(module.size(), max_bytes));
        }
        let lease = self.blobs.lease(module.digest().as_ref())?;
        self.meter.expect(module.size());
        if let Some(verified) = download(&source.client, module, &lease, self.meter).await? {
            let check = move || {
                let bytes = std::fs::read(verified.path()).map_err(|error| error.to_string());
                match bytes.and_then(|bytes| module::check(&bytes)) {
                    Ok(()) => verified.persist(),
                    Err(why) => {
                        // It is not wanted again.
                        let _ = verified.discard();
                        Err(why)
                    }
                }
            };
            blocking(check).await??;
        }
        Ok(Pulled {
            entry: Entry::module(lease.digest(), module.size()),
            leases: vec![lease],
        })
    }

    async fn pull_container(
        &self,
        source: &Source,
        config: &Descriptor,
        layers: &[Descriptor],
    ) -> Result<Pulled, String> {
        let config_lease = self.blobs.lease(config.digest().as_ref())?;
        let config_bytes = match tokio::fs::read(config_lease.path()).await {
            Ok(bytes) => bytes,
            Err(_) => {
                let digest = config_lease.digest();
                let blob = source.client.blob(&digest, manifest::MAX_CONFIG);
                blob.await.map_err(|refusal| refusal.message)?
            }
        };
        if let Some(path) = manifest::entry_point(&config_bytes)? {
            return self.pull_packed(source, layers, path).await;
        }
        manifest::check_config(&config_bytes, layers.len(), &Platform::host())?;
        let size: u64 = layers
            .iter()
            .map(Descriptor::size)
            .fold(0, u64::saturating_add);
        let max_bytes = self.config.max_image_bytes;
        if size > max_bytes {
            return Err(format!(
                "is {size} bytes; this node takes images of at most {max_bytes}"
            ));
        }
        let mut leases = Vec::with_capacity(layers.len() + 2);
        let mut missing: Vec<(&Descriptor, Lease)> = Vec::new();
        for layer in layers {
            let lease = self.blobs.lease(layer.digest().as_ref())?;
            let is_new = |(_, other): &(_, Lease)| other.digest() != lease.digest();
            if !lease.path().exists() && missing.iter().all(is_new) {
                self.meter.expect(layer.size());
                missing.push((layer, lease.clone()));
            }
            leases.push(lease);
        }
        let pulls: Vec<_> = missing
            .into_iter()
            .map(|(layer, lease)| self.pull_layer(source, layer, lease).boxed())
            .collect();
        futures::stream::iter(pulls)
            .buffer_unordered(CONCURRENT_LAYERS)
            .try_collect::<()>()
            .await?;
        let manifest_lease = self.blobs.lease(&source.digest)?;
        let entry = Entry {
            kind: ImageKind::Oci,
            size_bytes: size + config_bytes.len() as u64 + source.manifest.len() as u64,
            blobs: leases
                .iter()
                .chain([&config_lease])
                .map(Lease::digest)
                .collect(),
            ..Entry::module(source.digest.clone(), 0)
        };
        leases.extend([config_lease.clone(), manifest_lease.clone()]);
        let (blobs, manifest) = (self.blobs.clone(), source.manifest.clone());
        let write = move || {
            blobs.write(&config_lease, &config_bytes)?;
            blobs.write(&manifest_lease, &manifest)
        };
        blocking(write).await??;
        Ok(Pulled { entry, leases })
    }

    async fn pull_layer(
        &self,
        source: &Source,
        layer: &Descriptor,
        lease: Lease,
    ) -> Result<(), String> {
        match download(&source.client, layer, &lease, self.meter).await? {
            Some(verified) => blocking(move || verified.persist()).await?,
            None => Ok(()),
        }
    }

    /// A module that is a file in a container image.
    async fn pull_packed(
        &self,
        source: &Source,
        layers: &[Descriptor],
        path: String,
    ) -> Result<Pulled, String> {
        if let Some(known) = &self.known
            && known.kind == ImageKind::Wasm
            && known.manifest.as_deref() == Some(&source.digest)
        {
            let lease = self.blobs.lease(&known.digest)?;
            if lease.path().exists() {
                return Ok(Pulled {
                    entry: known.clone(),
                    leases: vec![lease],
                });
            }
        }
        let max_bytes = self.config.max_bytes;
        // The uppermost that has it counts.
        for layer in layers.iter().rev() {
            if layer.size() > self.config.max_image_bytes {
                return Err(too_big(layer.size(), self.config.max_image_bytes));
            }
            let lease = self.blobs.lease(layer.digest().as_ref())?;
            self.meter.expect(layer.size());
            let verified = download(&source.client, layer, &lease, self.meter).await?;
            let path = path.clone();
            let find = move || -> Result<Option<Vec<u8>>, String> {
                let from = match &verified {
                    Some(verified) => verified.path(),
                    None => lease.path(),
                };
                let mut file = std::fs::File::open(from).map_err(|error| error.to_string())?;
                let found = packed::find(&mut file, &path, max_bytes);
                if let Some(verified) = verified {
                    // Only the module is kept.
                    verified.discard().map_err(|error| error.to_string())?;
                }
                found
            };
            if let Some(bytes) = blocking(find).await?? {
                module::check(&bytes)?;
                return self.keep_module(bytes).await;
            }
        }
        Err(format!("its entry point {path} is in none of its layers"))
    }

    async fn keep_module(&self, bytes: Vec<u8>) -> Result<Pulled, String> {
        let blobs = self.blobs.clone();
        let keep = move || {
            let lease = blobs.lease(&digest_of(&bytes))?;
            blobs.write(&lease, &bytes)?;
            Ok(Pulled {
                entry: Entry::module(lease.digest(), bytes.len() as u64),
                leases: vec![lease],
            })
        };
        blocking(keep).await?
    }
}
