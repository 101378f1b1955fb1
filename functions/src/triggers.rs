//! Calls Functions at times.
//!
//! Reads `Function`; writes the part of its status that is about triggers, and Events. A request is sent at least once
//! for each time, through a gateway ([`Deliver`]): which times are done is written down only once their request was
//! answered or given up, so that a restart repeats it, with the same `Idempotency-Key`. Of times that were missed, the
//! newest is made up for, unless it is later than its deadline. What is given up goes to the trigger's dead letters, if it
//! has such, in the same way.
//!
//! A trigger of another kind (a queue, objects that change) is another source of [`Call`]s.
//! [`schedule`] says what is due, [`attempts`] what is done about a failure; both are pure.

mod attempts;
mod http;
mod schedule;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use function_kinds::{CronTrigger, DeadLetter, Function, Trigger, TriggerStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use rand::RngExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    context::Context,
    controller::{Notice, readiness::Why},
    error::{Error, within_opt},
    key::Key,
    metrics,
    queue::Action,
};
use attempts::Verdict;

pub use http::HttpDelivery;

/// However far the next time is, the clock is looked at this often: it may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Requests that are under way at once; the rest wait.
pub(crate) const WORKERS: usize = 64;
/// How long a Function may take if it does not say.
const TIMEOUT_SECONDS: i32 = 60;
/// What of a failure's text is sent in a header.
const LONGEST_HEADER: usize = 256;
/// What a gateway may take beyond that.
const GRACE: Duration = Duration::from_secs(10);

/// A request that a trigger makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
    /// Its body.
    pub body: String,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// How long it may take.
    pub timeout: Duration,
}

/// The way to a Function: a gateway.
#[async_trait]
pub trait Deliver: Send + Sync + 'static {
    /// Sends a request; answers its status.
    ///
    /// # Errors
    /// There was no answer, or none in time.
    async fn deliver(&self, function: &Key, call: &Call) -> anyhow::Result<u16>;
}

/// A trigger of a Function.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TriggerKey {
    function: Key,
    name: String,
}

impl std::fmt::Display for TriggerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} trigger {}", self.function, self.name)
    }
}

/// The triggers of a Function.
pub(crate) fn keys(function: &DynamicObject) -> Vec<TriggerKey> {
    let triggers = function.data["spec"]["triggers"].as_array();
    let names = triggers
        .into_iter()
        .flatten()
        .filter_map(|trigger| trigger["name"].as_str());
    names
        .map(|name| TriggerKey {
            function: Key::of(function),
            name: name.to_owned(),
        })
        .collect()
}

/// Works on one trigger.
pub(crate) async fn reconcile(
    context: Arc<Context>,
    deliver: Arc<dyn Deliver>,
    stop: CancellationToken,
    key: TriggerKey,
) -> Result<Action, Error> {
    let Some(object) = context.functions.get(&key.function) else {
        return Ok(Action::AwaitChange);
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::AwaitChange);
    }
    let function: Function = serde_json::from_value(serde_json::to_value(&object)?)?;
    let trigger = function.spec.triggers.iter();
    let trigger = trigger.into_iter().find(|trigger| trigger.name == key.name);
    let Some((trigger, cron)) = trigger.and_then(|own| Some((own, own.cron.as_ref()?))) else {
        return Ok(Action::AwaitChange);
    };
    let work = Work {
        context,
        deliver,
        stop,
        object: &object,
        function: &function,
        trigger,
    };
    work.act(cron).await
}

/// One trigger being worked on.
struct Work<'a> {
    context: Arc<Context>,
    deliver: Arc<dyn Deliver>,
    stop: CancellationToken,
    object: &'a DynamicObject,
    function: &'a Function,
    trigger: &'a Trigger,
}

impl Work<'_> {
    fn before(&self) -> TriggerStatus {
        let status = self.function.status.as_ref();
        let mut triggers = status.into_iter().flat_map(|status| &status.triggers);
        let own = triggers.find(|status| status.name == self.trigger.name);
        own.cloned().unwrap_or_default()
    }

    async fn act(&self, cron: &CronTrigger) -> Result<Action, Error> {
        let (now, before) = (clock::now(), self.before());
        let Some(last) = before.last_schedule_time.as_ref().map(|time| time.0) else {
            // What was before the trigger was there is nothing that it missed.
            self.write(&json!({"lastScheduleTime": time(now)})).await?;
            return Ok(Action::After(Duration::from_millis(1)));
        };
        let due = match schedule::due(cron, last, now) {
            Ok(due) => due,
            Err(message) => {
                self.tell("InvalidSchedule", message).await;
                return Ok(Action::AwaitChange);
            }
        };
        let failed = before.failed.unwrap_or(0) + 1;
        if let Some(at) = due.missed {
            metrics::triggered("missed");
            let message = format!("Trigger {} missed {at}", self.trigger.name);
            self.tell("MissSchedule", message).await;
            let status = json!({"lastScheduleTime": time(at), "failed": failed});
            self.write(&status).await?;
        } else if let Some(at) = due.at {
            let call = self.request(cron, at);
            match self.send(&Key::of(self.object), &call).await {
                Sent::Answered => {
                    metrics::triggered("answered");
                    let status = json!({
                        "lastScheduleTime": time(at), "lastSuccessfulTime": time(clock::now()),
                    });
                    self.write(&status).await?;
                }
                Sent::GivenUp(why) => {
                    metrics::triggered("given_up");
                    let name = &self.trigger.name;
                    let Some(buried) = self.bury(call, &why).await else {
                        return Ok(Action::AwaitChange);
                    };
                    let message =
                        format!("Trigger {name} gave up its request for {at}: {why}{buried}");
                    self.tell("TriggerFailed", message).await;
                    let status = json!({"lastScheduleTime": time(at), "failed": failed});
                    self.write(&status).await?;
                }
                // Nothing is written: the next process sends it again.
                Sent::Stopped => return Ok(Action::AwaitChange),
            }
            return Ok(Action::After(Duration::from_millis(1)));
        }
        let wait = due.next.map(|next| next.duration_since(clock::now()));
        let wait = wait.map(|wait| Duration::try_from(wait).unwrap_or_default());
        Ok(wait.map(|wait| wait.min(LONGEST_SLEEP)).into())
    }

    /// Sends what was given up to where the trigger says; what came of it, in words. None: this process ends.
    async fn bury(&self, mut call: Call, why: &str) -> Option<String> {
        let Some(DeadLetter { function, path }) = &self.trigger.dead_letter else {
            return Some(String::new());
        };
        let own = Key::of(self.object);
        let to = Key::new(&own.namespace, function);
        call.method = "POST".to_owned();
        call.path = path.clone().unwrap_or_else(|| "/".to_owned());
        call.headers.extend([
            ("wk-failed-function", own.to_string()),
            ("wk-failure", as_header(why)),
        ]);
        match self.send(&to, &call).await {
            Sent::Answered => {
                metrics::triggered("dead_lettered");
                Some(format!("; Function {to} took it"))
            }
            Sent::GivenUp(why) => {
                metrics::triggered("lost");
                Some(format!("; Function {to} did not take it: {why}"))
            }
            Sent::Stopped => None,
        }
    }

    /// Sends a request until it is answered or given up.
    async fn send(&self, function: &Key, call: &Call) -> Sent {
        for attempt in 1.. {
            let verdict = match self.context.functions.get(function) {
                None => Verdict::Final(format!("there is no Function {function}")),
                Some(served) if has_traffic(&served) => {
                    attempts::verdict(self.deliver.deliver(function, call).await)
                }
                Some(_) => Verdict::Again("no revision of the Function is ready".to_owned()),
            };
            let why = match verdict {
                Verdict::Answered => return Sent::Answered,
                Verdict::Final(why) => return Sent::GivenUp(why),
                Verdict::Again(why) => why,
            };
            let jitter = rand::rng().random_range(0.5..1.0);
            let Some(wait) = attempts::backoff(attempt, jitter) else {
                return Sent::GivenUp(format!("{why}, {attempt} times"));
            };
            metrics::triggered("repeated");
            tracing::debug!(trigger = self.trigger.name, %function, why, "a request of a trigger failed; sending it again");
            tokio::select! {
                () = self.stop.cancelled() => return Sent::Stopped,
                () = tokio::time::sleep(wait) => {}
            }
        }
        Sent::Stopped
    }

    fn request(&self, cron: &CronTrigger, at: Timestamp) -> Call {
        let (uid, name) = (self.object.uid().unwrap_or_default(), &self.trigger.name);
        let timeout = self.function.spec.revision.timeout_seconds;
        let timeout = u64::try_from(timeout.unwrap_or(TIMEOUT_SECONDS)).unwrap_or_default();
        let body = cron.body.clone().unwrap_or_default();
        let content = match serde_json::from_str::<Value>(&body) {
            Ok(_) => "application/json",
            Err(_) => "text/plain; charset=utf-8",
        };
        Call {
            method: cron.method.clone().unwrap_or_else(|| "POST".to_owned()),
            path: cron.path.clone().unwrap_or_else(|| "/".to_owned()),
            headers: vec![
                (
                    "idempotency-key",
                    format!("\"{uid}/{name}/{}\"", at.as_second()),
                ),
                ("wk-trigger", name.clone()),
                ("wk-scheduled-time", at.to_string()),
                ("content-type", content.to_owned()),
            ],
            body,
            timeout: Duration::from_secs(timeout) + GRACE,
        }
    }

    async fn tell(&self, reason: &str, message: String) {
        let notice = Notice::warning(&Why::new(reason, message));
        self.context.events.tell(self.object, &notice).await;
    }

    /// Writes the trigger's own part of the status; parts of triggers that are gone go too.
    async fn write(&self, own: &Value) -> Result<(), Error> {
        let mut own = own.clone();
        own["name"] = self.trigger.name.clone().into();
        let spec = &self.function.spec.triggers;
        let status = self.function.status.as_ref();
        let known = status.into_iter().flat_map(|status| &status.triggers);
        let gone = known.filter(|known| spec.iter().all(|trigger| trigger.name != known.name));
        let gone = gone.map(|gone| json!({"$patch": "delete", "name": gone.name}));
        let triggers: Vec<Value> = gone.chain([own]).collect();
        let patch = json!({"status": {"triggers": triggers}});
        let key = Key::of(self.object);
        let kind = &self.context.kinds.functions;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.context.client.clone(), &key.namespace, kind);
        let (params, patch) = (PatchParams::default(), Patch::Strategic(&patch));
        if let Some(written) = within_opt(api.patch_status(&key.name, &params, &patch)).await? {
            self.context.functions.apply(written);
        }
        Ok(())
    }
}

/// What became of a request.
enum Sent {
    Answered,
    GivenUp(String),
    /// This process ends.
    Stopped,
}

/// A text as the value of a header may have it.
fn as_header(text: &str) -> String {
    let visible = |letter: char| match letter {
        ' '..='~' => letter,
        _ => '?',
    };
    text.chars().take(LONGEST_HEADER).map(visible).collect()
}

fn has_traffic(function: &DynamicObject) -> bool {
    let traffic = function.data["status"]["traffic"].as_array();
    traffic.is_some_and(|traffic| !traffic.is_empty())
}

/// A time as objects have it: whole seconds.
fn time(at: Timestamp) -> Value {
    json!(Time(Timestamp::from_second(at.as_second()).unwrap_or(at)))
}
