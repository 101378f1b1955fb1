//! Many clients that each ask again as soon as they are answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::Request;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    child::Child,
    client::Client,
    objects::{self, Body},
};

/// What was counted.
#[derive(Default, Debug)]
pub(crate) struct Measured {
    pub(crate) count: usize,
    pub(crate) cpu_seconds: f64,
    pub(crate) seconds: f64,
    /// How long each took, in order of length.
    pub(crate) times: Vec<Duration>,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Measured {
    pub(crate) fn per_cpu_second(&self) -> f64 {
        // Ticks are coarse: what took less than one counts as one.
        self.count as f64 / self.cpu_seconds.max(0.01)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    pub(crate) fn millis(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let index = (self.times.len() as f64 * share) as usize;
        let found = self.times.get(index).or(self.times.last());
        found.map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }
}

/// Who asks, and for how long.
pub(crate) struct Load<'a> {
    child: &'a Child,
    clients: usize,
    most: usize,
    until: Duration,
}

impl<'a> Load<'a> {
    pub(crate) fn over(child: &'a Child, clients: usize) -> Self {
        Self {
            child,
            clients,
            most: usize::MAX,
            until: Duration::from_secs(60),
        }
    }

    pub(crate) fn count(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    pub(crate) fn seconds(mut self, seconds: u64) -> Self {
        self.until = Duration::from_secs(seconds);
        self
    }

    /// Asks; every answer must be a success.
    pub(crate) async fn run(self, make: fn(usize) -> Request<Body>) -> Result<Measured> {
        self.run_with(Arc::new(make)).await
    }

    async fn run_with(
        self,
        make: Arc<dyn Fn(usize) -> Request<Body> + Send + Sync>,
    ) -> Result<Measured> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut clients = Vec::new();
        for _ in 0..self.clients {
            clients.push(Client::connect(self.child).await?);
        }
        let cpu = self.child.cpu_seconds()?;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for mut client in clients {
            let (next, make, until, most) = (next.clone(), make.clone(), self.until, self.most);
            tasks.spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < until {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= most {
                        break;
                    }
                    let request = make(index);
                    let asked = Instant::now();
                    let (code, _) = client.ask(request).await?;
                    times.push(asked.elapsed());
                    if !(200..300).contains(&code) {
                        bail!("the answer to request {index} has code {code}");
                    }
                }
                Ok(times)
            });
        }
        let mut measured = Measured::default();
        while let Some(ended) = tasks.join_next().await {
            measured.times.extend(ended.context("run a client")??);
        }
        measured.seconds = begun.elapsed().as_secs_f64();
        measured.cpu_seconds = self.child.cpu_seconds()? - cpu;
        measured.count = measured.times.len();
        measured.times.sort_unstable();
        Ok(measured)
    }
}

/// Asks the floor for answers of one length.
pub(crate) async fn floor(child: &Child, clients: usize, length: usize) -> Result<Measured> {
    Load::over(child, clients)
        .seconds(2)
        .run_with(Arc::new(move |_| objects::bytes(length)))
        .await
}

/// How long one answer is.
pub(crate) async fn length(child: &Child, request: Request<Body>) -> Result<usize> {
    let mut client = Client::connect(child).await?;
    Ok(client.ask(request).await?.1)
}

/// Reads all pods in pages of 500, some rounds over.
pub(crate) async fn pages(child: &Child, rounds: usize) -> Result<Measured> {
    let mut client = Client::connect(child).await?;
    let mut measured = Measured::default();
    let begun = Instant::now();
    let cpu = child.cpu_seconds()?;
    for _ in 0..rounds {
        let mut next = String::new();
        loop {
            let query = format!("limit=500{next}");
            let asked = Instant::now();
            let page = client.read(objects::list_pods(&query)).await?;
            measured.times.push(asked.elapsed());
            // The metadata stands first: the rest is of no interest here.
            let head = page.split(|byte| *byte == b'[').next().unwrap_or_default();
            let head = format!("{}null}}", String::from_utf8_lossy(head));
            let head: Value = serde_json::from_str(&head).context("read a page's head")?;
            match head["metadata"]["continue"].as_str() {
                Some(token) => next = format!("&continue={token}"),
                None => break,
            }
        }
    }
    measured.count = measured.times.len();
    measured.cpu_seconds = child.cpu_seconds()? - cpu;
    measured.seconds = begun.elapsed().as_secs_f64();
    measured.times.sort_unstable();
    Ok(measured)
}
