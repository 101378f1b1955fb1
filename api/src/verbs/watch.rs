//! GET with `watch`: every change after a revision, in order, once; or 410.
//!
//! A watch is a state: what is left of the initial events, then the cache's changes. Pending events
//! leave together in frames of at most 64 KiB. An event's object is the cache's bytes, serialised once
//! for all watchers; only tables, metadata views and objects that leave a selector are made anew.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, header};
use serde_json::{Value, json};
use store::{Event, Item, Revision, Watcher};
use tokio::time::{Instant, sleep_until};

use super::{accept::View, call::Call, filter::Filter, view};
use crate::{
    error::Error,
    field::{FieldErrors, Path},
    object,
};

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
    /// Whether the end of the initial objects is marked.
    marked: bool,
}

pub(crate) async fn watch(call: Call) -> Result<Response, Error> {
    let filter = Filter::read(&call)?;
    let bookmarks = call.query.flag("allowWatchBookmarks")?.unwrap_or(false);
    let seconds = match call.query.integer("timeoutSeconds")? {
        Some(seconds @ 1..) => seconds.unsigned_abs().min(LONGEST),
        _ => LIFE_SECONDS + rand::random_range(0..LIFE_SECONDS),
    };
    let start = start(&call, &filter, bookmarks).await?;
    let watcher = call.server.cache.watch(&call.resource.key, start.after);
    let mut state = Watch {
        filter,
        bookmarks,
        ends: Instant::now() + Duration::from_secs(seconds),
        next_bookmark: Instant::now() + BOOKMARK,
        frames: Frames::default(),
        watcher: None,
        headed: false,
        call,
    };
    state.filter.prepare(&start.initial).await?;
    for item in &start.initial {
        if state.filter.matches(item) {
            state.tell("ADDED", &item.decoded.value).await?;
        }
    }
    if start.marked {
        state.bookmark(start.after, true)?;
    }
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
async fn start(call: &Call, filter: &Filter, bookmarks: bool) -> Result<Start, Error> {
    let cache = &call.server.cache;
    let revision = call.query.revision()?;
    let wants_initial = call.query.flag("sendInitialEvents")?;
    check_initial(call, wants_initial, bookmarks)?;
    let sends = wants_initial.unwrap_or(revision.unwrap_or_default() == 0);
    match revision {
        None => {
            cache.fresh().await?;
        }
        Some(0) => {}
        Some(revision) => cache.reach(Revision(revision)).await?,
    }
    if sends {
        let snapshot = cache.list(&call.resource.key, filter.namespace());
        return Ok(Start {
            after: snapshot.revision,
            initial: snapshot.items,
            marked: wants_initial.is_some() && bookmarks,
        });
    }
    Ok(Start {
        after: match revision {
            None | Some(0) => cache.revision(),
            Some(revision) => Revision(revision),
        },
        initial: Vec::new(),
        marked: false,
    })
}

/// `sendInitialEvents` and `resourceVersionMatch` come together (KEP-3157).
fn check_initial(call: &Call, wants_initial: Option<bool>, bookmarks: bool) -> Result<(), Error> {
    let mut errors = FieldErrors::default();
    let matching = call.query.text("resourceVersionMatch");
    let path = Path::root("resourceVersionMatch");
    match (wants_initial, matching) {
        (None, None) => {}
        (None, Some(_)) => {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        (Some(_), Some("NotOlderThan")) => {}
        (Some(_), _) => errors.forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
    }
    if wants_initial == Some(true) && !bookmarks {
        errors.forbidden(
            &Path::root("sendInitialEvents"),
            "sendInitialEvents requires setting allowWatchBookmarks to true",
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        subject: crate::error::Subject {
            group: "meta.k8s.io",
            kind: "ListOptions",
            ..Default::default()
        },
        errors,
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

    fn pop(&mut self) -> Option<Bytes> {
        self.full
            .pop_front()
            .or_else(|| (!self.open.is_empty()).then(|| self.open.split().freeze()))
    }
}

struct Watch {
    call: Call,
    filter: Filter,
    bookmarks: bool,
    ends: Instant,
    next_bookmark: Instant,
    frames: Frames,
    /// `None` once the watch has nothing more to wait for.
    watcher: Option<Watcher>,
    /// Whether a table has told its columns.
    headed: bool,
}

impl Watch {
    /// The next frame; `None` when the watch has ended.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.pop() {
                return Some(frame);
            }
            let watcher = self.watcher.as_mut()?;
            tokio::select! {
                biased;
                () = self.call.draining.cancelled() => return None,
                events = watcher.next() => {
                    let told = match events {
                        Ok(events) => self.events(&events).await,
                        Err(error) => Err(error.into()),
                    };
                    if let Err(error) = told {
                        self.fail(error);
                    }
                }
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

    async fn events(&mut self, events: &[Arc<Event>]) -> Result<(), Error> {
        for event in events {
            let items: Vec<_> = std::iter::once(&event.item)
                .chain(&event.previous)
                .cloned()
                .collect();
            self.filter.prepare(&items).await?;
            self.event(event).await?;
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
        let value = &self.call.resource.served(value.clone()).await?;
        match self.call.view {
            View::Object => self.frames.push(kind, value),
            View::Metadata(version) => {
                let object = view::metadata(view::parse(value)?, version);
                self.frames.push(kind, object.to_string().as_bytes());
            }
            View::Table(version) => {
                let object = view::parse(value)?;
                let meta = json!({"resourceVersion": object::resource_version(&object)});
                let mut table = view::table(&self.call, version, &[object], meta)?;
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
        let object: Value = match self.call.view {
            View::Object => json!({
                "kind": names.kind,
                "apiVersion": self.call.resource.api_version(),
                "metadata": metadata,
            }),
            View::Metadata(version) => view::metadata(json!({"metadata": metadata}), version),
            View::Table(version) => {
                let mut table = view::table(&self.call, version, &[], metadata)?;
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
