//! DELETE of a collection: every object that the selectors choose, as if deleted one by one.
//!
//! `limit`, `continue` and `resourceVersion` choose among them as they do for a list.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    answer::Answer,
    call::Call,
    delete::{DeleteOptions, remove},
    filter::Filter,
    list,
};
use crate::error::Error;

/// Deletes in flight: enough to share commits, few enough to leave room for others.
const CONCURRENT: usize = 32;

pub(crate) async fn delete_collection(call: &Call, body: &Bytes) -> Result<Answer, Error> {
    if call.resource.names().namespaced && call.namespace.is_empty() {
        return Err(Error::MethodNotAllowed);
    }
    let options = DeleteOptions::read(call, body)?;
    let filter = Filter::read(call)?;
    let (portion, meta) = list::page(call, &filter).await?;
    let names: Vec<String> = portion
        .items
        .iter()
        .map(|item| item.key.name().to_owned())
        .collect();
    let deleted: Vec<Option<Bytes>> = stream::iter(names)
        .map(|name| {
            let options = &options;
            async move {
                match remove(call, &name, options).await {
                    Ok(deleted) => Ok(Some(deleted.bytes)),
                    Err(Error::NotFound(_)) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        })
        .buffered(CONCURRENT)
        .try_collect()
        .await?;
    let bodies = deleted.into_iter().flatten().collect();
    Ok(Answer::ok(list::assemble(call, bodies, &meta)?))
}
