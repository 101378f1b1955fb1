//! A terminal's sizes, as clients send them: JSON objects one after another, cut anywhere.

use runtimes::TerminalSize;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::link::{Input, discard};

/// Bytes of an object that has not ended.
const LONGEST: usize = 1024;

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

#[derive(Default)]
struct Sizes {
    pending: Vec<u8>,
}

/// What came is not sizes; nothing after it is.
#[derive(PartialEq, Eq, Debug)]
struct NotSizes;

impl Sizes {
    /// The sizes that are complete now.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<TerminalSize>, NotSizes> {
        self.pending.extend_from_slice(bytes);
        let mut objects = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Size>();
        let mut sizes = Vec::new();
        loop {
            let done = objects.byte_offset();
            match objects.next() {
                Some(Ok(Size { width, height })) => sizes.push(TerminalSize { width, height }),
                Some(Err(error)) if !error.is_eof() => return Err(NotSizes),
                Some(Err(_)) | None => {
                    self.pending.drain(..done);
                    break;
                }
            }
        }
        if self.pending.len() > LONGEST {
            return Err(NotSizes);
        }
        Ok(sizes)
    }
}

/// Gives a client's sizes to the process. Of those that the process is too slow for, it gets the newest.
pub(super) async fn carry(from: Option<&mut Input>, to: Option<mpsc::Sender<TerminalSize>>) {
    let Some(from) = from else { return };
    let Some(to) = to else {
        return discard(from).await;
    };
    let (mut sizes, mut newest) = (Sizes::default(), None);
    loop {
        tokio::select! {
            biased;
            permit = to.reserve(), if newest.is_some() => match (permit, newest.take()) {
                (Ok(permit), Some(size)) => permit.send(size),
                _ => return discard(from).await,
            },
            bytes = from.recv() => match bytes.map(|bytes| sizes.push(&bytes)) {
                Some(Ok(all)) => newest = all.last().copied().or(newest),
                Some(Err(NotSizes)) => return discard(from).await,
                None => {
                    if let Some(size) = newest {
                        // The process has ended, or has no terminal any more.
                        let _ = to.send(size).await;
                    }
                    return;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(chunks: &[&str], expected: &[(u16, u16)]) {
        let mut sizes = Sizes::default();
        let mut found = Vec::new();
        for chunk in chunks {
            found.extend(sizes.push(chunk.as_bytes()).unwrap());
        }
        let found: Vec<_> = found.iter().map(|size| (size.width, size.height)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn sizes_are_found_wherever_they_are_cut() {
        check(&[r#"{"Width":80,"Height":24}"#], &[(80, 24)]);
        check(
            &["{\"Width\":80,\"Height\":24}\n{\"Width\":1,\"Height\":2}\n"],
            &[(80, 24), (1, 2)],
        );
        check(
            &[
                "{\"Width\":8",
                "0,\"Height\":24",
                "}{",
                "\"Width\":1,\"Height\":2}",
            ],
            &[(80, 24), (1, 2)],
        );
        check(&["", "\n"], &[]);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        assert_eq!(Sizes::default().push(b"[]"), Err(NotSizes));
        assert_eq!(
            Sizes::default().push(br#"{"Width":70000,"Height":1}"#),
            Err(NotSizes)
        );
        assert_eq!(Sizes::default().push(&[b' '; 2000][..]), Err(NotSizes));
    }
}
