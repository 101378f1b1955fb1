//! The objects of a release: found, made as the manifest says, removed when it no longer has them, waited for.

use std::{collections::HashMap, time::Duration};

use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::Value;

use crate::release::{
    CallError, Error, ObjectId, Report,
    cluster::{Apply, Propagation, Scope},
    managers,
    manifest::{self, Object},
    plan,
    readiness::{self, Progress},
    record::Release,
};

use super::{Action, Wait};

/// How many requests are under way at a time.
const AT_ONCE: usize = 16;
/// Between two looks at objects that are waited for.
const LOOK: Duration = Duration::from_millis(500);

/// Looks after which the pods of what is waited for are looked at too.
const PATIENCE: u32 = 6;

/// An object of a manifest and where it is.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub id: ObjectId,
    /// As the chart has it.
    pub object: Object,
    /// As it is applied.
    pub value: Value,
}

/// What applying came to.
#[derive(Default)]
pub(super) struct Applied {
    /// Objects that were not there before.
    pub(super) created: Vec<ObjectId>,
}

impl Action<'_> {
    /// Finds where the objects of a text are, and marks them as the release's.
    ///
    /// # Errors
    /// When the text is no manifest, or the cluster does not serve a kind that the text does not define either.
    pub async fn resolve(&self, text: &str) -> Result<Vec<Resolved>, Error> {
        let objects = manifest::objects(text)?;
        let defined = defined(&objects);
        let mut resolved = Vec::new();
        for object in objects {
            let scope = match self.scope(&object).await? {
                Some(scope) => scope,
                None => match defined.get(&(group(object.api_version()), object.kind().to_owned()))
                {
                    Some(scope) => *scope,
                    None => {
                        return Err(Error::Refused(format!(
                            "unable to build kubernetes objects from release manifest: {}{} {:?}: no matches for kind {:?} in version {:?}: ensure CRDs are installed first",
                            object
                                .source
                                .as_deref()
                                .map(|s| format!("{s}: "))
                                .unwrap_or_default(),
                            object.kind(),
                            object.name(),
                            object.kind(),
                            object.api_version()
                        )));
                    }
                },
            };
            let id = object.id(scope, self.namespace);
            let value = manifest::owned(&object, &id, self.name, self.namespace);
            resolved.push(Resolved { id, object, value });
        }
        Ok(resolved)
    }

    /// As [`resolve`](Self::resolve) for what was applied before: kinds that are served no longer have no objects.
    async fn resolve_past(&self, releases: &[Release]) -> Result<Vec<Resolved>, Error> {
        let mut resolved: Vec<Resolved> = Vec::new();
        // What an object is was said last by the newest that has it.
        for release in releases.iter().rev() {
            for object in manifest::objects(&release.manifest)? {
                let Some(scope) = self.scope(&object).await? else {
                    continue;
                };
                let id = object.id(scope, self.namespace);
                if !resolved.iter().any(|known| known.id.same_object(&id)) {
                    let value = object.value.clone();
                    resolved.push(Resolved { id, object, value });
                }
            }
        }
        Ok(resolved)
    }

    async fn scope(&self, object: &Object) -> Result<Option<Scope>, Error> {
        self.cluster
            .scope(object.api_version(), object.kind())
            .await
            .map_err(Error::call("ask the server what it serves"))
    }

    /// The objects as they are in the cluster, in order.
    pub(super) async fn live(&self, objects: &[Resolved]) -> Result<Vec<Option<Value>>, Error> {
        let mut all = Vec::new();
        for some in objects.chunks(AT_ONCE) {
            let found = some.iter().map(|object| self.find(&object.id));
            all.extend(try_join_all(found).await?);
        }
        Ok(all)
    }

    pub(super) async fn find(&self, id: &ObjectId) -> Result<Option<Value>, Error> {
        match self.cluster.find(id).await {
            Ok(found) => Ok(found),
            // Its kind is defined by the same manifest.
            Err(CallError {
                code: Some(404), ..
            }) => Ok(None),
            Err(error) => Err(Error::call(format!(
                "could not get information about the resource {id}"
            ))(error)),
        }
    }

    /// Refuses objects that exist and are not the release's; those that it has had are.
    pub(super) fn check_ownership(
        &self,
        doing: &str,
        objects: &[Resolved],
        live: &[Option<Value>],
        past: &[Resolved],
    ) -> Result<(), Error> {
        if self.options.take_ownership {
            return Ok(());
        }
        for (object, live) in objects.iter().zip(live) {
            let had = past.iter().any(|known| known.id.same_object(&object.id));
            if let Some(live) = live
                && !had
            {
                plan::ownership(live, self.name, self.namespace)
                    .map_err(|why| plan::not_ours(doing, &object.id, &why))?;
            }
        }
        Ok(())
    }

    /// The objects that earlier revisions may have left.
    pub(super) async fn past(&self, history: &[Release]) -> Result<Vec<Resolved>, Error> {
        self.resolve_past(plan::leftovers(history)).await
    }

    /// Makes the objects as they should be, kinds in their order; says what was made as far as it came.
    pub(super) async fn apply(
        &self,
        objects: &[Resolved],
        applied: &mut Applied,
    ) -> Result<(), Error> {
        let live = self.live(objects).await?;
        for (object, live) in objects.iter().zip(&live) {
            if live.is_none() {
                applied.created.push(object.id.clone());
            }
        }
        let mut pairs: Vec<_> = objects.iter().zip(live).collect();
        let together = match self.options.atomic_apply {
            true => pairs
                .extract_if(.., |(object, _)| !stood_on(object))
                .collect(),
            false => Vec::new(),
        };
        for group in manifest::by_kind(pairs, |(object, _)| object.object.kind()) {
            for some in group.chunks(AT_ONCE) {
                let made = some
                    .iter()
                    .map(|(object, live)| self.apply_one(object, live.as_ref()));
                try_join_all(made).await?;
            }
            // What they define is needed by what follows.
            let definitions: Vec<_> = group
                .iter()
                .filter(|(object, _)| object.object.kind() == "CustomResourceDefinition")
                .map(|(object, _)| (*object).clone())
                .collect();
            self.until_ready(&definitions, |_| true).await?;
        }
        self.apply_together(&together).await
    }

    /// Makes objects as they should be: all of them, or none.
    async fn apply_together(&self, pairs: &[(&Resolved, Option<Value>)]) -> Result<(), Error> {
        if pairs.is_empty() {
            return Ok(());
        }
        for some in pairs.chunks(AT_ONCE) {
            let taken = some
                .iter()
                .map(|(object, live)| self.take_over(&object.id, live.as_ref()));
            try_join_all(taken).await?;
        }
        let values: Vec<&Value> = pairs.iter().map(|(object, _)| &object.value).collect();
        let doing = format!(
            "apply {} objects as one write (none was changed)",
            values.len()
        );
        let applied = self.cluster.apply_together(&values, self.how(false)).await;
        applied.map_err(|error| Error::call(doing)(hinted(error)))
    }

    fn how(&self, dry_run: bool) -> Apply {
        Apply {
            force: self.options.force_conflicts,
            dry_run,
        }
    }

    async fn apply_one(&self, object: &Resolved, live: Option<&Value>) -> Result<(), Error> {
        let (id, value) = (&object.id, &object.value);
        let doing = || failing(object);
        if let Some(live) = live
            && self.options.force_replace
        {
            let mut whole = value.clone();
            whole["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            self.cluster
                .replace(id, &whole)
                .await
                .map_err(Error::call(doing()))?;
            return Ok(());
        }
        self.take_over(id, live).await?;
        match self.cluster.apply(id, value, self.how(false)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::call(doing())(hinted(error))),
        }
    }

    /// What applying would make of the objects that exist, and of those that do not; `None` where the server cannot say
    /// because a namespace or kind is made by the release itself.
    ///
    /// # Errors
    /// When the server refuses an object.
    pub async fn preview(
        &self,
        objects: &[Resolved],
        force: bool,
    ) -> Result<Vec<(Option<Value>, Option<Value>)>, Error> {
        let live = self.live(objects).await?;
        let how = Apply {
            force,
            dry_run: true,
        };
        let mut previews = Vec::new();
        for (some, lives) in objects.chunks(AT_ONCE).zip(live.chunks(AT_ONCE)) {
            let shown = some.iter().map(|object| async move {
                match self.cluster.apply(&object.id, &object.value, how).await {
                    Ok(after) => Ok(Some(after)),
                    Err(CallError {
                        code: Some(404), ..
                    }) => Ok(None),
                    Err(error) => Err(Error::call(failing(object))(hinted(error))),
                }
            });
            let shown = try_join_all(shown).await?;
            previews.extend(lives.iter().cloned().zip(shown));
        }
        Ok(previews)
    }

    /// Makes fields ours that were applied as this release by another tool.
    async fn take_over(&self, id: &ObjectId, live: Option<&Value>) -> Result<(), Error> {
        let Some(patch) = live
            .filter(|live| plan::ownership(live, self.name, self.namespace).is_ok())
            .and_then(managers::take_over)
        else {
            return Ok(());
        };
        match self.cluster.patch(id, &patch).await {
            // It changed meanwhile, or went: the apply that follows says what matters.
            Ok(_)
            | Err(CallError {
                code: Some(404 | 409 | 422),
                ..
            }) => Ok(()),
            Err(error) => Err(Error::call(format!("take over the fields of {id}"))(error)),
        }
    }

    /// The objects of earlier revisions that would go if these were all, as they are.
    ///
    /// # Errors
    /// When the cluster does not answer, or a record cannot be read.
    pub async fn going(&self, now: &[Resolved]) -> Result<Vec<(ObjectId, Value)>, Error> {
        let history =
            crate::release::storage::history(self.cluster, self.namespace, self.name).await?;
        let mut going = Vec::new();
        for old in self.past(&history).await? {
            if now.iter().any(|new| new.id.same_object(&old.id)) {
                continue;
            }
            if let Some(live) = self.find(&old.id).await?
                && !manifest::kept(&live)
                && !old.object.kept()
                && plan::ownership(&live, self.name, self.namespace).is_ok()
            {
                going.push((old.id, live));
            }
        }
        Ok(going)
    }

    /// Removes what earlier revisions had and this one has not, last kinds first.
    pub(super) async fn prune(&self, past: &[Resolved], now: &[Resolved]) -> Result<(), Error> {
        let gone: Vec<&Resolved> = past
            .iter()
            .filter(|old| !now.iter().any(|new| new.id.same_object(&old.id)))
            .collect();
        for group in manifest::by_kind(gone, |old| old.object.kind())
            .into_iter()
            .rev()
        {
            for old in group {
                let Some(live) = self.find(&old.id).await? else {
                    continue;
                };
                if manifest::kept(&live) || old.object.kept() {
                    let note = format!("{} is kept due to its resource policy", old.id);
                    self.cluster.report(Report::Note(note)).await;
                    continue;
                }
                if plan::ownership(&live, self.name, self.namespace).is_err() {
                    let note = format!("{} stays: it is no longer this release's", old.id);
                    self.cluster.report(Report::Note(note)).await;
                    continue;
                }
                self.delete(&old.id, Propagation::Background).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn delete(&self, id: &ObjectId, how: Propagation) -> Result<bool, Error> {
        match self.cluster.delete(id, how).await {
            Ok(found) => Ok(found),
            Err(CallError {
                code: Some(404), ..
            }) => Ok(false),
            Err(error) => Err(Error::call(format!("delete {id}"))(error)),
        }
    }

    /// Waits for what the options say.
    pub(super) async fn wait(&self, objects: &[Resolved]) -> Result<(), Error> {
        match self.options.wait {
            Wait::Hooks => Ok(()),
            Wait::Objects => self.until_ready(objects, |kind| kind != "Job").await,
            Wait::ObjectsAndJobs => self.until_ready(objects, |_| true).await,
        }
    }

    /// Waits until objects are ready, telling each change.
    pub(super) async fn until_ready(
        &self,
        objects: &[Resolved],
        waits: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let ids: Vec<&ObjectId> = objects
            .iter()
            .filter(|object| waits(object.object.kind()))
            .map(|object| &object.id)
            .collect();
        self.until(&ids, readiness::progress, "waiting for it to be ready")
            .await
    }

    /// Waits until a judgement of objects says so.
    pub(super) async fn until(
        &self,
        ids: &[&ObjectId],
        judge: fn(&Value) -> Progress,
        what: &str,
    ) -> Result<(), Error> {
        let mut left: Vec<(&ObjectId, Option<Progress>)> =
            ids.iter().map(|id| (*id, None)).collect();
        let end = self.deadline();
        let mut looks = 0;
        loop {
            let mut waiting = Vec::new();
            for some in left.chunks(AT_ONCE) {
                let found = some.iter().map(|(id, _)| self.cluster.find(id));
                let found = futures::future::join_all(found).await;
                for ((id, last), found) in some.iter().zip(found) {
                    let progress = match found {
                        Ok(Some(live)) => match judge(&live) {
                            // Most are ready soon: their pods are not asked for at once.
                            Progress::Waiting(why) if looks >= PATIENCE => {
                                Progress::Waiting(match self.trouble(&live).await {
                                    Some(trouble) => format!("{why}; {trouble}"),
                                    None => why,
                                })
                            }
                            judged => judged,
                        },
                        Ok(None) => Progress::Failed("it was deleted".to_owned()),
                        Err(error) if error.passing() => Progress::Waiting(error.to_string()),
                        Err(error) => return Err(Error::call(format!("look at {id}"))(error)),
                    };
                    if last.as_ref() != Some(&progress) {
                        let (id, progress) = ((*id).clone(), progress.clone());
                        self.cluster.report(Report::Progress { id, progress }).await;
                    }
                    match progress {
                        Progress::Ready(_) => {}
                        Progress::Failed(why) => {
                            return Err(Error::Failed(format!("{id} failed: {why}")));
                        }
                        waits @ Progress::Waiting(_) => waiting.push((*id, Some(waits))),
                    }
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if self.cluster.now() >= end {
                let late: Vec<String> = waiting
                    .iter()
                    .map(|(id, progress)| match progress {
                        Some(Progress::Waiting(why)) => format!("{id}: {why}"),
                        _ => id.to_string(),
                    })
                    .collect();
                return Err(Error::Failed(format!(
                    "timed out after {}s {what}: {}",
                    self.options.timeout.as_secs(),
                    late.join("; ")
                )));
            }
            left = waiting;
            looks += 1;
            self.cluster.pause(LOOK).await;
        }
    }

    /// When waiting that begins now ends; there is no time beyond the year 9999.
    fn deadline(&self) -> Timestamp {
        let end = self.cluster.now().checked_add(self.options.timeout);
        end.unwrap_or(Timestamp::MAX)
    }

    /// Waits until objects are gone.
    pub(super) async fn until_gone(&self, ids: &[ObjectId]) -> Result<(), Error> {
        let end = self.deadline();
        for id in ids {
            while self.find(id).await?.is_some() {
                if self.cluster.now() >= end {
                    return Err(Error::Failed(format!(
                        "timed out after {}s waiting for {id} to be deleted",
                        self.options.timeout.as_secs()
                    )));
                }
                self.cluster.pause(LOOK).await;
            }
        }
        Ok(())
    }

    /// Removes what a failed action made.
    pub(super) async fn clean_up(&self, applied: &Applied) -> Result<(), Error> {
        for id in applied.created.iter().rev() {
            self.delete(id, Propagation::Background).await?;
        }
        Ok(())
    }
}

/// The kinds that the objects themselves define.
fn defined(objects: &[Object]) -> HashMap<(String, String), Scope> {
    objects
        .iter()
        .filter(|object| object.kind() == "CustomResourceDefinition")
        .map(|object| {
            let spec = &object.value["spec"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let scope = match spec["scope"].as_str() {
                Some("Cluster") => Scope::Cluster,
                _ => Scope::Namespaced,
            };
            ((text(&spec["group"]), text(&spec["names"]["kind"])), scope)
        })
        .collect()
}

/// Whether other objects of the same manifest cannot be without it: it is there before them.
fn stood_on(object: &Resolved) -> bool {
    matches!(
        object.object.kind(),
        "CustomResourceDefinition" | "Namespace"
    )
}

fn group(api_version: &str) -> String {
    let (group, _) = api_version.split_once('/').unwrap_or_default();
    group.to_owned()
}

/// Which object of which template could not be applied.
fn failing(object: &Resolved) -> String {
    match &object.object.source {
        Some(source) => format!("{source}: apply {}", object.id),
        None => format!("apply {}", object.id),
    }
}

/// Says what helps against fields that are another manager's.
fn hinted(mut error: CallError) -> CallError {
    if error.code == Some(409) && error.message.starts_with("Apply failed with") {
        error
            .message
            .push_str(" (--force-conflicts takes these fields)");
    }
    error
}
