//! From a packed blob to the archive in it: decompressed and digested on a thread of its own, a few chunks ahead
//! of the thread that unpacks.
//!
//! Which decompression it takes is the media type's word, checked against the blob's first bytes. Never gives
//! more than the limit, never holds more than a handful of chunks.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use oci_spec::image::MediaType;
use runtimes::images::Layer;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Limits, failure::Failure};

const CHUNK: usize = 256 << 10;
/// So far may one thread be ahead of the other; then it waits.
const CHUNKS: usize = 8;

/// The archive as a stream.
pub(super) struct Chunks {
    full: Receiver<Vec<u8>>,
    /// Back to the thread that fills them; while it has enough, they are freed.
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// Reads the archive that is in a layer's blob with `unpack`; answers the digest of what was read, and what
/// `unpack` answers. It has to read to the stream's end.
pub(super) fn read<T>(
    layer: &Layer,
    limits: &Limits,
    stop: &CancellationToken,
    unpack: impl FnOnce(Chunks) -> Result<T, Failure>,
) -> Result<(T, String), Failure> {
    let reader = open(layer)?;
    let (full_sender, full) = sync_channel(CHUNKS);
    let (empty, empty_receiver) = sync_channel(CHUNKS);
    std::thread::scope(|scope| {
        // The channel's ends move along: the stream ends when this thread does.
        let fill = move || fill(reader, layer, limits, stop, &full_sender, &empty_receiver);
        let digest = std::thread::Builder::new()
            .name("layer-reader".to_owned())
            .spawn_scoped(scope, fill)
            .map_err(|error| Failure::Node(format!("start a thread: {error}")))?;
        let unpacked = unpack(Chunks {
            full,
            empty,
            chunk: Vec::new(),
            at: 0,
        });
        let digest = digest.join();
        let digest = digest.unwrap_or_else(|_| Err(Failure::Node("reading stopped".to_owned())));
        match (unpacked, digest) {
            (Ok(unpacked), Ok(Some(digest))) => Ok((unpacked, digest)),
            // A stream that was cut short looks like a broken archive: what cut it is the cause.
            (_, Err(failure)) | (Err(failure), Ok(_)) => Err(failure),
            (Ok(_), Ok(None)) => Err(Failure::broken("something follows it")),
        }
    })
}

/// Fills chunks until the archive ends: its digest then. `None` if nobody wants more.
fn fill(
    mut reader: Box<dyn Read + Send>,
    layer: &Layer,
    limits: &Limits,
    stop: &CancellationToken,
    full: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Option<String>, Failure> {
    let mut hash = Sha256::new();
    let mut total = 0;
    loop {
        if stop.is_cancelled() {
            return Err(Failure::Node("nobody waits for it any more".to_owned()));
        }
        let mut chunk = empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        chunk.clear();
        let length = reader
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut chunk)
            .map_err(|error| unreadable(layer, &error))?;
        if length == 0 {
            return Ok(Some(hex(&hash.finalize())));
        }
        total += length as u64;
        if total > limits.archive_bytes {
            return Err(Failure::Image(format!(
                "it unpacks to more than {} bytes, the limit for a layer",
                limits.archive_bytes
            )));
        }
        hash.update(&chunk);
        if full.send(chunk).is_err() {
            return Ok(None);
        }
    }
}

fn open(layer: &Layer) -> Result<Box<dyn Read + Send>, Failure> {
    let packing = packing(&layer.media_type)?;
    let file = File::open(&layer.path);
    let file = file.map_err(|error| Failure::node("open", &layer.path, error))?;
    let mut blob = BufReader::with_capacity(CHUNK, file);
    let start = blob.fill_buf();
    let start = start.map_err(|error| Failure::node("read", &layer.path, error))?;
    let found = Packing::of(start);
    if found != packing {
        return Err(Failure::Image(format!(
            "its media type {} says {packing}, but its content is {found}",
            layer.media_type
        )));
    }
    Ok(match packing {
        Packing::Plain => Box::new(blob),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        Packing::Zstd => Box::new(
            zstd::stream::read::Decoder::with_buffer(blob)
                .map_err(|error| Failure::Node(format!("prepare to decompress: {error}")))?,
        ),
    })
}

fn packing(media_type: &MediaType) -> Result<Packing, Failure> {
    use MediaType as M;
    match media_type {
        M::ImageLayer | M::ImageLayerNonDistributable => Ok(Packing::Plain),
        M::ImageLayerGzip | M::ImageLayerNonDistributableGzip => Ok(Packing::Gzip),
        M::ImageLayerZstd | M::ImageLayerNonDistributableZstd => Ok(Packing::Zstd),
        other => match other.as_ref() {
            "application/vnd.docker.image.rootfs.diff.tar" => Ok(Packing::Plain),
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Ok(Packing::Gzip),
            "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Packing::Zstd),
            other => Err(Failure::Image(format!(
                "its media type {other} is none of a layer that this node unpacks (tar, plain or packed by gzip or zstd)"
            ))),
        },
    }
}

impl Packing {
    fn of(start: &[u8]) -> Packing {
        match start {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            // A frame, or one to pass over that some builders put first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

impl std::fmt::Display for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Packing::Plain => "not packed",
            Packing::Gzip => "packed by gzip",
            Packing::Zstd => "packed by zstd",
        })
    }
}

/// The disk's errors have a number; the others are what decompression says.
fn unreadable(layer: &Layer, error: &std::io::Error) -> Failure {
    match error.raw_os_error() {
        Some(_) => Failure::node("read", &layer.path, error),
        None => Failure::Image(format!("it cannot be decompressed: {error}")),
    }
}

fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        write!(text, "{byte:02x}").expect("a String takes whatever is written to it");
    }
    text
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            // The sender is gone: the end.
            let next = self.full.recv().unwrap_or_default();
            let spent = std::mem::replace(&mut self.chunk, next);
            self.at = 0;
            match self.empty.try_send(spent) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.consume(length);
        Ok(length)
    }
}
