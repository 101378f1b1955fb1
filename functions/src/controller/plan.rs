//! What is to be done about a Function: every decision of the controller. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use function_kinds::{Condition, Function, FunctionStatus, RevisionSpec, TrafficStatus};
use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json};

use super::{
    conditions::{Verdict, condition},
    history,
    readiness::{Pods, Readiness, Why, readiness},
    revision::{self, READY, Revision, Runtime},
    routes,
    traffic::{self, Choice},
};
use crate::{address::Address, key::Key};

const DEADLINE_SECONDS: i32 = 60;
const HISTORY: i32 = 10;
/// When a revision that was refused is tried again.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// The longest that the pods of a revision stay when requests go to another: gateways have some that wait for them.
const LINGER_SECONDS: i32 = 30;
/// The condition of a revision that requests reach: what it may use counts for quotas.
const ACTIVE: &str = "Active";
/// The conditions of a Function beside `Ready`.
const REVISION_READY: &str = "RevisionReady";
const ROUTES_READY: &str = "RoutesReady";

/// What there is.
pub(crate) struct Seen<'a> {
    pub(crate) function: &'a DynamicObject,
    pub(crate) read: &'a Function,
    /// Its own, in any order.
    pub(crate) revisions: Vec<Revision>,
    /// Numbers up to this one are taken.
    pub(crate) last_number: u32,
    /// Pods by revision.
    pub(crate) pods: BTreeMap<String, Pods>,
    /// How many pods the set of a revision is to make.
    pub(crate) sets: BTreeMap<String, i32>,
    /// The Service of the Function's name.
    pub(crate) service: Service,
    /// Who has its routes.
    pub(crate) rival: Option<Why>,
    /// Why the next revision cannot be made.
    pub(crate) refused: Option<Why>,
    pub(crate) address: &'a Address,
    pub(crate) now: Timestamp,
}

/// What is known of the Service of a Function's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Service {
    Missing,
    Own,
    Another,
}

/// What to do.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The number of the revision to make.
    pub(crate) create: Option<u32>,
    /// Revisions to delete.
    pub(crate) remove: Vec<String>,
    /// Patches of the status of revisions.
    pub(crate) revisions: Vec<(String, Value)>,
    /// How many pods the sets of revisions are to make, where that is not what they do.
    pub(crate) sets: Vec<(String, i32)>,
    /// Whether the Function's own Service is to be made.
    pub(crate) own_service: bool,
    /// A patch of the Function's status.
    pub(crate) status: Option<Value>,
    pub(crate) notices: Vec<Notice>,
    /// When to look again though nothing changed.
    pub(crate) again: Option<Duration>,
}

/// An Event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Notice {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Notice {
    pub(crate) fn normal(reason: &str, message: String) -> Self {
        Self {
            warning: false,
            reason: reason.to_owned(),
            message,
        }
    }

    pub(crate) fn warning(why: &Why) -> Self {
        Self {
            warning: true,
            reason: why.reason.clone(),
            message: why.message.clone(),
        }
    }
}

/// Decides what to do; revisions are in the order of their numbers.
pub(crate) fn plan(seen: &Seen<'_>) -> Plan {
    if seen.function.metadata.deletion_timestamp.is_some() {
        // What it owns goes with it.
        return Plan::default();
    }
    let view = View::of(seen);
    let (traffic, problem) = view.traffic();
    let mut plan = Plan::default();
    view.plan_revisions(&traffic, &mut plan);
    for revision in &seen.revisions {
        view.plan_pods(revision, &traffic, &mut plan);
        view.plan_status_of(revision, &traffic, &mut plan);
    }
    plan.own_service = seen.service == Service::Missing;
    view.plan_status(traffic, problem, &mut plan);
    plan.again = plan.again.into_iter().chain(view.again()).min();
    plan
}

/// What is seen, and what follows from it.
struct View<'a> {
    seen: &'a Seen<'a>,
    before: FunctionStatus,
    states: BTreeMap<&'a str, Readiness>,
    /// The newest revision, unless the next is to be made.
    newest: Option<&'a Revision>,
    latest_ready: Option<String>,
    deadline: SignedDuration,
}

impl<'a> View<'a> {
    fn of(seen: &'a Seen<'a>) -> Self {
        let seconds = seen.read.spec.progress_deadline_seconds;
        let deadline = SignedDuration::from_secs(seconds.unwrap_or(DEADLINE_SECONDS).into());
        let none = Pods::default();
        let state = |revision: &'a Revision| {
            let pods = seen.pods.get(&revision.name).unwrap_or(&none);
            readiness(revision, pods, deadline, seen.now)
        };
        let states: BTreeMap<&str, Readiness> = seen
            .revisions
            .iter()
            .map(|revision| (revision.name.as_str(), state(revision)))
            .collect();
        let before = seen.read.status.clone().unwrap_or_default();
        let ready = seen
            .revisions
            .iter()
            .rev()
            .find(|revision| !revision.deleting && states[revision.name.as_str()].is_ready());
        let known = before.latest_ready_revision.clone();
        let known = known.filter(|name| states.contains_key(name.as_str()));
        let newest = seen.revisions.last();
        Self {
            latest_ready: ready.map(|revision| revision.name.clone()).or(known),
            newest: newest.filter(|newest| {
                !newest.deleting && revision::is_of(&newest.spec, &seen.function.data["spec"])
            }),
            seen,
            before,
            states,
            deadline,
        }
    }

    fn key(&self) -> Key {
        Key::of(self.seen.function)
    }

    fn traffic(&self) -> (Vec<TrafficStatus>, Option<Why>) {
        let able = self.states.iter().filter(|(_, state)| state.is_ready());
        let mut ready: BTreeSet<String> = able.map(|(name, _)| (*name).to_owned()).collect();
        ready.extend(self.latest_ready.clone());
        let choice = Choice {
            ready: &ready,
            all: &self.states.keys().map(|name| (*name).to_owned()).collect(),
            latest: self.latest_ready.as_deref(),
            before: &self.before.traffic,
        };
        let key = self.key();
        traffic::decide(&self.seen.read.spec.traffic, &choice, |tag| {
            self.seen.address.tagged(&key, tag).unwrap_or_default()
        })
    }

    fn plan_revisions(&self, traffic: &[TrafficStatus], plan: &mut Plan) {
        if self.newest.is_none() && self.seen.refused.is_none() {
            let number = self.seen.last_number + 1;
            plan.create = Some(number);
            let name = revision::name(&self.seen.function.name_any(), number);
            plan.notices.push(Notice::normal(
                "RevisionCreated",
                format!("Created revision {name}"),
            ));
        }
        let spec = &self.seen.read.spec;
        let named = spec
            .traffic
            .iter()
            .filter_map(|share| share.revision.clone());
        let newest = self.seen.revisions.last();
        let needed: BTreeSet<String> = traffic
            .iter()
            .map(|share| share.revision.clone())
            .chain(named)
            .chain(self.latest_ready.clone())
            .chain(newest.map(|newest| newest.name.clone()))
            .collect();
        let limit = usize::try_from(spec.revision_history_limit.unwrap_or(HISTORY));
        let old = history::old(&self.seen.revisions, &needed, limit.unwrap_or(0));
        plan.remove = old.iter().map(|revision| revision.name.clone()).collect();
    }

    fn plan_pods(&self, revision: &Revision, traffic: &[TrafficStatus], plan: &mut Plan) {
        let state = &self.states[revision.name.as_str()];
        if revision.deleting || plan.remove.contains(&revision.name) {
            return;
        }
        // A container as far as the spec tells is one until a node has looked.
        let is_container = revision.runtime() == Some(Runtime::Container)
            && revision.found() != Some(Runtime::Component);
        if !is_container {
            return;
        }
        let reached = traffic.iter().any(|share| share.revision == revision.name);
        let newest = self
            .newest
            .is_some_and(|newest| newest.name == revision.name);
        let wanted = match state {
            Readiness::Ready if reached || newest && !revision.was_ready() => {
                replicas(revision.typed())
            }
            // The first pod shows whether it can serve at all, and later ones that it can after all.
            Readiness::Waiting(_) | Readiness::Failed(_) if newest || reached => {
                least(revision.typed()).max(1)
            }
            Readiness::Ready => match self.lingers(revision) {
                Some(left) => {
                    let left = Duration::try_from(left).unwrap_or_default();
                    plan.again = plan.again.into_iter().chain([left]).min();
                    return;
                }
                None => 0,
            },
            _ => 0,
        };
        let is = self.seen.sets.get(&revision.name).copied();
        if is.is_none() && !revision.is_on_a_node() {
            // Its pods are of what a node found its image to be.
            return;
        }
        if is != Some(wanted) && (is.is_some() || wanted > 0) {
            plan.sets.push((revision.name.clone(), wanted));
        }
    }

    /// How long the pods of a revision that no request is sent to any more stay, if they do.
    fn lingers(&self, revision: &Revision) -> Option<SignedDuration> {
        self.seen.sets.get(&revision.name).filter(|set| **set > 0)?;
        let timeout = revision.typed().timeout_seconds.unwrap_or(LINGER_SECONDS);
        let longest = SignedDuration::from_secs(timeout.clamp(0, LINGER_SECONDS).into());
        let status = revision.read.status.as_ref()?;
        let active = find(&status.conditions, ACTIVE)?;
        if active.status == "True" {
            return Some(longest);
        }
        let left = longest - self.seen.now.duration_since(active.last_transition_time.0);
        left.is_positive().then_some(left)
    }

    fn plan_status_of(&self, revision: &Revision, traffic: &[TrafficStatus], plan: &mut Plan) {
        if revision.deleting || plan.remove.contains(&revision.name) {
            return;
        }
        let before = revision.read.status.clone().unwrap_or_default();
        let verdict = verdict(&self.states[revision.name.as_str()], &revision.name);
        let set = |type_, verdict: &Verdict| {
            condition(&before.conditions, type_, verdict, None, self.seen.now)
        };
        let newest = self
            .newest
            .is_some_and(|newest| newest.name == revision.name);
        let reached = traffic.iter().any(|share| share.revision == revision.name);
        let active = match (reached, newest) {
            (true, _) => Verdict::new("True", Why::new("Routed", "requests reach it")),
            (_, true) if !verdict.is_true() => {
                Verdict::new("True", Why::new("Deploying", "requests are to reach it"))
            }
            _ => Verdict::new("False", Why::new("Unreachable", "no request reaches it")),
        };
        let conditions = vec![set(READY, &verdict), set(ACTIVE, &active)];
        let runtime = revision.found().or(match revision.runtime() {
            Some(Runtime::Container) if verdict.is_true() => Some(Runtime::Container),
            _ => None,
        });
        let mut patch = json!({});
        if before.conditions != conditions {
            patch["conditions"] = json!(conditions);
        }
        if before.digest.is_none()
            && let Some(digest) = revision.digest()
        {
            patch["digest"] = digest.into();
        }
        let runtime = runtime.map(|runtime| runtime.name().to_owned());
        if runtime.is_some() && before.runtime != runtime {
            patch["runtime"] = json!(runtime);
        }
        let none = Pods::default();
        let pods = self.seen.pods.get(&revision.name).unwrap_or(&none);
        for (field, old, new) in [
            ("replicas", before.replicas, pods.all),
            ("readyReplicas", before.ready_replicas, pods.ready),
        ] {
            if old.unwrap_or(0) != new {
                patch[field] = new.into();
            }
        }
        if patch != json!({}) {
            plan.revisions
                .push((revision.name.clone(), json!({"status": patch})));
        }
    }

    fn plan_status(&self, traffic: Vec<TrafficStatus>, problem: Option<Why>, plan: &mut Plan) {
        let (key, generation) = (self.key(), self.seen.function.metadata.generation);
        let of_revision = match self.newest {
            Some(newest) => verdict(&self.states[newest.name.as_str()], &newest.name),
            None => match self.seen.refused.clone() {
                Some(why) => Verdict::new("False", why),
                None => Verdict::new("Unknown", Why::new("Deploying", "a new revision is made")),
            },
        };
        let of_routes = self.routes_verdict(problem, &of_revision);
        let ready = both(&of_revision, &of_routes, self.latest_ready.as_deref());
        let set = |type_, verdict: &Verdict| {
            condition(
                &self.before.conditions,
                type_,
                verdict,
                generation,
                self.seen.now,
            )
        };
        let mut status = FunctionStatus {
            observed_generation: generation,
            conditions: vec![
                set(READY, &ready),
                set(REVISION_READY, &of_revision),
                set(ROUTES_READY, &of_routes),
            ],
            url: self.seen.address.outside(&key),
            internal_url: Some(self.seen.address.inside(&key)),
            latest_created_revision: self.latest_created(plan),
            latest_ready_revision: self.latest_ready.clone(),
            traffic,
            triggers: Vec::new(),
        };
        self.tell(&status, plan);
        let mut before = self.before.clone();
        // The triggers write their own part.
        before.triggers.clear();
        status.triggers.clear();
        if status != before {
            plan.status = Some(patch_of(&status));
        }
    }

    fn latest_created(&self, plan: &Plan) -> Option<String> {
        let made = plan.create.map(|number| {
            let function = self.seen.function.name_any();
            revision::name(&function, number)
        });
        made.or_else(|| Some(self.seen.revisions.last()?.name.clone()))
    }

    fn routes_verdict(&self, problem: Option<Why>, of_revision: &Verdict) -> Verdict {
        let own = self.key();
        let spec = &self.seen.read.spec;
        let reserved = routes::reserved(spec, &own, &self.seen.address.domain);
        if let Some(why) = self.seen.rival.clone().or(reserved) {
            return Verdict::new("False", why);
        }
        if self.seen.service == Service::Another {
            let message = format!("Service {own} is there already and is not this Function's");
            return Verdict::new("False", Why::new("ServiceConflict", message));
        }
        match problem {
            None => Verdict::new(
                "True",
                Why::new("Routed", "requests have a revision to go to"),
            ),
            Some(why) if why.reason == "NoRevision" && of_revision.status != "False" => {
                Verdict::new("Unknown", why)
            }
            Some(why) => Verdict::new("False", why),
        }
    }

    /// Events for what changed; as few as say it, for there may be ten thousand Functions.
    fn tell(&self, status: &FunctionStatus, plan: &mut Plan) {
        let has_moved = status.traffic != self.before.traffic && !status.traffic.is_empty();
        let mut moved =
            has_moved.then(|| format!("Traffic goes to {}", traffic::shown(&status.traffic)));
        for now in &status.conditions {
            let was = find(&self.before.conditions, &now.type_);
            let same = was.is_some_and(|was| was.status == now.status && was.reason == now.reason);
            if same || now.type_ == READY {
                continue;
            }
            if now.status == "False" {
                let why = Why::new(&now.reason, now.message.as_str());
                plan.notices.push(Notice::warning(&why));
            } else if now.status == "True" && now.type_ == REVISION_READY {
                let message = match moved.take() {
                    None => now.message.clone(),
                    Some(moved) => format!("{}; {moved}", now.message),
                };
                plan.notices.push(Notice::normal("RevisionReady", message));
            }
        }
        let moved = moved.map(|message| Notice::normal("TrafficMoved", message));
        plan.notices.extend(moved);
    }

    /// When the next deadline of a revision is over.
    fn again(&self) -> Option<Duration> {
        let waiting = self.seen.revisions.iter().filter(|revision| {
            matches!(self.states[revision.name.as_str()], Readiness::Waiting(_))
        });
        let left = waiting.map(|revision| {
            let gone = self.seen.now.duration_since(revision.created);
            self.deadline - gone
        });
        let refused = self.seen.refused.is_some().then_some(ASK_AGAIN);
        let soonest = left.chain(refused).min()?;
        Some(Duration::try_from(soonest).unwrap_or_default() + Duration::from_millis(50))
    }
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn verdict(state: &Readiness, name: &str) -> Verdict {
    match state {
        Readiness::Ready => Verdict::new(
            "True",
            Why::new("Ready", format!("revision {name} can serve")),
        ),
        Readiness::Waiting(why) => Verdict::new("Unknown", why.clone()),
        Readiness::Failed(why) => Verdict::new("False", why.clone()),
    }
}

/// `Ready`: the first of the two that is not true, the worse one first.
fn both(revision: &Verdict, routes: &Verdict, latest_ready: Option<&str>) -> Verdict {
    for status in ["False", "Unknown"] {
        for verdict in [revision, routes] {
            if verdict.status == status {
                let mut why = verdict.why.clone();
                if let Some(latest) = latest_ready.filter(|_| std::ptr::eq(verdict, revision)) {
                    why.message = format!("{}; requests still go to {latest}", why.message);
                }
                return Verdict::new(verdict.status, why);
            }
        }
    }
    Verdict::new("True", Why::new("Ready", routes.why.message.as_str()))
}

fn least(spec: &RevisionSpec) -> i32 {
    spec.scale.as_ref().map_or(0, |scale| scale.min)
}

/// The pods of a revision that can serve: what was asked for by its scale, within its bounds; one until it is known
/// how many are needed.
fn replicas(spec: &RevisionSpec) -> i32 {
    let least = least(spec);
    let most = spec.scale.as_ref().map_or(i32::MAX, |scale| scale.max);
    let asked = spec.replicas.unwrap_or(1);
    asked.clamp(least, most.max(least))
}

/// The status as a merge patch: what is not there any more is taken out, and triggers are left alone.
fn patch_of(status: &FunctionStatus) -> Value {
    let mut patch = json!({
        "observedGeneration": status.observed_generation,
        "conditions": status.conditions,
        "url": status.url,
        "internalUrl": status.internal_url,
        "latestCreatedRevision": status.latest_created_revision,
        "latestReadyRevision": status.latest_ready_revision,
        "traffic": status.traffic,
    });
    if status.traffic.is_empty() {
        patch["traffic"] = Value::Null;
    }
    json!({ "status": patch })
}

#[cfg(test)]
mod tests;
