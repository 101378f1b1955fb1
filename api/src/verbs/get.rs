//! GET of one object.

use super::{answer::Answer, call::Call, list, options::State, view};
use crate::error::Error;

pub(crate) async fn get(call: &Call) -> Result<Answer, Error> {
    reach(call).await?;
    let item = call
        .server
        .cache
        .get(&call.key(&call.name))
        .ok_or_else(|| call.not_found(&call.name))?;
    let bytes = call.resource.served(item.decoded.value.clone()).await?;
    Ok(Answer::ok(view::one(call, bytes)?))
}

/// Waits until the cache has what `resourceVersion` asks for: the newest state if it is not given,
/// whatever there is for 0, otherwise that revision at least.
pub(crate) async fn reach(call: &Call) -> Result<(), Error> {
    let state = match call.query.revision()? {
        None => State::Newest,
        Some(0) => State::Any,
        Some(revision) => State::NotOlderThan(revision),
    };
    list::reach(call, state).await.map(drop)
}
