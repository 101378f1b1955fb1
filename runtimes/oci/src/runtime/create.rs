//! Making a container: all that comes before its first process.
//!
//! Writes the container's directory: the record last, so that what was interrupted is begun again.

use std::{fs, io, path::PathBuf, sync::Arc};

use oci_spec::runtime::{Process, Spec};
use runtimes::{ContainerSpec, RuntimeError, images::ContainerImage};

use super::{Node, read_image, unavailable};
use crate::{
    locks::Held,
    pod::Shared,
    record::{Directory, Record},
    seccomp,
    shim::Shim,
    signal,
    spec::{self, Bundle, Host, Processes, capabilities, devices, mounts},
    user,
};

/// How a container is asked to end if nobody says.
const STOP_SIGNAL: &str = "SIGTERM";

impl Node {
    /// Makes a container, unless it is there.
    pub(super) async fn create_container(
        &self,
        spec: Arc<ContainerSpec>,
    ) -> Result<(), RuntimeError> {
        let directory = self.containers.of(&spec.id);
        let held = self.locks.hold(directory.name()).await;
        let record = directory
            .record()
            .map_err(unavailable("read a container"))?;
        if record.is_some() {
            return Ok(());
        }
        let made = self.make(Arc::clone(&spec), directory.clone(), &held).await;
        if made.is_err() {
            // What stays is swept away later.
            let _ = self.forget(&directory).await;
            let _ = self.release(&spec.pod.uid).await;
        }
        made
    }

    async fn make(
        &self,
        spec: Arc<ContainerSpec>,
        directory: Directory,
        held: &Held,
    ) -> Result<(), RuntimeError> {
        let image = read_image(&spec.image).await?;
        self.layers.prepare(&image).await?;
        // What a former attempt has left is made anew.
        self.layers.remove(directory.path()).await?;
        let shared = self.share(&spec, &directory).await?;
        // Both come to their end, so that what they have made can be removed.
        let (grouped, root) = tokio::join!(
            self.cgroups.ensure_pod(&spec),
            self.layers.mount(&image, directory.path())
        );
        grouped?;
        let root = root?;
        let processes = self.processes(&spec, &shared)?;
        let cgroup = self.cgroups.path(&spec);
        let parts = Parts {
            resources: self.cgroups.resources(&spec),
            host: self.host.clone(),
            spec,
            image,
            directory,
            root,
            shared,
            processes,
            cgroup,
        };
        held.blocking(move || parts.write()).await
    }

    /// Makes the directory and what the pod shares. While a container has its directory, its pod keeps what it has.
    async fn share(
        &self,
        spec: &Arc<ContainerSpec>,
        directory: &Directory,
    ) -> Result<Shared, RuntimeError> {
        let pod: Held = self.locks.hold(&spec.pod.uid).await;
        let (pods, spec, directory) = (self.pods.clone(), Arc::clone(spec), directory.clone());
        pod.blocking(move || {
            fs::create_dir_all(directory.path())?;
            pods.ensure(&spec)
        })
        .await
        .map_err(unavailable("make what the pod's containers share"))
    }

    /// Which processes the container sees.
    fn processes(&self, spec: &ContainerSpec, shared: &Shared) -> Result<Processes, RuntimeError> {
        if spec.namespaces.host_pid {
            return Ok(Processes::Host);
        }
        if let Some(path) = &shared.processes {
            return Ok(Processes::Of(path.clone()));
        }
        let Some(target) = &spec.namespaces.target else {
            return Ok(Processes::Own);
        };
        match Shim::adopt(self.containers.of(target).path()).running() {
            Some(pid) => Ok(Processes::Of(format!("/proc/{pid}/ns/pid").into())),
            None => Err(RuntimeError::Unavailable {
                message: format!("the target container {target} is not running"),
                source: None,
            }),
        }
    }
}

/// What a container's directory is written from.
struct Parts {
    spec: Arc<ContainerSpec>,
    image: ContainerImage,
    host: Host,
    directory: Directory,
    root: PathBuf,
    shared: Shared,
    processes: Processes,
    cgroup: String,
    resources: oci_spec::runtime::LinuxResources,
}

impl Parts {
    /// Looks up what the configuration needs, writes it, and the record. Blocks.
    fn write(self) -> Result<(), RuntimeError> {
        let spec = &*self.spec;
        let security = &spec.security;
        let config = self.image.configuration.config().as_ref();
        let image_user = config.and_then(|config| config.user().as_deref());
        let identity = user::resolve(&self.root, spec, image_user.unwrap_or_default())?;
        let devices = if security.privileged {
            let mut all = devices::all("/dev".as_ref()).map_err(unavailable("list devices"))?;
            let named = devices::find(&spec.devices)?;
            all.retain(|one| {
                named
                    .iter()
                    .all(|two| one.device.path() != two.device.path())
            });
            all.extend(named);
            all
        } else {
            devices::find(&spec.devices)?
        };
        let mountinfo = fs::read_to_string("/proc/self/mountinfo");
        let mountinfo = mountinfo.map_err(unavailable("read the host's mounts"))?;
        mounts::check_propagation(&spec.mounts, &mountinfo)?;
        let held = capabilities::of(security, &self.host.capabilities)?;
        let seccomp = seccomp::profile(security, &held)?;
        let stop_signal = stop_signal(spec, config)?;
        let record = Record::new(spec, self.cgroup.clone(), stop_signal);
        let config = spec::config(Bundle {
            spec,
            image: &self.image.configuration,
            identity: &identity,
            host: &self.host,
            root: &self.root,
            ipc: self.shared.ipc.as_deref(),
            uts: self.shared.uts.as_deref(),
            processes: self.processes,
            shm: &self.shared.shm,
            cgroup: self.cgroup,
            resources: self.resources,
            devices,
            seccomp,
        })?;
        let written = || {
            fs::write(self.directory.config(), serde_json::to_vec(&config)?)?;
            self.directory.write_record(&record)
        };
        written().map_err(unavailable("write a container"))
    }
}

/// The pod's, the image's or the usual one, as runc takes it.
fn stop_signal(
    spec: &ContainerSpec,
    image: Option<&oci_spec::image::Config>,
) -> Result<String, RuntimeError> {
    let images = image.and_then(|config| config.stop_signal().as_deref());
    let images = images.filter(|signal| !signal.is_empty());
    let name = spec
        .stop_signal
        .as_deref()
        .or(images)
        .unwrap_or(STOP_SIGNAL);
    signal::parse(name)
        .ok_or_else(|| RuntimeError::Invalid(format!("invalid stop signal {name:?}")))
}

/// The container's own process, as its configuration has it.
pub(super) fn first_process(directory: &Directory) -> io::Result<Process> {
    let config: Spec = serde_json::from_slice(&fs::read(directory.config())?)?;
    let process = config.process().clone();
    process.ok_or_else(|| io::Error::other("it has no process"))
}
