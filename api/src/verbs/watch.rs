//! GET with `watch`: every change after a revision, in order, once; or 410.
//!
//! A watch is a state: what is left of the initial events, then the cache's changes. Pending events
//! leave together in frames of at most 64 KiB; a client that is far behind has them made as it takes them.
//! An event's object is the cache's bytes, serialised once for all watchers; only tables, metadata views
//! and objects that leave a selector are made anew. Reading its parts:
//! - [`frames`]: events as bytes.
//! - [`fan`]: watches that are told the same share the frames.
//! - [`bare`]: objects without what this process' own components do not read.

mod bare;
pub(crate) mod fan;
mod frames;

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use store::{Event, Item, Revision, Watcher};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    accept::View,
    call::Call,
    filter::Filter,
    list,
    options::{State, WatchOptions},
    view,
};
use crate::{error::Error, metrics::Watched, object};
pub(crate) use bare::BARE;
use fan::{Batch, Fan};
use frames::Frames;

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
    let ends = Instant::now() + Duration::from_secs(seconds);
    let next_bookmark = options.bookmarks.then(|| Instant::now() + BOOKMARK);
    let mut state = Watch {
        told,
        count: 0,
        filter,
        ends,
        next_bookmark,
        timer: Box::pin(sleep_until(
            next_bookmark.map_or(ends, |next| next.min(ends)),
        )),
        draining: Box::pin(call.draining.clone().cancelled_owned()),
        fan: call.server.fans.find(&call),
        rests: None,
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

struct Watch {
    /// How many events watches of the resource told.
    told: Counter,
    /// How many this one told.
    count: u64,
    call: Call,
    filter: Filter,
    ends: Instant,
    /// `None` for a client that wants no bookmarks.
    next_bookmark: Option<Instant>,
    /// Goes off at the earlier of the two.
    timer: Pin<Box<Sleep>>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What it shares with the watches that are told the same.
    fan: Option<Arc<Fan>>,
    /// Until when nothing more is told.
    rests: Option<Instant>,
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
            let news = async {
                if let Some(until) = self.rests {
                    sleep_until(until).await;
                }
                watcher.wait().await
            };
            let told = tokio::select! {
                biased;
                () = &mut self.draining => return None,
                news = news => match news {
                    Ok(()) => self.gather().await,
                    Err(error) => Err(error.into()),
                },
                () = &mut self.timer => self.mark_time(),
            };
            if let Err(error) = told {
                self.fail(error);
            }
        }
    }

    /// Takes what is new: as others framed it, or framed for them, or as events to be framed.
    async fn gather(&mut self) -> Result<(), Error> {
        let Some(watcher) = &mut self.watcher else {
            return Ok(());
        };
        let fan = self.fan.as_ref().filter(|fan| fan.is_shared());
        let position = watcher.position();
        for batch in fan.iter().flat_map(|fan| fan.after(position)) {
            watcher.skip(batch.last);
            self.told.inc_by(batch.told);
            self.count += batch.told;
            self.frames.share(&batch.frames);
        }
        if watcher.position() > position {
            self.rest();
            return Ok(());
        }
        // Not beyond what the others have: from there on, it shares theirs.
        let end = fan.and_then(|fan| fan.end()).filter(|end| *end > position);
        let events = watcher.take_until(end)?;
        if events.is_empty() {
            self.rests = None;
            return Ok(());
        }
        let fan = fan.cloned();
        self.pending.extend(events);
        self.rest();
        match fan {
            Some(fan) if end.is_none() => self.frame_for_all(&fan, position).await,
            _ => Ok(()),
        }
    }

    /// Rests after something was told, together with the others.
    fn rest(&mut self) {
        let pause = || self.watcher.as_ref().map_or(Duration::ZERO, Watcher::pause);
        self.rests = match &self.fan {
            Some(fan) => fan.rest(pause),
            None => Some(Instant::now() + pause()),
        };
    }

    /// Frames what is pending, if that is not much, for all watches that are told the same.
    async fn frame_for_all(&mut self, fan: &Fan, after: Revision) -> Result<(), Error> {
        let bytes = |event: &Arc<Event>| event.item.decoded.value.len();
        let (Some(first), Some(last)) = (self.pending.front(), self.pending.back()) else {
            return Ok(());
        };
        let (first, last) = (first.item.revision, last.item.revision);
        if self.pending.iter().map(bytes).sum::<usize>() > fan::KEPT {
            return Ok(());
        }
        let before = self.count;
        while let Some(event) = self.pending.pop_front() {
            self.event(&event).await?;
        }
        let frames: Arc<[Bytes]> = self.frames.take().into();
        self.frames.share(&frames);
        fan.add(Batch {
            after,
            first,
            last,
            told: self.count - before,
            frames,
        });
        Ok(())
    }

    /// Ends the watch if its time is over, else says how far it has come.
    fn mark_time(&mut self) -> Result<(), Error> {
        let Some(watcher) = &self.watcher else {
            return Ok(());
        };
        let revision = watcher.progress();
        let now = Instant::now();
        if now >= self.ends {
            self.watcher = None;
        }
        let Some(next) = &mut self.next_bookmark else {
            return Ok(());
        };
        *next = now + BOOKMARK;
        self.timer.as_mut().reset(self.ends.min(*next));
        self.bookmark(revision, false)
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
                self.event(&event).await?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Tells one change as this watch's selectors see it.
    async fn event(&mut self, event: &Event) -> Result<(), Error> {
        let items = std::iter::once(&event.item).chain(&event.previous);
        self.filter.prepare(items).await?;
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
        self.count += 1;
        let value = &self.call.resource.served(value.clone()).await?;
        match self.call.view {
            View::Object if bare::is_wanted(&self.call.headers) => {
                let bare = bare::bare(value);
                self.frames.push(kind, bare.as_deref().unwrap_or(value));
            }
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
