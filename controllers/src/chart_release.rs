//! Keeps releases of charts as ChartReleases say.
//!
//! Reads `ChartRelease`; everything else it reads and writes with the rights of the ServiceAccount that the object names,
//! by impersonation: the chart's archive, values, the release's records and its objects. Writes the status and finalizer
//! of `ChartRelease` as itself. Holds nothing: the digest of what was applied is in the status, the release in its Secrets.
//!
//! - [`spec`]: the object as values. [`plan`]: whether anything is to be done. Pure.
//! - [`connection`]: requests as a ServiceAccount. [`source`]: fetches the chart; [`oci`]: from a registry.

mod connection;
mod plan;
mod source;
mod spec;

use std::{sync::Arc, time::Duration};

use charts::release::{
    Release,
    action::{Action as ReleaseAction, Crds, Mode, Options, Wait},
    manifest, plan as plan_of_release,
    rendering::{ChartRenderer, Rights},
    rest::Remote,
    storage,
};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Map, Value, json};

use crate::{
    clock,
    context::Context,
    error::{Error, within, within_opt},
    events::Severity,
    key::Key,
    manager::{Manager, changed},
    queue::{Action, Queue},
};

use connection::Connection;
use plan::{Step, Wanted};
use spec::Spec;

/// Holds the object until its release is gone.
const FINALIZER: &str = "charts.wk.dev/release";
/// The annotation that lets an object go without uninstalling its release, if it is `true`.
const ORPHAN: &str = "charts.wk.dev/orphan";
const COMPONENT: &str = "chart-release-controller";
/// How many releases are worked on at a time: each may wait for long.
const WORKERS: usize = 16;
/// How long a chart's templates may run: workers are everybody's.
const RENDERING: Duration = Duration::from_secs(30);
/// Revisions that the status shows.
const HISTORY: usize = 5;

/// The kind, for clients.
pub(crate) fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("charts.wk.dev", "v1", "ChartRelease");
    ApiResource::from_gvk_with_plural(&kind, "chartreleases")
}

pub(crate) fn start(manager: &mut Manager) {
    let queue = Queue::new("chart-release");
    manager.context.chart_releases.listen(changed(&queue));
    manager.work_at_once(WORKERS, queue, reconcile);
}

/// What one reconcile works with.
struct Work {
    context: Arc<Context>,
    object: Arc<DynamicObject>,
    spec: Spec,
    api: Api<DynamicObject>,
    cluster: Arc<Remote<Connection>>,
}

/// How a reconcile ended, for the status.
struct Outcome {
    ready: bool,
    reason: &'static str,
    message: String,
    /// What was applied, or tried.
    digest: Option<String>,
    chart_version: Option<String>,
    /// The revision that it was applied as, if that went well.
    deployed: Option<u32>,
}

async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(object) = context.chart_releases.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let spec = Spec::of(&object)?;
    let api = Api::namespaced_with(context.client.clone(), &key.namespace, &resource());
    let account = format!("system:serviceaccount:{}:{}", key.namespace, spec.account());
    let connection = Connection::new(context.client.clone(), &account)?;
    let cluster = Arc::new(Remote::new(connection, false));
    let work = Work {
        context,
        object,
        spec,
        api,
        cluster,
    };
    if work.object.metadata.deletion_timestamp.is_some() {
        return work.finish().await;
    }
    if !work.object.finalizers().iter().any(|f| f == FINALIZER) {
        let finalizers: Vec<&str> = work
            .object
            .finalizers()
            .iter()
            .map(String::as_str)
            .chain([FINALIZER])
            .collect();
        work.set_finalizers(&finalizers).await?;
    }
    if work.spec.suspend {
        work.observe().await?;
        return Ok(Action::AwaitChange);
    }
    if let Some(wait) = work.early() {
        return Ok(Action::After(wait));
    }
    let outcome = work.keep().await;
    let outcome = match outcome {
        Ok(Some(outcome)) => outcome,
        Ok(None) => {
            work.observe().await?;
            return Ok(Action::After(work.spec.interval()));
        }
        Err(charts::release::Error::Busy(why)) => {
            tracing::debug!(release = %key, why, "another works on the release");
            return Ok(Action::After(Duration::from_secs(15)));
        }
        Err(error) => {
            let (reason, message) = ("NotPossible", error.line());
            work.tell(Severity::Warning, reason, &message);
            Outcome {
                ready: false,
                reason,
                message,
                digest: None,
                chart_version: None,
                deployed: None,
            }
        }
    };
    work.write(&outcome).await?;
    Ok(Action::After(work.spec.interval()))
}

impl Work {
    fn options(&self) -> Options {
        let mut options = Options {
            wait: if self.spec.wait {
                Wait::ObjectsAndJobs
            } else {
                Wait::Hooks
            },
            timeout: self.spec.timeout(),
            create_namespace: self.spec.create_namespace,
            atomic_apply: self.spec.atomic_apply,
            crds: match self.spec.crds {
                spec::Crds::Create => Crds::Create,
                spec::Crds::Upgrade => Crds::Upgrade,
                spec::Crds::Skip => Crds::Skip,
            },
            history_max: self.spec.history_max,
            // What the object says is what is wanted.
            force_conflicts: true,
            reuse: charts::release::plan::Reuse::Reset,
            owners: self.owners(),
            ..Options::default()
        };
        if self.spec.rollback_on_failure {
            options.roll_back();
        }
        options
    }

    /// The object's UID, by which the release is its own.
    fn owners(&self) -> Vec<String> {
        self.object.uid().into_iter().collect()
    }

    /// Whoever keeps the release by its records but is gone: then it may be taken over.
    fn gone(&self, history: &[Release]) -> Option<String> {
        let owner = plan_of_release::owner(history)?;
        let all = self.context.chart_releases.all();
        let there = all
            .iter()
            .any(|other| other.uid().as_deref() == Some(owner));
        (!there).then(|| owner.to_owned())
    }

    fn holder(&self) -> String {
        let unique: u32 = rand::random();
        format!(
            "ChartRelease {}/{} ({unique:08x})",
            self.object.namespace().unwrap_or_default(),
            self.object.name_any()
        )
    }

    fn release_name(&self) -> String {
        let given = self.spec.release_name.clone();
        given.unwrap_or_else(|| self.object.name_any())
    }

    fn target_namespace(&self) -> String {
        let given = self.spec.target_namespace.clone();
        given.unwrap_or_else(|| self.object.namespace().unwrap_or_default())
    }

    /// Makes the release as it should be; `None` if there is nothing to do.
    async fn keep(&self) -> Result<Option<Outcome>, charts::release::Error> {
        let own_namespace = self.object.namespace().unwrap_or_default();
        let archive = source::fetch(&self.cluster, &own_namespace, &self.spec.chart).await?;
        let values = source::values(&self.cluster, &own_namespace, &self.spec).await?;
        let renderer = ChartRenderer::from_archive(
            &archive,
            self.cluster.clone(),
            // What templates may look up is what the account may read.
            Rights {
                time: RENDERING,
                ..Rights::default()
            },
        )
        .map_err(|error| match error {
            charts::release::Error::Refused(why) => charts::release::Error::Refused(format!(
                "spec.chart: it cannot be installed: {why}"
            )),
            other => other,
        })?;
        let chart_version = renderer.version().to_owned();
        let (name, namespace) = (self.release_name(), self.target_namespace());
        let history = storage::history(&*self.cluster, &namespace, &name).await?;
        let digest = plan::digest(&archive, &values, &self.object.data["spec"]);
        let wanted = Wanted {
            digest: &digest,
            status: &self.object.data["status"],
            now: clock::now(),
            interval: self.spec.interval(),
        };
        let step = plan::step(&wanted, &history);
        let drifted = step != Step::Deploy
            && self.spec.correct_drift
            && self.drifted(&name, &namespace, history.last()).await?;
        match (step, history.last()) {
            (Step::Nothing, _) if !drifted => return Ok(None),
            (Step::Confirm, Some(last)) if !drifted => {
                return Ok(Some(Outcome {
                    ready: true,
                    reason: "ReleaseConfirmed",
                    message: format!("{name}: {}", last.info.description),
                    digest: Some(digest),
                    chart_version: Some(chart_version),
                    deployed: Some(last.version),
                }));
            }
            _ => {}
        }
        self.begin(&chart_version).await;
        let former = self.gone(&history);
        self.deploy(&renderer, values, digest, chart_version, former)
            .await
            .map(Some)
    }

    async fn deploy(
        &self,
        renderer: &ChartRenderer,
        values: Map<String, Value>,
        digest: String,
        chart_version: String,
        former: Option<String>,
    ) -> Result<Outcome, charts::release::Error> {
        let (name, namespace) = (self.release_name(), self.target_namespace());
        let (holder, mut options) = (self.holder(), self.options());
        options.owners.extend(former);
        let action = ReleaseAction {
            cluster: &*self.cluster,
            namespace: &namespace,
            name: &name,
            holder: &holder,
            options: &options,
        };
        let done = action
            .deploy(Mode::UpgradeOrInstall, renderer, values)
            .await;
        let (digest, chart_version) = (Some(digest), Some(chart_version));
        let outcome = match done {
            Ok(deployed) => Outcome {
                ready: true,
                reason: if deployed.installed {
                    "InstallSucceeded"
                } else {
                    "UpgradeSucceeded"
                },
                message: format!("{name}: {}", deployed.release.info.description),
                digest,
                chart_version,
                deployed: Some(deployed.release.version),
            },
            Err(error @ charts::release::Error::Failed(_)) => Outcome {
                ready: false,
                reason: "ReleaseFailed",
                message: error.line(),
                digest,
                chart_version,
                deployed: None,
            },
            Err(error) => return Err(error),
        };
        let severity = if outcome.ready {
            Severity::Normal
        } else {
            Severity::Warning
        };
        self.tell(severity, outcome.reason, &outcome.message);
        Ok(outcome)
    }

    /// Whether applying the release's objects again would change one.
    async fn drifted(
        &self,
        name: &str,
        namespace: &str,
        deployed: Option<&Release>,
    ) -> Result<bool, charts::release::Error> {
        let Some(deployed) = deployed else {
            return Ok(false);
        };
        let options = self.options();
        let action = ReleaseAction {
            cluster: &*self.cluster,
            namespace,
            name,
            holder: "",
            options: &options,
        };
        let objects = action.resolve(&deployed.manifest).await?;
        let previews = action.preview(&objects, true).await?;
        let differs = |(live, after): &(Option<Value>, Option<Value>)| match (live, after) {
            (Some(live), Some(after)) => manifest::content(live) != manifest::content(after),
            (None, _) => true,
            (Some(_), None) => false,
        };
        Ok(previews.iter().any(differs))
    }

    /// Uninstalls, then lets the object go.
    async fn finish(&self) -> Result<Action, Error> {
        if !self.object.finalizers().iter().any(|f| f == FINALIZER) {
            return Ok(Action::AwaitChange);
        }
        if self.object.annotations().get(ORPHAN).map(String::as_str) == Some("true") {
            return self.let_go().await;
        }
        let status = &self.object.data["status"];
        if plan::ready_reason(status) == Some("UninstallFailed")
            && !self.ends_with_namespace()
            && let Some(wait) = self.early()
        {
            return Ok(Action::After(wait));
        }
        let (name, namespace) = (self.release_name(), self.target_namespace());
        let (holder, options) = (self.holder(), self.options());
        let action = ReleaseAction {
            cluster: &*self.cluster,
            namespace: &namespace,
            name: &name,
            holder: &holder,
            options: &options,
        };
        match action.uninstall().await {
            Ok(_) | Err(charts::release::Error::NotFound) => {}
            Err(charts::release::Error::Busy(_)) => {
                return Ok(Action::After(Duration::from_secs(15)));
            }
            // The namespace takes with it what is in it, the account's rights perhaps before the release.
            Err(_) if self.ends_with_namespace() => {}
            Err(error) => {
                let message = error.line();
                self.tell(Severity::Warning, "UninstallFailed", &message);
                let outcome = Outcome {
                    ready: false,
                    reason: "UninstallFailed",
                    message,
                    digest: None,
                    chart_version: None,
                    deployed: None,
                };
                self.write(&outcome).await?;
                return Ok(Action::After(self.spec.interval()));
            }
        }
        self.let_go().await
    }

    /// Whether the release is in the object's own namespace, and that is being deleted.
    fn ends_with_namespace(&self) -> bool {
        let own = self.object.namespace().unwrap_or_default();
        let key = Key::new("", &own);
        let namespace = self.context.namespaces.get(&key);
        own == self.target_namespace()
            && namespace.is_some_and(|own| own.metadata.deletion_timestamp.is_some())
    }

    /// Takes the finalizer away.
    async fn let_go(&self) -> Result<Action, Error> {
        let others: Vec<&str> = self
            .object
            .finalizers()
            .iter()
            .map(String::as_str)
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        self.set_finalizers(&others).await?;
        Ok(Action::AwaitChange)
    }

    /// How long until the next attempt, if this generation was tried less than an interval ago.
    fn early(&self) -> Option<Duration> {
        let status = &self.object.data["status"];
        let generation = self.object.metadata.generation;
        plan::early(status, generation, clock::now(), self.spec.interval())
    }

    /// Says that this generation was seen.
    async fn observe(&self) -> Result<(), Error> {
        let status = json!({"observedGeneration": self.object.metadata.generation});
        self.patch_status(&status).await
    }

    /// Sets the finalizers, over the version that was read.
    async fn set_finalizers(&self, finalizers: &[&str]) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "finalizers": finalizers,
            "resourceVersion": self.object.metadata.resource_version,
        }});
        let name = self.object.name_any();
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        let patched = self.api.patch(&name, &parameters, &patch);
        within_opt(patched).await.map(drop)
    }

    fn tell(&self, severity: Severity, reason: &'static str, message: &str) {
        let recorder = self.context.recorder.named(COMPONENT);
        recorder.record_as(
            "charts.wk.dev/v1",
            "ChartRelease",
            &*self.object,
            severity,
            reason,
            message.to_owned(),
        );
    }

    /// Says that work is under way. That it could not be said is no reason not to do it.
    async fn begin(&self, chart_version: &str) {
        let condition = json!({
            "type": "Ready",
            "status": "Unknown",
            "reason": "Progressing",
            "message": format!("installing or upgrading to version {chart_version} of the chart"),
            "observedGeneration": self.object.metadata.generation,
            "lastTransitionTime": format!("{:.0}", clock::now()),
        });
        if let Err(error) = self.patch_status(&json!({"conditions": [condition]})).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "status not written"
            );
        }
    }

    async fn write(&self, outcome: &Outcome) -> Result<(), Error> {
        let (name, namespace) = (self.release_name(), self.target_namespace());
        let history = storage::history(&*self.cluster, &namespace, &name).await;
        let before = &self.object.data["status"];
        let mut status = json!({
            "observedGeneration": self.object.metadata.generation,
            "lastAttemptTime": format!("{:.0}", clock::now()),
            "conditions": [condition(outcome, before, self.object.metadata.generation)],
        });
        if let Ok(history) = &history {
            status["revision"] = json!(history.last().map(|release| release.version));
            status["history"] = history.iter().rev().take(HISTORY).map(revision).collect();
        }
        if let Some(digest) = &outcome.digest {
            status["appliedDigest"] = json!(digest);
            status["chartVersion"] = json!(outcome.chart_version);
            status["deployed"] = match outcome.deployed {
                Some(revision) => json!({"digest": digest, "revision": revision}),
                None => Value::Null,
            };
        }
        self.patch_status(&status).await
    }

    async fn patch_status(&self, status: &Value) -> Result<(), Error> {
        let before = &self.object.data["status"];
        let mut next = before.clone();
        json_merge(&mut next, status);
        if next == *before {
            return Ok(());
        }
        let patch = json!({"status": status});
        let parameters = PatchParams::default();
        let own = self.object.name_any();
        let patch = Patch::Merge(&patch);
        let patched = self.api.patch_status(&own, &parameters, &patch);
        match within(patched).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a merge patch makes of a status.
fn json_merge(into: &mut Value, patch: &Value) {
    for (field, value) in patch.as_object().into_iter().flatten() {
        into[field] = value.clone();
    }
}

fn revision(release: &Release) -> Value {
    json!({
        "revision": release.version,
        "status": release.info.status.text(),
        "chart": release.chart_name(),
        "description": release.info.description,
        "updated": release.info.last_deployed.map(|time| format!("{time:.0}")),
    })
}

/// The condition `Ready`; its time changes with its status.
fn condition(outcome: &Outcome, before: &Value, generation: Option<i64>) -> Value {
    let status = if outcome.ready { "True" } else { "False" };
    let conditions = before["conditions"].as_array();
    let old = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready" && condition["status"] == status);
    let now: Timestamp = clock::now();
    let since = old.map_or_else(
        || json!(format!("{now:.0}")),
        |old| old["lastTransitionTime"].clone(),
    );
    json!({
        "type": "Ready",
        "status": status,
        "reason": outcome.reason,
        "message": outcome.message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    })
}
