//! Makes a Job whenever the schedule of a CronJob says so, and removes old ones.
//!
//! Reads `CronJob` and `Job`; creates and deletes `Job`; writes `CronJob` status and Events. A Job's name tells the
//! time that it is for, so none is made twice. Never deletes a Job whose controller is not the CronJob.
//!
//! `plan` says what is due; `history` which Jobs have ended, are missing or old.

mod history;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::clock;
use crate::context::{Context, controller, resource};
use crate::error::{Error, within, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::queue::{Action, Queue};

use plan::{Notice, plan};

const COMPONENT: &str = "cronjob-controller";
const KIND: (&str, &str) = ("batch/v1", "CronJob");
/// The annotation of a Job with the time that it is for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// However far the next time is, the clock is looked at this often: it may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("cronjob"));
    context.cronjobs.listen(changed(&queue));
    let woken = queue.clone();
    context.jobs.listen(Box::new(move |old, new| {
        for job in old.into_iter().chain(new) {
            if let Some(owner) = controller(&**job).filter(|owner| owner.kind == KIND.1) {
                let namespace = job.namespace().unwrap_or_default();
                woken.add(Key::new(&namespace, &owner.name));
            }
        }
    }));
    manager.work(queue, reconcile);
}

/// One CronJob being worked on.
struct Work {
    context: Arc<Context>,
    raw: Arc<DynamicObject>,
    jobs: Api<DynamicObject>,
}

async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(raw) = context.cronjobs.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let cron: CronJob = (*raw)
        .clone()
        .try_parse()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let (client, kind) = (context.client.clone(), resource::<Job>());
    let jobs = Api::namespaced_with(client, &key.namespace, &kind);
    let work = Work { context, raw, jobs };
    let mut status = cron.status.clone().unwrap_or_default();
    let owned = work.owned()?;
    work.follow(&owned, &mut status).await?;
    let (done, again) = if cron.metadata.deletion_timestamp.is_some() {
        (Ok(()), None)
    } else {
        work.act(&cron, &mut status).await
    };
    // What was done is written down, whatever failed after it.
    let cleaned = match done {
        Ok(()) => work.remove_old(&cron, &owned).await,
        Err(error) => Err(error),
    };
    work.write(&cron, &status).await?;
    cleaned?;
    Ok(again.map_or(Action::AwaitChange, |again| {
        Action::After(again.min(LONGEST_SLEEP))
    }))
}

impl Work {
    fn tell(&self, Notice(severity, reason, message): Notice) {
        let recorder = self.context.recorder.named(COMPONENT);
        recorder.record_as(KIND.0, KIND.1, &*self.raw, severity, reason, message);
    }

    fn owned(&self) -> Result<Vec<Job>, Error> {
        let owned = self
            .context
            .jobs
            .by("owner", &self.raw.uid().unwrap_or_default());
        let parse = |job: Arc<DynamicObject>| {
            let job = (*job).clone().try_parse();
            job.map_err(|error| Error::Invalid(error.to_string()))
        };
        owned.into_iter().map(parse).collect()
    }

    /// Takes from the status what has ended or is gone.
    async fn follow(&self, owned: &[Job], status: &mut CronJobStatus) -> Result<(), Error> {
        for notice in history::follow(owned, status) {
            self.tell(notice);
        }
        for active in history::unseen(owned, status) {
            let name = active.name.clone().unwrap_or_default();
            let live = within_opt(self.jobs.get_metadata(&name)).await?;
            if live.is_none_or(|live| live.metadata.uid != active.uid) {
                history::forget(status, active.uid.as_deref());
                let message = format!("Active job went missing: {name}");
                self.tell(Notice(Severity::Normal, "MissingJob", message));
            }
        }
        Ok(())
    }

    /// Makes a Job if one is due; says when to look again.
    async fn act(
        &self,
        cron: &CronJob,
        status: &mut CronJobStatus,
    ) -> (Result<(), Error>, Option<Duration>) {
        let now = clock::now();
        let plan = plan(cron, status, now, TimeZone::system());
        plan.notices
            .into_iter()
            .for_each(|notice| self.tell(notice));
        let again = plan.next.map(|next| {
            let wait = next.duration_since(now) + SignedDuration::from_millis(100);
            Duration::try_from(wait).unwrap_or_default()
        });
        let Some(due) = plan.due else {
            return (Ok(()), again);
        };
        if plan.replace {
            for active in status.active.clone().unwrap_or_default() {
                let (name, uid) = (active.name.unwrap_or_default(), active.uid);
                if let Err(error) = self.delete(&name, uid.clone()).await {
                    return (Err(error), None);
                }
                history::forget(status, uid.as_deref());
            }
        }
        (self.create(cron, due, &plan.zone, status).await, again)
    }

    async fn create(
        &self,
        cron: &CronJob,
        due: Timestamp,
        zone: &TimeZone,
        status: &mut CronJobStatus,
    ) -> Result<(), Error> {
        let wanted = job(&self.raw, due, zone);
        let name = plan::job_name(cron, due);
        let wanted: DynamicObject = serde_json::from_value(wanted)?;
        let params = PostParams {
            field_manager: Some("kube-controller-manager".into()),
            ..PostParams::default()
        };
        let made = match within(self.jobs.create(&params, &wanted)).await {
            Ok(made) => {
                self.context.jobs.apply(made.clone());
                let message = format!("Created job {name}");
                self.tell(Notice(Severity::Normal, "SuccessfulCreate", message));
                made
            }
            // Made before, and not written down; or somebody else's, who knows what to do with it.
            Err(Error::Conflict(_)) => {
                let live = within(self.jobs.get(&name)).await?;
                let ours = controller(&live)
                    .is_some_and(|owner| self.raw.uid() == Some(owner.uid.clone()));
                if !ours {
                    return Ok(());
                }
                live
            }
            Err(error @ Error::Ending(_)) => return Err(error),
            Err(error) => {
                let message = format!("Error creating job: {error}");
                self.tell(Notice(Severity::Warning, "FailedCreate", message));
                return Err(error);
            }
        };
        let reference = ObjectReference {
            api_version: Some("batch/v1".into()),
            kind: Some("Job".into()),
            name: Some(name),
            namespace: made.namespace(),
            resource_version: made.resource_version(),
            uid: made.uid(),
            ..ObjectReference::default()
        };
        status.active.get_or_insert_default().push(reference);
        status.last_schedule_time = Some(Time(due));
        Ok(())
    }

    async fn delete(&self, name: &str, uid: Option<String>) -> Result<(), Error> {
        let params = DeleteParams::background().preconditions(Preconditions {
            uid,
            resource_version: None,
        });
        match within_opt(self.jobs.delete(name, &params)).await {
            Ok(_) => {
                let message = format!("Deleted job {name}");
                self.tell(Notice(Severity::Normal, "SuccessfulDelete", message));
                Ok(())
            }
            Err(error) => {
                let message = format!("Deleted job: {error}");
                self.tell(Notice(Severity::Warning, "FailedDelete", message));
                Err(error)
            }
        }
    }

    async fn remove_old(&self, cron: &CronJob, owned: &[Job]) -> Result<(), Error> {
        for job in history::too_old(cron, owned) {
            self.delete(&job.name_any(), job.uid()).await?;
        }
        Ok(())
    }

    /// Patches what differs, if the CronJob is still at the version that it was decided on.
    async fn write(&self, cron: &CronJob, status: &CronJobStatus) -> Result<(), Error> {
        let wire = |status: &CronJobStatus| {
            let active = status.active.as_ref().filter(|active| !active.is_empty());
            json!({
                "active": active,
                "lastScheduleTime": status.last_schedule_time,
                "lastSuccessfulTime": status.last_successful_time,
            })
        };
        if wire(&cron.status.clone().unwrap_or_default()) == wire(status) {
            return Ok(());
        }
        let key = Key::of(&*self.raw);
        let metadata =
            json!({"uid": self.raw.uid(), "resourceVersion": self.raw.resource_version()});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": wire(status)}));
        let (client, kind) = (self.context.client.clone(), resource::<CronJob>());
        let api = Api::<DynamicObject>::namespaced_with(client, &key.namespace, &kind);
        let params = PatchParams::default();
        let answer = within_opt(api.patch_status(&key.name, &params, &patch)).await?;
        let cronjobs = &self.context.cronjobs;
        answer.into_iter().for_each(|cron| cronjobs.apply(cron));
        Ok(())
    }
}

/// The Job for a time, with the template as the value it is.
fn job(raw: &DynamicObject, due: Timestamp, zone: &TimeZone) -> Value {
    let template = raw.data.pointer("/spec/jobTemplate").cloned();
    let template = template.unwrap_or_default();
    let name = raw.name_any();
    let mut metadata = json!({
        "name": plan::name_for(&name, due),
        "ownerReferences": [{
            "apiVersion": KIND.0, "kind": KIND.1, "name": name, "uid": raw.uid(),
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    for field in ["labels", "annotations"] {
        let given = template.pointer(&format!("/metadata/{field}"));
        if let Some(given) = given.filter(|given| !given.is_null()) {
            metadata[field] = given.clone();
        }
    }
    metadata["annotations"][SCHEDULED] = plan::shown(due, zone).into();
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]})
}
