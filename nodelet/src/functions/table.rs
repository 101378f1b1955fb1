//! What the node knows of each revision, and which are open.
//!
//! A revision that nobody asks for is one row: its names, its fields as JSON, and what became of its image. What is not
//! needed until it is opened is parsed then.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use function_kinds::{FUNCTION_LABEL, FunctionRevision, RevisionSpec, pinned_name};
use runtimes::{Image, ImageKind, RevisionRef, ServeUsage};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::{
    opening::Opening,
    pod,
    usage::{Sum, Usage},
};
use crate::pod::worker::{ContainerView, Views};

/// Annotations that are the runtime's begin with it.
const RUNTIMES: &str = "wasm.wk.dev/";

/// The revisions of this node; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Table {
    rows: Arc<Mutex<Rows>>,
    usage: Usage,
    /// Told when one is opened.
    opened: Arc<Notify>,
    /// Told when an image is found to be gone.
    missing: Arc<Notify>,
    /// Counts what became of images: who waits for one looks again.
    settled: watch::Sender<u64>,
}

#[derive(Default)]
struct Rows {
    all: HashMap<RevisionRef, Row>,
    open: HashMap<RevisionRef, Arc<Opening>>,
    /// Those that are open without being asked for.
    kept: HashSet<RevisionRef>,
    /// Nobody enters them any more; what they use still counts.
    closing: Vec<Arc<Opening>>,
    /// Those whose images were here, and are gone: to be deployed anew.
    lost: Vec<(RevisionRef, Ready)>,
    /// Tells those who read a revision's log that there will be more of it, until it is deleted.
    followed: HashMap<RevisionRef, watch::Sender<Views>>,
}

/// What is known of one revision.
#[derive(Clone)]
pub(crate) struct Row {
    pub(super) uid: Arc<str>,
    /// [`Fields`] as JSON.
    fields: Arc<[u8]>,
    pub(super) state: State,
    /// `scale.min` is more than none: it is kept open.
    pub(super) kept: bool,
}

/// What became of a revision's image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It is being pulled and compiled.
    Coming,
    /// It cannot be, for now.
    Refused(Arc<str>),
    /// It is here.
    Ready(Ready),
}

/// An image that is here and can serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ready {
    /// Of what runs.
    pub(super) digest: Arc<str>,
    /// What the image's name means to every node; often the same.
    pub(super) resolved: Arc<str>,
    pub(super) kind: ImageKind,
}

impl Ready {
    pub(super) fn new(image: &Image, resolved: &str) -> Ready {
        let digest: Arc<str> = image.digest.as_str().into();
        let resolved = match *digest == *resolved {
            true => digest.clone(),
            false => resolved.into(),
        };
        Ready {
            digest,
            resolved,
            kind: image.kind,
        }
    }

    /// The name that pods of the revision have the image by, if it is a container's.
    pub(super) fn pod_name(&self, image: &str) -> Option<String> {
        let is_container = self.kind == ImageKind::Oci;
        pinned_name(image, &self.resolved).filter(|_| is_container)
    }
}

/// What of a revision matters to its node.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Fields {
    pub(super) function: String,
    pub(super) spec: RevisionSpec,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Row {
    /// # Panics
    /// Never: the JSON is this module's own.
    pub(super) fn fields(&self) -> Fields {
        serde_json::from_slice(&self.fields).expect("it was written from the same type")
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Makes a row of a revision that has none; whether it had none.
    pub(super) fn insert(&self, name: &RevisionRef, revision: &FunctionRevision) -> bool {
        let mut rows = self.lock();
        if rows.all.contains_key(name) {
            return false;
        }
        let metadata = &revision.metadata;
        let labels = metadata.labels.as_ref();
        let function = labels.and_then(|labels| labels.get(FUNCTION_LABEL));
        let annotations = metadata.annotations.iter().flatten();
        let fields = Fields {
            function: function.cloned().unwrap_or_default(),
            spec: revision.spec.clone(),
            annotations: annotations
                .filter(|(key, _)| key.starts_with(RUNTIMES))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        };
        let scale = revision.spec.scale.as_ref();
        let row = Row {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            // Values of Kubernetes' own types, and names: all of it is JSON.
            fields: serde_json::to_vec(&fields).unwrap_or_default().into(),
            state: State::Coming,
            kept: scale.is_some_and(|scale| scale.min > 0),
        };
        if row.kept {
            rows.kept.insert(name.clone());
        }
        rows.all.insert(name.clone(), row);
        true
    }

    pub(super) fn row(&self, name: &RevisionRef) -> Option<Row> {
        self.lock().all.get(name).cloned()
    }

    pub(crate) fn uid(&self, name: &RevisionRef) -> Option<Arc<str>> {
        Some(self.lock().all.get(name)?.uid.clone())
    }

    pub(super) fn uids(&self) -> HashSet<Arc<str>> {
        let rows = self.lock();
        rows.all.values().map(|row| row.uid.clone()).collect()
    }

    /// Sets what became of its image, if it is still the same revision.
    pub(super) fn set(&self, name: &RevisionRef, uid: &str, state: State) {
        let mut rows = self.lock();
        if let Some(row) = rows.all.get_mut(name).filter(|row| *row.uid == *uid) {
            row.state = state;
        }
        drop(rows);
        self.settled.send_modify(|count| *count += 1);
    }

    /// Takes in that the image of one that was ready is not here any more.
    pub(super) fn lose(&self, name: &RevisionRef, uid: &str) {
        let mut rows = self.lock();
        let row = rows.all.get_mut(name).filter(|row| *row.uid == *uid);
        if let Some(row) = row
            && let State::Ready(ready) = row.state.clone()
        {
            row.state = State::Coming;
            rows.lost.push((name.clone(), ready));
            self.missing.notify_one();
        }
    }

    /// Waits until there are some whose images are gone, and takes them.
    pub(super) async fn next_lost(&self) -> Vec<(RevisionRef, Ready)> {
        self.missing.notified().await;
        std::mem::take(&mut self.lock().lost)
    }

    /// Waits until a revision's image is not on its way any more. Whoever waits has a deadline of its own.
    pub(super) async fn wait_settled(&self, name: &RevisionRef) {
        let mut settled = self.settled.subscribe();
        while self.is_coming(name) && settled.changed().await.is_ok() {}
    }

    /// Whether a revision's image is on its way.
    pub(super) fn is_coming(&self, name: &RevisionRef) -> bool {
        let rows = self.lock();
        let row = rows.all.get(name);
        row.is_some_and(|row| matches!(row.state, State::Coming))
    }

    /// Forgets a revision.
    pub(super) fn remove(&self, name: &RevisionRef) -> (Option<Row>, Option<Arc<Opening>>) {
        let mut rows = self.lock();
        rows.followed.remove(name);
        rows.kept.remove(name);
        rows.lost.retain(|(lost, _)| lost != name);
        let opening = rows.open.remove(name);
        rows.closing.extend(opening.clone());
        let row = rows.all.remove(name);
        drop(rows);
        self.settled.send_modify(|count| *count += 1);
        (row, opening)
    }

    /// Those that are not in this sorted list.
    pub(super) fn others(&self, listed: &[RevisionRef]) -> Vec<RevisionRef> {
        let rows = self.lock();
        let names = rows.all.keys();
        let others = names.filter(|name| listed.binary_search(name).is_err());
        others.cloned().collect()
    }

    /// What a revision is open as; if it is not, `make` opens it. Under one lock: nobody closes it between.
    pub(super) fn enter<T, E>(
        &self,
        name: &RevisionRef,
        found: impl Fn(&Arc<Opening>) -> Option<T>,
        make: impl FnOnce(&Row) -> Result<Arc<Opening>, E>,
        unknown: impl FnOnce() -> E,
    ) -> Result<T, E> {
        let mut rows = self.lock();
        if let Some(entered) = rows.open.get(name).and_then(&found) {
            return Ok(entered);
        }
        let row = rows.all.get(name);
        let Some(row) = row else {
            return Err(unknown());
        };
        let made = make(row)?;
        let entered = found(&made);
        rows.open.insert(name.clone(), made);
        self.opened.notify_one();
        entered.ok_or_else(unknown)
    }

    /// Waits until one is opened.
    pub(super) async fn next_opened(&self) {
        self.opened.notified().await;
    }

    pub(super) fn any_open(&self) -> bool {
        !self.lock().open.is_empty()
    }

    /// Takes those open ones away, to be closed, that `is_over` says of.
    pub(super) fn take(
        &self,
        is_over: impl Fn(&Row, &Opening) -> bool,
    ) -> Vec<(RevisionRef, Arc<Opening>)> {
        let mut rows = self.lock();
        let Rows {
            all, open, closing, ..
        } = &mut *rows;
        let over = |name: &RevisionRef, opening: &Opening| {
            all.get(name).is_none_or(|row| is_over(row, opening))
        };
        let taken = open.extract_if(|name, opening| over(name, opening));
        let taken: Vec<_> = taken.collect();
        closing.extend(taken.iter().map(|(_, opening)| opening.clone()));
        taken
    }

    pub(super) fn take_all(&self) -> Vec<(RevisionRef, Arc<Opening>)> {
        self.take(|_, _| true)
    }

    /// Takes in that one that was taken away is closed, and what it used in all.
    pub(super) fn closed(&self, opening: &Arc<Opening>, used: Option<ServeUsage>) {
        let mut rows = self.lock();
        rows.closing.retain(|other| !Arc::ptr_eq(other, opening));
        // Under the lock, so that it is never counted twice, nor not at all.
        if let Some(used) = used {
            self.usage.add(opening, used);
        }
    }

    /// The sums of what is closed, and what is not.
    pub(super) fn sums(&self) -> (BTreeMap<String, Sum>, Vec<Arc<Opening>>) {
        let rows = self.lock();
        let open = rows.open.values().chain(&rows.closing).cloned();
        (self.usage.all(), open.collect())
    }

    /// Those that are to be open and are not.
    pub(super) fn wanted(&self) -> Vec<RevisionRef> {
        let rows = self.lock();
        let kept = rows.kept.iter().filter(|name| {
            let row = rows.all.get(*name);
            let ready = row.is_some_and(
                |row| matches!(&row.state, State::Ready(ready) if ready.kind == ImageKind::Wasm),
            );
            ready && !rows.open.contains_key(*name)
        });
        kept.cloned().collect()
    }

    /// Whether a pod's uid is that of what this process opened.
    pub(crate) fn opened_here(&self, uid: &str) -> bool {
        pod::is_of_this_process(uid)
    }

    /// The names of the images that revisions need.
    pub(crate) fn images(&self) -> HashSet<Box<str>> {
        let rows = self.lock();
        let states = rows.all.values().map(|row| &row.state);
        let digests = states.filter_map(|state| match state {
            State::Ready(ready) => Some(pinned(&ready.digest).into()),
            _ => None,
        });
        digests.collect()
    }

    /// Tells whoever follows a revision's log that it goes on; ends when the revision does.
    pub(crate) fn follow(&self, name: &RevisionRef) -> Option<watch::Receiver<Views>> {
        let mut rows = self.lock();
        if !rows.all.contains_key(name) {
            return None;
        }
        let sender = rows.followed.entry(name.clone()).or_insert_with(|| {
            watch::Sender::new(vec![ContainerView {
                name: pod::CONTAINER.into(),
                attempt: Some(0),
                running: true,
                waiting: None,
                ended: None,
            }])
        });
        Some(sender.subscribe())
    }
}

/// What the names begin with under which images stay here for revisions. No pod and no Function may say one.
pub(crate) const PINS: &str = "functions.wk.internal/";

/// The name under which an image stays here for revisions, whatever its tag comes to mean.
pub(super) fn pinned(digest: &str) -> String {
    format!("{PINS}revisions:{}", digest.replace(':', "-"))
}
