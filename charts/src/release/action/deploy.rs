//! Install and upgrade: the chart's next revision becomes what runs.

use serde_json::{Map, Value};

use crate::release::{
    Error, ObjectId, Report, manifest,
    plan::{self, Reuse},
    record::{Event, Release, Status},
    storage,
};

use super::{
    Action, Crds, DryRun, Renderer, Rendering, Request,
    objects::{Applied, Resolved},
};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// `replace`: also over what was uninstalled or failed.
    Install {
        replace: bool,
    },
    Upgrade,
    /// An upgrade, or an install if there is nothing yet.
    UpgradeOrInstall,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Deployed {
    pub release: Release,
    /// Whether it was installed rather than upgraded.
    pub installed: bool,
}

/// What the next revision is made from.
struct Start {
    revision: u32,
    /// The revision that it follows; `None` for an install.
    current: Option<Release>,
    labels: std::collections::BTreeMap<String, String>,
}

impl Action<'_> {
    /// Installs or upgrades.
    ///
    /// # Errors
    /// When it is refused, or failed; the record of a failed revision says why.
    pub async fn deploy(
        &self,
        mode: Mode,
        renderer: &dyn Renderer,
        values: Map<String, Value>,
    ) -> Result<Deployed, Error> {
        plan::check_name(self.name)?;
        plan::check_labels(&self.options.labels)?;
        self.check_server().await?;
        if self.options.dry_run != DryRun::No {
            return self.rehearse(mode, renderer, values).await;
        }
        if self.options.create_namespace {
            self.namespace(renderer, &values).await?;
        }
        self.alone(|holder| self.deploy_alone(mode, renderer, values, holder))
            .await
    }

    async fn deploy_alone(
        &self,
        mode: Mode,
        renderer: &dyn Renderer,
        values: Map<String, Value>,
        holder: Option<String>,
    ) -> Result<Deployed, Error> {
        let mut history = self.take_up().await?;
        let start = self.start(mode, &history)?;
        let installed = start.current.is_none();
        let crds = match self.options.crds {
            Crds::Skip => false,
            Crds::Create => installed,
            Crds::Upgrade | Crds::Force => true,
        };
        if crds {
            self.definitions(&renderer.crds().await?).await?;
        }
        let mut release = self.render(renderer, &start, values).await?;
        release.holder = holder;
        let objects = self.resolve(&release.manifest).await?;
        let past = self.past(&history).await?;
        let live = self.live(&objects).await?;
        let doing = if installed { "install" } else { "update" };
        self.check_ownership(doing, &objects, &live, &past)?;
        let surplus = plan::surplus(&history, self.options.history_max);
        for &version in &surplus {
            if let Some(old) = history.iter().find(|old| old.version == version) {
                storage::remove(self.cluster, old).await?;
            }
        }
        storage::create(self.cluster, &mut release).await?;
        let mut applied = Applied::default();
        match self
            .carry_out(&mut release, installed, &objects, &past, &mut applied)
            .await
        {
            Ok(()) => {
                let done = if installed {
                    "Install complete"
                } else {
                    "Upgrade complete"
                };
                let done = self.options.description.as_deref().unwrap_or(done);
                release.set_status(Status::Deployed, done);
                storage::update(self.cluster, &release).await?;
                self.supersede(&mut history).await?;
                history.retain(|old| !surplus.contains(&old.version));
                self.trim(&history).await?;
                Ok(Deployed { release, installed })
            }
            Err(error @ Error::Busy(_)) => Err(error),
            Err(error) => Err(self.failed(release, installed, &applied, error).await),
        }
    }

    /// Hooks, objects, hooks.
    async fn carry_out(
        &self,
        release: &mut Release,
        installed: bool,
        objects: &[Resolved],
        past: &[Resolved],
        applied: &mut Applied,
    ) -> Result<(), Error> {
        let (before, after) = if installed {
            (Event::PreInstall, Event::PostInstall)
        } else {
            (Event::PreUpgrade, Event::PostUpgrade)
        };
        self.hooks(release, before)
            .await
            .map_err(of_hooks(before))?;
        self.apply(objects, applied).await?;
        self.prune(past, objects).await?;
        self.wait(objects).await?;
        self.hooks(release, after).await.map_err(of_hooks(after))
    }

    /// Every other revision that counts as deployed no longer does.
    pub(super) async fn supersede(&self, history: &mut [Release]) -> Result<(), Error> {
        for old in history {
            if old.info.status == Status::Deployed {
                old.info.status = Status::Superseded;
                storage::update(self.cluster, old).await?;
            }
        }
        Ok(())
    }

    /// Records a failure, and undoes what is to be undone. Answers what to tell.
    async fn failed(
        &self,
        mut release: Release,
        installed: bool,
        applied: &Applied,
        error: Error,
    ) -> Error {
        let why = error.line();
        let verb = if installed { "Release" } else { "Upgrade" };
        release.set_status(
            Status::Failed,
            format!("{verb} {:?} failed: {why}", release.name),
        );
        let mut told = why;
        if let Err(error) = storage::update(self.cluster, &release).await {
            told.push_str(&format!(
                "; its record could not be written: {}",
                error.line()
            ));
        }
        if self.options.cleanup_on_fail
            && !installed
            && let Err(error) = self.clean_up(applied).await
        {
            told.push_str(&format!("; cleaning up failed: {}", error.line()));
        }
        if !self.options.rollback_on_failure {
            return Error::Failed(told);
        }
        let name = self.name;
        let undone = if installed {
            self.remove_all()
                .await
                .map(|_| "has been uninstalled due to rollback-on-failure being set")
        } else {
            self.return_to_good()
                .await
                .map(|()| "has been rolled back due to rollback-on-failure being set")
        };
        Error::Failed(match undone {
            Ok(done) => format!("release {name} failed, and {done}: {told}"),
            Err(error) => format!("{told}; undoing it failed: {}", error.line()),
        })
    }

    /// What the next revision is made from.
    fn start(&self, mode: Mode, history: &[Release]) -> Result<Start, Error> {
        let install = |replace| -> Result<Start, Error> {
            Ok(Start {
                revision: plan::first_revision(history, replace)?,
                current: None,
                labels: self.options.labels.clone(),
            })
        };
        let upgrade = || -> Result<Start, Error> {
            let base = plan::base(self.name, history)?;
            Ok(Start {
                revision: base.next,
                current: Some(base.current.clone()),
                labels: plan::merge_labels(&base.last.labels, &self.options.labels),
            })
        };
        let gone = history
            .last()
            .is_none_or(|last| last.info.status == Status::Uninstalled);
        match mode {
            Mode::Install { replace } => install(replace),
            Mode::UpgradeOrInstall if gone => install(true),
            Mode::Upgrade | Mode::UpgradeOrInstall => upgrade(),
        }
    }

    async fn render(
        &self,
        renderer: &dyn Renderer,
        start: &Start,
        values: Map<String, Value>,
    ) -> Result<Release, Error> {
        let none = Map::new();
        let (config, defaults) = match &start.current {
            None => (values, None),
            Some(current) => {
                let reuse = self.options.reuse;
                let old = current.chart["values"].as_object().unwrap_or(&none);
                let defaults = (reuse == Reuse::Reuse)
                    .then(|| Reuse::Reuse.values(current.config.clone(), old));
                (reuse.values(values, &current.config), defaults)
            }
        };
        let Rendering {
            chart,
            manifest,
            hooks,
            notes,
        } = renderer
            .render(Request {
                name: self.name.to_owned(),
                namespace: self.namespace.to_owned(),
                revision: start.revision,
                upgrade: start.current.is_some(),
                values: config.clone(),
                defaults,
            })
            .await?;
        let mut release = self.next(start.revision);
        let now = self.cluster.now();
        (release.chart, release.manifest, release.hooks) = (chart, manifest, hooks);
        release.config = config;
        release.labels = start.labels.clone();
        self.own(&mut release);
        release.info.notes = notes;
        release.info.last_deployed = Some(now);
        let first = start.current.as_ref().and_then(|c| c.info.first_deployed);
        release.info.first_deployed = Some(first.unwrap_or(now));
        match start.current {
            None => release.set_status(Status::PendingInstall, "Initial install underway"),
            Some(_) => release.set_status(Status::PendingUpgrade, "Preparing upgrade"),
        }
        Ok(release)
    }

    /// Makes the namespace, once it is clear that the chart renders.
    async fn namespace(
        &self,
        renderer: &dyn Renderer,
        values: &Map<String, Value>,
    ) -> Result<(), Error> {
        let id = ObjectId::new("v1", "Namespace", "", self.namespace);
        if self.find(&id).await?.is_some() {
            return Ok(());
        }
        let start = Start {
            revision: 1,
            current: None,
            labels: self.options.labels.clone(),
        };
        if renderer.crds().await?.is_empty() || self.options.crds == Crds::Skip {
            let rendered = self.render(renderer, &start, values.clone()).await?;
            self.resolve(&rendered.manifest).await?;
        }
        let namespace = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": {"name": self.namespace}},
        });
        match self.cluster.create(&id, &namespace).await {
            Err(error) if error.code != Some(409) => Err(Error::call(format!("make {id}"))(error)),
            _ => Ok(()),
        }
    }

    /// Says what would come of it; changes nothing.
    async fn rehearse(
        &self,
        mode: Mode,
        renderer: &dyn Renderer,
        values: Map<String, Value>,
    ) -> Result<Deployed, Error> {
        let mut history = storage::history(self.cluster, self.namespace, self.name).await?;
        for release in &mut history {
            if release.info.status.pending() {
                release.set_status(Status::Failed, plan::INTERRUPTED);
            }
        }
        let start = self.start(mode, &history)?;
        let installed = start.current.is_none();
        let has_crds = !renderer.crds().await?.is_empty();
        if has_crds && installed {
            let note = "this chart or one of its subcharts contains CRDs. Rendering may fail or contain inaccuracies.";
            self.cluster.report(Report::Note(note.to_owned())).await;
        }
        let mut release = self.render(renderer, &start, values).await?;
        if self.options.dry_run == DryRun::Server {
            let objects = match self.resolve(&release.manifest).await {
                // Their kinds come with the chart.
                Err(Error::Refused(_)) if has_crds && installed => Vec::new(),
                other => other?,
            };
            let past = self.past(&history).await?;
            let live = self.live(&objects).await?;
            let doing = if installed { "install" } else { "update" };
            self.check_ownership(doing, &objects, &live, &past)?;
            self.preview(&objects, true).await?;
        } else {
            manifest::objects(&release.manifest)?;
        }
        release.info.description = "Dry run complete".to_owned();
        if let Some(description) = &self.options.description {
            release.info.description.clone_from(description);
        }
        Ok(Deployed { release, installed })
    }
}

/// Says at which event a hook failed.
fn of_hooks(event: Event) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        busy @ Error::Busy(_) => busy,
        error => Error::Failed(format!("{event} hooks failed: {}", error.line())),
    }
}
