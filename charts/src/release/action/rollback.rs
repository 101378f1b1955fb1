//! Rollback: an earlier revision's objects become what runs, as a new revision.

use crate::release::{
    Error, plan,
    record::{Event, Release, Status},
    storage,
};

use super::{Action, DryRun, objects::Applied};

impl Action<'_> {
    /// Rolls back to a revision, or to the one before the last.
    ///
    /// # Errors
    /// When it is refused, or failed; the record says why.
    pub async fn rollback(&self, revision: Option<u32>) -> Result<Release, Error> {
        plan::check_name(self.name)?;
        self.check_server().await?;
        if self.options.dry_run != DryRun::No {
            let history = storage::history(self.cluster, self.namespace, self.name).await?;
            let (last, target) = plan::rollback_target(&history, revision)?;
            return Ok(self.rolled_back(last, target, None));
        }
        self.alone(|holder| async move {
            let history = self.take_up().await?;
            self.roll_back(history, revision, holder).await
        })
        .await
    }

    /// Rolls back to the last revision that was good, within a failed upgrade.
    pub(super) async fn return_to_good(&self) -> Result<(), Error> {
        let history = storage::history(self.cluster, self.namespace, self.name).await?;
        let good = plan::last_good(&history).ok_or_else(|| {
            Error::Refused("there is no previously successful revision".to_owned())
        })?;
        let (version, holder) = (good.version, self.holder.to_owned());
        let options = super::Options {
            rollback_on_failure: false,
            wait: match self.options.wait {
                super::Wait::Hooks => super::Wait::Objects,
                wait => wait,
            },
            ..self.options.clone()
        };
        let action = Action {
            options: &options,
            ..*self
        };
        action
            .roll_back(history, Some(version), Some(holder))
            .await
            .map(drop)
    }

    fn rolled_back(&self, last: &Release, target: &Release, holder: Option<String>) -> Release {
        let mut release = self.next(last.version + 1);
        release.chart = target.chart.clone();
        release.config = target.config.clone();
        release.manifest.clone_from(&target.manifest);
        release.hooks = target.hooks.clone();
        release.labels = target.labels.clone();
        self.own(&mut release);
        release.holder = holder;
        release.info.notes.clone_from(&target.info.notes);
        release.info.first_deployed = last.info.first_deployed;
        release.info.last_deployed = Some(self.cluster.now());
        let description = format!("Rollback to {}", target.version);
        release.set_status(Status::PendingRollback, description);
        release
    }

    async fn roll_back(
        &self,
        mut history: Vec<Release>,
        revision: Option<u32>,
        holder: Option<String>,
    ) -> Result<Release, Error> {
        let (last, target) = plan::rollback_target(&history, revision)?;
        let mut release = self.rolled_back(last, target, holder);
        let objects = self.resolve(&release.manifest).await?;
        let past = self.past(&history).await?;
        let live = self.live(&objects).await?;
        self.check_ownership("rollback", &objects, &live, &past)?;
        storage::create(self.cluster, &mut release).await?;
        let mut applied = Applied::default();
        let result = async {
            self.hooks(&mut release, Event::PreRollback).await?;
            self.apply(&objects, &mut applied).await?;
            self.prune(&past, &objects).await?;
            self.wait(&objects).await?;
            self.hooks(&mut release, Event::PostRollback).await
        }
        .await;
        match result {
            Ok(()) => {
                let description = match &self.options.description {
                    Some(description) => description.clone(),
                    None => release.info.description.clone(),
                };
                release.set_status(Status::Deployed, description);
                storage::update(self.cluster, &release).await?;
                self.supersede(&mut history).await?;
                self.trim(&history).await?;
                Ok(release)
            }
            Err(error @ Error::Busy(_)) => Err(error),
            Err(error) => {
                let mut told = error.line();
                let why = format!("Rollback {:?} failed: {told}", release.name);
                release.set_status(Status::Failed, why);
                if let Err(error) = storage::update(self.cluster, &release).await {
                    told.push_str(&format!(
                        "; its record could not be written: {}",
                        error.line()
                    ));
                }
                if self.options.cleanup_on_fail
                    && let Err(error) = self.clean_up(&applied).await
                {
                    told.push_str(&format!("; cleaning up failed: {}", error.line()));
                }
                Err(Error::Failed(told))
            }
        }
    }

    /// Removes the oldest revisions, now that a new one is there.
    pub(super) async fn trim(&self, history: &[Release]) -> Result<(), Error> {
        // None of them is deployed any more, and what failed has been cleared away.
        for old in &history[..plan::excess(history, self.options.history_max).min(history.len())] {
            storage::remove(self.cluster, old).await?;
        }
        Ok(())
    }
}
