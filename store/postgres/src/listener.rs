//! Hears of commits by any process.
//!
//! A notification carries the newest revision and nothing else: the log is read for the rest, so a
//! lost one costs time, not events. This session only listens.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};
use store::{Revision, StoreError};
use tokio::{sync::watch, time::sleep};

use crate::{connection::within, read};

/// The channel that `wk.apply` notifies.
const CHANNEL: &str = "wk_log";
/// Pauses between two attempts to connect: doubling from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Tells `heard` of every revision, for ever.
pub(crate) async fn listen(sessions: PgPool, readers: PgPool, heard: watch::Sender<Revision>) {
    let mut pause = PAUSES.0;
    loop {
        let Err(error) = listen_once(&sessions, &readers, &heard, &mut pause).await;
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "other processes' changes are found by polling until the database notifies again"
        );
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn listen_once(
    sessions: &PgPool,
    readers: &PgPool,
    heard: &watch::Sender<Revision>,
    pause: &mut Duration,
) -> Result<std::convert::Infallible, StoreError> {
    let mut listener = within(PgListener::connect_with(sessions)).await?;
    within(listener.listen(CHANNEL)).await?;
    loop {
        // Nothing was heard of what was committed before the session listened.
        tell(heard, read::revision(readers).await?);
        *pause = PAUSES.0;
        // No deadline: silence is the usual state, and whoever waits polls besides.
        while let Some(notification) = listener.try_recv().await.map_err(|error| {
            crate::connection::unavailable("the session that listens failed", error)
        })? {
            if let Ok(revision) = notification.payload().parse() {
                tell(heard, Revision(revision));
            }
        }
    }
}

fn tell(heard: &watch::Sender<Revision>, revision: Revision) {
    heard.send_if_modified(|newest| {
        let newer = revision > *newest;
        *newest = revision.max(*newest);
        newer
    });
}
