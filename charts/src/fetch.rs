//! Charts from elsewhere: registries and repositories.
//!
//! Knows what to ask for and what the answers mean. How a request gets there, with which deadline and trust, is the
//! caller's [`Transport`]. Every answer is bounded before it is asked for; digests that are given are checked.
//!
//! - [`oci`]: charts in registries: pull and push. [`index`]: repositories with an `index.yaml`.
//! - [`repositories`]: `repositories.yaml`, where Helm keeps the repositories' names.

use std::fmt::Write as _;

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

pub mod index;
pub mod oci;
pub mod repositories;

/// Largest archive of a chart, in bytes.
pub const ARCHIVE: usize = 32 << 20;
/// Largest index of a repository, in bytes: the public ones have grown to tens of megabytes.
pub const INDEX: usize = 64 << 20;

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    pub method: &'static str,
    /// A URL, or a path (`/v2/…`): of the cluster's own registry, with the account that the transport has there.
    pub url: String,
    pub accept: &'static str,
    pub content_type: Option<&'static str>,
    /// The header of that name.
    pub authorization: Option<String>,
    pub body: Vec<u8>,
    /// Largest answer, in bytes.
    pub limit: usize,
}

impl Request {
    /// A GET of anything.
    pub fn get(url: impl Into<String>, limit: usize) -> Request {
        Request {
            method: "GET",
            url: url.into(),
            accept: "*/*",
            content_type: None,
            authorization: None,
            body: Vec::new(),
            limit,
        }
    }
}

/// An answer, whatever its status.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// The header `WWW-Authenticate`.
    pub challenge: Option<String>,
    /// The header `Location`.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// The way to registries and repositories.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request, following redirections; an error if there was no answer, or one beyond the limit.
    async fn send(&self, request: Request) -> Result<Answer, String>;
}

/// A name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    pub password: String,
}

impl Login {
    /// The header `Authorization`.
    pub fn basic(&self) -> String {
        let both = format!("{}:{}", self.name, self.password);
        format!("Basic {}", BASE64_STANDARD.encode(both))
    }
}

/// Why nothing was fetched.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// What was asked for, or what came, is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The other side refuses.
    #[error("{url}: {status}{}", reason(.message))]
    Refused {
        url: String,
        status: u16,
        message: String,
    },
    /// No answer.
    #[error("{0}")]
    Unavailable(String),
}

fn reason(message: &str) -> String {
    match message.trim() {
        "" => String::new(),
        message => format!(" {message}"),
    }
}

/// Fetches a URL; the login goes along only to where it belongs.
pub async fn get(
    transport: &dyn Transport,
    url: &str,
    limit: usize,
    login: Option<&Login>,
) -> Result<Vec<u8>, Error> {
    let mut request = Request::get(url, limit);
    request.authorization = login.map(Login::basic);
    let answer = transport.send(request).await.map_err(Error::Unavailable)?;
    success(url, answer).map(|answer| answer.body)
}

/// The answer if it is a success.
fn success(url: &str, answer: Answer) -> Result<Answer, Error> {
    match answer.status {
        200..300 => Ok(answer),
        404 => Err(Error::NotFound(format!("{url} not found"))),
        status => {
            let text = String::from_utf8_lossy(&answer.body);
            Err(Error::Refused {
                url: url.to_owned(),
                status,
                message: text.chars().take(400).collect(),
            })
        }
    }
}

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A reference of a document, as a URL: `charts/a.tgz` of `https://host/x/index.yaml` is `https://host/x/charts/a.tgz`.
pub fn resolve(document: &str, reference: &str) -> String {
    if reference.contains("://") {
        return reference.to_owned();
    }
    let (scheme, rest) = document.split_once("://").unwrap_or(("https", document));
    if let Some(rest) = reference.strip_prefix("//") {
        return format!("{scheme}://{rest}");
    }
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if reference.starts_with('/') {
        return format!("{scheme}://{host}{reference}");
    }
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut parts: Vec<&str> = directory.split('/').filter(|p| !p.is_empty()).collect();
    for part in reference.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{scheme}://{host}/{}", parts.join("/"))
}

/// Whether two URLs are of the same scheme, host and port.
fn same_origin(one: &str, other: &str) -> bool {
    let origin = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let scheme = scheme.to_ascii_lowercase();
        let host = host.to_ascii_lowercase();
        let port = match scheme.as_str() {
            "https" => ":443",
            _ => ":80",
        };
        let host = host.strip_suffix(port).map_or(host.clone(), str::to_owned);
        Some((scheme, host))
    };
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_against_their_document() {
        let index = "https://charts.example.com/stable/index.yaml?x=1";
        for (reference, want) in [
            ("a-1.tgz", "https://charts.example.com/stable/a-1.tgz"),
            ("../a-1.tgz", "https://charts.example.com/a-1.tgz"),
            ("/c/a.tgz", "https://charts.example.com/c/a.tgz"),
            ("//cdn/a.tgz", "https://cdn/a.tgz"),
            ("http://else/a.tgz", "http://else/a.tgz"),
        ] {
            assert_eq!(resolve(index, reference), want);
        }
    }

    #[test]
    fn a_login_is_only_for_its_own_host() {
        assert!(same_origin("https://a:443/x", "https://A/y"));
        assert!(!same_origin("https://a/x", "http://a/x"));
        assert!(!same_origin("https://a/x", "https://a.b/x"));
        assert!(!same_origin("https://a/x", "https://a@b/x"));
    }
}
