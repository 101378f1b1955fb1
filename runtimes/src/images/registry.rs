//! Finds an image in a registry or its mirrors.
//!
//! - [`client`]: whoever has the image; [`remote`]: requests to one host, as one account.
//! - [`refusal`]: what went wrong, in words.
//!
//! Registries on the loopback are spoken to in plain HTTP, all others in TLS, unless `hosts` says otherwise.
//! Accounts are for the registry itself: mirrors are asked without. Never writes a file.

mod client;
mod refusal;
mod remote;

use std::{path::Path, sync::Arc};

use oci_client::Reference;
use tokio::time::Instant;

pub(super) use client::Client;
pub(super) use refusal::{Kind, Refusal};
use remote::Remote;

use super::{
    Credentials, hosts,
    manifest::{self, Content, Document},
    platform::{self, Platform},
    source,
};

/// Lists within lists that are looked into.
const MAX_DEPTH: usize = 3;

/// An image of which the manifest is known, and where its blobs are.
pub(super) struct Source {
    pub(super) client: Client,
    /// The manifest's bytes, and `sha256:…` of them.
    pub(super) manifest: Vec<u8>,
    pub(super) digest: String,
    /// `sha256:…` of the list that the manifest was chosen from.
    pub(super) list: Option<String>,
    pub(super) content: Content,
}

/// Why a host did not lead to an image.
enum Miss {
    /// Another account or host may.
    Host(Refusal),
    /// What is there is no use.
    Image(String),
}

/// Asks each host what the reference is, the registry itself with each account in turn until one is let in.
pub(super) async fn find(
    reference: &Reference,
    credentials: &[Credentials],
    hosts_dir: Option<&Path>,
    deadline: Instant,
) -> Result<Source, String> {
    let anonymous = [Credentials::Anonymous];
    let mut refusals = Vec::new();
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
        let mut refused = None;
        for account in accounts {
            let remote = Remote::new(at.clone(), &host, account, deadline)?;
            match resolve(Client::Remote(Box::new(remote)), reference).await {
                Ok(source) => return Ok(source),
                Err(Miss::Image(message)) => return Err(message),
                Err(Miss::Host(refusal)) => {
                    let another = refusal.kind == Kind::Account;
                    refused = Some(refusal.message);
                    if !another {
                        break;
                    }
                }
            }
        }
        refusals.extend(refused);
    }
    if refusals.is_empty() {
        return Err("no host of this registry may be asked".to_owned());
    }
    Err(refusals.join("; "))
}

/// Whether a host is the registry itself under its own name.
fn is_same(authority: &str, reference: &Reference) -> bool {
    let registry = reference.registry();
    let docker = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    authority == registry || (docker.contains(&authority) && docker.contains(&registry))
}

/// Asks the registry in this process. Whether the accounts may was asked before.
pub(super) async fn find_here(
    here: Arc<dyn source::Source>,
    reference: &Reference,
) -> Result<Source, String> {
    let client = Client::here(here, reference.clone());
    match resolve(client, reference).await {
        Ok(source) => Ok(source),
        Err(Miss::Image(message)) => Err(message),
        Err(Miss::Host(refusal)) => Err(refusal.message),
    }
}

/// Follows a reference to the manifest for this host.
async fn resolve(client: Client, reference: &Reference) -> Result<Source, Miss> {
    let mut name = reference
        .digest()
        .or(reference.tag())
        .unwrap_or("latest")
        .to_owned();
    let mut list = None;
    for _ in 0..MAX_DEPTH {
        let (bytes, digest) = client.manifest(&name).await.map_err(Miss::Host)?;
        match manifest::parse(&bytes).map_err(Miss::Image)? {
            Document::Index(entries) => {
                let entry = platform::choose(&entries, &Platform::host());
                name = entry.map_err(Miss::Image)?.digest().to_string();
                manifest::check_sha256(&name).map_err(Miss::Image)?;
                list.get_or_insert(digest);
            }
            Document::Image(image) => {
                return Ok(Source {
                    content: manifest::content(&image).map_err(Miss::Image)?,
                    client,
                    manifest: bytes,
                    digest,
                    list,
                });
            }
        }
    }
    Err(Miss::Image(
        "its manifest is a list of lists of lists".to_owned(),
    ))
}
