//! `/v2/NAME/manifests/REFERENCE`

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, Method, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;

use super::{Asked, CONTENT_DIGEST, headers, to_the_end};
use crate::{
    access::Action,
    error::{Code, Error},
    manifest::MAX_BYTES,
    name::{Reference, Repository},
};

/// How long a manifest's body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(60);
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Asked {
    pub(super) async fn manifest(
        self,
        repository: Repository,
        reference: Reference,
        body: Body,
    ) -> Result<Response, Error> {
        match self.head.method {
            Method::GET | Method::HEAD => {
                self.allow(Action::Pull, &repository)?;
                self.inner.check_owner(&repository).await?;
                let manifest = self.inner.manifest(&repository, &reference).await?;
                let headers = headers([
                    (header::CONTENT_TYPE, manifest.media_type),
                    (header::CONTENT_LENGTH, manifest.bytes.len().to_string()),
                    (header::ETAG, format!("\"{}\"", manifest.digest)),
                    (CONTENT_DIGEST, manifest.digest.to_string()),
                ]);
                Ok((headers, Body::from(manifest.bytes)).into_response())
            }
            Method::PUT => self.put_manifest(repository, reference, body).await,
            Method::DELETE => {
                self.allow(Action::Delete, &repository)?;
                self.inner.check_owner(&repository).await?;
                self.inner.delete_manifest(&repository, &reference).await?;
                Ok(StatusCode::ACCEPTED.into_response())
            }
            _ => Err(self.unsupported()),
        }
    }

    async fn put_manifest(
        self,
        repository: Repository,
        reference: Reference,
        body: Body,
    ) -> Result<Response, Error> {
        self.allow(Action::Push, &repository)?;
        self.inner.own(&repository).await?;
        let content_type = self.header(&header::CONTENT_TYPE).map(str::to_owned);
        let said = self.content_length();
        let too_large = || {
            Error::new(
                Code::TooLarge,
                format!("the manifest is larger than the {MAX_BYTES} bytes that are taken"),
                json!({"limit": MAX_BYTES}),
            )
        };
        if said.is_some_and(|said| said > MAX_BYTES as u64) {
            return Err(too_large());
        }
        let (inner, caller) = (self.inner.clone(), self.caller.clone());
        let whole = Limited::new(body, MAX_BYTES).collect();
        let whole = tokio::time::timeout(BODY_DEADLINE, whole).await;
        let whole = whole.map_err(|_| {
            let message = format!("the manifest did not come within {BODY_DEADLINE:?}");
            Error::new(Code::SizeInvalid, message, json!(null))
        })?;
        let bytes = match whole {
            Ok(whole) => whole.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
            Err(error) => {
                let message = format!("the body broke off: {error}");
                return Err(Error::new(Code::SizeInvalid, message, json!(null)));
            }
        };
        if let Some(said) = said
            && said != bytes.len() as u64
        {
            return Err(Error::size(said, bytes.len() as u64));
        }
        let own = inner.clone();
        let work = async move {
            let content_type = content_type.as_deref();
            let put = own.put_manifest(&repository, &reference, content_type, bytes, &*caller);
            let (digest, subject) = put.await?;
            let mut answer = headers([
                (
                    header::LOCATION,
                    format!("/v2/{repository}/manifests/{digest}"),
                ),
                (CONTENT_DIGEST, digest.to_string()),
            ]);
            if let Some(subject) = subject {
                answer.extend(headers([(SUBJECT, subject.to_string())]));
            }
            Ok((StatusCode::CREATED, answer).into_response())
        };
        to_the_end(&inner, work).await
    }
}
