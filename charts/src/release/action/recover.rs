//! Operations that were interrupted: whoever holds the lease now knows that their holder is gone.

use crate::release::{
    Error, Report,
    plan::{self, INTERRUPTED},
    record::{Release, Status},
    storage,
};

use super::Action;

impl Action<'_> {
    /// Reads the history; what is pending in it becomes failed, if nobody works on it any more.
    pub(super) async fn take_up(&self) -> Result<Vec<Release>, Error> {
        let mut history = storage::history(self.cluster, self.namespace, self.name).await?;
        plan::check_owner(self.name, &history, &self.options.owners)?;
        for release in &mut history {
            if release.info.status.pending() {
                self.interrupted(release).await?;
            }
        }
        Ok(history)
    }

    async fn interrupted(&self, release: &mut Release) -> Result<(), Error> {
        let status = release.info.status;
        let who = match &release.holder {
            // It is ours, and we have its lease: whoever it was is gone.
            Some(holder) => holder.clone(),
            None => {
                self.check_age(release)?;
                "another tool".to_owned()
            }
        };
        let what = match status {
            Status::PendingInstall => "install",
            Status::PendingUpgrade => "upgrade",
            _ => "rollback",
        };
        let why = format!(
            "{what} to revision {} did not finish: {who} is gone",
            release.version
        );
        release.set_status(Status::Failed, format!("{INTERRUPTED}{why}"));
        storage::update(self.cluster, release).await?;
        let note = format!("release {:?}: {why}; going on from there", release.name);
        self.cluster.report(Report::Note(note)).await;
        Ok(())
    }

    /// Helm holds no lease: only time tells that it has ended.
    fn check_age(&self, release: &Release) -> Result<(), Error> {
        let since = release.info.last_deployed.unwrap_or_default();
        let age = self.cluster.now().duration_since(since).as_secs();
        let limit = i64::try_from(self.options.timeout.as_secs()).unwrap_or(i64::MAX);
        if self.options.take_up || age > limit {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "release {:?} is {} since {age}s, by a tool that holds no lease; it counts as interrupted after {limit}s (--timeout), or at once with --take-up",
            release.name, release.info.status
        )))
    }

    /// Marks what this holder left pending as failed, after its action was ended from outside.
    ///
    /// # Errors
    /// When the record cannot be read or written.
    pub async fn abandon(&self, why: &str) -> Result<(), Error> {
        let history = storage::history(self.cluster, self.namespace, self.name).await?;
        for mut release in history {
            if release.info.status.pending() && release.holder.as_deref() == Some(self.holder) {
                release.set_status(Status::Failed, format!("{INTERRUPTED}{why}"));
                storage::update(self.cluster, &release).await?;
            }
        }
        crate::release::lease::give_up(self.cluster, self.namespace, self.name, self.holder).await;
        Ok(())
    }
}
