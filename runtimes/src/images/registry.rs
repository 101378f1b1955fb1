//! Pulls of Wasm artifacts from OCI registries.
//!
//! Takes what the CNCF Wasm OCI artifact layout describes: one layer of `application/wasm` under a config
//! of `application/vnd.wasm.config.v0+json`; and container images whose entry point is a `.wasm` file.
//! Registries on the loopback are spoken to in plain HTTP, all others in TLS, unless `hosts` says otherwise.
//! Accounts are for the registry itself: mirrors are asked without. Never keeps a password or a token.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr as _,
    time::Duration,
};

use futures::StreamExt as _;
use oci_client::{
    Client, Reference,
    client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    manifest::{ImageIndexEntry, OciDescriptor, OciImageManifest, WASM_LAYER_MEDIA_TYPE},
    secrets::RegistryAuth,
};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::{Credentials, hosts, hosts::Host};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// The layer types that hold a module: the standard one, and what older tools push.
const LAYERS: [&str; 2] = ["application/wasm", WASM_LAYER_MEDIA_TYPE];

/// How often a broken transfer is taken up again.
const RESUMPTIONS: u32 = 4;

/// The pause before it is; twice as long each time.
const PAUSE: Duration = Duration::from_millis(200);

/// The most that a container image's configuration may be.
const MAX_CONFIG: u64 = 1 << 20;

/// Where to get a module, once its manifest is known.
pub(super) struct Found {
    client: Client,
    reference: Reference,
    /// The module; of a container image, the layers that may have it, the uppermost first.
    layers: Vec<OciDescriptor>,
    /// The module's path in a container image.
    entry_point: Option<String>,
    /// `sha256:…` of the manifest.
    pub(super) manifest: String,
}

impl Found {
    /// `sha256:…` of the module's bytes, as the manifest says; `None` if they are packed in layers.
    pub(super) fn digest(&self) -> Option<&str> {
        match (&self.entry_point, self.layers.first()) {
            (None, Some(layer)) => Some(&layer.digest),
            _ => None,
        }
    }

    /// The module's path in the layers of a container image.
    pub(super) fn entry_point(&self) -> Option<&str> {
        self.entry_point.as_deref()
    }

    pub(super) fn layers(&self) -> &[OciDescriptor] {
        &self.layers
    }

    /// Streams a layer into `file`, going on where a transfer broke. The digest is for the caller to check.
    pub(super) async fn download(
        &self,
        layer: &OciDescriptor,
        file: &mut tokio::fs::File,
        max_bytes: u64,
    ) -> Result<u64, String> {
        let mut size = 0;
        let mut attempt = 0;
        loop {
            match self.transfer(layer, file, &mut size, max_bytes).await {
                Ok(()) => return Ok(size),
                Err(Broken::ForGood(why)) => return Err(why),
                Err(Broken::Transfer(why)) if attempt == RESUMPTIONS => {
                    return Err(format!("download of {}: {why}", layer.digest));
                }
                Err(Broken::Transfer(why)) => {
                    tracing::debug!(
                        digest = layer.digest,
                        size,
                        why,
                        "a transfer broke: taken up again"
                    );
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
                    attempt += 1;
                }
            }
        }
    }

    /// One transfer, from where the last one ended.
    async fn transfer(
        &self,
        layer: &OciDescriptor,
        file: &mut tokio::fs::File,
        size: &mut u64,
        max_bytes: u64,
    ) -> Result<(), Broken> {
        let store =
            |error: std::io::Error| Broken::ForGood(format!("write to the content store: {error}"));
        let request = self
            .client
            .pull_blob_stream_partial(&self.reference, layer, *size, None);
        let mut stream = match request.await.map_err(|error| Broken::of(&error))? {
            BlobResponse::Partial(stream) => stream.stream,
            BlobResponse::Full(stream) => {
                // A registry that cannot go on begins again.
                file.set_len(0).await.map_err(store)?;
                file.rewind().await.map_err(store)?;
                *size = 0;
                stream.stream
            }
        };
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| Broken::Transfer(error.to_string()))?;
            *size += chunk.len() as u64;
            if *size > max_bytes {
                return Err(Broken::ForGood(too_big(*size, max_bytes)));
            }
            file.write_all(&chunk).await.map_err(store)?;
        }
        file.flush().await.map_err(store)?;
        let whole = u64::try_from(layer.size).unwrap_or(0);
        if *size < whole {
            return Err(Broken::Transfer(format!(
                "it ended after {size} of {whole} bytes"
            )));
        }
        Ok(())
    }
}

/// How a transfer ended too early.
enum Broken {
    /// On the way: it can be taken up again.
    Transfer(String),
    ForGood(String),
}

impl Broken {
    fn of(error: &OciDistributionError) -> Broken {
        match error {
            OciDistributionError::RequestError(_) => Broken::Transfer(in_words(error)),
            OciDistributionError::ServerError { code: 500.., .. } => {
                Broken::Transfer(in_words(error))
            }
            _ => Broken::ForGood(in_words(error)),
        }
    }
}

/// Checks that a reference can be one to a registry.
pub(super) fn parse(reference: &str) -> Result<Reference, String> {
    Reference::from_str(reference).map_err(|error| error.to_string())
}

/// Asks each host what the reference is, the registry itself with each account in turn until one is let in.
pub(super) async fn find(
    reference: &Reference,
    credentials: &[Credentials],
    hosts_dir: Option<&Path>,
) -> Result<Found, String> {
    let anonymous = [Credentials::Anonymous];
    let mut refusal = "no host of this registry may be asked".to_owned();
    for host in hosts::find(hosts_dir, reference.registry())? {
        if !host.resolves && reference.digest().is_none() {
            continue;
        }
        let mut at = reference.clone();
        if let Some(authority) = &host.authority {
            at.set_mirror_registry(authority.clone());
        }
        let is_registry = host
            .authority
            .as_deref()
            .is_none_or(|authority| is_same(authority, reference));
        let accounts = if is_registry && !credentials.is_empty() {
            credentials
        } else {
            &anonymous[..]
        };
        for account in accounts {
            // A client keeps the first account that it sees for a registry: so each has its own.
            let client = client(&at, &host)?;
            match client.pull_image_manifest(&at, &auth(account)).await {
                Ok((manifest, digest)) => return describe(client, at, &manifest, digest).await,
                Err(error) => refusal = in_words(&error),
            }
        }
    }
    Err(refusal)
}

/// Whether a host is the registry itself under its own name.
fn is_same(authority: &str, reference: &Reference) -> bool {
    let registry = reference.registry();
    let docker = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    authority == registry || (docker.contains(&authority) && docker.contains(&registry))
}

/// Finds out where the module is.
async fn describe(
    client: Client,
    reference: Reference,
    manifest: &OciImageManifest,
    digest: String,
) -> Result<Found, String> {
    let entry_point = if manifest.layers.iter().any(is_module) || !is_container_image(manifest) {
        None
    } else {
        let path = entry_point(&client, &reference, &manifest.config).await?;
        Some(path.ok_or_else(|| {
            format!("{reference} is a container image; this node runs WebAssembly components only")
        })?)
    };
    let layers = match entry_point {
        None => vec![module_layer(manifest)?],
        Some(_) => manifest.layers.iter().rev().cloned().collect(),
    };
    Ok(Found {
        client,
        reference,
        layers,
        entry_point,
        manifest: digest,
    })
}

/// The `.wasm` file that a container image starts, if it does.
async fn entry_point(
    client: &Client,
    reference: &Reference,
    config: &OciDescriptor,
) -> Result<Option<String>, String> {
    if u64::try_from(config.size).is_ok_and(|size| size > MAX_CONFIG) {
        return Err("its configuration is too large".to_owned());
    }
    let mut bytes = Vec::new();
    let pull = client.pull_blob(reference, config, &mut bytes);
    pull.await.map_err(|error| in_words(&error))?;
    let config: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| format!("its configuration cannot be read: {error}"))?;
    let first = |list: &str| config["config"][list][0].as_str().map(str::to_owned);
    let start = first("Entrypoint").or_else(|| first("Cmd"));
    Ok(start.filter(|path| path.ends_with(".wasm")))
}

/// What to say of a module that is more than the node takes.
pub(super) fn too_big(size: u64, max_bytes: u64) -> String {
    format!("is {size} bytes or more; this node takes modules of at most {max_bytes}")
}

fn client(reference: &Reference, host: &Host) -> Result<Client, String> {
    let usual = || on_loopback(reference.resolve_registry());
    let protocol = if host.plain_http.unwrap_or_else(usual) {
        ClientProtocol::Http
    } else {
        ClientProtocol::Https
    };
    Client::try_from(ClientConfig {
        protocol,
        connect_timeout: Some(CONNECT_DEADLINE),
        read_timeout: Some(READ_DEADLINE),
        platform_resolver: Some(Box::new(choose_platform)),
        user_agent: "wk",
        accept_invalid_certificates: host.skip_verify,
        extra_root_certificates: certificates(&host.ca)?,
        ..ClientConfig::default()
    })
    .map_err(|error| in_words(&error))
}

fn certificates(paths: &[PathBuf]) -> Result<Vec<Certificate>, String> {
    let read = |path: &PathBuf| {
        let data = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let encoding = CertificateEncoding::Pem;
        Ok(Certificate { encoding, data })
    };
    paths.iter().map(read).collect()
}

/// `localhost`, `127.x.y.z` or `[::1]`, with or without a port.
fn on_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn auth(account: &Credentials) -> RegistryAuth {
    match account {
        Credentials::Anonymous => RegistryAuth::Anonymous,
        Credentials::Basic { username, password } => {
            RegistryAuth::Basic(username.clone(), password.clone())
        }
    }
}

/// Of an image for several platforms, the one for WebAssembly; else the first, to say what it is.
fn choose_platform(entries: &[ImageIndexEntry]) -> Option<String> {
    let wasm = |entry: &&ImageIndexEntry| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| platform.architecture.to_string() == "wasm")
    };
    let entry = entries.iter().find(wasm).or_else(|| entries.first())?;
    Some(entry.digest.clone())
}

fn is_module(layer: &OciDescriptor) -> bool {
    LAYERS.contains(&layer.media_type.as_str())
}

/// The one layer that holds the module.
fn module_layer(manifest: &OciImageManifest) -> Result<OciDescriptor, String> {
    let mut modules = manifest.layers.iter().filter(|layer| is_module(layer));
    match (modules.next(), modules.next()) {
        (Some(layer), None) => Ok(layer.clone()),
        (Some(_), Some(_)) => Err("holds more than one WebAssembly module".to_owned()),
        (None, _) => {
            let media_type = &manifest.config.media_type;
            Err(format!("not a Wasm artifact: media type {media_type}"))
        }
    }
}

fn is_container_image(manifest: &OciImageManifest) -> bool {
    let media_type = manifest.config.media_type.as_str();
    media_type == "application/vnd.oci.image.config.v1+json"
        || media_type == "application/vnd.docker.container.image.v1+json"
}

/// What went wrong as a user would say it: a registry's own message, or what the socket met.
fn in_words(error: &OciDistributionError) -> String {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            let said = |error: &oci_client::errors::OciError| {
                let code = format!("{:?}", error.code);
                match (code.as_str(), error.message.as_str()) {
                    ("ManifestUnknown" | "NotFound", _) => "manifest unknown".to_owned(),
                    ("NameUnknown", _) => "repository unknown".to_owned(),
                    ("Unauthorized", _) => "unauthorized: authentication required".to_owned(),
                    (_, "") => code,
                    (_, message) => message.to_owned(),
                }
            };
            let said: Vec<String> = envelope.errors.iter().map(said).collect();
            said.join("; ")
        }
        OciDistributionError::ImageManifestNotFoundError(_) => "manifest unknown".to_owned(),
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => {
            "unauthorized: authentication required".to_owned()
        }
        OciDistributionError::RequestError(error) => transport_in_words(error),
        error => error.to_string(),
    }
}

fn transport_in_words(error: &dyn std::error::Error) -> String {
    let mut deepest = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::ConnectionRefused => return "connection refused".to_owned(),
                ErrorKind::TimedOut => return "the registry did not answer in time".to_owned(),
                _ => {}
            }
        }
        deepest = error.to_string();
        cause = error.source();
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_registries_are_spoken_to_in_plain_http() {
        for registry in [
            "localhost:5000",
            "127.0.0.1:80",
            "127.3.4.5",
            "[::1]:5000",
            "localhost",
        ] {
            assert!(on_loopback(registry), "{registry}");
        }
        for registry in [
            "ghcr.io",
            "localhost.example:5000",
            "10.0.0.1:5000",
            "1270.0.1",
        ] {
            assert!(!on_loopback(registry), "{registry}");
        }
    }
}
