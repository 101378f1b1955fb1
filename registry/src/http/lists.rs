//! `/v2/NAME/tags/list`, `/v2/NAME/referrers/DIGEST`, `/v2/_catalog`

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::json;

use super::Asked;
use crate::{
    access::Action,
    digest::Digest,
    error::{Code, Error},
    manifest::OCI_INDEX,
    name::Repository,
};

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Repositories in one answer, if the client does not say.
const CATALOG: usize = 1000;
/// How long it may take to find them.
const CATALOG_DEADLINE: Duration = Duration::from_secs(20);

impl Asked {
    pub(super) async fn tags(self, repository: &Repository) -> Result<Response, Error> {
        self.reads()?;
        self.allow(Action::Pull, repository)?;
        self.inner.check_owner(repository).await?;
        let (last, count) = (self.parameter("last"), self.count()?);
        let (tags, more) = self.inner.tags(repository, last.as_deref(), count).await?;
        let next = tags.last().filter(|_| more).map(|last| {
            let n = count.unwrap_or_default();
            format!("/v2/{repository}/tags/list?n={n}&last={last}")
        });
        let body = Json(json!({"name": repository.as_str(), "tags": tags}));
        Ok(linked(body.into_response(), next))
    }

    pub(super) async fn referrers(
        self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Response, Error> {
        self.reads()?;
        self.allow(Action::Pull, repository)?;
        self.inner.check_owner(repository).await?;
        let (kind, last) = (self.parameter("artifactType"), self.parameter("last"));
        let page = self
            .inner
            .referrers(repository, digest, kind.as_deref(), last.as_deref())
            .await?;
        let body = json!({
            "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page.descriptors,
        });
        let mut response = ([(header::CONTENT_TYPE, OCI_INDEX)], body.to_string()).into_response();
        let mut filter = String::new();
        if let Some(kind) = kind {
            let headers = response.headers_mut();
            headers.insert(FILTERS, HeaderValue::from_static("artifactType"));
            filter = format!("&artifactType={}", encode(&kind));
        }
        let next = page
            .next
            .map(|last| format!("/v2/{repository}/referrers/{digest}?last={last}{filter}"));
        Ok(linked(response, next))
    }

    /// The repositories that the caller may pull from; as Docker's registry has it.
    pub(super) async fn catalog(self) -> Result<Response, Error> {
        self.reads()?;
        let last = self.parameter("last").unwrap_or_default();
        let count = self.count()?.unwrap_or(CATALOG);
        let may = |repository: &Repository| self.caller.may(Action::Pull, repository).is_ok();
        let found = self.inner.catalog(&last, count, may);
        let found = tokio::time::timeout(CATALOG_DEADLINE, found).await;
        let mut found = found.map_err(|_| {
            Error::new(
                Code::TooManyRequests,
                "to list the repositories takes too long: ask for fewer with n, or for a repository's tags",
                json!({"n": count}),
            )
        })??;
        let more = found.len() > count;
        found.truncate(count);
        let next = found.last().filter(|_| more);
        let next = next.map(|last| format!("/v2/_catalog?n={count}&last={last}"));
        let names: Vec<&str> = found.iter().map(Repository::as_str).collect();
        let body = Json(json!({"repositories": names}));
        Ok(linked(body.into_response(), next))
    }

    fn reads(&self) -> Result<(), Error> {
        match self.head.method {
            Method::GET | Method::HEAD => Ok(()),
            _ => Err(self.unsupported()),
        }
    }
}

/// Tells where the list goes on.
fn linked(mut response: Response, next: Option<String>) -> Response {
    if let Some(next) = next
        && let Ok(value) = HeaderValue::try_from(format!("<{next}>; rel=\"next\""))
    {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
