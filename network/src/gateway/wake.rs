//! Asks for the first pod of a container revision: a patch of its scale, which holds only while that is zero.

use std::{collections::HashSet, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use function_kinds::FunctionRevision;
use http::{Request, header::CONTENT_TYPE};
use kube::{Client, Resource};
use runtimes::RevisionRef;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::activator::Wake;

/// Revisions that may be asked for at once; more are asked for when their requests ask again.
const QUEUE: usize = 256;

/// How long one patch may take.
const DEADLINE: Duration = Duration::from_secs(5);

type Asked = Arc<Mutex<HashSet<RevisionRef>>>;

/// Takes the questions.
pub(super) struct Waker {
    asked: Asked,
    queue: mpsc::Sender<RevisionRef>,
}

/// Asks the API.
pub(super) struct Wakes {
    asked: Asked,
    queue: mpsc::Receiver<RevisionRef>,
}

impl Waker {
    pub(super) fn new() -> (Self, Wakes) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let asked = Asked::default();
        let wakes = Wakes {
            asked: asked.clone(),
            queue,
        };
        let waker = Self {
            asked,
            queue: sender,
        };
        (waker, wakes)
    }
}

impl Wake for Waker {
    fn wake(&self, revision: &RevisionRef) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.contains(revision) && self.queue.try_send(revision.clone()).is_ok() {
            asked.insert(revision.clone());
        }
    }
}

impl Wakes {
    /// Runs until the gateway ends.
    pub(super) async fn run(mut self, client: Client) -> anyhow::Result<()> {
        let mut patches = JoinSet::new();
        loop {
            tokio::select! {
                Some(revision) = self.queue.recv() => {
                    let (client, asked) = (client.clone(), self.asked.clone());
                    patches.spawn(async move {
                        ask(client, &revision).await;
                        asked
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .remove(&revision);
                    });
                }
                Some(_) = patches.join_next() => {}
                else => return Ok(()),
            }
        }
    }
}

/// Makes it one pod where there is none. What somebody else has scaled since is left as it is.
async fn ask(client: Client, revision: &RevisionRef) {
    let patched = match scale_from_zero(revision) {
        Ok(request) => timeout(DEADLINE, client.request::<Value>(request)).await,
        Err(error) => Ok(Err(error)),
    };
    match patched {
        Ok(Ok(_)) => tracing::debug!(%revision, "asked for the first pod"),
        Ok(Err(kube::Error::Api(status))) if [409, 422].contains(&status.code) => {
            tracing::debug!(%revision, "the revision is scaled already");
        }
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%revision, error, "could not ask for a revision's first pod");
        }
        Err(_) => tracing::warn!(%revision, "asking for a revision's first pod took too long"),
    }
}

fn scale_from_zero(revision: &RevisionRef) -> Result<Request<Vec<u8>>, kube::Error> {
    let all = FunctionRevision::url_path(&(), Some(&revision.namespace));
    let patch = json!([
        {"op": "test", "path": "/spec/replicas", "value": 0},
        {"op": "replace", "path": "/spec/replicas", "value": 1},
    ]);
    Request::patch(format!("{all}/{}/scale", revision.name))
        .header(CONTENT_TYPE, "application/json-patch+json")
        .body(patch.to_string().into_bytes())
        .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))
}
