//! Pulls and compiles a revision's image when the revision comes, and says in its status what came of it.
//!
//! A few at a time, in the order in which they came; what fails is tried again with the back-off that pods have. What
//! was ready before a restart, and is still here, is ready again without a word.
//!
//! Every node runs the same: what a tag meant to this node is said in its entry and serves nothing until the revision is
//! held to it (`status.digest`). If it is held to something else, that is pulled by its digest.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use function_kinds::{FunctionRevision, NodeStatus, pinned_name};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use runtimes::{Image, ImageKind, RevisionRef};
use serde_json::json;
use tokio::{
    task::{self, JoinSet},
    time::Instant,
};
use tracing::warn;

use super::{
    pod,
    table::{Ready, Row, State, pinned},
};
use crate::{
    deadline::call,
    pod::{
        container::{FIRST_DELAY, LONGEST_DELAY, Reason, StartFailure},
        place::runtime_of,
        security::component,
        start::Start,
        worker::Context,
    },
};

/// Revisions whose images are pulled or compiled at once.
const CONCURRENT: usize = 8;

/// The revisions whose images are to come.
pub(super) struct Deploys {
    context: Arc<Context>,
    queue: VecDeque<RevisionRef>,
    later: BTreeSet<(Instant, RevisionRef)>,
    /// Those that are not done, and how they fare.
    known: BTreeMap<RevisionRef, Deploy>,
    running: JoinSet<(RevisionRef, Arc<str>, Outcome)>,
    /// Whose try each task is: one that panics says nothing more.
    tries: HashMap<task::Id, RevisionRef>,
}

/// A revision that is not served yet.
#[derive(Clone, Default)]
pub(super) struct Deploy {
    failures: u32,
    /// This node's entry, as the API has it.
    said: Option<NodeStatus>,
    /// The digest that the revision is held to, once that is decided.
    digest: Option<Arc<str>>,
    /// What is here, until that is decided.
    found: Option<Ready>,
}

/// What became of one try.
struct Outcome {
    found: Result<Ready, Arc<str>>,
    /// The entry that the API has now, if it was written.
    said: Option<NodeStatus>,
    written: bool,
}

impl Deploy {
    /// Of a revision as the API has it, on a node.
    pub(super) fn of(revision: &FunctionRevision, node: &str) -> Deploy {
        Deploy {
            said: said(revision, node),
            digest: revision.digest().map(Arc::from),
            ..Deploy::default()
        }
    }

    /// Of one whose image was here, and is gone.
    pub(super) fn lost(ready: &Ready) -> Deploy {
        Deploy {
            digest: Some(ready.resolved.clone()),
            ..Deploy::default()
        }
    }
}

/// What a node said of a revision.
fn said(revision: &FunctionRevision, node: &str) -> Option<NodeStatus> {
    let nodes = revision.status.iter().flat_map(|status| &status.nodes);
    nodes.into_iter().find(|entry| entry.name == node).cloned()
}

impl Deploys {
    pub(super) fn new(context: Arc<Context>) -> Deploys {
        Deploys {
            context,
            queue: VecDeque::new(),
            later: BTreeSet::new(),
            known: BTreeMap::new(),
            running: JoinSet::new(),
            tries: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, name: RevisionRef, deploy: Deploy) {
        self.known.insert(name.clone(), deploy);
        self.queue.push_back(name);
    }

    /// Takes in which digest a revision is held to.
    pub(super) fn hold(&mut self, name: &RevisionRef, digest: &str) {
        let Some(deploy) = self.known.get_mut(name) else {
            return;
        };
        deploy.digest = Some(digest.into());
        match deploy.found.take() {
            Some(found) if *found.resolved == *digest => self.serve(name, found),
            Some(_) => self.queue.push_back(name.clone()),
            // It is asked about at the end of the try that is under way or to come.
            None => {}
        }
    }

    /// From now on requests are answered with it.
    fn serve(&mut self, name: &RevisionRef, found: Ready) {
        if let Some(uid) = self.context.functions.uid(name) {
            let state = State::Ready(found);
            self.context.functions.set(name, &uid, state);
        }
        self.known.remove(name);
    }

    /// Nobody wants it any more; a try under way is not heard.
    pub(super) fn remove(&mut self, name: &RevisionRef) {
        if self.known.remove(name).is_some() {
            self.queue.retain(|other| other != name);
            self.later.retain(|(_, other)| other != name);
        }
    }

    /// Goes on until something has been done.
    pub(super) async fn next(&mut self) {
        loop {
            let now = Instant::now();
            while let Some((at, name)) = self.later.pop_first() {
                if at > now {
                    self.later.insert((at, name));
                    break;
                }
                self.queue.push_back(name);
            }
            while self.running.len() < CONCURRENT
                && let Some(name) = self.queue.pop_front()
            {
                self.begin(name);
            }
            let wake_at = self.later.first().map(|(at, _)| *at);
            let sleep = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    match ended {
                        Ok((id, (name, uid, outcome))) => {
                            self.tries.remove(&id);
                            self.end(name, &uid, outcome);
                        }
                        Err(error) => self.broke(&error),
                    }
                    return;
                }
                () = sleep => {}
            }
        }
    }

    fn begin(&mut self, name: RevisionRef) {
        let Some(deploy) = self.known.get(&name).cloned() else {
            return;
        };
        let context = self.context.clone();
        let Some(row) = context.functions.row(&name) else {
            return;
        };
        let own = name.clone();
        let attempt = self.running.spawn(async move {
            let found = match here(&context, &deploy).await {
                Some(image) => Ok(image),
                None => bring(&context, &name, &row, &deploy).await,
            };
            let (entry, found) = match found {
                Ok((image, ready)) => (entry(&context, &image, &ready), Ok(ready)),
                Err(failure) => {
                    let reference = row.fields().spec.image;
                    let failure = backed_off(failure, deploy.failures, &reference);
                    refused_entry(&context, failure)
                }
            };
            if found.is_ok() {
                // What was refused before is on its way: whoever reads that it is ready here may ask for it.
                context.functions.set(&name, &row.uid, State::Coming);
            }
            let mut said = deploy.said;
            let mut written = true;
            if said.as_ref() != Some(&entry) {
                match write(&context, &name, &row.uid, &entry).await {
                    Ok(()) => said = Some(entry),
                    Err(error) => {
                        warn!(error, revision = %name, "write the status of a functionrevision");
                        written = false;
                    }
                }
            }
            let outcome = Outcome {
                found,
                said,
                written,
            };
            (name, row.uid, outcome)
        });
        self.tries.insert(attempt.id(), own);
    }

    fn end(&mut self, name: RevisionRef, uid: &str, outcome: Outcome) {
        let known = self.context.functions.uid(&name);
        if known.is_none_or(|known| *known != *uid) {
            return;
        }
        let Some(deploy) = self.known.get_mut(&name) else {
            return;
        };
        deploy.said = outcome.said;
        match outcome.found {
            Ok(found) if outcome.written => match &deploy.digest {
                Some(digest) if *digest == found.resolved => self.serve(&name, found),
                Some(_) => self.queue.push_back(name),
                None => deploy.found = Some(found),
            },
            Ok(_) => self.retry(name),
            Err(why) => {
                let state = State::Refused(why);
                self.context.functions.set(&name, uid, state);
                self.retry(name);
            }
        }
    }

    /// A try ended in a panic.
    fn broke(&mut self, error: &task::JoinError) {
        let Some(name) = self.tries.remove(&error.id()) else {
            return;
        };
        warn!(%error, revision = %name, "the deployment of a function broke off; trying again");
        self.retry(name);
    }

    fn retry(&mut self, name: RevisionRef) {
        let Some(deploy) = self.known.get_mut(&name) else {
            return;
        };
        let delay = FIRST_DELAY * 2u32.saturating_pow(deploy.failures.min(16));
        deploy.failures += 1;
        let delay: Duration = delay.min(LONGEST_DELAY);
        self.later.insert((Instant::now() + delay, name));
    }
}

/// The image, if this node said before that it was ready, the revision is held to it, and it is still here.
async fn here(context: &Context, deploy: &Deploy) -> Option<(Image, Ready)> {
    let said = deploy.said.as_ref().filter(|said| said.ready)?;
    let held = deploy.digest.as_deref()?;
    let found = said.digest.as_deref()?;
    if said.resolved.as_deref() != Some(held) {
        return None;
    }
    let image = context.images.find(&pinned(found)).await?;
    let ready = Ready::new(&image, held);
    Some((image, ready))
}

/// Pulls what a revision is held to, or what its image's name means now, and makes it ready.
async fn bring(
    context: &Context,
    name: &RevisionRef,
    row: &Row,
    deploy: &Deploy,
) -> Result<(Image, Ready), StartFailure> {
    let mut fields = row.fields();
    let held = deploy.digest.as_deref();
    let written = fields.spec.image.clone();
    if let Some(digest) = held {
        fields.spec.image = pinned_name(&written, digest).unwrap_or(written.clone());
    }
    let start = pod::start(name, &row.uid, fields, true);
    let image = match held.filter(|_| pinned_name(&written, "").is_none()) {
        // A file that was edited since: what it was is kept.
        Some(digest) => match context.images.find(&pinned(digest)).await {
            Some(image) => image,
            None => start.image(context).await?,
        },
        None => start.image(context).await?,
    };
    let resolved = image.origin.as_deref().unwrap_or(&image.digest).to_owned();
    let ready = Ready::new(&image, held.unwrap_or(&resolved));
    if pinned_name(&written, "").is_none()
        && let Some(held) = held.filter(|held| **held != resolved)
    {
        let message = format!(
            "{written} is {resolved} here, and the revision is of {held}: change the function, and its next \
             revision is of what the file is now"
        );
        return Err(refused(Reason::ErrImagePull, message));
    }
    make_ready(context, &start, &image).await?;
    let names = [Some(pinned(&image.digest)), ready.pod_name(&written)];
    for name in names.into_iter().flatten() {
        let kept = context.images.pin(&image, &name).await;
        kept.map_err(|error| refused(Reason::ErrImagePull, error.to_string()))?;
    }
    Ok((image, ready))
}

/// Makes an image ready to serve, if it can.
async fn make_ready(context: &Context, start: &Start, image: &Image) -> Result<(), StartFailure> {
    let runtime = start.runtime(context, image).await?;
    if image.kind != ImageKind::Wasm {
        return Ok(());
    }
    let euid = nix::unistd::geteuid().as_raw();
    if let Some(message) = component::refusal(&start.pod, &start.container, euid) {
        return Err(refused(Reason::CreateContainerConfigError, message));
    }
    start.prepare(context, &*runtime, image).await?;
    if runtime.stateless(image).await {
        return Ok(());
    }
    let message = format!(
        "image {:?} is a program (it exports wasi:cli/run): a function must export wasi:http/incoming-handler@0.2.x",
        image.reference
    );
    Err(refused(Reason::CreateContainerError, message))
}

fn refused(reason: Reason, message: String) -> StartFailure {
    StartFailure {
        reason,
        message,
        container_id: String::new(),
    }
}

fn entry(context: &Context, image: &Image, ready: &Ready) -> NodeStatus {
    NodeStatus {
        name: context.config.node_name.clone(),
        ready: true,
        digest: Some(image.digest.clone()),
        resolved: Some(ready.resolved.to_string()),
        runtime: Some(runtime_of(image.kind).to_owned()),
        ..NodeStatus::default()
    }
}

/// What is said of a revision that cannot be served, and answered to its requests.
fn refused_entry(
    context: &Context,
    failure: StartFailure,
) -> (NodeStatus, Result<Ready, Arc<str>>) {
    let text = format!("{}: {}", failure.reason.as_str(), failure.message);
    let entry = NodeStatus {
        name: context.config.node_name.clone(),
        ready: false,
        reason: Some(failure.reason.as_str().to_owned()),
        message: Some(failure.message),
        ..NodeStatus::default()
    };
    (entry, Err(text.into()))
}

/// A pull that failed again is one that waits.
fn backed_off(failure: StartFailure, failures: u32, reference: &str) -> StartFailure {
    match failure.reason {
        Reason::ErrImagePull if failures > 0 => StartFailure {
            reason: Reason::ImagePullBackOff,
            message: format!(
                "Back-off pulling image {reference:?}: ErrImagePull: {}",
                failure.message
            ),
            ..failure
        },
        _ => failure,
    }
}

/// Writes this node's entry alone.
async fn write(
    context: &Context,
    name: &RevisionRef,
    uid: &str,
    entry: &NodeStatus,
) -> Result<(), String> {
    let api: Api<FunctionRevision> = Api::namespaced(context.client.clone(), &name.namespace);
    let manager = format!("wk-nodelet-{}", context.config.node_name);
    let manager: String = manager.chars().take(128).collect();
    let patch = Patch::Apply(json!({
        "apiVersion": "functions.wk.dev/v1",
        "kind": "FunctionRevision",
        "metadata": { "name": name.name, "uid": uid },
        "status": { "nodes": [entry] },
    }));
    let parameters = PatchParams::apply(&manager).force();
    match call(api.patch_status(&name.name, &parameters, &patch)).await {
        Ok(_) => Ok(()),
        // It is gone, or another one.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
