//! Uninstall: what a release made goes, except what is to be kept.

use crate::release::{
    Error, manifest, plan,
    record::{Event, Release, Status},
    storage,
};

use super::{Action, DryRun, Wait};

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Uninstalled {
    pub release: Release,
    /// The objects that their policy keeps, as `[Kind] name`.
    pub kept: Vec<String>,
}

impl Action<'_> {
    /// Uninstalls.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such release; when it failed, a repetition goes on from there.
    pub async fn uninstall(&self) -> Result<Uninstalled, Error> {
        plan::check_name(self.name)?;
        if self.options.dry_run != DryRun::No {
            let history = storage::history(self.cluster, self.namespace, self.name).await?;
            let release = history.last().cloned().ok_or(Error::NotFound)?;
            let kept = kept(&release)?;
            return Ok(Uninstalled { release, kept });
        }
        let found = storage::history(self.cluster, self.namespace, self.name).await?;
        let owner = self.options.owners.first();
        if found.is_empty() || owner.is_some() && plan::owner(&found) != owner.map(String::as_str) {
            // What it keeps is not there; what is there is not its own.
            return Err(Error::NotFound);
        }
        self.alone(|_| self.remove_all()).await
    }

    /// Removes objects and records; the lease is held.
    pub(super) async fn remove_all(&self) -> Result<Uninstalled, Error> {
        let history = self.take_up().await?;
        let mut release = history.last().cloned().ok_or(Error::NotFound)?;
        let keep = self.options.keep_history;
        if release.info.status == Status::Uninstalled {
            if keep {
                return Err(Error::Refused(format!(
                    "the release named {:?} is already deleted",
                    self.name
                )));
            }
            self.purge(&history).await?;
            return Ok(Uninstalled {
                release,
                kept: Vec::new(),
            });
        }
        release.set_status(
            Status::Uninstalling,
            "Deletion in progress (or silently failed)",
        );
        release.info.deleted = Some(self.cluster.now());
        storage::update(self.cluster, &release).await?;
        self.hooks(&mut release, Event::PreDelete).await?;
        let kept = self.remove_objects(&history).await?;
        self.hooks(&mut release, Event::PostDelete).await?;
        let done = self.options.description.as_deref();
        release.set_status(
            Status::Uninstalled,
            done.unwrap_or("Uninstallation complete"),
        );
        if keep {
            storage::update(self.cluster, &release).await?;
            for mut old in history {
                if old.version != release.version && old.info.status == Status::Deployed {
                    old.info.status = Status::Superseded;
                    storage::update(self.cluster, &old).await?;
                }
            }
        } else {
            self.purge(&history).await?;
        }
        Ok(Uninstalled { release, kept })
    }

    /// Deletes every object that a revision may have left, last kinds first.
    async fn remove_objects(&self, history: &[Release]) -> Result<Vec<String>, Error> {
        let past = self.past(history).await?;
        let mut deleted = Vec::new();
        let mut kept = Vec::new();
        let mut failures = Vec::new();
        for group in manifest::by_kind(past, |old| old.object.kind())
            .into_iter()
            .rev()
        {
            for old in group {
                let live = self.find(&old.id).await?;
                if old.object.kept() || live.as_ref().is_some_and(manifest::kept) {
                    kept.push(format!("[{}] {}", old.object.kind(), old.object.name()));
                    continue;
                }
                // Another's by now: not ours to delete.
                if live
                    .is_none_or(|live| plan::ownership(&live, self.name, self.namespace).is_err())
                {
                    continue;
                }
                match self.delete(&old.id, self.options.cascade).await {
                    Ok(true) => deleted.push(old.id),
                    Ok(false) => {}
                    Err(error) => failures.push(error.line()),
                }
            }
        }
        if !failures.is_empty() {
            return Err(Error::Failed(format!(
                "failed to delete release: {}: {}",
                self.name,
                failures.join("; ")
            )));
        }
        if self.options.wait != Wait::Hooks {
            self.until_gone(&deleted).await?;
        }
        Ok(kept)
    }

    /// Removes the records, the newest last: it is what a repetition goes by.
    async fn purge(&self, history: &[Release]) -> Result<(), Error> {
        for release in history {
            storage::remove(self.cluster, release).await?;
        }
        Ok(())
    }
}

fn kept(release: &Release) -> Result<Vec<String>, Error> {
    let objects = manifest::objects(&release.manifest)?;
    Ok(objects
        .iter()
        .filter(|object| object.kept())
        .map(|object| format!("[{}] {}", object.kind(), object.name()))
        .collect())
}
