//! Waits until one object is as wanted, by watching it.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt as _;
use serde_json::Value;

use crate::{
    api::{Api, JSON, code},
    query,
};

/// Before a watch that ended without an event is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows `judge` the object as it is and after each change (`None`: it is not there), until it
/// gives an answer. Bound it by a timeout.
pub(crate) async fn follow<T>(
    api: &Api,
    collection: &str,
    name: &str,
    mut judge: impl FnMut(Option<&Value>) -> Result<Option<T>>,
) -> Result<T> {
    let path = format!("{collection}/{name}");
    loop {
        let now = api.find(&path).await?;
        if let Some(answer) = judge(now.as_ref())? {
            return Ok(answer);
        }
        let revision = now
            .as_ref()
            .and_then(|object| object["metadata"]["resourceVersion"].as_str());
        let only = format!("metadata.name={name}");
        let parameters = [
            ("watch", "true"),
            ("fieldSelector", &only),
            ("resourceVersion", revision.unwrap_or_default()),
        ];
        let mut events = match api.watch(&query::with(collection, &parameters), JSON).await {
            Ok(events) => Box::pin(events),
            Err(error) if code(&error) == Some(410) => continue,
            Err(error) => return Err(error),
        };
        let mut silent = true;
        while let Some(event) = events.next().await {
            let (kind, object) = match event {
                Ok(event) => event,
                Err(error) if code(&error).is_none_or(|code| code == 410) => break, // look again
                Err(error) => return Err(error),
            };
            silent = false;
            let object = (kind != "DELETED").then_some(&object);
            if kind != "BOOKMARK"
                && let Some(answer) = judge(object)?
            {
                return Ok(answer);
            }
        }
        if silent {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
