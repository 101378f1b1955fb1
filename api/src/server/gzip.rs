//! A body that is compressed while it is sent.

use std::{
    io::Write,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body::Frame;

/// Frames are at least this long, but for the last.
const FRAME: usize = 16 * 1024;

/// A body in gzip, of the lowest level: the network is rarely slower than that, and the CPU is shared.
pub(crate) struct Gzip {
    body: Body,
    /// `None` once the end was written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Gzip {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }
}

impl http_body::Body for Gzip {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            if encoder.get_ref().len() >= FRAME {
                let frame = std::mem::take(encoder.get_mut());
                return Poll::Ready(Some(Ok(Frame::data(frame.into()))));
            }
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let written = frame.data_ref().map(|data| encoder.write_all(data));
                    if let Some(Err(error)) = written {
                        this.encoder = None;
                        return Poll::Ready(Some(Err(axum::Error::new(error))));
                    }
                }
                Some(Err(error)) => {
                    this.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let last = this.encoder.take().map(GzEncoder::finish);
                    return Poll::Ready(last.map(|last| {
                        last.map(|last| Frame::data(last.into()))
                            .map_err(axum::Error::new)
                    }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_is_compressed_is_read_back() {
        let text: String = (0..100_000).map(|number| number.to_string()).collect();
        let body = Gzip::new(Body::from(text.clone()));
        let bytes = body.collect().await.expect("a body").to_bytes();
        assert!(bytes.len() < text.len());
        let mut read = String::new();
        GzDecoder::new(&bytes[..])
            .read_to_string(&mut read)
            .expect("gzip");
        assert!(read == text);
    }
}
