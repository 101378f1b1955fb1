//! What is done with releases: each action reads the record, decides, and leaves a record of how far it came.
//!
//! - `deploy`: install and upgrade; `rollback`, `uninstall`, `test`.
//! - What they share: `objects` (made, removed, waited for), `pods` (what those wait for), `hook` (run around them), `recover` (what was interrupted),
//!   [`crd`] (definitions of custom kinds).
//!
//! An action may end anywhere. Whatever it leaves, the next one on the release goes on from there.

pub mod crd;
mod deploy;
mod hook;
mod objects;
mod pods;
mod recover;
mod rollback;
mod test;
mod uninstall;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::{
    Error,
    cluster::{Cluster, Propagation},
    lease,
    plan::Reuse,
    record::{Hook, Release},
};

pub use deploy::{Deployed, Mode};
pub use objects::Resolved;
pub use test::Tests;
pub use uninstall::Uninstalled;

/// What a chart rendered to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendering {
    /// The chart as the record keeps it.
    pub chart: Value,
    pub manifest: String,
    pub hooks: Vec<Hook>,
    pub notes: String,
}

/// What a chart is rendered for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub name: String,
    pub namespace: String,
    pub revision: u32,
    /// Whether it is an upgrade rather than an install.
    pub upgrade: bool,
    /// The user's values, those that are reused included.
    pub values: Map<String, Value>,
    /// Defaults in place of the chart's own.
    pub defaults: Option<Map<String, Value>>,
}

/// Renders the chart of an install or upgrade.
#[async_trait]
pub trait Renderer: Send + Sync {
    /// The texts of the chart's `crds/` and its subcharts', each with its path.
    async fn crds(&self) -> Result<Vec<(String, String)>, Error>;

    async fn render(&self, request: Request) -> Result<Rendering, Error>;
}

/// What is waited for after objects were applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wait {
    /// Hooks alone.
    #[default]
    Hooks,
    /// Objects, but not for Jobs to complete.
    Objects,
    /// Jobs too.
    ObjectsAndJobs,
}

/// What becomes of the definitions of custom kinds in a chart's `crds/`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Crds {
    /// They are left out.
    Skip,
    /// Those that are not there are made, by an install alone; as Helm does.
    #[default]
    Create,
    /// Those that are there are brought up to date too, unless that would lose something.
    Upgrade,
    /// Those that are there are brought up to date, whatever is lost; that is told.
    Force,
}

/// Whether anything is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DryRun {
    #[default]
    No,
    /// Only rendered.
    Client,
    /// Rendered, and each object shown to the server.
    Server,
}

/// How an action goes about it; the defaults are Helm's.
#[derive(Clone, Debug)]
pub struct Options {
    pub wait: Wait,
    /// Of each hook, and of waiting.
    pub timeout: Duration,
    pub hooks: bool,
    pub crds: Crds,
    pub create_namespace: bool,
    /// Takes over objects that are no release's or another's.
    pub take_ownership: bool,
    /// Takes fields from other managers.
    pub force_conflicts: bool,
    /// Writes objects whole instead of applying them.
    pub force_replace: bool,
    /// Applies the objects as one write, where the server can: all of them or none. Namespaces and definitions of custom
    /// kinds, on which others stand, go before.
    pub atomic_apply: bool,
    /// Removes what a failed action made.
    pub cleanup_on_fail: bool,
    /// A failed install is uninstalled, a failed upgrade rolled back.
    pub rollback_on_failure: bool,
    /// Most revisions that are kept; 0: all.
    pub history_max: usize,
    pub dry_run: DryRun,
    pub description: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// For whom a release is kept, then those that it may be taken over from; empty for users.
    pub owners: Vec<String>,
    pub reuse: Reuse,
    pub keep_history: bool,
    pub cascade: Propagation,
    /// Takes up a pending release that Helm began, however short ago.
    pub take_up: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            wait: Wait::Hooks,
            timeout: Duration::from_secs(300),
            hooks: true,
            crds: Crds::Create,
            create_namespace: false,
            take_ownership: false,
            force_conflicts: false,
            force_replace: false,
            atomic_apply: false,
            cleanup_on_fail: false,
            rollback_on_failure: false,
            history_max: 10,
            dry_run: DryRun::No,
            description: None,
            labels: BTreeMap::new(),
            owners: Vec::new(),
            reuse: Reuse::UnlessGiven,
            keep_history: false,
            cascade: Propagation::Background,
            take_up: false,
        }
    }
}

impl Options {
    /// Undoes what fails; to know that, objects are waited for.
    pub fn roll_back(&mut self) {
        self.rollback_on_failure = true;
        if self.wait == Wait::Hooks {
            self.wait = Wait::Objects;
        }
    }
}

/// An action on one release.
#[derive(Clone, Copy)]
pub struct Action<'a> {
    pub cluster: &'a dyn Cluster,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Who acts: `wkctl on HOST (pid 7)`.
    pub holder: &'a str,
    pub options: &'a Options,
}

impl Action<'_> {
    /// Runs under the release's lease.
    async fn alone<T, F>(&self, action: impl FnOnce(Option<String>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let held = lease::acquire(self.cluster, self.namespace, self.name, self.holder).await?;
        let holder = held.holder().map(str::to_owned);
        held.during(self.cluster, action(holder)).await
    }

    /// Refuses what this server cannot do, before anything is changed.
    async fn check_server(&self) -> Result<(), Error> {
        if !self.options.atomic_apply {
            return Ok(());
        }
        let asked = self.cluster.transacts().await;
        if asked.map_err(Error::call("ask the server what it serves"))? {
            return Ok(());
        }
        Err(Error::Refused(
            "--atomic-apply: this server cannot apply several objects as one write (it serves no Transaction in \
             apply.wk.dev/v1, as wk does): leave the flag out, and they are applied one by one"
                .to_owned(),
        ))
    }

    /// Says in a revision's labels for whom it is kept.
    fn own(&self, release: &mut Release) {
        if let Some(owner) = self.options.owners.first() {
            let label = super::plan::OWNER.to_owned();
            release.labels.insert(label, owner.clone());
        }
    }

    /// The release as a new revision of the same name.
    fn next(&self, version: u32) -> Release {
        Release {
            name: self.name.to_owned(),
            namespace: self.namespace.to_owned(),
            version,
            apply_method: "ssa".to_owned(),
            ..Release::default()
        }
    }
}
