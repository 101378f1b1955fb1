//! Pulls of Wasm artifacts from OCI registries.
//!
//! Takes what the CNCF Wasm OCI artifact layout describes: one layer of `application/wasm` under a config
//! of `application/vnd.wasm.config.v0+json`. Registries on the loopback are spoken to in plain HTTP,
//! all others in TLS. Never keeps a password or a token after the pull.

use std::{io::ErrorKind, str::FromStr as _, time::Duration};

use futures::StreamExt as _;
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    manifest::{ImageIndexEntry, OciDescriptor, OciImageManifest, WASM_LAYER_MEDIA_TYPE},
    secrets::RegistryAuth,
};
use tokio::io::AsyncWriteExt as _;

use super::Credentials;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// The layer types that hold a module: the standard one, and what older tools push.
const LAYERS: [&str; 2] = ["application/wasm", WASM_LAYER_MEDIA_TYPE];

/// Where to get an artifact's module, once its manifest is known.
pub(super) struct Found {
    client: Client,
    reference: Reference,
    layer: OciDescriptor,
}

impl Found {
    /// `sha256:…` of the module's bytes, as the manifest says.
    pub(super) fn digest(&self) -> &str {
        &self.layer.digest
    }

    pub(super) fn size_bytes(&self) -> u64 {
        u64::try_from(self.layer.size).unwrap_or(0)
    }

    /// Streams the module into `file`; the digest is verified on the way.
    pub(super) async fn download(
        &self,
        file: &mut tokio::fs::File,
        max_bytes: u64,
    ) -> Result<u64, String> {
        let pull = self.client.pull_blob_stream(&self.reference, &self.layer);
        let mut stream = pull.await.map_err(|error| in_words(&error))?.stream;
        let mut size: u64 = 0;
        while let Some(chunk) = stream.next().await {
            let chunk =
                chunk.map_err(|error| format!("download of {}: {error}", self.layer.digest))?;
            size += chunk.len() as u64;
            if size > max_bytes {
                return Err(too_big(size, max_bytes));
            }
            let written = file.write_all(&chunk).await;
            written.map_err(|error| format!("write to the content store: {error}"))?;
        }
        let flushed = file.flush().await;
        flushed.map_err(|error| format!("write to the content store: {error}"))?;
        Ok(size)
    }
}

/// Checks that a reference can be one to a registry.
pub(super) fn parse(reference: &str) -> Result<Reference, String> {
    Reference::from_str(reference).map_err(|error| error.to_string())
}

/// Asks the registry what the reference is, with each account in turn until one is let in.
pub(super) async fn find(
    reference: &Reference,
    credentials: &[Credentials],
) -> Result<Found, String> {
    let anonymous = [Credentials::Anonymous];
    let accounts = if credentials.is_empty() {
        &anonymous[..]
    } else {
        credentials
    };
    let mut refusal = String::new();
    for account in accounts {
        // A client keeps the first account that it sees for a registry: so each has its own.
        let client = client(reference)?;
        match client.pull_image_manifest(reference, &auth(account)).await {
            Ok((manifest, _)) => {
                let layer = module_layer(reference, &manifest)?;
                return Ok(Found {
                    client,
                    reference: reference.clone(),
                    layer,
                });
            }
            Err(error) => refusal = in_words(&error),
        }
    }
    Err(refusal)
}

/// What to say of a module that is more than the node takes.
pub(super) fn too_big(size: u64, max_bytes: u64) -> String {
    format!("is {size} bytes or more; this node takes modules of at most {max_bytes}")
}

fn client(reference: &Reference) -> Result<Client, String> {
    let protocol = if on_loopback(reference.resolve_registry()) {
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
        ..ClientConfig::default()
    })
    .map_err(|error| in_words(&error))
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

/// The one layer that holds the module.
fn module_layer(
    reference: &Reference,
    manifest: &OciImageManifest,
) -> Result<OciDescriptor, String> {
    let is_module = |layer: &&OciDescriptor| LAYERS.contains(&layer.media_type.as_str());
    let mut modules = manifest.layers.iter().filter(is_module);
    match (modules.next(), modules.next()) {
        (Some(layer), None) => Ok(layer.clone()),
        (Some(_), Some(_)) => Err("holds more than one WebAssembly module".to_owned()),
        (None, _) if is_container_image(manifest) => Err(format!(
            "{reference} is a container image; this node runs WebAssembly components only"
        )),
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
