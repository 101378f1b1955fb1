//! `/v2/NAME/blobs/uploads/` and what is below it.

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use serde_json::json;

use super::{Asked, CONTENT_DIGEST, headers, parse, repository, stream, to_the_end};
use crate::{
    access::Action,
    digest::Digest,
    error::{Code, Error},
    name::Repository,
    registry::Inner,
    uploads::{Chunk, Turn},
};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Asked {
    /// Begins an upload, mounts a blob, or takes one whole.
    pub(super) async fn begin(self, to: Repository, body: Body) -> Result<Response, Error> {
        if self.head.method != Method::POST {
            return Err(self.unsupported());
        }
        self.allow(Action::Push, &to)?;
        self.inner.own(&to).await?;
        if let Some(mount) = self.parameter("mount") {
            let digest = parse(&mount)?;
            let from = self.parameter("from");
            // What cannot be mounted is sent.
            let from = from.and_then(|from| repository(&from).ok());
            let caller = &*self.caller;
            if self
                .inner
                .mount(&to, &digest, from.as_ref(), caller)
                .await?
            {
                return Ok(created(&to, &digest));
            }
        }
        let digest = self
            .parameter("digest")
            .map(|digest| parse(&digest))
            .transpose()?;
        let id = self.inner.begin(&to).await?;
        let Some(digest) = digest else {
            return Ok((StatusCode::ACCEPTED, told(&to, &id, 0)).into_response());
        };
        let upload = self.inner.upload(&to, &id).await?;
        self.take_whole(to, upload, digest, body).await
    }

    /// Goes on with an upload.
    pub(super) async fn upload(
        self,
        to: Repository,
        id: &str,
        body: Body,
    ) -> Result<Response, Error> {
        self.allow(Action::Push, &to)?;
        let method = self.head.method.clone();
        match method {
            Method::GET => {
                let upload = self.inner.upload(&to, id).await?;
                let told = told(&to, upload.id(), upload.size());
                Ok((StatusCode::NO_CONTENT, told).into_response())
            }
            Method::PATCH => {
                let chunk = self.chunk()?;
                let inner = self.inner.clone();
                let upload = inner.upload(&to, id).await?;
                self.take_chunk(to, upload, chunk, body).await
            }
            Method::PUT => {
                let digest = self.parameter("digest").ok_or_else(|| {
                    Error::new(
                        Code::DigestInvalid,
                        "the parameter digest is missing: it says what was sent",
                        json!({"uuid": id}),
                    )
                })?;
                let digest = parse(&digest)?;
                self.inner.own(&to).await?;
                let upload = self.inner.upload(&to, id).await?;
                self.take_whole(to, upload, digest, body).await
            }
            Method::DELETE => {
                let upload = self.inner.upload(&to, id).await?;
                self.inner.cancel(upload).await?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ => Err(self.unsupported()),
        }
    }

    async fn take_chunk(
        self,
        to: Repository,
        mut upload: Turn,
        chunk: Chunk,
        body: Body,
    ) -> Result<Response, Error> {
        let inner = self.inner.clone();
        let work = {
            let (inner, body) = (inner.clone(), stream(body));
            async move {
                let taken = inner.append(&mut upload, chunk, body).await;
                let told = told(&to, upload.id(), upload.size());
                match taken {
                    Ok(()) => Ok((StatusCode::ACCEPTED, told).into_response()),
                    // Where to go on is told too.
                    Err(error) if error.code() == Some(Code::RangeInvalid) => {
                        Ok((told, error).into_response())
                    }
                    Err(error) => Err(error),
                }
            }
        };
        to_the_end(&inner, work).await
    }

    /// The last chunk, or all there is, or nothing; then the blob is there.
    async fn take_whole(
        self,
        to: Repository,
        mut upload: Turn,
        digest: Digest,
        body: Body,
    ) -> Result<Response, Error> {
        let chunk = self.chunk()?;
        let inner = self.inner.clone();
        let work = {
            let (inner, body) = (inner.clone(), stream(body));
            async move {
                let taken = inner.append(&mut upload, chunk, body).await;
                match taken {
                    Ok(()) => {}
                    Err(error) if error.code() == Some(Code::RangeInvalid) => {
                        let told = told(&to, upload.id(), upload.size());
                        return Ok((told, error).into_response());
                    }
                    Err(error) => return Err(error),
                }
                commit(&inner, upload, &to, &digest).await
            }
        };
        to_the_end(&inner, work).await
    }

    /// What the headers say of the body.
    fn chunk(&self) -> Result<Chunk, Error> {
        let range = match self.header(&header::CONTENT_RANGE) {
            None => None,
            Some(text) => Some(parse_range(text).ok_or_else(|| {
                Error::new(
                    Code::BlobUploadInvalid,
                    format!("Content-Range {text:?} is not FIRST-LAST"),
                    json!({"contentRange": text}),
                )
            })?),
        };
        Ok(Chunk {
            range,
            length: self.content_length(),
        })
    }
}

async fn commit(
    inner: &Inner,
    upload: Turn,
    to: &Repository,
    digest: &Digest,
) -> Result<Response, Error> {
    inner.commit(upload, to, digest).await?;
    Ok(created(to, digest))
}

/// The blob is there.
fn created(at: &Repository, digest: &Digest) -> Response {
    let headers = headers([
        (header::LOCATION, format!("/v2/{at}/blobs/{digest}")),
        (CONTENT_DIGEST, digest.to_string()),
    ]);
    (StatusCode::CREATED, headers).into_response()
}

/// How far an upload is, and where it goes on.
fn told(to: &Repository, id: &str, size: u64) -> HeaderMap {
    headers([
        (header::LOCATION, format!("/v2/{to}/blobs/uploads/{id}")),
        (header::RANGE, format!("0-{}", size.saturating_sub(1))),
        (UPLOAD_ID, id.to_owned()),
    ])
}

/// `FIRST-LAST`; some clients write it as HTTP has it: `bytes FIRST-LAST/*`.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let text = text.strip_prefix("bytes").unwrap_or(text);
    let text = text.trim_start_matches(['=', ' ']);
    let (first, last) = text.split('/').next()?.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}
