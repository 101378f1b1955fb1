//! Pulls and compiles a revision's image when the revision comes, and says in its status what came of it.
//!
//! A few at a time, in the order in which they came; what fails is tried again with the back-off that pods have. What
//! was ready before a restart, and is still here, is ready again without a word.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use function_kinds::{FunctionRevision, NodeStatus};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use runtimes::{Image, ImageKind, RevisionRef};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};
use tracing::warn;

use super::{
    pod,
    table::{State, pinned},
};
use crate::{
    deadline::call,
    pod::{
        container::{FIRST_DELAY, LONGEST_DELAY, Reason, StartFailure},
        place::runtime_of,
        security::component,
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
}

#[derive(Clone, Default)]
struct Deploy {
    failures: u32,
    /// This node's entry, as the API has it.
    said: Option<NodeStatus>,
}

/// What became of one try.
struct Outcome {
    state: State,
    /// The entry that the API has now, if it was written.
    said: Option<NodeStatus>,
    done: bool,
}

/// What a node said of a revision.
pub(super) fn said(revision: &FunctionRevision, node: &str) -> Option<NodeStatus> {
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
        }
    }

    pub(super) fn add(&mut self, name: RevisionRef, said: Option<NodeStatus>) {
        let deploy = Deploy { failures: 0, said };
        self.known.insert(name.clone(), deploy);
        self.queue.push_back(name);
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
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => {
                    match ended {
                        Ok((name, uid, outcome)) => self.end(name, &uid, outcome),
                        Err(error) => warn!(%error, "a deployment of a function panicked"),
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
        self.running.spawn(async move {
            let start = pod::start(&name, &row.uid, row.fields(), true);
            let reference = start.container.image.clone().unwrap_or_default();
            let (entry, state, mut done) = match here(&context, &deploy).await {
                Some(image) => (entry(&context, &image), ready(&image), true),
                None => match bring(&context, start).await {
                    Ok(image) => (entry(&context, &image), ready(&image), true),
                    Err(failure) => {
                        let failure = backed_off(failure, deploy.failures, &reference);
                        let text = format!("{}: {}", failure.reason.as_str(), failure.message);
                        let entry = NodeStatus {
                            name: context.config.node_name.clone(),
                            ready: false,
                            reason: Some(failure.reason.as_str().to_owned()),
                            message: Some(failure.message),
                            ..NodeStatus::default()
                        };
                        (entry, State::Refused(text.into()), false)
                    }
                },
            };
            let mut said = deploy.said;
            if said.as_ref() != Some(&entry) {
                match write(&context, &name, &row.uid, &entry).await {
                    Ok(()) => said = Some(entry),
                    Err(error) => {
                        warn!(error, revision = %name, "write the status of a functionrevision");
                        done = false;
                    }
                }
            }
            (name, row.uid, Outcome { state, said, done })
        });
    }

    fn end(&mut self, name: RevisionRef, uid: &str, outcome: Outcome) {
        self.context.functions.set(&name, uid, outcome.state);
        if self
            .context
            .functions
            .uid(&name)
            .is_none_or(|known| *known != *uid)
        {
            return;
        }
        if outcome.done {
            self.known.remove(&name);
            return;
        }
        let Some(deploy) = self.known.get_mut(&name) else {
            return;
        };
        deploy.said = outcome.said;
        let delay = FIRST_DELAY * 2u32.saturating_pow(deploy.failures.min(16));
        deploy.failures += 1;
        let delay: Duration = delay.min(LONGEST_DELAY);
        self.later.insert((Instant::now() + delay, name));
    }
}

/// The image, if this node said before that it was ready and it still is.
async fn here(context: &Context, deploy: &Deploy) -> Option<Image> {
    let said = deploy.said.as_ref().filter(|said| said.ready)?;
    let digest = said.digest.as_deref()?;
    context.images.find(&pinned(digest)).await
}

/// Pulls the image and makes it ready.
async fn bring(context: &Context, start: crate::pod::start::Start) -> Result<Image, StartFailure> {
    let image = start.image(context).await?;
    let refused = |reason, message| StartFailure {
        reason,
        message,
        container_id: String::new(),
    };
    let runtime = start.runtime(context, &image).await?;
    let euid = nix::unistd::geteuid().as_raw();
    if image.kind == ImageKind::Wasm
        && let Some(message) = component::refusal(&start.pod, &start.container, euid)
    {
        return Err(refused(Reason::CreateContainerConfigError, message));
    }
    if image.kind == ImageKind::Wasm {
        start.prepare(context, &*runtime, &image).await?;
        if !runtime.stateless(&image).await {
            return Err(refused(
                Reason::CreateContainerError,
                format!(
                    "image {:?} is a program (it exports wasi:cli/run): a function must export \
                     wasi:http/incoming-handler@0.2.x",
                    image.reference
                ),
            ));
        }
    }
    let pinned = context.images.pin(&image, &pinned(&image.digest)).await;
    pinned.map_err(|error| refused(Reason::ErrImagePull, error.to_string()))?;
    Ok(image)
}

fn ready(image: &Image) -> State {
    State::Ready(image.digest.as_str().into(), image.kind)
}

fn entry(context: &Context, image: &Image) -> NodeStatus {
    NodeStatus {
        name: context.config.node_name.clone(),
        ready: true,
        digest: Some(image.digest.clone()),
        runtime: Some(runtime_of(image.kind).to_owned()),
        ..NodeStatus::default()
    }
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
