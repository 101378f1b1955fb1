//! Where a pod's sockets are: its address, and whether in a network namespace of the pod's own.
//!
//! A pod of components needs no namespace and starts without one. One that has containers, or may turn out to have some,
//! gets one before its first container starts; a single container's pod as soon as its image turns out to be a
//! container's. A pod of `hostNetwork` takes no address: it has its node's. Reads RuntimeClasses; asks the pod network.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use k8s_openapi::api::{core::v1::Pod, node::v1::RuntimeClass};
use kube::Api;
use runtimes::{HostPort, ImageKind, PodAddress, PodRef, Protocol};

use super::worker::Context;
use crate::deadline::call;

/// How long giving a pod its address and its namespace may take, others' turns included.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where one container's sockets are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) address: PodAddress,
    /// The pod's own network namespace, if it has one.
    pub(crate) namespace: Option<PathBuf>,
}

/// Whether the pod is on its node's own network.
pub(crate) fn is_on_host(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| spec.host_network == Some(true))
}

/// The node's ports that a pod wants for its own.
///
/// # Errors
/// One cannot be had; which, in words for the user.
fn host_ports(pod: &Pod) -> Result<Vec<HostPort>, String> {
    let spec = pod.spec.as_ref();
    let sidecars = spec.iter().flat_map(|spec| spec.init_containers.iter());
    let sidecars = sidecars
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers = spec.iter().flat_map(|spec| spec.containers.iter());
    let ports = containers.chain(sidecars).flat_map(|container| {
        let ports = container.ports.iter().flatten();
        ports.map(|port| (&container.name, port))
    });
    let mut opened = Vec::new();
    for (container, port) in ports {
        let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
        let (Some(on_host), Some(to)) =
            (port.host_port.and_then(number), number(port.container_port))
        else {
            continue;
        };
        let cannot = |what: &str| {
            format!("hostPort {on_host} of container {container:?} cannot be opened: {what}")
        };
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some(other) => return Err(cannot(&format!("protocol {other} is not supported"))),
        };
        let address = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
        let address = address.unwrap_or("0.0.0.0").parse();
        let address: Ipv4Addr = address.map_err(|_| cannot("its hostIP is not an IPv4 address"))?;
        if address.is_loopback() {
            return Err(cannot(
                "its hostIP is a loopback address, where only the node itself listens",
            ));
        }
        opened.push(HostPort {
            address,
            protocol,
            port: on_host,
            to,
        });
    }
    Ok(opened)
}

/// The name under which a kind of image is run: of the runtime, and of a RuntimeClass.
pub(crate) fn runtime_of(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Wasm => "wasm",
        ImageKind::Oci => "oci",
    }
}

/// Gives a pod its address, `wanted` if that is free, and a namespace if it needs one from the start.
/// `holds_containers` says that containers of it run already.
///
/// # Errors
/// What the Event says.
pub(crate) async fn take(
    context: &Context,
    pod: &Pod,
    pod_ref: &PodRef,
    wanted: Option<IpAddr>,
    holds_containers: bool,
) -> Result<PodAddress, String> {
    let taken = take_now(context, pod, pod_ref, wanted, holds_containers);
    let taken = tokio::time::timeout(DEADLINE, taken).await;
    taken.unwrap_or_else(|_| Err(late()))
}

fn late() -> String {
    let seconds = DEADLINE.as_secs();
    format!("the pod network did not answer within {seconds} s")
}

async fn take_now(
    context: &Context,
    pod: &Pod,
    pod_ref: &PodRef,
    wanted: Option<IpAddr>,
    holds_containers: bool,
) -> Result<PodAddress, String> {
    let class = class(context, pod).await?;
    if class == Some(ImageKind::Oci)
        && let Some(why) = unavailable(context, ImageKind::Oci)
    {
        return Err(format!(
            "runtimeClassName is \"oci\", but this node runs no containers: {why}"
        ));
    }
    if is_on_host(pod) {
        let ip = context.config.addresses.first().copied();
        return Ok(PodAddress {
            ip: ip.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            loopback: Ipv4Addr::LOCALHOST.into(),
        });
    }
    let network = &context.network;
    let address = network.add(pod_ref, wanted).await;
    let address = address.map_err(|error| error.to_string())?;
    let opened = network.open(&pod_ref.uid, &host_ports(pod)?);
    opened.map_err(|error| error.to_string())?;
    let needs = holds_containers
        || network.isolated(&pod_ref.uid).is_some()
        || (unavailable(context, ImageKind::Oci).is_none()
            && may_need(class, &known(context, pod).await));
    if !needs {
        return Ok(address);
    }
    let isolated = network.isolate(&pod_ref.uid).await;
    isolated
        .map(|isolated| isolated.address)
        .map_err(|error| error.to_string())
}

/// Where a container of an image of this kind has its sockets; `alone` says that nothing else of its pod runs.
///
/// # Errors
/// It cannot have any; why, in words for the user.
pub(crate) async fn of_container(
    context: &Context,
    pod: &Pod,
    uid: &str,
    address: PodAddress,
    kind: ImageKind,
    alone: bool,
) -> Result<Place, String> {
    if is_on_host(pod) {
        return Ok(Place {
            address,
            namespace: None,
        });
    }
    let network = &context.network;
    let isolated = match (kind, network.isolated(uid)) {
        (_, Some(isolated)) => isolated,
        (ImageKind::Wasm, None) => {
            return Ok(Place {
                address,
                namespace: None,
            });
        }
        (ImageKind::Oci, None) if !alone => {
            return Err(
                "a container cannot join this pod: it was started with WebAssembly components only and has no network \
                 namespace of its own; make the pod anew with both (kubectl debug --copy-to does)"
                    .to_owned(),
            );
        }
        (ImageKind::Oci, None) => {
            let isolated = tokio::time::timeout(DEADLINE, network.isolate(uid)).await;
            let isolated = isolated.map_err(|_| late())?;
            isolated.map_err(|error| format!("make the pod's network namespace: {error}"))?
        }
    };
    Ok(Place {
        address: isolated.address,
        namespace: Some(isolated.namespace),
    })
}

/// Why this node does not run images of a kind; `None` if it does.
pub(crate) fn unavailable(context: &Context, kind: ImageKind) -> Option<String> {
    let name = runtime_of(kind);
    let mut runtimes = context.runtimes.iter();
    if runtimes.any(|runtime| runtime.name() == name) {
        return None;
    }
    let known = context.config.unavailable_runtimes.get(name).cloned();
    Some(known.unwrap_or_else(|| format!("it has no runtime named {name}")))
}

/// Which kind of image `runtimeClassName` says that the pod's are.
///
/// # Errors
/// There is no such class, or it is for a runtime that nodes of this cluster do not have.
pub(crate) async fn class(context: &Context, pod: &Pod) -> Result<Option<ImageKind>, String> {
    let spec = pod.spec.as_ref();
    let class = spec.and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(class) = class.filter(|class| !class.is_empty()) else {
        return Ok(None);
    };
    if let Some(kind) = kind_of(class) {
        return Ok(Some(kind));
    }
    let classes: Api<RuntimeClass> = Api::all(context.client.clone());
    let found = call(classes.get(class)).await;
    let handler = found.map_err(|error| match error.code() {
        Some(404) => format!("RuntimeClass {class:?} not found"),
        _ => format!("get RuntimeClass {class:?}: {error}"),
    })?;
    let handler = handler.handler;
    match kind_of(&handler) {
        Some(kind) => Ok(Some(kind)),
        None => Err(format!(
            "no runtime for {handler:?} is configured, which RuntimeClass {class:?} names as its handler: there are \"oci\" and \"wasm\""
        )),
    }
}

fn kind_of(name: &str) -> Option<ImageKind> {
    [ImageKind::Wasm, ImageKind::Oci]
        .into_iter()
        .find(|kind| runtime_of(*kind) == name)
}

/// The kind of each of the pod's images; `None` for one that is not on this node. Nobody asks for a single one: there is
/// time to isolate its pod once it turns out to be a container's.
async fn known(context: &Context, pod: &Pod) -> Vec<Option<ImageKind>> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    });
    let references: Vec<_> = containers
        .map(|container| container.image.as_deref().unwrap_or_default())
        .collect();
    if references.len() < 2 {
        return Vec::new();
    }
    let mut kinds = Vec::with_capacity(references.len());
    for reference in references {
        let image = context.images.find(reference).await;
        kinds.push(image.map(|image| image.kind));
    }
    kinds
}

/// Whether a pod needs a namespace, or may turn out to when it is too late: one of several containers may run as a
/// component in the namespace of all when another turns out to be a container. `images` are those of several. Pure.
fn may_need(class: Option<ImageKind>, images: &[Option<ImageKind>]) -> bool {
    match class {
        Some(kind) => kind == ImageKind::Oci,
        None => images.iter().any(|kind| *kind != Some(ImageKind::Wasm)),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_pod_that_has_containers_or_may_have_some_needs_a_namespace() {
        let (wasm, oci) = (Some(ImageKind::Wasm), Some(ImageKind::Oci));
        let check = |class, images: &[Option<ImageKind>], needs| {
            let found = may_need(class, images);
            assert_eq!(found, needs, "{class:?} {images:?}");
        };
        check(None, &[], false);
        check(None, &[wasm, wasm], false);
        check(None, &[wasm, None], true);
        check(None, &[wasm, oci], true);
        check(oci, &[], true);
        check(wasm, &[None, None], false);
    }

    #[test]
    fn ports_of_the_host_are_those_of_containers_that_run_on() {
        let check = |ports: Value, expected: Expect| {
            let container = json!({ "name": "c", "ports": ports });
            let port = json!([{ "containerPort": 1, "hostPort": 1 }]);
            let pod = json!({ "spec": {
                "containers": [container],
                "initContainers": [{ "name": "once", "ports": port }],
            } });
            let found = host_ports(&serde_json::from_value(pod).unwrap());
            let found = found.map(|ports| {
                let show = |port: &HostPort| {
                    let HostPort {
                        address,
                        protocol,
                        port,
                        to,
                    } = port;
                    format!("{protocol:?} {address}:{port} to {to}")
                };
                ports.iter().map(show).collect::<Vec<_>>().join(", ")
            });
            expected.assert_eq(&found.unwrap_or_else(|error| error));
        };
        check(
            json!([
                { "containerPort": 80, "hostPort": 8080, "protocol": "TCP" },
                { "containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1" },
                { "containerPort": 81 },
            ]),
            expect!["Tcp 0.0.0.0:8080 to 80, Udp 192.0.2.1:53 to 53"],
        );
        check(
            json!([{ "containerPort": 80, "hostPort": 80, "hostIP": "::1" }]),
            expect![[
                r#"hostPort 80 of container "c" cannot be opened: its hostIP is not an IPv4 address"#
            ]],
        );
        check(
            json!([{ "containerPort": 80, "hostPort": 6443, "hostIP": "127.0.0.1" }]),
            expect![[
                r#"hostPort 6443 of container "c" cannot be opened: its hostIP is a loopback address, where only the node itself listens"#
            ]],
        );
        check(
            json!([{ "containerPort": 80, "hostPort": 80, "protocol": "SCTP" }]),
            expect![[
                r#"hostPort 80 of container "c" cannot be opened: protocol SCTP is not supported"#
            ]],
        );
    }
}
