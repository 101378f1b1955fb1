//! The body of an answer: bytes, or a list that is put together while it is sent.
//!
//! A list of many objects is never in memory as one text: its body holds the cache's own bytes and
//! copies them into frames, one at a time, as fast as the client takes them. Its length is known.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};

/// Frames of a list are about this long.
const FRAME: usize = 128 * 1024;

/// What is sent.
#[derive(Debug)]
pub(crate) enum Payload {
    Whole(Bytes),
    List(List),
}

impl Payload {
    /// A list: its text up to the first object, and the objects. `]}` is added.
    pub(crate) fn list(head: String, items: Vec<Bytes>) -> Self {
        let length = items.iter().map(|item| item.len() + 1).sum::<usize>();
        let commas = usize::from(!items.is_empty());
        Self::List(List {
            left: head.len() + length - commas + TAIL.len(),
            next: head.into(),
            items: items.into_iter(),
            first: true,
            ended: false,
        })
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl From<Payload> for Body {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Whole(bytes) => Self::from(bytes),
            // A short one is one frame at once.
            Payload::List(mut list) if list.left <= FRAME => Self::from(list.frame()),
            Payload::List(list) => Self::new(list),
        }
    }
}

const TAIL: &[u8] = b"]}";

/// What is left of a list.
#[derive(Debug)]
pub(crate) struct List {
    /// Bytes not sent yet.
    left: usize,
    /// What goes out next: the head, or the rest of an object.
    next: Bytes,
    items: std::vec::IntoIter<Bytes>,
    /// True until an object was begun.
    first: bool,
    /// True once the tail was.
    ended: bool,
}

impl List {
    /// The next frame; empty at the end.
    fn frame(&mut self) -> Bytes {
        let mut frame = BytesMut::with_capacity(self.left.min(FRAME));
        while frame.len() < FRAME {
            if self.next.is_empty() && !self.advance(&mut frame) {
                break;
            }
            let part = self.next.len().min(FRAME.saturating_sub(frame.len()));
            frame.extend_from_slice(&self.next[..part]);
            self.next.advance(part);
        }
        self.left -= frame.len();
        frame.freeze()
    }

    /// Goes on to the next object; false if there was nothing left.
    fn advance(&mut self, frame: &mut BytesMut) -> bool {
        if let Some(item) = self.items.next() {
            if !std::mem::replace(&mut self.first, false) {
                frame.extend_from_slice(b",");
            }
            self.next = item;
            return true;
        }
        self.next = Bytes::from_static(TAIL);
        !std::mem::replace(&mut self.ended, true)
    }
}

impl http_body::Body for List {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.frame()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_is_the_same_however_it_is_framed(sizes in prop::collection::vec(0..200_000_usize, 0..8)) {
            let items: Vec<Bytes> = sizes.iter().map(|size| "x".repeat(*size).into()).collect();
            let whole = format!(
                "[{}]}}",
                sizes.iter().map(|size| "x".repeat(*size)).collect::<Vec<_>>().join(",")
            );
            let Payload::List(mut list) = Payload::list("[".to_owned(), items) else {
                unreachable!("a list")
            };
            prop_assert_eq!(list.size_hint().exact(), Some(whole.len() as u64));
            let mut sent = Vec::new();
            while !list.is_end_stream() {
                let frame = list.frame();
                prop_assert!(!frame.is_empty() && frame.len() <= FRAME + 1);
                sent.extend_from_slice(&frame);
            }
            prop_assert!(sent == whole.as_bytes());
        }
    }
}
