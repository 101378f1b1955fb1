//! Events as the bytes of an answer, gathered in frames.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Frames are this long at most, unless one event is longer.
pub(super) const FRAME: usize = 64 * 1024;

/// Bytes that wait to be sent.
#[derive(Default)]
pub(super) struct Frames {
    full: VecDeque<Bytes>,
    open: BytesMut,
}

impl Frames {
    pub(super) fn push(&mut self, kind: &str, object: &[u8]) {
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

    /// Adds frames that were made for others too. Nothing else may be waiting that is not whole.
    pub(super) fn share(&mut self, frames: &[Bytes]) {
        debug_assert!(self.open.is_empty(), "events would change places");
        self.full.extend(frames.iter().cloned());
    }

    /// True if there is a whole frame, so that nothing need be added.
    pub(super) fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.full
            .pop_front()
            .or_else(|| (!self.open.is_empty()).then(|| self.open.split().freeze()))
    }

    /// Everything that waits; nothing is left.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.pop()).collect()
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
        let sizes: Vec<usize> = frames.take().iter().map(Bytes::len).collect();
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
