//! What a runtime is told of a container, from the fields of its pod.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::Container;
use runtimes::{ContainerSpec, Image, ImageKind, Namespaces, Port, Protocol, Security};

use super::Start;
use crate::{
    host, logs,
    pod::{
        container::{Reason, StartFailure},
        environment::{Surroundings, environment, expand},
        names::{host_name, hostname, resolver},
        place::{Place, is_on_host},
        resources,
        security::container::security,
        worker::Context,
    },
    volume,
};

impl Start {
    /// Everything that the runtime needs to know of the container, but for its namespace: that it is in its pod's own is
    /// said by [`Start::settle`].
    pub(crate) async fn spec(
        &self,
        context: &Context,
        image: Image,
    ) -> Result<ContainerSpec, StartFailure> {
        let refused = |message| self.failed(context, Reason::CreateContainerConfigError, message);
        let config = &context.config;
        let hostname = if is_on_host(&self.pod) {
            host_name()
        } else {
            hostname(&self.pod, &config.cluster_domain).map_err(refused)?
        };
        let security = match image.kind {
            ImageKind::Wasm => Security::default(),
            ImageKind::Oci => {
                security(&self.pod, &self.container, &config.seccomp_dir).map_err(refused)?
            }
        };
        if !volume::is_set_up_for(context, &self.pod_ref, &self.container) {
            // A container that was not there when the pod was set up.
            let set_up = volume::set_up(context, &self.pod, &self.pod_ref).await;
            set_up.map_err(|error| refused(error.messages.join("; ")))?;
        }
        let volumes = context.volumes.find(&self.pod_ref.uid);
        let volume = |name: &str| {
            let known = volumes.as_ref()?.known();
            known.sources.get(name).map(|source| source.path.clone())
        };
        let allocatable = context.allocatable();
        let around = Surroundings {
            client: &context.client,
            services: &context.services,
            node_name: &config.node_name,
            host_ip: config
                .addresses
                .first()
                .map(IpAddr::to_string)
                .unwrap_or_default(),
            pod_ip: self.address.ip.to_string(),
            hostname: hostname.clone(),
            allocatable: &allocatable,
            volume: &volume,
        };
        let env = environment(&self.pod, &self.container, &around)
            .await
            .map_err(refused)?;
        let lookup = |name: &str| {
            env.iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.clone())
        };
        let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
            list.iter()
                .flatten()
                .map(|text| expand(text, lookup))
                .collect()
        };
        let (command, args) = (
            expanded(&self.container.command),
            expanded(&self.container.args),
        );
        let mounts = volume::mounts(context, &self.pod, &self.container, image.kind, &lookup)
            .map_err(refused)?;
        let lifecycle = self.container.lifecycle.as_ref();
        let capacity = config.capacity.memory_bytes;
        let capacity = capacity.unwrap_or_else(|| host::memory().0);
        Ok(ContainerSpec {
            command,
            args,
            env,
            working_dir: self.container.working_dir.clone(),
            ports: ports(&self.container),
            limits: resources::limits(&self.container),
            requests: resources::requests(&self.container),
            pod_resources: resources::of_pod(&self.pod),
            oom_score_adj: resources::oom_score_adj(
                &self.pod,
                &self.container,
                self.role,
                capacity,
            ),
            hostname,
            security,
            namespaces: self.namespaces(),
            stop_signal: lifecycle.and_then(|lifecycle| lifecycle.stop_signal.clone()),
            mounts,
            stdin: self.container.stdin.unwrap_or(false),
            stdin_once: self.container.stdin_once.unwrap_or(false),
            tty: self.container.tty.unwrap_or(false),
            annotations: Arc::new(self.pod.metadata.annotations.clone().unwrap_or_default()),
            resolver: Arc::new(resolver(&self.pod, self.address.ip, &config.cluster_domain)),
            ..ContainerSpec::new(
                self.id.clone(),
                self.pod_ref.clone(),
                image,
                self.address,
                self.log(context),
            )
        })
    }

    /// Puts the container where its pod's sockets are.
    pub(super) fn settle(spec: &mut ContainerSpec, place: Place) {
        spec.address = place.address;
        spec.namespaces.network = place.namespace;
    }

    /// Which of the host's namespaces, and of its pod's processes, the container is in.
    fn namespaces(&self) -> Namespaces {
        let spec = self.pod.spec.as_ref();
        let is = |field: Option<bool>| field == Some(true);
        Namespaces {
            network: None,
            host_pid: spec.is_some_and(|spec| is(spec.host_pid)),
            host_ipc: spec.is_some_and(|spec| is(spec.host_ipc)),
            shared_pid: spec.is_some_and(|spec| is(spec.share_process_namespace)),
            target: self.target.clone(),
        }
    }

    fn log(&self, context: &Context) -> PathBuf {
        logs::file(
            &context.config.log_dir,
            &self.pod_ref,
            &self.container.name,
            self.attempt,
        )
    }
}

/// The ports that a container says it serves.
pub(crate) fn ports(container: &Container) -> Vec<Port> {
    let ports = container.ports.iter().flatten();
    ports
        .filter_map(|port| {
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some(_) => return None,
            };
            Some(Port {
                name: port.name.clone(),
                number: u16::try_from(port.container_port).ok()?,
                protocol,
            })
        })
        .collect()
}
