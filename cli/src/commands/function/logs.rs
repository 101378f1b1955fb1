//! `wkctl fn logs`: what all instances of a function write, components' and containers', on every node.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use clap::Args;
use futures::{
    Stream, StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use serde_json::Value;

use super::{find, revisions, revisions_of, text};
use crate::{
    api::{self, Api},
    duration, query,
    session::Session,
};

/// How often a log that is followed looks for new instances.
const LOOK: Duration = Duration::from_secs(1);
/// The label with the revision's name, on its pods.
const REVISION_LABEL: &str = "functions.wk.dev/revision";

/// Print what a function writes
#[derive(Args)]
pub(super) struct Logs {
    /// Function
    name: String,
    /// Go on printing
    #[arg(short, long)]
    follow: bool,
    /// Only of this revision
    #[arg(long)]
    revision: Option<String>,
    /// Only the last lines of each log; -1 for all
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Only what is younger: 30s, 5m, 2h
    #[arg(long, value_parser = duration::parse)]
    since: Option<Duration>,
    /// Begin each line with the time it was printed
    #[arg(long)]
    timestamps: bool,
    /// Begin each line with where it comes from
    #[arg(long)]
    prefix: bool,
}

/// Lines, and where they come from.
type Lines = BoxStream<'static, (String, Result<Vec<u8>>)>;

impl Logs {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let (api, namespace) = (session.api().await?, session.namespace().await?);
        find(api, &namespace, &self.name).await?;
        let mut known = BTreeSet::new();
        let mut lines = SelectAll::<Lines>::new();
        self.join(api, &namespace, &mut known, &mut lines).await?;
        if known.is_empty() {
            session.note(format_args!("{} has written nothing yet.", self.name));
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some((from, line)) = lines.next() => match line {
                    Ok(line) => self.print(session, &from, &line)?,
                    Err(error) => session.note(format_args!("error: {from}: {error:#}")),
                },
                _ = look.tick(), if self.follow => {
                    self.join(api, &namespace, &mut known, &mut lines).await?;
                }
                else => return Ok(()),
            }
        }
    }

    fn print(&self, session: &Session, from: &str, line: &[u8]) -> Result<()> {
        let mut text = Vec::with_capacity(line.len() + from.len() + 4);
        if self.prefix {
            text.extend_from_slice(format!("[{from}] ").as_bytes());
        }
        text.extend_from_slice(line);
        text.push(b'\n');
        session.bytes(&text)
    }

    /// Opens the logs that are not open yet.
    async fn join(
        &self,
        api: &Api,
        namespace: &str,
        known: &mut BTreeSet<String>,
        lines: &mut SelectAll<Lines>,
    ) -> Result<()> {
        for (from, path) in self.sources(api, namespace).await? {
            if known.contains(&from) {
                continue;
            }
            match api.lines(&self.path(&path)).await {
                Ok(log) => {
                    known.insert(from.clone());
                    lines.push(opened(from, log));
                }
                // Nothing of it runs yet.
                Err(error) if matches!(api::code(&error), Some(400 | 404)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The logs that there are: a component's revision has one, each pod of a container's too.
    async fn sources(&self, api: &Api, namespace: &str) -> Result<Vec<(String, String)>> {
        let listed = api.get(&revisions_of(namespace, &self.name)).await?;
        let mut sources = Vec::new();
        for revision in listed["items"].as_array().into_iter().flatten() {
            let name = text(&revision["metadata"]["name"]);
            if self
                .revision
                .as_deref()
                .is_some_and(|wanted| wanted != name)
            {
                continue;
            }
            if revision["status"]["runtime"] != "oci" {
                let path = format!("{}/{name}/log", revisions(namespace));
                sources.push((name.to_owned(), path));
                continue;
            }
            let pods = format!("/api/v1/namespaces/{namespace}/pods");
            let selector = format!("{REVISION_LABEL}={name}");
            let listed = api
                .get(&query::with(&pods, &[("labelSelector", &selector)]))
                .await?;
            let names = listed["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|pod: &Value| text(&pod["metadata"]["name"]));
            sources.extend(names.map(|pod| (format!("pod/{pod}"), format!("{pods}/{pod}/log"))));
        }
        Ok(sources)
    }

    fn path(&self, path: &str) -> String {
        let flag = |on: bool| if on { "true" } else { "" };
        let tail = self
            .tail
            .filter(|lines| *lines >= 0)
            .map(|lines| lines.to_string());
        let since = self
            .since
            .map(|since| since.as_millis().div_ceil(1000).max(1).to_string());
        let parameters = [
            ("follow", flag(self.follow)),
            ("timestamps", flag(self.timestamps)),
            ("tailLines", tail.as_deref().unwrap_or_default()),
            ("sinceSeconds", since.as_deref().unwrap_or_default()),
        ];
        query::with(path, &parameters)
    }
}

fn opened(from: String, log: impl Stream<Item = Result<Vec<u8>>> + Send + 'static) -> Lines {
    log.map(move |line| (from.clone(), line)).boxed()
}
