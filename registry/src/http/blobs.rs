//! `/v2/NAME/blobs/DIGEST`

use std::ops::Range;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode, header};
use serde_json::json;

use super::{Asked, CONTENT_DIGEST, headers};
use crate::{
    access::Action,
    digest::Digest,
    error::{Code, Error},
    name::Repository,
};

impl Asked {
    pub(super) async fn blob(
        self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Response, Error> {
        match self.head.method {
            Method::GET | Method::HEAD => self.pull_blob(repository, digest).await,
            Method::DELETE => {
                self.allow(Action::Delete, repository)?;
                self.inner.check_owner(repository).await?;
                self.inner.unlink_blob(repository, digest).await?;
                Ok(StatusCode::ACCEPTED.into_response())
            }
            _ => Err(self.unsupported()),
        }
    }

    async fn pull_blob(&self, repository: &Repository, digest: &Digest) -> Result<Response, Error> {
        self.allow(Action::Pull, repository)?;
        self.inner.check_owner(repository).await?;
        let size = self.inner.blob_size(repository, digest).await?;
        let mut answer = headers([
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, size.to_string()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (CONTENT_DIGEST, digest.to_string()),
        ]);
        if self.head.method == Method::HEAD {
            // Who may push and asks whether it is here will name it next.
            if self.caller.may(Action::Push, repository).is_ok() {
                self.inner.renew_blob(repository, digest).await?;
            }
            return Ok((answer, Body::empty()).into_response());
        }
        let range = match self.header(&header::RANGE) {
            Some(range) => parse_range(range, size).map_err(|()| {
                Error::new(
                    Code::RangeInvalid,
                    format!("blob {digest} is {size} bytes, and {range:?} is none of them"),
                    json!({"digest": digest.to_string(), "size": size}),
                )
            })?,
            None => None,
        };
        let wanted = range.clone().unwrap_or(0..size);
        let length = wanted.end - wanted.start;
        let bytes = self.inner.blob_bytes(digest, size, wanted).await?;
        let status = match range {
            None => StatusCode::OK,
            Some(Range { start, end }) => {
                let last = end - 1;
                answer.extend(headers([
                    (header::CONTENT_LENGTH, length.to_string()),
                    (
                        header::CONTENT_RANGE,
                        format!("bytes {start}-{last}/{size}"),
                    ),
                ]));
                StatusCode::PARTIAL_CONTENT
            }
        };
        Ok((status, answer, Body::from_stream(bytes)).into_response())
    }
}

/// One range of bytes, as RFC 9110 has them; several, or other units, are answered with the whole. `Err` if it has
/// nothing of what there is.
fn parse_range(text: &str, size: u64) -> Result<Option<Range<u64>>, ()> {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|rest| rest.split_once('-'))
    else {
        return Ok(None);
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(last)) if first.is_empty() => size.saturating_sub(last)..size,
        _ => return Ok(None),
    };
    if range.start >= size || range.is_empty() {
        return Err(());
    }
    Ok(Some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        let check = |text: &str, want| assert_eq!(parse_range(text, 10), want, "{text}");
        check("bytes=0-0", Ok(Some(0..1)));
        check("bytes=2-", Ok(Some(2..10)));
        check("bytes=2-99", Ok(Some(2..10)));
        check("bytes=-3", Ok(Some(7..10)));
        check("bytes=-99", Ok(Some(0..10)));
        check("bytes=10-", Err(()));
        check("bytes=-0", Err(()));
        check("bytes=5-2", Ok(None));
        check("bytes=0-1,3-4", Ok(None));
        check("lines=0-1", Ok(None));
        assert_eq!(parse_range("bytes=0-", 0), Err(()));
    }
}
