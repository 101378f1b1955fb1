//! GET of a collection: one consistent state, whole or in pages.
//!
//! A page's `continue` token names the state that the first page was of, so that all pages together
//! are that state. Bodies are put together from the cache's bytes; nothing is parsed unless the
//! client wants a table or metadata only.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Item, Revision, Snapshot, StoreError};

use super::{accept::View, answer::Answer, call::Call, filter::Filter, get, view};
use crate::error::Error;

/// The part of a list's metadata that we fill.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_item_count: Option<usize>,
}

impl ListMeta {
    pub(crate) fn at(revision: Revision) -> Self {
        Self {
            resource_version: revision.to_string(),
            next: None,
            remaining_item_count: None,
        }
    }
}

/// Where the next page starts.
#[derive(Serialize, Deserialize, Debug)]
struct Token {
    v: String,
    rv: u64,
    /// The key of the last object that was given.
    start: String,
}

impl Token {
    const VERSION: &'static str = "meta.k8s.io/v1";

    fn write(&self) -> String {
        let text = serde_json::to_vec(self).expect("a token is three plain fields");
        URL_SAFE_NO_PAD.encode(text)
    }

    fn read(text: &str) -> Result<Self, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        bytes
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .filter(|token| token.v == Self::VERSION)
            .ok_or_else(|| Error::BadRequest("continue key is not valid".to_owned()))
    }
}

pub(crate) async fn list(call: &Call) -> Result<Answer, Error> {
    let filter = Filter::read(call)?;
    let limit = match call.query.integer("limit")? {
        Some(limit) if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let token = call.query.text("continue").map(Token::read).transpose()?;
    let snapshot = snapshot(call, &filter, token.as_ref(), limit).await?;
    filter.prepare(&snapshot.items).await?;
    let (chosen, next) = page(&snapshot, &filter, token.as_ref(), limit);
    let mut meta = ListMeta::at(snapshot.revision);
    if let Some(last) = next {
        meta.next = Some(
            Token {
                v: Token::VERSION.to_owned(),
                rv: snapshot.revision.0,
                start: last.key.as_str().to_owned(),
            }
            .write(),
        );
        if !filter.selects() {
            let after = position(&snapshot.items, last.key.as_str());
            meta.remaining_item_count = Some(snapshot.items.len() - after);
        }
    }
    let bodies: Vec<Bytes> = chosen
        .into_iter()
        .map(|item| item.decoded.value.clone())
        .collect();
    let bodies = call.resource.served_all(bodies).await?;
    Ok(Answer::ok(assemble(call, &bodies, &meta)?))
}

/// The state that a list is of.
async fn snapshot(
    call: &Call,
    filter: &Filter,
    token: Option<&Token>,
    limit: usize,
) -> Result<Snapshot, Error> {
    let cache = &call.server.cache;
    let revision = call.query.revision()?;
    let matching = call.query.text("resourceVersionMatch");
    let exact = match (token, revision, matching) {
        (Some(_), Some(1..), _) => {
            return Err(Error::BadRequest(
                "specifying resource version is not allowed when using continue".to_owned(),
            ));
        }
        (Some(token), ..) => Some(token.rv),
        (None, None | Some(0), Some("Exact")) => {
            return Err(Error::BadRequest(
                "resourceVersionMatch \"Exact\" is forbidden for resource version \"0\" or if it is not set".to_owned(),
            ));
        }
        (None, None, Some("NotOlderThan")) => {
            return Err(Error::BadRequest(
                "resourceVersionMatch is forbidden unless resourceVersion is provided".to_owned(),
            ));
        }
        (None, Some(revision), Some("Exact")) => Some(revision),
        // As Kubernetes has it: a page of a named revision is exactly of it.
        (None, Some(revision @ 1..), None) if limit != usize::MAX => Some(revision),
        (None, _, None | Some("NotOlderThan")) => None,
        (None, _, Some(other)) => {
            return Err(Error::BadRequest(format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
            )));
        }
    };
    let Some(exact) = exact else {
        get::reach(call).await?;
        return Ok(cache.list(&call.resource.key, filter.namespace()));
    };
    let exact = Revision(exact);
    cache.reach(exact).await?;
    match cache
        .list_at(&call.resource.key, filter.namespace(), exact)
        .await
    {
        Err(StoreError::Compacted { .. }) if token.is_some() => Err(Error::Expired(
            "The provided continue parameter is too old to display a consistent list result. \
             You must start a new list without the continue parameter."
                .to_owned(),
        )),
        Err(StoreError::Compacted { .. }) => Err(Error::Expired(
            "The resourceVersion for the provided list is too old.".to_owned(),
        )),
        snapshot => Ok(snapshot?),
    }
}

/// How many items come before or at a key.
fn position(items: &[Arc<Item>], key: &str) -> usize {
    items.partition_point(|item| item.key.as_str() <= key)
}

/// The items of one page, and the last of them if more follow.
fn page<'a>(
    snapshot: &'a Snapshot,
    filter: &Filter,
    token: Option<&Token>,
    limit: usize,
) -> (Vec<&'a Arc<Item>>, Option<&'a Arc<Item>>) {
    let start = token.map_or(0, |token| position(&snapshot.items, &token.start));
    let mut matching = snapshot.items[start..]
        .iter()
        .filter(|item| filter.matches(item));
    let chosen: Vec<_> = matching.by_ref().take(limit).collect();
    let next = matching.next().and(chosen.last().copied());
    (chosen, next)
}

/// A list of objects in the shape that the client asked for.
pub(crate) fn assemble(call: &Call, bodies: &[Bytes], meta: &ListMeta) -> Result<Bytes, Error> {
    let meta = serde_json::to_value(meta).map_err(Error::internal)?;
    let version = match call.view {
        View::Object => return Ok(concatenate(call, bodies, &meta)),
        View::Table(version) => {
            let objects: Vec<Value> = bodies.iter().map(view::parse).collect::<Result<_, _>>()?;
            return Ok(Bytes::from(
                view::table(call, version, &objects, meta)?.to_string(),
            ));
        }
        View::Metadata(version) => version,
    };
    let items: Vec<Value> = bodies
        .iter()
        .map(|bytes| Ok(view::metadata(view::parse(bytes)?, version)))
        .collect::<Result<_, Error>>()?;
    let list = json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": version.api_version(),
        "metadata": meta,
        "items": items,
    });
    Ok(Bytes::from(list.to_string()))
}

fn concatenate(call: &Call, bodies: &[Bytes], meta: &Value) -> Bytes {
    let head = format!(
        r#"{{"kind":"{}","apiVersion":"{}","metadata":{meta},"items":["#,
        call.resource.kind.list_kind(),
        call.resource.api_version(),
    );
    let size = bodies.iter().map(|body| body.len() + 1).sum::<usize>();
    let mut list = BytesMut::with_capacity(head.len() + size + 2);
    list.extend_from_slice(head.as_bytes());
    for (index, body) in bodies.iter().enumerate() {
        if index > 0 {
            list.extend_from_slice(b",");
        }
        list.extend_from_slice(body);
    }
    list.extend_from_slice(b"]}");
    list.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let token = Token {
            v: Token::VERSION.to_owned(),
            rv: 7,
            start: "/pods/default/a".to_owned(),
        };
        let read = Token::read(&token.write()).expect("a token");
        assert_eq!((read.rv, read.start), (7, "/pods/default/a".to_owned()));
        for wrong in ["", "x", "e30", "eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6IiJ9"] {
            assert!(Token::read(wrong).is_err(), "{wrong}");
        }
    }
}
