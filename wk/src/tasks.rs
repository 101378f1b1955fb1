//! The tasks of the process: named, waited for; the first that fails stops the others.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, anyhow};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long components may take to stop before they are aborted.
const DRAIN: Duration = Duration::from_secs(15);

/// The running components.
#[derive(Default)]
pub(crate) struct Tasks {
    set: JoinSet<(&'static str, Result<()>)>,
    stop: CancellationToken,
}

impl Tasks {
    /// The signal that every component stops on.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a component.
    pub(crate) fn start(&mut self, name: &'static str, component: impl Future<Output = Result<()>> + Send + 'static) {
        self.set.spawn(async move { (name, component.await) });
    }

    /// Waits until a component ends, which none should before the stop signal, and says which.
    pub(crate) async fn first_end(&mut self) -> anyhow::Error {
        match self.set.join_next().await {
            None => anyhow!("no component is running"),
            Some(Ok((name, Ok(())))) => anyhow!("{name} stopped by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(error)) => anyhow!(error).context("a component crashed"),
        }
    }

    /// Signals all to stop and waits for them; those that do not stop in time are aborted.
    pub(crate) async fn drain(mut self) -> Result<()> {
        self.stop.cancel();
        let all = async {
            let mut first = Ok(());
            while let Some(ended) = self.set.join_next().await {
                let result = match ended {
                    Ok((name, result)) => result.with_context(|| format!("{name} failed while stopping")),
                    Err(error) => Err(anyhow!(error).context("a component crashed while stopping")),
                };
                first = first.and(result);
            }
            first
        };
        match tokio::time::timeout(DRAIN, all).await {
            Ok(result) => result,
            Err(_) => Err(anyhow!("components did not stop within {} s", DRAIN.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_component_that_failed_is_named() {
        let mut tasks = Tasks::default();
        tasks.start("scheduler", async { Err(anyhow!("no snapshot")) });
        assert_eq!(format!("{:#}", tasks.first_end().await), "scheduler failed: no snapshot");
    }

    #[tokio::test]
    async fn draining_stops_every_component() {
        let mut tasks = Tasks::default();
        for name in ["a", "b"] {
            let stop = tasks.stop();
            tasks.start(name, async move {
                stop.cancelled().await;
                Ok(())
            });
        }
        tasks.drain().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_does_not_stop_is_aborted() {
        let mut tasks = Tasks::default();
        tasks.start("stuck", std::future::pending());
        assert!(tasks.drain().await.is_err());
    }
}
