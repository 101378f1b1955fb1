//! The cluster as actions on releases use it: `wkctl`'s connection, and progress on stderr.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use charts::release::{
    CallError, Cluster as _, Error, Report,
    action::{Action, Options},
    readiness::Progress,
    rest::{Call, Remote, Transport},
};
use http::Method;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    api::{Api, ServerError, Unreachable},
    session::Session,
};

/// How many reports may wait to be printed.
const REPORTS: usize = 64;
/// How long a body of an answer may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// `wkctl`'s connection.
pub(super) struct Connection {
    api: Api,
    reports: mpsc::Sender<Report>,
}

/// A cluster, and the reports of what is done with it.
pub(super) struct Live {
    pub(super) cluster: Arc<Remote<Connection>>,
    reports: mpsc::Receiver<Report>,
    pub(super) namespace: String,
}

impl Live {
    /// Connects. `strict`: fields that the server does not know are refused.
    pub(super) async fn connect(session: &Session, strict: bool) -> Result<Live> {
        let (sender, reports) = mpsc::channel(REPORTS);
        let connection = Connection {
            api: session.api().await?.clone(),
            reports: sender,
        };
        Ok(Live {
            cluster: Arc::new(Remote::new(connection, strict)),
            reports,
            namespace: session.namespace().await?,
        })
    }

    /// Runs an action on a release while its reports are printed. An interrupt ends it and marks what it left.
    pub(super) async fn run<T>(
        &mut self,
        session: &Session,
        name: &str,
        options: &Options,
        act: impl AsyncFnOnce(Action<'_>) -> Result<T, Error>,
    ) -> Result<T> {
        let cluster = self.cluster.clone();
        let holder = holder();
        let action = Action {
            cluster: &*cluster,
            namespace: &self.namespace,
            name,
            holder: &holder,
            options,
        };
        let result = {
            let mut work = std::pin::pin!(act(action));
            let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
            loop {
                tokio::select! {
                    biased;
                    report = self.reports.recv() => {
                        if let Some(report) = report {
                            print(session, &report);
                        }
                    }
                    result = &mut work => break Some(result),
                    _ = &mut interrupted => break None,
                }
            }
        };
        while let Ok(report) = self.reports.try_recv() {
            print(session, &report);
        }
        match result {
            Some(result) => result.map_err(told),
            None => {
                session.note(format_args!("interrupted: recording it"));
                let why = format!("{holder} was interrupted");
                action.abandon(&why).await.map_err(told)?;
                anyhow::bail!(
                    "release {name:?}: interrupted; its last revision is recorded as failed"
                )
            }
        }
    }

    /// The same without a lease or interrupts, for what only reads.
    pub(super) fn reading<'a>(&'a self, name: &'a str, options: &'a Options) -> Action<'a> {
        Action {
            cluster: &*self.cluster,
            namespace: &self.namespace,
            name,
            holder: "",
            options,
        }
    }
}

/// Who acts, for others to read; no two processes are called the same.
fn holder() -> String {
    let host = nix::unistd::gethostname().ok();
    let host = host
        .as_ref()
        .and_then(|host| host.to_str())
        .unwrap_or("localhost");
    let unique: u32 = rand::random();
    format!("wkctl on {host} (pid {}, {unique:08x})", std::process::id())
}

/// An error as `wkctl` prints it: what the server said stays the server's.
pub(super) fn told(error: Error) -> anyhow::Error {
    match error {
        Error::Call { doing, source } => anyhow::Error::new(source).context(doing),
        other => other.into(),
    }
}

fn print(session: &Session, report: &Report) {
    match report {
        Report::Note(note) => session.note(format_args!("{note}")),
        Report::Hook { event, id } => session.note(format_args!("hook {event}: {id}")),
        Report::Log { hook, text } => {
            session.note(format_args!("log of hook {hook}:"));
            session.note_bytes(text.as_bytes());
        }
        Report::Progress { id, progress } => match progress {
            Progress::Ready(how) if how.is_empty() => {}
            Progress::Ready(how) => session.note(format_args!("{id}: {how}")),
            Progress::Waiting(why) => session.note(format_args!("{id}: {why}")),
            Progress::Failed(why) => session.note(format_args!("{id}: failed: {why}")),
        },
    }
}

#[async_trait]
impl Transport for Connection {
    async fn send(&self, call: Call<'_>) -> Result<Vec<u8>, CallError> {
        let method = match call.method {
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => Method::GET,
        };
        let answer = self
            .api
            .open(method, &call.path, call.accept, call.body)
            .await;
        let answer = answer.map_err(|error| call_error(&error))?;
        let body = tokio::time::timeout(DEADLINE, answer.into_body().collect()).await;
        let lost = |message: String| CallError {
            code: None,
            message,
        };
        match body {
            Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
            Ok(Err(error)) => Err(lost(format!("read the server's answer: {error}"))),
            Err(_) => Err(lost(
                "the server's answer did not end within a minute".to_owned(),
            )),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn pause(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        // It panicked, then: whoever waits for its result hears nothing.
        let _ = tokio::task::spawn_blocking(work).await;
    }

    async fn report(&self, report: Report) {
        // Nobody may be printing any more: then nobody reads it either.
        let _ = self.reports.send(report).await;
    }
}

fn call_error(error: &anyhow::Error) -> CallError {
    if let Some(server) = error.downcast_ref::<ServerError>() {
        return CallError {
            code: Some(server.code),
            message: server.message.clone(),
        };
    }
    let message = match error.downcast_ref::<Unreachable>() {
        Some(unreachable) => unreachable.to_string(),
        None => format!("{error:#}"),
    };
    CallError {
        code: None,
        message,
    }
}

/// The history of a release, or that there is none.
pub(super) async fn history(live: &Live, name: &str) -> Result<Vec<charts::release::Release>> {
    let history = charts::release::storage::history(&*live.cluster, &live.namespace, name)
        .await
        .map_err(told)?;
    if history.is_empty() {
        return Err(told(Error::NotFound));
    }
    Ok(history)
}

/// A revision of a release; the newest if none is named.
pub(super) async fn revision(
    live: &Live,
    name: &str,
    revision: Option<u32>,
) -> Result<charts::release::Release> {
    let wanted = revision.filter(|revision| *revision > 0);
    let Some(wanted) = wanted else {
        let newest = history(live, name).await?.pop();
        return newest.ok_or_else(|| told(Error::NotFound));
    };
    let id = charts::release::ObjectId::new(
        "v1",
        "Secret",
        &live.namespace,
        &charts::release::secret::name(name, wanted),
    );
    let found = live
        .cluster
        .find(&id)
        .await
        .map_err(|error| told(Error::call(format!("read {id}"))(error)))?;
    let found = found.ok_or_else(|| told(Error::NotFound))?;
    charts::release::storage::read(&*live.cluster, &live.namespace, &found)
        .await
        .map_err(told)
}
