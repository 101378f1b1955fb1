//! The tasks of the process: named, waited for; the first that fails stops the others.
//!
//! Components stop on the signal; what they stand on (the store's feed) is ended after them.

use std::{collections::BTreeSet, future::Future, time::Duration};

use anyhow::{Context, Result, anyhow};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long components may take to stop before they are aborted.
const DRAIN: Duration = Duration::from_secs(15);

type Ended = Result<(&'static str, Result<()>), JoinError>;

/// The running components.
#[derive(Default)]
pub(crate) struct Tasks {
    components: JoinSet<(&'static str, Result<()>)>,
    foundations: JoinSet<(&'static str, Result<()>)>,
    running: BTreeSet<&'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// The signal that every component stops on.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a component, which ends soon after the stop signal.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        component: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.running.insert(name);
        self.components
            .spawn(async move { (name, component.await) });
    }

    /// Starts what components stand on: it is ended once all of them have stopped.
    pub(crate) fn start_foundation(
        &mut self,
        name: &'static str,
        foundation: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.foundations
            .spawn(async move { (name, foundation.await) });
    }

    /// Waits until a component ends, which none should before the stop signal, and says which.
    pub(crate) async fn first_end(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(ended) = self.components.join_next() => ended,
            Some(ended) = self.foundations.join_next() => ended,
            else => return anyhow!("no component is running"),
        };
        match self.note(ended) {
            Ok(name) => anyhow!("{name} stopped by itself"),
            Err(error) => error,
        }
    }

    /// Signals all to stop and waits for them; those that do not stop in time are named and aborted.
    pub(crate) async fn drain(mut self) -> Result<()> {
        self.stop.cancel();
        let all = async {
            let mut first = Ok(());
            while let Some(ended) = self.components.join_next().await {
                first = first.and(self.note(ended).map(drop));
            }
            first
        };
        match tokio::time::timeout(DRAIN, all).await {
            Ok(result) => result,
            Err(_) => {
                let names: Vec<_> = self.running.into_iter().collect();
                Err(anyhow!(
                    "{} did not stop within {} s",
                    names.join(", "),
                    DRAIN.as_secs()
                ))
            }
        }
    }

    fn note(&mut self, ended: Ended) -> Result<&'static str> {
        let (name, result) = ended.context("a component crashed")?;
        self.running.remove(name);
        result
            .with_context(|| format!("{name} failed"))
            .map(|()| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_component_that_failed_is_named() {
        let mut tasks = Tasks::default();
        tasks.start("scheduler", async { Err(anyhow!("no snapshot")) });
        assert_eq!(
            format!("{:#}", tasks.first_end().await),
            "scheduler failed: no snapshot"
        );
    }

    #[tokio::test]
    async fn draining_stops_every_component_and_then_what_they_stand_on() {
        let mut tasks = Tasks::default();
        for name in ["a", "b"] {
            let stop = tasks.stop();
            tasks.start(name, async move {
                stop.cancelled().await;
                Ok(())
            });
        }
        tasks.start_foundation("store", std::future::pending());
        tasks.drain().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_does_not_stop_is_named_and_aborted() {
        let mut tasks = Tasks::default();
        tasks.start("stuck", std::future::pending());
        let error = tasks.drain().await.unwrap_err().to_string();
        assert_eq!(error, "stuck did not stop within 15 s");
    }
}
