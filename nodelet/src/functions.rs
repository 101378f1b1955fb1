//! The functions of this node: revisions whose images are components, which requests start.
//!
//! - [`table`]: what is known of each revision, as small as it can be; those that are open.
//! - [`pod`](mod@pod): a revision as a pod, so that what a pod's container is given is what it is given; pure.
//! - [`deploy`]: pulls and compiles when a revision comes, and says so in its status.
//! - [`opening`]: from a row to an open component, when the first request comes, and back when none has for a while.
//! - [`usage`]: what revisions used, over restarts too.
//!
//! Reads FunctionRevisions, and for open ones what pods read; writes this node's entry of their `status.nodes`, Events
//! about them, their logs, and a file with what they used. Never holds more of a revision that nobody asks for than its
//! row, and never lets a request wait for a compiler.

mod deploy;
mod opening;
mod pod;
mod table;
mod usage;

use std::{pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use function_kinds::FunctionRevision;
use futures::StreamExt as _;
use http::{Request, Response};
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use runtimes::{Body, Invoke, RevisionRef, Serve, ServeError, Served};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use self::{
    deploy::{Deploy, Deploys},
    opening::User,
};
pub(crate) use self::{
    pod::{CONTAINER, revision_of},
    table::{PINS, Table},
    usage::{Metrics, summary},
};
use crate::{logs, pod::worker::Context};

/// How often open revisions are looked through for those that nobody uses.
const LOOK: Duration = Duration::from_secs(1);
/// How long requests under way may take when the node stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Answers requests with the node's functions.
#[derive(Clone)]
pub(crate) struct Functions {
    context: Arc<Context>,
    serve: Arc<dyn Serve>,
    /// Openings and closings.
    tasks: TaskTracker,
}

impl Functions {
    pub(crate) fn new(context: Arc<Context>, serve: Arc<dyn Serve>) -> Functions {
        Functions {
            context,
            serve,
            tasks: TaskTracker::new(),
        }
    }

    fn table(&self) -> &Table {
        &self.context.functions
    }

    /// Follows revisions and looks after those that are open until `stop`, then closes them.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        usage::load(&self.context).await;
        let mut deploys = Deploys::new(self.context.clone());
        let api: Api<FunctionRevision> = Api::all(self.context.client.clone());
        let events = watcher(api, watcher::Config::default())
            .modify(|revision| revision.metadata.managed_fields = None)
            .default_backoff();
        let mut events = pin!(events);
        let mut listed = Vec::new();
        let mut has_listed = false;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut save = tokio::time::interval(usage::PERIOD);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = deploys.next() => self.open_wanted(),
                () = self.table().next_opened() => {}
                lost = self.table().next_lost() => {
                    for (name, ready) in lost {
                        deploys.add(name, Deploy::lost(&ready));
                    }
                }
                _ = look.tick(), if self.table().any_open() => self.close_idle(),
                _ = save.tick() => usage::save(&self.context, has_listed).await,
                Some(event) = events.next() => match event {
                    Ok(watcher::Event::Init) => listed.clear(),
                    Ok(watcher::Event::InitApply(revision)) => {
                        listed.extend(self.apply(revision, &mut deploys));
                    }
                    Ok(watcher::Event::InitDone) => {
                        listed.sort_unstable();
                        let all = std::mem::take(&mut listed);
                        for gone in self.table().others(&all) {
                            self.gone(&gone, &mut deploys);
                        }
                        has_listed = true;
                        self.open_wanted();
                        self.remove_old_logs().await;
                    }
                    Ok(watcher::Event::Apply(revision)) => {
                        self.apply(revision, &mut deploys);
                        self.open_wanted();
                    }
                    Ok(watcher::Event::Delete(revision)) => {
                        if let Some(name) = name_of(&revision) {
                            self.gone(&name, &mut deploys);
                        }
                    }
                    Err(error) => warn!(%error, "watch functionrevisions"),
                },
            }
        }
        for (name, opening) in self.table().take_all() {
            self.close(name, opening);
        }
        self.tasks.close();
        if tokio::time::timeout(DRAIN * 2, self.tasks.wait())
            .await
            .is_err()
        {
            warn!("functions did not close in time");
        }
        usage::save(&self.context, has_listed).await;
        Ok(())
    }

    /// Takes in a revision; its name, if it has one.
    fn apply(&self, revision: FunctionRevision, deploys: &mut Deploys) -> Option<RevisionRef> {
        let name = name_of(&revision)?;
        if revision.metadata.deletion_timestamp.is_some() {
            self.gone(&name, deploys);
            return None;
        }
        let uid = revision.metadata.uid.clone().unwrap_or_default();
        if self.table().uid(&name).is_some_and(|known| *known != *uid) {
            // Another revision of the same name.
            self.gone(&name, deploys);
        }
        if self.table().insert(&name, &revision) {
            let node = &self.context.config.node_name;
            deploys.add(name.clone(), Deploy::of(&revision, node));
        } else if let Some(digest) = revision.digest() {
            deploys.hold(&name, digest);
        }
        Some(name)
    }

    fn gone(&self, name: &RevisionRef, deploys: &mut Deploys) {
        deploys.remove(name);
        let (row, opening) = self.table().remove(name);
        if let Some(opening) = opening {
            self.close(name.clone(), opening);
        }
        let Some(row) = row else { return };
        self.context.functions.usage().end(&row.uid);
        let directory = pod::log_directory(&self.context.config, name, &row.uid);
        self.tasks.spawn_blocking(move || {
            if let Err(error) = runtimes::removal::remove(&directory) {
                warn!(%error, directory = %directory.display(), "remove the log of a function");
            }
        });
    }

    /// Removes the logs of revisions that were deleted while nobody looked.
    async fn remove_old_logs(&self) {
        let (table, parent) = (self.table().clone(), pod::logs(&self.context.config));
        let removal = tokio::task::spawn_blocking(move || {
            let uids = table.uids();
            for directory in std::fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = directory.file_name();
                let uid = name.to_str().and_then(|name| name.rsplit_once('_'));
                if uid.is_some_and(|(_, uid)| !uids.contains(uid)) {
                    let _ = runtimes::removal::remove(&directory.path());
                }
            }
        });
        if let Err(error) = removal.await {
            warn!(%error, "remove logs of functions");
        }
    }
}

fn name_of(revision: &FunctionRevision) -> Option<RevisionRef> {
    Some(RevisionRef {
        namespace: revision.metadata.namespace.clone()?,
        name: revision.metadata.name.clone()?,
    })
}

impl Functions {
    /// What answers a revision's requests, and a hold on it. An image that is on its way is waited for; one that turns
    /// out to be gone is fetched anew. Whoever asks has a deadline of its own.
    async fn served(&self, name: &RevisionRef) -> Result<(User, Arc<dyn Served>), ServeError> {
        let mut has_waited = false;
        loop {
            let error = match self.enter(name) {
                Ok(user) => match user.served().await {
                    Ok(served) => return Ok((user, served)),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if has_waited || !self.table().is_coming(name) {
                return Err(error);
            }
            has_waited = true;
            self.table().wait_settled(name).await;
        }
    }
}

#[async_trait]
impl Invoke for Functions {
    async fn invoke(
        &self,
        revision: &RevisionRef,
        request: Request<Body>,
    ) -> Result<Response<Body>, ServeError> {
        let (_user, served) = self.served(revision).await?;
        served.serve(request).await
    }
}

/// Where a revision's log is.
pub(crate) fn log(context: &Context, name: &RevisionRef) -> Option<std::path::PathBuf> {
    let uid = context.functions.uid(name)?;
    let directory = pod::log_directory(&context.config, name, &uid);
    Some(directory.join(logs::FIRST))
}
