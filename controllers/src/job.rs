//! Runs the pods of a Job until enough have succeeded or too much has failed.
//!
//! Reads `Job` and `Pod`; creates, deletes, adopts and releases `Pod` and takes its finalizer from it; writes
//! `Job` status and Events. Never touches a Job that `spec.managedBy` gives to someone else, never acts while
//! pods it asked for have not been seen, and never counts a pod twice or lets one go uncounted.
//!
//! In reading order: `member`, `indexes`, `failure_policy`, `success_policy`, `backoff`, `view`, `plan`, `count`;
//! then `template`, `status`, `finalizers`.

mod backoff;
mod count;
mod failure_policy;
mod finalizers;
mod indexes;
mod member;
mod plan;
mod status;
mod success_policy;
mod template;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::{Selector, SelectorExt};

use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::events::Severity;
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::pod;
use crate::pod_control::PodControl;
use crate::queue::{Action, Queue};

use backoff::Record;
use count::{Count, count, finish, move_counted};
use plan::{Ending, Plan, plan};
use view::View;

pub(crate) use member::{FINALIZER, tracked};
pub(crate) use status::finished;

const COMPONENT: &str = "job-controller";
/// Who manages a Job that names nobody.
const MANAGER: &str = "kubernetes.io/job-controller";

/// What the controller holds.
struct Jobs {
    control: Arc<PodControl>,
    /// Failures by Job, with its uid; what a restart forgets is taken from the pods that are left.
    records: Mutex<HashMap<Key, (String, Record)>>,
}

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("job"));
    let jobs = Arc::new(Jobs {
        control: PodControl::with_finalizer::<Job>(COMPONENT, FINALIZER),
        records: Mutex::default(),
    });
    context
        .pods
        .listen(jobs.control.on_pod(&context.jobs, &queue));
    context.jobs.listen(changed(&queue));
    manager.work(queue, move |context, key| {
        reconcile(context, jobs.clone(), key)
    });
    finalizers::start(manager);
}

/// Works on one Job.
async fn reconcile(context: Arc<Context>, jobs: Arc<Jobs>, key: Key) -> Result<Action, Error> {
    let Some(raw) = context.jobs.get(&key) else {
        jobs.control.forget(&key);
        jobs.records().remove(&key);
        return Ok(Action::AwaitChange);
    };
    let job: Job = (*raw)
        .clone()
        .try_parse()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let manager = job
        .spec
        .as_ref()
        .and_then(|spec| spec.managed_by.as_deref());
    if manager.is_some_and(|manager| manager != MANAGER) {
        return Ok(Action::AwaitChange);
    }
    let uid = job.uid().unwrap_or_default();
    if finished(&job).is_some() {
        jobs.records().remove(&key);
        // Pods whose creation was answered too late to be known of: nobody wants them any more.
        let mut pods = context.pods.by("owner", &uid);
        finalizers::remove_all(&context, &pods).await?;
        pods.retain(|pod| pod::active(pod));
        jobs.control.delete(&context, &raw, pods).await?;
        return Ok(Action::AwaitChange);
    }
    claim(&context, &jobs.control, &raw, &job).await?;
    // Asked before the pods are read: one that comes between is seen twice, not never.
    let unsettled = jobs.control.until_settled(&key);
    let pods = context.pods.by("owner", &uid);
    let now = clock::now();
    let Some(view) = View::new(&job, &pods) else {
        return Ok(Action::AwaitChange);
    };
    let known = jobs.record(&key, &view);
    let record = known.with(&view.new_succeeded(), &view.new_failed());
    let plan = plan(&view, &record, unsettled.is_none(), now);
    let acted = jobs.act(&context, &raw, &view, &plan).await;
    // What was done is in the cache already.
    let pods = context.pods.by("owner", &uid);
    let Some(view) = View::new(&job, &pods) else {
        return Ok(Action::AwaitChange);
    };
    let ending = if plan.ending.is_some() {
        let over = unsettled.is_none() && view.active().next().is_none();
        plan.ending.filter(|_| acted.is_ok() && over)
    } else {
        view.complete().then(Ending::complete)
    };
    let managed = plan.managed && acted.is_ok();
    let counted = count(&view, ending.as_ref(), managed, now);
    let record = known.with(&counted.succeeded, &counted.failed);
    jobs.account(&context, &raw, counted, ending, record)
        .await?;
    acted?;
    let again = unsettled.into_iter().chain(plan.look_again).min();
    Ok(again.map_or(Action::AwaitChange, Action::After))
}

/// Adopts pods that nobody owns and the Job selects; lets those go that it no longer does.
async fn claim(
    context: &Context,
    control: &PodControl,
    raw: &DynamicObject,
    job: &Job,
) -> Result<(), Error> {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = Selector::try_from(selector.unwrap_or_default())
        .map_err(|error| Error::Invalid(format!("spec.selector: {error}")))?;
    let selects = |pod: &Pod| !selector.selects_all() && selector.matches(pod.labels());
    if job.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let key = Key::of(raw);
    let mut adopt = context.pods.by("orphans", &key.namespace);
    adopt.retain(|pod| pod.metadata.deletion_timestamp.is_none() && selects(pod));
    control.adopt(context, raw, &adopt).await?;
    let mut release = context.pods.by("owner", &raw.uid().unwrap_or_default());
    release.retain(|pod| pod.metadata.deletion_timestamp.is_none() && !selects(pod));
    control.release(context, raw, &release).await
}

impl Jobs {
    fn records(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (String, Record)>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failures that have been counted; after a restart, those of the pods that are still there.
    fn record(&self, key: &Key, view: &View) -> Record {
        let uid = view.uid();
        if let Some((of, record)) = self.records().get(key)
            && *of == uid
        {
            return *record;
        }
        let counted = |test: &dyn Fn(&Pod) -> bool| -> Vec<Arc<Pod>> {
            let counted = view
                .pods
                .iter()
                .filter(|pod| (!tracked(pod) || view.listed(pod)) && pod::ended(pod) && test(pod));
            counted.cloned().collect()
        };
        let succeeded = counted(&member::succeeded);
        let record = Record::default().with(&succeeded, &counted(&|pod| !member::succeeded(pod)));
        self.records().insert(key.clone(), (uid, record));
        record
    }

    /// Creates or deletes pods.
    async fn act(
        &self,
        context: &Context,
        raw: &DynamicObject,
        view: &View<'_>,
        plan: &Plan,
    ) -> Result<(), Error> {
        if !plan.delete.is_empty() {
            if plan.ending.is_none() {
                finalizers::remove_unchanged(context, &plan.delete).await?;
            }
            return self.control.delete(context, raw, plan.delete.clone()).await;
        }
        if plan.create.is_empty() {
            return Ok(());
        }
        let plain = self.control.pod(raw);
        let remembered = view.remembered();
        let pods = template::pods(
            &plain,
            &raw.name_any(),
            view.spec,
            &plan.create,
            &remembered,
        );
        self.control.create(context, raw, pods).await
    }

    /// Writes down what ended, lets those pods go, and counts the ones that went.
    async fn account(
        &self,
        context: &Context,
        raw: &DynamicObject,
        counted: Count,
        ending: Option<Ending>,
        record: Record,
    ) -> Result<(), Error> {
        let Count {
            status: listed,
            release,
            partial,
            ..
        } = counted;
        let old = status_of(raw)?;
        let written = status::write(context, raw, &old, &listed).await?;
        self.tell_suspended(context, raw, &old, &listed);
        let key = Key::of(raw);
        let uid = raw.uid().unwrap_or_default();
        self.records().insert(key, (uid.clone(), record));
        let freed = finalizers::remove_all(context, &release).await;
        let pods = context.pods.by("owner", &uid);
        let held = pods.iter().filter(|pod| tracked(pod));
        let held: HashSet<&str> = held.map(|pod| member::uid(pod)).collect();
        let mut status = listed.clone();
        move_counted(&mut status, &held);
        let now = clock::now();
        let ending = ending.filter(|_| freed.is_ok() && !partial);
        let over = ending.filter(|ending| finish(&mut status, ending, now));
        let raw = written.as_ref().unwrap_or(raw);
        status::write(context, raw, &listed, &status).await?;
        if let Some(ending) = over {
            self.tell_over(context, raw, &status, &ending);
        }
        freed
    }

    fn tell_suspended(
        &self,
        context: &Context,
        raw: &DynamicObject,
        old: &JobStatus,
        new: &JobStatus,
    ) {
        let suspended = |status: &JobStatus| {
            let mut conditions = status.conditions.iter().flatten();
            conditions.any(|found| found.type_ == "Suspended" && found.status == "True")
        };
        let (reason, message) = match (suspended(old), suspended(new)) {
            (false, true) => ("Suspended", "Job suspended"),
            (true, false) => ("Resumed", "Job resumed"),
            _ => return,
        };
        self.control
            .tell(context, raw, Severity::Normal, reason, message.into());
    }

    fn tell_over(
        &self,
        context: &Context,
        raw: &DynamicObject,
        status: &JobStatus,
        ending: &Ending,
    ) {
        let tell = |severity, reason, message: &str| {
            self.control
                .tell(context, raw, severity, reason, message.into());
        };
        if !ending.success {
            tell(Severity::Warning, ending.event(), &ending.message);
            return;
        }
        let wanted = raw.data.pointer("/spec/completions");
        let wanted = wanted.and_then(serde_json::Value::as_i64);
        let succeeded = i64::from(status.succeeded.unwrap_or(0));
        if wanted.is_some_and(|wanted| succeeded > wanted) {
            tell(
                Severity::Warning,
                "TooManySucceededPods",
                "Too many succeeded pods running after completion count reached",
            );
        }
        tell(Severity::Normal, "Completed", "Job completed");
    }
}

fn status_of(raw: &DynamicObject) -> Result<JobStatus, Error> {
    let status = raw.data.get("status").cloned().unwrap_or_default();
    Ok(serde_json::from_value::<Option<JobStatus>>(status)?.unwrap_or_default())
}
