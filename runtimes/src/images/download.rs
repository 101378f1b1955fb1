//! One blob from a registry into the store, going on where a transfer, a pull or the process broke off.

use bytes::Bytes;
use oci_spec::image::Descriptor;
use tokio::sync::mpsc;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    Progress,
    blobs::Lease,
    partial::{Partial, Verified},
    registry::{Client, Kind, Refusal},
};

/// How often a transfer that broke without bringing anything is taken up again.
const RESUMPTIONS: u32 = 4;

/// The pause before it is; twice as long each time.
const PAUSE: Duration = Duration::from_millis(200);

/// Chunks (of some 16 KiB) that wait for the disk; then the network waits.
const WAITING_CHUNKS: usize = 64;

/// What has come of a pull.
#[derive(Default, Debug)]
pub(super) struct Meter {
    received: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What came is of no use.
    fn lose(&self, bytes: u64) {
        self.received.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Progress {
        Progress {
            received_bytes: self.received.load(Ordering::Relaxed),
            total_bytes: self.total.load(Ordering::Relaxed),
        }
    }
}

/// Downloads a blob that is not here. `None`: another pull has brought it meanwhile.
pub(super) async fn download(
    client: &Client,
    blob: &Descriptor,
    lease: &Lease,
    meter: &Meter,
) -> Result<Option<Verified>, String> {
    let turn = lease.turn().await;
    if lease.path().exists() {
        meter.receive(blob.size());
        return Ok(None);
    }
    let digest = lease.digest();
    let disk = |error: std::io::Error| lease.blobs().in_words(&error);
    let held = lease.clone();
    let mut partial = blocking(move || Partial::open(held, turn))
        .await?
        .map_err(disk)?;
    meter.receive(partial.size());
    let mut fruitless = 0;
    loop {
        let before = partial.size();
        let (left, outcome) = transfer(client, blob, partial, meter).await?;
        partial = left;
        match outcome {
            Ok(()) => {}
            Err(Broken::Disk(error)) => {
                if error.kind() == std::io::ErrorKind::StorageFull {
                    // What is here of it would keep the disk full.
                    let _ = blocking(move || partial.discard()).await?;
                }
                return Err(disk(error));
            }
            Err(Broken::Network(refusal)) => {
                if !matches!(refusal.kind, Kind::Transport | Kind::Server) {
                    return Err(format!("download of {digest}: {}", refusal.message));
                }
                if partial.size() > before {
                    fruitless = 0;
                } else if fruitless == RESUMPTIONS {
                    return Err(format!("download of {digest}: {}", refusal.message));
                }
                let why = refusal.message;
                tracing::debug!(
                    digest,
                    size = partial.size(),
                    why,
                    "a transfer broke: taken up again"
                );
                tokio::time::sleep(PAUSE * 2_u32.pow(fruitless)).await;
                fruitless += 1;
                continue;
            }
        }
        let size = partial.size();
        match blocking(move || partial.finish()).await?.map_err(disk)? {
            Ok(verified) => return Ok(Some(verified)),
            // An earlier pull's bytes may be what is wrong: once more from the start.
            Err(wrong) if wrong.is_found() => {
                meter.lose(size);
                partial = restart(wrong).await?.map_err(disk)?;
            }
            Err(wrong) => {
                let _ = blocking(move || wrong.discard()).await?;
                return Err(format!("content is not what {digest} names"));
            }
        }
    }
}

/// How a transfer ended too early.
enum Broken {
    Network(Refusal),
    Disk(std::io::Error),
}

/// One transfer, from where the last one ended. The disk is written by a thread of its own, so that it and the network
/// don't wait for each other; that thread has the file until all is written, also if nobody waits for this any more.
async fn transfer(
    client: &Client,
    blob: &Descriptor,
    mut partial: Partial,
    meter: &Meter,
) -> Result<(Partial, Result<(), Broken>), String> {
    if partial.size() > blob.size() {
        meter.lose(partial.size());
        partial = match restart(partial).await? {
            Ok(partial) => partial,
            Err(error) => return Err(error.to_string()),
        };
    }
    if partial.size() == blob.size() && blob.size() > 0 {
        return Ok((partial, Ok(())));
    }
    let digest = blob.digest().to_string();
    let (mut body, goes_on) = match client.blob_from(&digest, partial.size()).await {
        Ok(answer) => answer,
        Err(refusal) => return Ok((partial, Err(Broken::Network(refusal)))),
    };
    if !goes_on {
        // A registry that cannot go on begins again.
        meter.lose(partial.size());
        partial = match restart(partial).await? {
            Ok(partial) => partial,
            Err(error) => return Err(error.to_string()),
        };
    }
    let mut size = partial.size();
    let (chunks, written) = mpsc::channel(WAITING_CHUNKS);
    let writer = tokio::task::spawn_blocking(move || write(partial, written));
    let mut outcome = Ok(());
    loop {
        match body.chunk().await {
            Ok(Some(chunk)) => {
                size += chunk.len() as u64;
                meter.receive(chunk.len() as u64);
                if size > blob.size() {
                    let message = format!(
                        "{digest} is longer than the {} bytes of its manifest",
                        blob.size()
                    );
                    outcome = Err(client.refuse(&message));
                    break;
                }
                // Else the writer has ended, and says why.
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(refusal) => {
                outcome = Err(refusal);
                break;
            }
        }
    }
    drop(chunks);
    let (partial, disk) = writer.await.map_err(|error| error.to_string())?;
    if let Err(error) = disk {
        return Ok((partial, Err(Broken::Disk(error))));
    }
    if outcome.is_ok() && size < blob.size() {
        outcome = Err(client.truncated(&digest, size, blob.size()));
    }
    Ok((partial, outcome.map_err(Broken::Network)))
}

fn write(
    mut partial: Partial,
    mut chunks: mpsc::Receiver<Bytes>,
) -> (Partial, std::io::Result<()>) {
    while let Some(chunk) = chunks.blocking_recv() {
        if let Err(error) = partial.append(&chunk) {
            return (partial, Err(error));
        }
    }
    (partial, Ok(()))
}

async fn restart(mut partial: Partial) -> Result<std::io::Result<Partial>, String> {
    blocking(move || partial.restart().map(|()| partial)).await
}

/// Runs what blocks; an error is an end of the process.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|error| format!("it was interrupted: {error}"))
}
