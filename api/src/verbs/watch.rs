//! GET with `watch`: every change after a revision, in order, once; or 410.
//!
//! A watch is a state: what is left of the initial events, then the cache's changes. Pending events
//! leave together in frames of at most 64 KiB, and are only made into frames as the client takes them.
//! An event's object is the cache's bytes, serialised once for all watchers; only tables, metadata views
//! and objects that leave a selector are made anew.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, header};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use store::{Event, Item, Revision, Watcher};
use tokio::time::{Instant, sleep_until};

use super::{
    accept::View,
    call::Call,
    filter::Filter,
    list,
    options::{State, WatchOptions},
    view,
};
use crate::{error::Error, metrics::Watched, object};

/// Frames are this long at most, unless one event is longer.
const FRAME: usize = 64 * 1024;
/// How often a client that wants bookmarks gets one.
const BOOKMARK: Duration = Duration::from_secs(60);
/// A watch without a timeout of its own ends by itself after this and up to as much again.
const LIFE_SECONDS: u64 = 1800;
/// A timeout longer than this is cut to it.
const LONGEST: u64 = 24 * 3600;

/// What a watch starts with.
struct Start {
    /// The state from which changes are told.
    after: Revision,
    /// Objects that are told as added first.
    initial: Vec<Arc<Item>>,
}

pub(crate) async fn watch(call: Call) -> Result<Response, Error> {
    let filter = Filter::read(&call)?;
    let options = WatchOptions::read(&call.query)?;
    if let View::Table(version) = call.view {
        // What is wrong with the query is told now, while there is a status to tell it by.
        view::empty_table(&call, version, json!({}))?;
    }
    let seconds = match options.seconds {
        Some(seconds) => seconds.min(LONGEST),
        None => LIFE_SECONDS + rand::random_range(0..LIFE_SECONDS),
    };
    let start = start(&call, &filter, &options).await?;
    let watcher = call
        .server
        .cache
        .watch_scope(&call.resource.key, filter.scope(), start.after);
    let names = call.resource.names();
    let told = call.server.metrics.watch_events(&Watched {
        group: names.group.to_string(),
        version: names.version.to_string(),
        resource: names.plural.to_string(),
    });
    let mut state = Watch {
        told,
        filter,
        bookmarks: options.bookmarks,
        ends: Instant::now() + Duration::from_secs(seconds),
        next_bookmark: Instant::now() + BOOKMARK,
        frames: Frames::default(),
        initial: start.initial.into_iter(),
        mark: options.marked.then_some(start.after),
        pending: VecDeque::new(),
        watcher: None,
        headed: false,
        call,
    };
    match watcher {
        Ok(watcher) => state.watcher = Some(watcher),
        Err(error) => state.fail(error.into()),
    }
    let body = stream::unfold(state, |mut state| async move {
        let frame = state.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), state))
    });
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// Decides where the watch starts, and waits until the cache is there.
async fn start(call: &Call, filter: &Filter, options: &WatchOptions) -> Result<Start, Error> {
    list::reach(call, options.state).await?;
    let cache = &call.server.cache;
    if options.initial {
        let snapshot = cache.list(&call.resource.key, filter.namespace());
        return Ok(Start {
            after: snapshot.revision,
            initial: snapshot.items,
        });
    }
    Ok(Start {
        after: match options.state {
            State::NotOlderThan(revision) | State::Exactly(revision) => Revision(revision),
            State::Any | State::Newest => cache.revision(),
        },
        initial: Vec::new(),
    })
}

/// Bytes that wait to be sent.
#[derive(Default)]
struct Frames {
    full: VecDeque<Bytes>,
    open: BytesMut,
}

impl Frames {
    fn push(&mut self, kind: &str, object: &[u8]) {
        let size = kind.len() + object.len() + 24;
        if !self.open.is_empty() && self.open.len() + size > FRAME {
            self.full.push_back(self.open.split().freeze());
        }
        self.open.reserve(size);
        for part in [
            br#"{"type":""#.as_slice(),
            kind.as_bytes(),
            br#"","object":"#,
            object,
            b"}\n",
        ] {
            self.open.extend_from_slice(part);
        }
    }

    /// True if there is a whole frame, so that nothing need be added.
    fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    fn pop(&mut self) -> Option<Bytes> {
        self.full
            .pop_front()
            .or_else(|| (!self.open.is_empty()).then(|| self.open.split().freeze()))
    }
}

struct Watch {
    /// How many events watches of the resource told.
    told: Counter,
    call: Call,
    filter: Filter,
    bookmarks: bool,
    ends: Instant,
    next_bookmark: Instant,
    frames: Frames,
    /// Objects that were there at the start and are still to be told.
    initial: std::vec::IntoIter<Arc<Item>>,
    /// The state that the initial objects are of, until their end is marked.
    mark: Option<Revision>,
    /// Changes still to be told.
    pending: VecDeque<Arc<Event>>,
    /// `None` once the watch has nothing more to wait for.
    watcher: Option<Watcher>,
    /// Whether a table has told its columns.
    headed: bool,
}

impl Watch {
    /// The next frame; `None` when the watch has ended.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Err(error) = self.fill().await {
                self.fail(error);
            }
            if let Some(frame) = self.frames.pop() {
                return Some(frame);
            }
            let watcher = self.watcher.as_mut()?;
            tokio::select! {
                biased;
                () = self.call.draining.cancelled() => return None,
                events = watcher.next() => match events {
                    Ok(events) => self.pending.extend(events),
                    Err(error) => self.fail(error.into()),
                },
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    let revision = watcher.progress();
                    self.next_bookmark = Instant::now() + BOOKMARK;
                    if let Err(error) = self.bookmark(revision, false) {
                        self.fail(error);
                    }
                }
                () = sleep_until(self.ends) => {
                    let revision = watcher.progress();
                    self.watcher = None;
                    if self.bookmarks
                        && let Err(error) = self.bookmark(revision, false)
                    {
                        self.fail(error);
                    }
                }
            }
        }
    }

    /// Makes a frame of what is to be told, in order.
    async fn fill(&mut self) -> Result<(), Error> {
        while !self.frames.is_full() {
            if let Some(item) = self.initial.next() {
                self.filter.prepare([&item]).await?;
                if self.filter.matches(&item) {
                    self.tell("ADDED", &item.decoded.value).await?;
                }
            } else if let Some(revision) = self.mark.take() {
                self.bookmark(revision, true)?;
            } else if let Some(event) = self.pending.pop_front() {
                let items = std::iter::once(&event.item).chain(&event.previous);
                self.filter.prepare(items).await?;
                self.event(&event).await?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Tells one change as this watch's selectors see it.
    async fn event(&mut self, event: &Event) -> Result<(), Error> {
        let before = event
            .previous
            .as_ref()
            .is_some_and(|item| self.filter.matches(item));
        let value = &event.item.decoded.value;
        if event.deleted {
            // Gone: what matters is whether the watcher knew of it.
            let known = before || (event.previous.is_none() && self.filter.matches(&event.item));
            return if known {
                self.tell("DELETED", value).await
            } else {
                Ok(())
            };
        }
        match (before, self.filter.matches(&event.item)) {
            (false, false) => Ok(()),
            (false, true) => self.tell("ADDED", value).await,
            (true, true) => self.tell("MODIFIED", value).await,
            (true, false) => {
                let previous = event.previous.as_ref().unwrap_or(&event.item);
                let mut object = view::parse(&previous.decoded.value)?;
                object::set(
                    &mut object,
                    "resourceVersion",
                    event.item.revision.to_string(),
                );
                self.tell("DELETED", &Bytes::from(object.to_string())).await
            }
        }
    }

    async fn tell(&mut self, kind: &str, value: &Bytes) -> Result<(), Error> {
        self.told.inc();
        let value = &self.call.resource.served(value.clone()).await?;
        match self.call.view {
            View::Object => self.frames.push(kind, value),
            View::Metadata(version) => self.frames.push(kind, &view::metadata(value, version)?),
            View::Table(version) => {
                let mut table = view::table(&self.call, version, value)?;
                if std::mem::replace(&mut self.headed, true) {
                    table["columnDefinitions"] = json!([]);
                }
                self.frames.push(kind, table.to_string().as_bytes());
            }
        }
        Ok(())
    }

    /// Says how far the watch has come; `initial` marks the end of the initial objects.
    fn bookmark(&mut self, revision: Revision, initial: bool) -> Result<(), Error> {
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let names = self.call.resource.names();
        let object = match self.call.view {
            View::Object => json!({
                "kind": names.kind,
                "apiVersion": self.call.resource.api_version(),
                "metadata": metadata,
            }),
            View::Metadata(version) => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": version.api_version(),
                "metadata": metadata,
            }),
            View::Table(version) => {
                let mut table = view::empty_table(&self.call, version, metadata)?;
                table["columnDefinitions"] = json!([]);
                table
            }
        };
        self.frames.push("BOOKMARK", object.to_string().as_bytes());
        Ok(())
    }

    /// Ends the watch with an error that the client sees.
    fn fail(&mut self, error: Error) {
        error.log();
        self.frames
            .push("ERROR", error.status().to_string().as_bytes());
        self.initial = Vec::new().into_iter();
        self.mark = None;
        self.pending.clear();
        self.watcher = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_share_frames_up_to_the_bound() {
        let mut frames = Frames::default();
        let object = vec![b'x'; 20 * 1024];
        for _ in 0..7 {
            frames.push("ADDED", &object);
        }
        let sizes: Vec<usize> = std::iter::from_fn(|| frames.pop())
            .map(|frame| frame.len())
            .collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|&size| size <= FRAME));
    }

    #[test]
    fn an_event_longer_than_a_frame_is_a_frame() {
        let mut frames = Frames::default();
        frames.push("ADDED", b"{}");
        frames.push("ADDED", &vec![b'x'; FRAME]);
        assert_eq!(
            frames.pop().as_deref(),
            Some(&b"{\"type\":\"ADDED\",\"object\":{}}\n"[..])
        );
        assert!(frames.pop().is_some_and(|frame| frame.len() > FRAME));
        assert!(frames.pop().is_none());
    }
}
