//! Bodies on their way through: bounded in size and time, counted, never buffered.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{activator, activity::Activity, underway::Underway, upstream::Lease};

pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's body.
pub(super) enum Upload {
    /// As it comes, with the bytes that may yet do.
    Streamed {
        body: Incoming,
        left: u64,
        /// Notes each part that is taken.
        activity: Activity,
    },
    /// Kept, to be sent again.
    Kept(Full<Bytes>),
}

#[derive(thiserror::Error, Debug)]
#[error("the request's body is larger than a body may be")]
pub(super) struct TooLarge;

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Streamed {
                body,
                left,
                activity,
            } => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                activity.note();
                Poll::Ready(match frame {
                    Some(Ok(frame)) => {
                        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                        Some(match left.checked_sub(length) {
                            Some(rest) => {
                                *left = rest;
                                Ok(frame)
                            }
                            None => Err(TooLarge.into()),
                        })
                    }
                    Some(Err(error)) => Some(Err(error.into())),
                    None => None,
                })
            }
            Self::Kept(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streamed { body, .. } => body.is_end_stream(),
            Self::Kept(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streamed { body, .. } => body.size_hint(),
            Self::Kept(body) => body.size_hint(),
        }
    }
}

/// The body of an answer.
pub(super) struct Outgoing {
    from: From,
    /// When it must have ended.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How long it may rest; whether it rests, and till when it may.
    idle: Option<(Duration, bool, Pin<Box<Sleep>>)>,
    /// The request, until its answer has ended.
    underway: Option<Underway>,
}

enum From {
    Invoked(runtimes::Body),
    Endpoint(Incoming, Box<Held>),
    Text(Option<Bytes>),
}

/// What an endpoint's answer holds until it has ended.
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) permit: Option<(activator::Permit, activator::Counted)>,
}

#[derive(thiserror::Error, Debug)]
#[error("the answer did not end in time")]
struct Late;

impl Outgoing {
    fn new(from: From) -> Self {
        Self {
            from,
            deadline: None,
            idle: None,
            underway: None,
        }
    }

    pub(super) fn invoked(body: runtimes::Body) -> Self {
        Self::new(From::Invoked(body))
    }

    pub(super) fn endpoint(body: Incoming, held: Held) -> Self {
        Self::new(From::Endpoint(body, Box::new(held)))
    }

    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::new(From::Text(Some(text.into())))
    }

    pub(super) fn empty() -> Self {
        Self::new(From::Text(None))
    }

    /// Fails what has not ended by then.
    pub(super) fn until(mut self, deadline: Option<Instant>) -> Self {
        if let Some(deadline) = deadline
            && !self.is_end_stream()
        {
            self.deadline = Some(Box::pin(sleep_until(deadline)));
        }
        self
    }

    /// Fails it once it has rested for so long.
    pub(super) fn resting_at_most(mut self, limit: Duration) -> Self {
        if !self.is_end_stream() {
            self.idle = Some((limit, false, Box::pin(sleep(limit))));
        }
        self
    }

    pub(super) fn ending(mut self, underway: Underway) -> Self {
        self.underway = Some(underway);
        self
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = match &mut this.from {
            From::Invoked(body) => Pin::new(body).poll_frame(context),
            From::Endpoint(body, held) => {
                let polled = Pin::new(&mut *body).poll_frame(context);
                match &polled {
                    Poll::Ready(None) => held.lease.ended(),
                    Poll::Ready(Some(Ok(_))) if Body::is_end_stream(body) => held.lease.ended(),
                    _ => {}
                }
                polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            From::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let (Some(underway), Some(data)) = (&mut this.underway, frame.data_ref())
        {
            underway.sent(data.len());
        }
        if let Some((limit, rests, end)) = &mut this.idle {
            if polled.is_pending() && !*rests {
                end.as_mut().reset(Instant::now() + *limit);
            }
            *rests = polled.is_pending();
            if *rests && end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(Late.into())));
            }
        }
        if polled.is_pending()
            && let Some(deadline) = &mut this.deadline
        {
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Some(Err(Late.into())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Invoked(body) => body.is_end_stream(),
            From::Endpoint(body, _) => body.is_end_stream(),
            From::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Invoked(body) => body.size_hint(),
            From::Endpoint(body, _) => body.size_hint(),
            From::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

/// The same as runtimes take it.
pub(super) fn boxed(upload: Upload) -> runtimes::Body {
    upload.boxed_unsync()
}
