//! Keeps one pod of a DaemonSet on every node that fits.
//!
//! Reads `DaemonSet`, `Node`, `Pod` and `ControllerRevision`; creates, deletes, adopts and releases `Pod`
//! and `ControllerRevision`; writes `DaemonSet` status and Events. Pods are tied to their nodes by
//! affinity: the scheduler binds them. Never deletes a pod whose controller is not this DaemonSet, and
//! never acts while pods it asked for have not been seen.

mod failures;
mod placement;
mod plan;
mod status;
mod view;
mod wish;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::SelectorExt;
use serde_json::{Value, json};

use self::failures::Failures;
use self::placement::{Placement, Verdict};
use self::plan::Plan;
use self::view::{GENERATION_LABEL, View};
use self::wish::Wish;
use crate::cache::Listener;
use crate::context::{Context, controller, selects};
use crate::error::Error;
use crate::events::Severity;
use crate::history::{self, History, REVISION_LABEL};
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::pod_control::PodControl;
use crate::queue::{Action, Queue};
use crate::taint;

const COMPONENT: &str = "daemonset-controller";

/// What is kept between two looks at a DaemonSet.
struct Daemons {
    control: Arc<PodControl>,
    failures: Failures,
}

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("daemonset"));
    let control = PodControl::new::<DaemonSet>(COMPONENT);
    context
        .pods
        .listen(control.on_pod(&context.daemonsets, &queue));
    context.daemonsets.listen(changed(&queue));
    context.revisions.listen(on_revision(context, &queue));
    context.nodes.listen(on_node(context, &queue));
    let daemons = Arc::new(Daemons {
        control,
        failures: Failures::default(),
    });
    manager.work(queue, move |context, key| {
        let daemons = daemons.clone();
        async move { daemons.reconcile(&context, key).await }
    });
}

impl Daemons {
    /// Works on one DaemonSet.
    async fn reconcile(&self, context: &Context, key: Key) -> Result<Action, Error> {
        let Some(raw) = context.daemonsets.get(&key) else {
            self.control.forget(&key);
            return Ok(Action::AwaitChange);
        };
        if raw.metadata.deletion_timestamp.is_some() {
            return Ok(Action::AwaitChange);
        }
        let set: DaemonSet = (*raw)
            .clone()
            .try_parse()
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let wish = Wish::of(&raw, &set)?;
        if wish.selector.selects_all() {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            let severity = Severity::Warning;
            self.control
                .tell(context, &raw, severity, "SelectingAll", message.into());
            return Ok(Action::AwaitChange);
        }
        let pods = self.claim(context, &raw, &wish).await?;
        let history = History::new::<DaemonSet>(context, &self.control, &raw, REVISION_LABEL);
        let revisions = history.claim().await?;
        let current = history.ensure_current(&revisions).await?;
        let updated = || hashes(&raw, &current, &revisions);
        let view = |pods| {
            let nodes = context.nodes.all();
            View::new(&wish, &nodes, pods, updated(), Timestamp::now())
        };
        let mut again = self.control.until_settled(&key);
        let (settled, mut outcome) = (again.is_none(), Ok(()));
        if settled {
            let uid = raw.uid().unwrap_or_default();
            let generation = set.status.as_ref().and_then(|s| s.observed_generation);
            let generation = generation.unwrap_or(0);
            let plan = plan::plan(&view(&pods), |node| {
                self.failures.wait(&uid, generation, node)
            });
            for node in &plan.failed {
                self.failures.note(&uid, generation, node);
            }
            again = plan.look_again;
            outcome = self.act(context, &raw, &current, plan).await;
            if outcome.is_ok() {
                let old = spent(context, &raw, &wish, &revisions);
                outcome = history.remove(&old).await;
            }
        }
        let pods = owned(context, &raw, &wish);
        let view = view(&pods);
        status::write(context, &set, status::status(&view), settled).await?;
        outcome?;
        let again = again.into_iter().chain(view.next_available()).min();
        Ok(again.map_or(Action::AwaitChange, Action::After))
    }

    /// The pods of a DaemonSet, once those that its selector selects and nobody owns have been adopted and
    /// those that it does not select any more let go.
    async fn claim(
        &self,
        context: &Context,
        raw: &DynamicObject,
        wish: &Wish,
    ) -> Result<Vec<Arc<Pod>>, Error> {
        let mut strangers = context.pods.by("owner", &raw.uid().unwrap_or_default());
        strangers.retain(|pod| !wish.selector.matches(pod.labels()));
        let mut orphans = context
            .pods
            .by("orphans", &raw.namespace().unwrap_or_default());
        orphans.retain(|pod| !view::deleting(pod) && wish.selector.matches(pod.labels()));
        self.control.release(context, raw, &strangers).await?;
        self.control.adopt(context, raw, &orphans).await?;
        Ok(owned(context, raw, wish))
    }

    async fn act(
        &self,
        context: &Context,
        raw: &DynamicObject,
        current: &DynamicObject,
        plan: Plan,
    ) -> Result<(), Error> {
        for (severity, reason, message) in plan.say {
            self.control.tell(context, raw, severity, reason, message);
        }
        let made = if plan.create.is_empty() {
            Ok(())
        } else {
            let pod = self.pod(raw, current);
            let pods = plan.create.iter().map(|node| pinned(&pod, node));
            self.control.create(context, raw, pods.collect()).await
        };
        self.control.delete(context, raw, plan.delete).await?;
        made
    }

    /// The pod that every node gets, but for its node.
    fn pod(&self, raw: &DynamicObject, current: &DynamicObject) -> Value {
        let mut pod = self.control.pod(raw);
        pod["spec"]["tolerations"] = placement::tolerations(&pod["spec"]).into();
        let labels = &mut pod["metadata"]["labels"];
        if let Some(hash) = current.labels().get(REVISION_LABEL) {
            labels[REVISION_LABEL] = json!(hash);
        }
        if let Some(generation) = raw.annotations().get(wish::GENERATION) {
            labels[GENERATION_LABEL] = json!(generation);
        }
        pod
    }
}

fn pinned(pod: &Value, node: &str) -> Value {
    let mut pod = pod.clone();
    pod["spec"]["affinity"] = placement::pinned(&pod["spec"]["affinity"], node);
    pod
}

fn owned(context: &Context, raw: &DynamicObject, wish: &Wish) -> Vec<Arc<Pod>> {
    let mut pods = context.pods.by("owner", &raw.uid().unwrap_or_default());
    pods.retain(|pod| wish.selector.matches(pod.labels()));
    pods
}

/// The hashes by which pods of today's template are known.
fn hashes(
    raw: &DynamicObject,
    current: &DynamicObject,
    revisions: &[Arc<DynamicObject>],
) -> HashSet<String> {
    let equal = revisions
        .iter()
        .filter(|revision| history::holds(revision, raw));
    let equal = equal.map(|revision| &**revision).chain([current]);
    let hashes = equal.filter_map(|revision| revision.labels().get(REVISION_LABEL));
    hashes.cloned().collect()
}

/// Old revisions beyond those to keep, without those that pods are still of.
fn spent(
    context: &Context,
    raw: &DynamicObject,
    wish: &Wish,
    revisions: &[Arc<DynamicObject>],
) -> Vec<Arc<DynamicObject>> {
    let mut old = revisions.to_vec();
    old.retain(|revision| !history::holds(revision, raw));
    let surplus = old.len().saturating_sub(wish.history);
    if surplus == 0 {
        return Vec::new();
    }
    let pods = owned(context, raw, wish);
    let alive: HashSet<&String> = pods
        .iter()
        .filter_map(|pod| pod.labels().get(REVISION_LABEL))
        .collect();
    history::oldest(&old, surplus, |revision| {
        let hash = revision.labels().get(REVISION_LABEL);
        hash.is_some_and(|hash| alive.contains(hash))
    })
}

/// A revision wakes its owner; one without an owner every DaemonSet that selects it.
fn on_revision(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<DynamicObject> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let (Some(context), Some(revision)) = (context.upgrade(), new.or(old)) else {
            return;
        };
        let namespace = revision.namespace().unwrap_or_default();
        match controller(&**revision) {
            Some(owner) if owner.kind == "DaemonSet" => {
                queue.add(Key::new(&namespace, &owner.name));
            }
            Some(_) => {}
            None => {
                let sets = context.daemonsets.by("namespace", &namespace);
                let sets = sets.iter().filter(|set| selects(set, revision.labels()));
                sets.for_each(|set| queue.add(Key::of(&**set)));
            }
        }
    })
}

/// A node whose labels or taints changed wakes the DaemonSets to which it is something else now.
fn on_node(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Node> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        if let (Some(old), Some(new)) = (old, new)
            && old.labels() == new.labels()
            && taint::of(old) == taint::of(new)
        {
            return;
        }
        for set in context.daemonsets.all() {
            let placement = Placement::of(&set);
            let verdict = |node: Option<&Arc<Node>>| {
                node.map_or(Verdict::default(), |node| placement.verdict(node))
            };
            if verdict(old) != verdict(new) {
                queue.add(Key::of(&*set));
            }
        }
    })
}
