//! The [`Runtime`] over runc: containers by id, and the calls that move them through their life.
//!
//! A container is made in two steps. [`create`] does all that can fail for its image or its spec: layers, user, profile,
//! `config.json`; no process yet. [`life`] starts it, through its shim, and follows it to its end, which is
//! settled once: why it ended, and that nothing of it runs on.
//!
//! Nothing is in memory but locks: what is there is what the directories say. What changes something comes to its end
//! although nobody waits for it any more; what a crash cuts off is begun again, or taken up where it was.

mod create;
mod life;
mod sweep;

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use runtimes::{
    ContainerId, ContainerSpec, ContainerState, ContainerStatus, Exit, Image, Process, Runtime,
    RuntimeError, Stats, Stdio, images::ContainerImage, log::Rotation,
};

use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    Config,
    cgroup::Cgroups,
    exec::{Exec, exec},
    host,
    layers::{self, Layers},
    locks::Locks,
    pod::Pods,
    record::{Directories, Directory, Record},
    runc::{self, Runc},
    shim::{self, Shim},
    spec::{Host, process},
};

/// Runs OCI containers on this host. Dropping it leaves them as they are.
pub struct OciRuntime {
    node: Arc<Node>,
    /// Changes that are under way, no more than there are calls.
    changes: Mutex<JoinSet<()>>,
}

/// What there is to work with.
struct Node {
    version: String,
    host: Host,
    runc: Runc,
    /// The shim's program.
    program: PathBuf,
    rotation: Rotation,
    layers: Layers,
    cgroups: Cgroups,
    pods: Pods,
    containers: Directories,
    /// By a container's name, and by a pod's uid.
    locks: Locks,
}

impl OciRuntime {
    /// Looks at the host, and at what a former process has left there.
    ///
    /// # Errors
    /// What this host lacks, in a user's words.
    pub fn new(config: Config) -> Result<OciRuntime, String> {
        let host = host::look()?;
        let Some(binary) = host::find_program(&config.runc) else {
            return Err(format!(
                "containers need runc, and {} is not there: install runc",
                config.runc.display()
            ));
        };
        let version = runc::version(&binary)?;
        let cgroups = Cgroups::find(&config.group)?.with_pids(config.pids);
        let make = |name: &str| {
            let path = config.state_dir.join(name);
            fs::create_dir_all(&path)
                .map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        let containers = make("containers")?;
        host::try_overlay(&containers)?;
        let unusable = |what: &str, error: io::Error| {
            format!(
                "{what} below {} cannot be used: {error}",
                config.state_dir.display()
            )
        };
        let layers = Layers::open(&make("layers")?, layers::Limits::default())
            .map_err(|error| unusable("layers", error))?;
        let program =
            shim::program::install(&make("bin")?).map_err(|error| unusable("the shim", error))?;
        let node = Node {
            version,
            host,
            runc: Runc::new(binary, make("runc")?),
            rotation: config.rotation,
            layers,
            cgroups,
            pods: Pods::new(make("pods")?, program.clone()),
            program,
            containers: Directories::new(containers),
            locks: Locks::default(),
        };
        Ok(OciRuntime {
            node: Arc::new(node),
            changes: Mutex::default(),
        })
    }

    /// Makes a change that comes to its end whether the caller waits for it or not.
    async fn change<T, F>(&self, change: impl FnOnce(Arc<Node>) -> F) -> Result<T, RuntimeError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RuntimeError>> + Send + 'static,
    {
        let change = change(Arc::clone(&self.node));
        let (answer, answered) = oneshot::channel();
        {
            let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            while changes.try_join_next().is_some() {}
            changes.spawn(async move {
                // Nobody may be waiting any more.
                let _ = answer.send(change.await);
            });
        }
        answered.await.unwrap_or_else(|_| {
            Err(RuntimeError::Unavailable {
                message: "the runtime is ending".to_owned(),
                source: None,
            })
        })
    }
}

impl Node {
    /// A container's directory and what is written there.
    fn find(&self, id: &ContainerId) -> Result<(Directory, Record), RuntimeError> {
        let directory = self.containers.of(id);
        match directory
            .record()
            .map_err(unavailable("read a container"))?
        {
            Some(record) => Ok((directory, record)),
            None => Err(RuntimeError::NotFound(id.clone())),
        }
    }

    /// A container that runs.
    async fn running(&self, id: &ContainerId) -> Result<Directory, RuntimeError> {
        let (directory, record) = self.find(id)?;
        match self.state(&directory, &record).await? {
            ContainerState::Running { .. } => Ok(directory),
            _ => Err(RuntimeError::Invalid(format!(
                "container {} is not running",
                record.name
            ))),
        }
    }

    async fn status_of(
        &self,
        directory: &Directory,
        record: &Record,
    ) -> Result<ContainerStatus, RuntimeError> {
        Ok(ContainerStatus {
            id: record.id(),
            pod: record.pod(),
            name: record.name.clone(),
            state: self.state(directory, record).await?,
        })
    }
}

#[async_trait]
impl Runtime for OciRuntime {
    fn name(&self) -> &'static str {
        "oci"
    }

    fn version(&self) -> String {
        self.node.version.clone()
    }

    async fn prepare(&self, image: &Image) -> Result<(), RuntimeError> {
        let image = read_image(image).await?;
        self.node.layers.prepare(&image).await
    }

    async fn create(&self, spec: ContainerSpec) -> Result<(), RuntimeError> {
        self.change(|node| async move { node.create_container(Arc::new(spec)).await })
            .await
    }

    async fn start(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let id = id.clone();
        self.change(|node| async move { node.start_container(&id).await })
            .await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError> {
        self.node.stop_container(id, grace).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let id = id.clone();
        self.change(|node| async move { node.remove_container(&id).await })
            .await
    }

    async fn list(&self) -> Result<Vec<ContainerStatus>, RuntimeError> {
        let directories = self.node.containers.list();
        let directories = directories.map_err(unavailable("list containers"))?;
        let mut list = Vec::with_capacity(directories.len());
        for directory in directories {
            let record = match directory.record() {
                Ok(Some(record)) => record,
                // Half made, or removed meanwhile.
                Ok(None) => continue,
                // One that cannot be read must not hide the others.
                Err(error) => {
                    tracing::warn!(%error, container = directory.name(), "read a container");
                    continue;
                }
            };
            match self.node.status_of(&directory, &record).await {
                Ok(status) => list.push(status),
                Err(RuntimeError::NotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, container = directory.name(), "look at a container");
                }
            }
        }
        Ok(list)
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, RuntimeError> {
        let (directory, record) = self.node.find(id)?;
        self.node.status_of(&directory, &record).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        self.node.wait_for(id).await
    }

    async fn exec(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        stdio: Stdio,
    ) -> Result<Process, RuntimeError> {
        let directory = self.node.running(id).await?;
        let first = create::first_process(&directory).map_err(unavailable("read config.json"))?;
        let call = Exec {
            program: &self.node.program,
            dir: directory.path(),
            runc: &self.node.runc.binary,
            runc_root: &self.node.runc.root,
            id: directory.name(),
        };
        exec(&call, &process::beside(&first, command, stdio.tty), stdio).await
    }

    async fn attach(&self, id: &ContainerId, stdio: Stdio) -> Result<Process, RuntimeError> {
        let directory = self.node.running(id).await?;
        Shim::adopt(directory.path()).attach(stdio).await
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats, RuntimeError> {
        let (_, record) = self.node.find(id)?;
        match self.node.cgroups.stats(&record.cgroup) {
            Ok(stats) => Ok(stats),
            // It has not been started, or has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stats::default()),
            Err(error) => Err(unavailable("read a container's use")(error)),
        }
    }

    async fn disk_bytes(&self, id: &ContainerId) -> Result<u64, RuntimeError> {
        match self.node.find(id) {
            Ok((directory, _)) => self.node.layers.usage(directory.path()).await,
            Err(RuntimeError::NotFound(_)) => Ok(0),
            Err(error) => Err(error),
        }
    }

    async fn keep_only(&self, images: &[Image]) -> Result<u64, RuntimeError> {
        self.node.sweep().await;
        let mut kept = Vec::with_capacity(images.len());
        for image in images {
            // One whose blobs are going is not kept.
            kept.extend(read_image(image).await.ok());
        }
        self.node.layers.keep_only(&kept).await
    }
}

async fn read_image(image: &Image) -> Result<ContainerImage, RuntimeError> {
    let image = image.clone();
    tokio::task::spawn_blocking(move || ContainerImage::read(&image))
        .await
        .expect("reading an image does not panic")
        .map_err(RuntimeError::Invalid)
}

/// What the host refuses.
fn unavailable(what: &str) -> impl Fn(io::Error) -> RuntimeError {
    move |error| RuntimeError::Unavailable {
        message: format!("cannot {what}: {error}"),
        source: Some(error.into()),
    }
}

/// What runc refuses although it should not.
fn refused(error: runc::Failed) -> RuntimeError {
    RuntimeError::Unavailable {
        message: error.to_string(),
        source: None,
    }
}
