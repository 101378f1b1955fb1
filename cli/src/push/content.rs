//! What is pushed: blobs and manifests, the blobs in memory or in a file.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{archive, wasm};

/// So much of a blob is read at once.
const CHUNK: usize = 256 << 10;

/// What makes an image.
pub(crate) enum Content {
    /// A WebAssembly component or module, binary or text: becomes the Wasm OCI artifact.
    Wasm(Bytes),
    /// An OCI layout in tar, or what `docker save` writes; with gzip or without.
    Archive(PathBuf),
}

impl Content {
    /// A file, by its name or what it begins with: a module (binary or text), else an archive.
    pub(crate) fn of_file(path: &Path) -> Result<Content> {
        let shown = path.display();
        let mut magic = [0; 4];
        let mut file = File::open(path).with_context(|| format!("open {shown}"))?;
        let read = file
            .read(&mut magic)
            .with_context(|| format!("read {shown}"))?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_named = matches!(extension, Some("wat" | "wasm"));
        if is_named || magic[..read] == *b"\0asm" {
            let bytes = std::fs::read(path).with_context(|| format!("read {shown}"))?;
            return Ok(Content::Wasm(bytes.into()));
        }
        Ok(Content::Archive(path.to_owned()))
    }

    /// Blocks while it reads.
    pub(super) fn into_image(self) -> Result<Image> {
        match self {
            Content::Wasm(bytes) => wasm::image(&bytes),
            Content::Archive(path) => {
                archive::image(&path).with_context(|| format!("read {}", path.display()))
            }
        }
    }
}

/// An image ready to be sent.
pub(super) struct Image {
    /// Each digest once.
    pub(super) blobs: Vec<Blob>,
    /// Those that another names before it; the last one is the image.
    pub(super) manifests: Vec<Manifest>,
}

/// A manifest, byte for byte.
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl Manifest {
    pub(super) fn new(media_type: &str, bytes: Vec<u8>) -> Manifest {
        Manifest {
            digest: digest_of(&bytes),
            media_type: media_type.to_owned(),
            bytes: bytes.into(),
        }
    }
}

/// A blob and where its bytes are.
pub(super) struct Blob {
    pub(super) digest: String,
    pub(super) size: u64,
    bytes: Held,
}

enum Held {
    Here(Bytes),
    /// From that offset of a file, which may be a temporary one.
    File(Arc<File>, u64),
}

impl Blob {
    pub(super) fn of_bytes(bytes: Bytes) -> Blob {
        Blob {
            digest: digest_of(&bytes),
            size: bytes.len() as u64,
            bytes: Held::Here(bytes),
        }
    }

    pub(super) fn of_file(digest: String, file: Arc<File>, offset: u64, size: u64) -> Blob {
        Blob {
            digest,
            size,
            bytes: Held::File(file, offset),
        }
    }

    /// Its bytes as they are read.
    pub(super) async fn chunks(&self) -> Result<BoxStream<'static, io::Result<Bytes>>> {
        match &self.bytes {
            Held::Here(bytes) => {
                let bytes = bytes.clone();
                Ok(stream::once(async move { Ok(bytes) }).boxed())
            }
            Held::File(file, offset) => {
                let file = file.try_clone().context("open the archive again")?;
                let mut file = tokio::fs::File::from_std(file);
                let sought = file.seek(io::SeekFrom::Start(*offset)).await;
                sought.context("read the archive")?;
                Ok(read(file.take(self.size)).boxed())
            }
        }
    }
}

fn read(
    file: impl tokio::io::AsyncRead + Send + Unpin + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(file, |mut file| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = file.read_buf(&mut chunk).await?;
        Ok((read > 0).then(|| (chunk.freeze(), file)))
    })
}

/// `sha256:…` of these bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    named(&Sha256::digest(bytes))
}

/// `sha256:…` of what is read.
pub(super) fn digest_of_all(mut from: impl io::Read) -> io::Result<String> {
    let mut sha256 = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(named(&sha256.finalize())),
            read => sha256.update(&chunk[..read]),
        }
    }
}

fn named(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut name = "sha256:".to_owned();
    for byte in digest {
        write!(name, "{byte:02x}").expect("a String takes whatever is written to it");
    }
    name
}
