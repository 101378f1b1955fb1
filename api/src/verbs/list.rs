//! GET of a collection: one consistent state, whole or in pages.
//!
//! A page's `continue` token names the state that the first page was of, so that all pages together
//! are that state. Bodies are put together from the cache's bytes as they are sent; nothing is parsed
//! unless the client wants a table or metadata only, and then one object at a time.

use bytes::Bytes;
use serde::Serialize;
use store::{Portion, Range, Revision, StoreError};

use super::{
    answer::Answer,
    call::Call,
    filter::Filter,
    options::{ListOptions, State},
    payload::Payload,
    token::Token,
    view,
};
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

    /// Of one page, with the way to the next.
    fn of(portion: &Portion, filter: &Filter) -> Self {
        let mut meta = Self::at(portion.revision);
        if let Some(last) = portion.items.last().filter(|_| portion.more) {
            let next = Token {
                revision: Some(portion.revision.0),
                start: last.key.as_str().to_owned(),
            };
            meta.next = Some(next.write());
            meta.remaining_item_count = (!filter.selects()).then_some(portion.remaining);
        }
        meta
    }
}

pub(crate) async fn list(call: &Call) -> Result<Answer, Error> {
    let filter = Filter::read(call)?;
    let (portion, meta) = page(call, &filter).await?;
    let bodies = portion.items.iter();
    let bodies = bodies.map(|item| item.decoded.value.clone()).collect();
    let bodies = call.resource.served_all(bodies).await?;
    Ok(Answer::ok(assemble(call, bodies, &meta)?))
}

/// The objects of the page that a request asks for.
pub(crate) async fn page(call: &Call, filter: &Filter) -> Result<(Portion, ListMeta), Error> {
    let options = ListOptions::read(&call.query)?;
    let cache = &call.server.cache;
    filter.prepare_all(cache).await?;
    let at = reach(call, options.state).await?;
    let range = Range {
        resource: &call.resource.key,
        namespace: filter.namespace(),
        at,
        after: options.start.as_deref(),
        limit: options.limit,
    };
    let portion = match filter.key() {
        // One object at most, and not of the past: no need to look through the others.
        Some(key) if at.is_none() => {
            let found = cache.get(&key).filter(|item| filter.matches(item));
            let after = options.start.as_deref().unwrap_or_default();
            Portion {
                revision: cache.revision(),
                items: found
                    .into_iter()
                    .filter(|item| item.key.as_str() > after)
                    .collect(),
                more: false,
                remaining: 0,
            }
        }
        _ => cache
            .portion(range, |item| filter.matches(item))
            .await
            .map_err(|error| forgotten(error, options.start))?,
    };
    let meta = ListMeta::of(&portion, filter);
    Ok((portion, meta))
}

/// Waits until the cache has what a request asks for; answers the one revision that will do, if there
/// is only one.
pub(crate) async fn reach(call: &Call, state: State) -> Result<Option<Revision>, Error> {
    let cache = &call.server.cache;
    match state {
        State::Any => {}
        State::Newest => {
            cache.fresh().await?;
        }
        State::NotOlderThan(revision) => cache.reach(Revision(revision)).await?,
        State::Exactly(revision) => return Ok(Some(Revision(revision))),
    }
    Ok(None)
}

/// A state that is not kept any more: a page's client is told how to go on from another state.
fn forgotten(error: StoreError, start: Option<String>) -> Error {
    match (error, start) {
        (StoreError::Compacted { .. }, Some(start)) => Error::Expired {
            message: "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter, or use the continue token in \
                 this response to retrieve the remainder of the results. Continuing with the provided \
                 token results in an inconsistent list - objects that were created, modified, or deleted \
                 between the time the first chunk was returned and now may show up in the list."
                .to_owned(),
            next: Some(
                Token {
                    revision: None,
                    start,
                }
                .write(),
            ),
        },
        (StoreError::Compacted { .. }, None) => Error::Expired {
            message: "The resourceVersion for the provided list is too old.".to_owned(),
            next: None,
        },
        (error, _) => error.into(),
    }
}

/// A list of objects in the shape that the client asked for.
pub(crate) fn assemble(
    call: &Call,
    bodies: Vec<Bytes>,
    meta: &impl Serialize,
) -> Result<Payload, Error> {
    let meta = serde_json::to_value(meta).map_err(Error::internal)?;
    let shape = view::ListShape::of(call, &meta)?;
    let bodies = match shape.item {
        None => bodies,
        Some(item) => bodies
            .iter()
            .map(|body| item.render(call, body))
            .collect::<Result<_, _>>()?,
    };
    Ok(Payload::list(shape.head, bodies))
}
