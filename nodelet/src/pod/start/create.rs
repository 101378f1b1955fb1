//! The files that a container needs beside its volumes, and the container itself.

use std::{io, path::Path};

use runtimes::{ContainerSpec, ImageKind, Mount, Runtime, RuntimeError};

use super::{RUNTIME_DEADLINE, Start, within};
use crate::{
    logs,
    pod::{etc, message, worker::Context},
};

impl Start {
    /// Makes the container; its image and its files are ready.
    pub(super) async fn create(
        &self,
        runtime: &dyn Runtime,
        spec: ContainerSpec,
    ) -> Result<(), RuntimeError> {
        let create = runtime.create(spec);
        within("create the container", RUNTIME_DEADLINE, create).await
    }

    /// Makes the files that the container needs; its image is ready.
    pub(super) async fn files(
        &self,
        context: &Context,
        runtime: &dyn Runtime,
        spec: &mut ContainerSpec,
    ) -> Result<(), RuntimeError> {
        let unavailable = |what: &str, source: io::Error| RuntimeError::Unavailable {
            message: what.to_owned(),
            source: Some(source.into()),
        };
        self.prepare_log(context, &spec.log)
            .await
            .map_err(|error| unavailable("create the log directory", error))?;
        // A server that holds no state has no end of its own to tell of.
        if !runtime.stateless(&spec.image).await {
            let (pods_dir, name) = (&context.config.pods_dir, &self.container.name);
            let directory = message::directory(pods_dir, &self.pod_ref.uid, name, self.attempt);
            let mount = message::prepare(&directory, &self.container)
                .await
                .map_err(|error| unavailable("create the termination message file", error))?;
            // A volume that the user has put there stays.
            let taken = |mount: &Mount| {
                let mut mounts = spec.mounts.iter();
                mounts.any(|other| other.destination == mount.destination)
            };
            let free = mount.filter(|mount| !taken(mount));
            spec.mounts.extend(free);
        }
        if spec.image.kind == ImageKind::Oci {
            let own = etc::mounts(
                context,
                &self.pod,
                &self.pod_ref,
                spec.address.ip,
                spec.security.read_only_root,
                &spec.mounts,
            );
            let own = own
                .await
                .map_err(|error| unavailable("write the pod's files in /etc", error))?;
            spec.mounts.extend(own);
        }
        Ok(())
    }

    /// Makes the log's directory, and removes the log of the attempt before the previous one.
    async fn prepare_log(&self, context: &Context, log: &Path) -> io::Result<()> {
        if let Some(directory) = log.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        if let Some(old) = self.attempt.checked_sub(2) {
            let old = logs::file(
                &context.config.log_dir,
                &self.pod_ref,
                &self.container.name,
                old,
            );
            logs::remove(&old)?;
        }
        Ok(())
    }
}
