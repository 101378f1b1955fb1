//! From a row to an open component, and back.
//!
//! The first request opens it: its volumes, an address of the pod network under its labels, its environment as the API
//! has it now, its code. Others that come meanwhile wait for the same. It is closed when nobody has used it for its idle
//! time, and everything that it had is given back; the next opening sees what changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use runtimes::{ImageKind, PodRef, RevisionRef, ServeError, ServeOptions, ServeUsage, Served};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, warn};

use super::{
    DRAIN, Functions, pod,
    table::{Row, State, pinned},
};
use crate::{
    logs,
    pod::{place, start::Start},
    volume,
};

/// How long opening may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a failure stands before another request tries again.
const FAILURE_STANDS: Duration = Duration::from_secs(1);

/// A revision that is open, or is being opened.
pub(crate) struct Opening {
    pub(super) uid: Arc<str>,
    pub(super) function: String,
    pub(super) name: RevisionRef,
    pod_ref: PodRef,
    options: ServeOptions,
    state: watch::Sender<Progress>,
    users: AtomicUsize,
    since: Instant,
    /// When somebody last used it, in milliseconds after `since`.
    used: AtomicU64,
}

#[derive(Clone)]
enum Progress {
    Begun,
    Open(Arc<dyn Served>),
    /// Why, and until when nobody tries again.
    Failed(Arc<str>, Instant),
}

/// Why a revision did not open.
enum Unopened {
    Failed(String),
    /// Its image is not here any more, and is fetched anew.
    Lost,
}

impl From<String> for Unopened {
    fn from(why: String) -> Self {
        Unopened::Failed(why)
    }
}

/// Somebody who uses an opening, which stays for as long.
pub(super) struct User(Arc<Opening>);

impl User {
    fn of(opening: &Arc<Opening>) -> Option<User> {
        if let Progress::Failed(_, until) = &*opening.state.borrow()
            && *until <= Instant::now()
        {
            return None;
        }
        opening.users.fetch_add(1, Ordering::Relaxed);
        Some(User(opening.clone()))
    }

    /// What answers requests, once it is open.
    pub(super) async fn served(&self) -> Result<Arc<dyn Served>, ServeError> {
        self.0.served().await
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.touch();
        self.0.users.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Opening {
    async fn served(&self) -> Result<Arc<dyn Served>, ServeError> {
        if let Progress::Open(served) = &*self.state.borrow() {
            return Ok(served.clone());
        }
        let mut state = self.state.subscribe();
        let done = state.wait_for(|state| !matches!(state, Progress::Begun));
        let done = done.await.map(|state| state.clone());
        match done {
            Ok(Progress::Open(served)) => Ok(served),
            Ok(Progress::Failed(why, _)) => Err(ServeError::Unavailable(why.to_string())),
            _ => Err(ServeError::Unavailable("it is being closed".to_owned())),
        }
    }

    fn touch(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> Option<ServeUsage> {
        match &*self.state.borrow() {
            Progress::Open(served) => Some(served.usage()),
            _ => None,
        }
    }

    /// Whether nobody has used it for long enough. Called while nobody can enter.
    fn is_idle(&self, kept: bool) -> bool {
        if self.users.load(Ordering::Relaxed) > 0 {
            return false;
        }
        match &*self.state.borrow() {
            Progress::Begun => return false,
            Progress::Open(_) if kept => return false,
            Progress::Open(served) if served.usage().active > 0 => {
                self.touch();
                return false;
            }
            Progress::Open(_) => {}
            Progress::Failed(_, until) => return *until <= Instant::now(),
        }
        let used = Duration::from_millis(self.used.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(used) >= self.options.idle
    }
}

impl Functions {
    /// Enters a revision, which is opened if it is not open.
    pub(super) fn enter(&self, name: &RevisionRef) -> Result<User, ServeError> {
        let unknown = || ServeError::Unknown(format!("functionrevision {name} is not known here"));
        let make = |row: &Row| self.begin(name, row);
        self.table().enter(name, User::of, make, unknown)
    }

    /// Begins to open a revision.
    fn begin(&self, name: &RevisionRef, row: &Row) -> Result<Arc<Opening>, ServeError> {
        let digest = match &row.state {
            State::Ready(ready) => match ready.kind {
                ImageKind::Wasm => ready.digest.clone(),
                ImageKind::Oci => {
                    let text = format!("the image of functionrevision {name} is a container's");
                    return Err(ServeError::Unknown(text));
                }
            },
            State::Coming => {
                let text = format!("the image of functionrevision {name} is not here yet");
                return Err(ServeError::Unavailable(text));
            }
            State::Refused(why) => return Err(ServeError::Unavailable(why.to_string())),
        };
        let fields = row.fields();
        let options = pod::options(&fields.spec);
        let function = fields.function.clone();
        let start = pod::start(name, &row.uid, fields, false);
        let opening = Arc::new(Opening {
            uid: row.uid.clone(),
            function,
            name: name.clone(),
            pod_ref: start.pod_ref.clone(),
            options: options.clone(),
            state: watch::Sender::new(Progress::Begun),
            users: AtomicUsize::new(0),
            since: Instant::now(),
            used: AtomicU64::new(0),
        });
        let (functions, opened) = (self.clone(), opening.clone());
        self.tasks.spawn(async move {
            let open = functions.open(&opened, start, &digest, options);
            let open = tokio::time::timeout(DEADLINE, open).await;
            let open = open.unwrap_or_else(|_| {
                let why = format!("it did not open within {} s", DEADLINE.as_secs());
                Err(why.into())
            });
            let progress = match open {
                Ok(served) => Progress::Open(served),
                Err(why) => {
                    functions.free(&opened.pod_ref).await;
                    match why {
                        Unopened::Failed(why) => {
                            Progress::Failed(why.into(), Instant::now() + FAILURE_STANDS)
                        }
                        Unopened::Lost => {
                            warn!(revision = %opened.name, "the image of a function is gone; fetching it anew");
                            functions.table().lose(&opened.name, &opened.uid);
                            let why = "its image is not on this node any more";
                            Progress::Failed(why.into(), Instant::now())
                        }
                    }
                }
            };
            opened.state.send_replace(progress);
        });
        Ok(opening)
    }

    /// Opens a revision.
    async fn open(
        &self,
        opening: &Opening,
        mut start: Start,
        digest: &str,
        options: ServeOptions,
    ) -> Result<Arc<dyn Served>, Unopened> {
        let context = &self.context;
        let image = context.images.find(&pinned(digest)).await;
        let image = image.ok_or(Unopened::Lost)?;
        volume::set_up(context, &start.pod, &start.pod_ref)
            .await
            .map_err(|error| error.messages.join("; "))?;
        let labels = start.pod.metadata.labels.clone().unwrap_or_default();
        context.network.declare(&start.pod_ref, &labels);
        start.address = place::take(context, &start.pod, &start.pod_ref, None, false).await?;
        let failed = |failure: crate::pod::container::StartFailure| {
            format!("{}: {}", failure.reason.as_str(), failure.message)
        };
        let mut spec = start.spec(context, image).await.map_err(failed)?;
        let directory = pod::log_directory(&context.config, &opening.name, &opening.uid);
        spec.log = directory.join(logs::FIRST);
        let made = tokio::fs::create_dir_all(&directory).await;
        made.map_err(|error| format!("create the log directory: {error}"))?;
        let open = self.serve.open(spec, options).await;
        open.map_err(|error| error.to_string().into())
    }

    /// Gives back what a revision had.
    async fn free(&self, pod_ref: &PodRef) {
        let context = &self.context;
        if let Err(error) = context.network.remove(&pod_ref.uid).await {
            warn!(%error, uid = pod_ref.uid, "free a function's address");
        }
        if context.volumes.find(&pod_ref.uid).is_some() {
            volume::tear_down(context, pod_ref).await;
            let directory = context.config.pods_dir.join(&pod_ref.uid);
            let remove = move || volume::remove_pod_directory(&directory);
            let _ = tokio::task::spawn_blocking(remove).await;
        }
    }

    /// Closes what nobody has used for long enough.
    pub(super) fn close_idle(&self) {
        for (name, opening) in self.table().take(|row, opening| opening.is_idle(row.kept)) {
            debug!(revision = %name, "close a function that nobody asks for");
            self.close(name, opening);
        }
    }

    /// Opens what is to be open without being asked for.
    pub(super) fn open_wanted(&self) {
        for name in self.table().wanted() {
            if let Err(error) = self.enter(&name) {
                warn!(%error, revision = %name, "open a function");
            }
        }
    }

    /// Closes one that is not in the table any more: lets requests under way end, for a while.
    pub(super) fn close(&self, name: RevisionRef, opening: Arc<Opening>) {
        let functions = self.clone();
        self.tasks.spawn(async move {
            let served = opening.served().await;
            if let Ok(served) = &served {
                let longest = opening.options.timeout.min(DRAIN);
                let closed = tokio::time::timeout(longest, served.close(false)).await;
                if closed.is_err() {
                    debug!(revision = %name, "end the requests of a function that is closed");
                    served.close(true).await;
                }
            }
            let used = served.as_ref().ok().map(|served| served.usage());
            functions.table().closed(&opening, used);
            if used.is_some() {
                functions.free(&opening.pod_ref).await;
            }
        });
    }
}
