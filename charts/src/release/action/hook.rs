//! Runs the hooks of an event: one after the other, each to its end, as the record says.

use serde_json::Value;

use crate::release::{
    CallError, Error, ObjectId, Report,
    cluster::{Apply, Propagation},
    hooks,
    manifest::{self, Object},
    readiness,
    record::{DeletePolicy, Event, Phase, Release},
    storage,
};

use super::Action;

impl Action<'_> {
    /// Runs the hooks of an event if hooks are to run.
    pub(super) async fn hooks(&self, release: &mut Release, event: Event) -> Result<(), Error> {
        if !self.options.hooks {
            return Ok(());
        }
        let order = hooks::order(&release.hooks, event);
        self.run_hooks(release, event, &order).await
    }

    /// Runs these hooks; those that succeeded are removed as they say, at the end, the last one first.
    pub(super) async fn run_hooks(
        &self,
        release: &mut Release,
        event: Event,
        order: &[usize],
    ) -> Result<(), Error> {
        for (position, index) in order.iter().enumerate() {
            if let Err(error) = self.run_hook(release, event, *index).await {
                let failed = &release.hooks[*index];
                let objects = self.hook_objects(&failed.manifest).await?;
                self.show_log(release, *index, &objects, DeletePolicy::HookFailed)
                    .await;
                self.remove_hook(release, *index, DeletePolicy::HookFailed)
                    .await?;
                for earlier in &order[..position] {
                    self.remove_hook(release, *earlier, DeletePolicy::HookSucceeded)
                        .await?;
                }
                return Err(error);
            }
        }
        for index in order.iter().rev() {
            let objects = self.hook_objects(&release.hooks[*index].manifest).await?;
            self.show_log(release, *index, &objects, DeletePolicy::HookSucceeded)
                .await;
            self.remove_hook(release, *index, DeletePolicy::HookSucceeded)
                .await?;
        }
        Ok(())
    }

    async fn run_hook(
        &self,
        release: &mut Release,
        event: Event,
        index: usize,
    ) -> Result<(), Error> {
        if release.hooks[index].delete_policies.is_empty() {
            release.hooks[index]
                .delete_policies
                .push(DeletePolicy::BeforeHookCreation);
        }
        self.remove_hook(release, index, DeletePolicy::BeforeHookCreation)
            .await?;
        let objects = self.hook_objects(&release.hooks[index].manifest).await?;
        let started = self.cluster.now();
        let run = &mut release.hooks[index].last_run;
        (run.started_at, run.completed_at, run.phase) = (Some(started), None, Phase::Running);
        storage::update(self.cluster, release).await?;
        let path = release.hooks[index].path.clone();
        let result = self.make_and_wait(event, &path, &objects).await;
        let run = &mut release.hooks[index].last_run;
        run.completed_at = Some(self.cluster.now());
        run.phase = match result {
            Ok(()) => Phase::Succeeded,
            Err(_) => Phase::Failed,
        };
        result
    }

    async fn make_and_wait(
        &self,
        event: Event,
        path: &str,
        objects: &[(ObjectId, Object)],
    ) -> Result<(), Error> {
        for (id, object) in objects {
            self.cluster
                .report(Report::Hook {
                    event: event.text(),
                    id: id.clone(),
                })
                .await;
            self.make_hook(id, &object.value)
                .await
                .map_err(Error::call(format!("hook {event} {path}: make {id}")))?;
        }
        let ids: Vec<&ObjectId> = objects.iter().map(|(id, _)| id).collect();
        self.until(
            &ids,
            readiness::hook_progress,
            "waiting for the hook to end",
        )
        .await
        .map_err(|error| match error {
            Error::Failed(why) => Error::Failed(format!("hook {event} {path}: {why}")),
            other => other,
        })
    }

    /// Makes a hook's object anew. One that an interrupted action left is no obstacle.
    async fn make_hook(&self, id: &ObjectId, value: &Value) -> Result<(), CallError> {
        match self.cluster.create(id, value).await {
            Err(CallError {
                code: Some(409), ..
            }) => {}
            other => return other.map(drop),
        }
        if !matches!(id.kind.as_str(), "Job" | "Pod") {
            let how = Apply {
                force: true,
                dry_run: false,
            };
            return self.cluster.apply(id, value, how).await.map(drop);
        }
        self.cluster.delete(id, Propagation::Background).await?;
        let gone = self.until_gone(std::slice::from_ref(id)).await;
        gone.map_err(|error| CallError {
            code: None,
            message: error.line(),
        })?;
        self.cluster.create(id, value).await.map(drop)
    }

    async fn hook_objects(&self, text: &str) -> Result<Vec<(ObjectId, Object)>, Error> {
        let mut objects = Vec::new();
        for object in manifest::objects(text)? {
            let scope = self
                .cluster
                .scope(object.api_version(), object.kind())
                .await
                .map_err(Error::call("ask the server what it serves"))?;
            let Some(scope) = scope else {
                return Err(Error::Refused(format!(
                    "hook {} {:?}: no matches for kind {:?} in version {:?}",
                    object.kind(),
                    object.name(),
                    object.kind(),
                    object.api_version()
                )));
            };
            let id = object.id(scope, self.namespace);
            let mut object = object;
            if !id.namespace.is_empty() {
                object.value["metadata"]["namespace"] = id.namespace.clone().into();
            }
            objects.push((id, object));
        }
        Ok(objects)
    }

    /// Removes a hook's objects if it says so at this point, and waits until they are gone.
    pub(super) async fn remove_hook(
        &self,
        release: &Release,
        index: usize,
        policy: DeletePolicy,
    ) -> Result<(), Error> {
        let hook = &release.hooks[index];
        if !hooks::deletes(hook, policy) {
            return Ok(());
        }
        let mut gone = Vec::new();
        for (id, _) in self.hook_objects(&hook.manifest).await? {
            if self.delete(&id, Propagation::Background).await? {
                gone.push(id);
            }
        }
        self.until_gone(&gone).await
    }

    /// Shows what a hook's pods wrote, if it says so.
    async fn show_log(
        &self,
        release: &Release,
        index: usize,
        objects: &[(ObjectId, Object)],
        policy: DeletePolicy,
    ) {
        let hook = &release.hooks[index];
        if !hook.output_log_policies.contains(&policy) {
            return;
        }
        for (id, _) in objects {
            self.show_logs_of(&hook.name, id).await;
        }
    }

    /// Shows what the containers of a Job's or Pod's pods wrote.
    pub(super) async fn show_logs_of(&self, hook: &str, id: &ObjectId) {
        let pods = match id.kind.as_str() {
            "Pod" => self
                .cluster
                .find(id)
                .await
                .map(|pod| pod.into_iter().collect()),
            "Job" => {
                let selector = format!("batch.kubernetes.io/job-name={}", id.name);
                self.cluster
                    .list("v1", "Pod", Some(&id.namespace), &selector)
                    .await
            }
            _ => return,
        };
        for pod in pods.unwrap_or_default() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let containers = pod["spec"]["containers"].as_array();
            for container in containers.into_iter().flatten() {
                let container = container["name"].as_str().unwrap_or_default();
                let log = self.cluster.log(&id.namespace, name, container).await;
                let text = log.unwrap_or_else(|error| format!("the log cannot be read: {error}\n"));
                let hook = hook.to_owned();
                self.cluster.report(Report::Log { hook, text }).await;
            }
        }
    }
}
