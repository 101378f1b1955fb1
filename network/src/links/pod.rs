//! The link of a pod that has a namespace of its own, and the routes to it.
//!
//! A pair of links: `eth0` in the pod, with the pod's IP alone, and the host's end, which answers for
//! the next hop that all pods share. The host routes the one address over it, and the Wasm pods'
//! namespace, where every address of the range is local, is told of the exception. No bridge: what
//! leaves a pod is routed, and passes the host's rules.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::Ipv4Addr,
    path::Path,
};

use anyhow::Context;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType},
    },
};

use super::{INNER, LOCAL_TABLE, Netlink, write_sysctl};
use crate::{names::Names, namespace::Namespace};

/// Every pod's next hop: an address of no network, which the host's end of each link answers for.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The index of the loopback link of every namespace.
const LO: u32 = 1;

/// Netlink in the two namespaces that pods are reached from.
pub(crate) struct Outside {
    host: Netlink,
    wasm: Netlink,
}

/// A pod, and what it is told of its node.
pub(crate) struct Pod<'a> {
    pub(crate) uid: &'a str,
    pub(crate) ip: Ipv4Addr,
    /// Who the host is to the pod.
    pub(crate) host: Ipv4Addr,
}

impl Outside {
    pub(crate) fn open(wasm: &Namespace) -> anyhow::Result<Self> {
        Ok(Self {
            host: Netlink::host().context("open netlink")?,
            wasm: Netlink::within(wasm).context("open netlink in the Wasm pods' namespace")?,
        })
    }

    /// Makes the pod's namespace and link, or what is missing of them. What is whole stays as it is.
    pub(crate) async fn ensure(&self, names: &Names, pod: &Pod<'_>) -> anyhow::Result<()> {
        let path = names.pod_namespace(pod.uid);
        let (namespace, inner) = enter(&path).await?;
        let name = names.pod_link(pod.uid);
        let (outer_end, pod_end) = match (self.host.find(&name).await?, inner.find(INNER).await?) {
            (Some(outer), Some(end)) if inner.has(end, pod.ip).await? => (outer, end),
            (outer, stray) => {
                // Half a link, or one of another address.
                if let Some(index) = outer {
                    self.host.remove(index).await?;
                }
                if let Some(index) = stray {
                    inner.remove(index).await?;
                }
                self.host.pair(&name, INNER, &namespace).await?;
                (self.host.get(&name).await?, inner.get(INNER).await?)
            }
        };
        self.prepare_outside(&name, outer_end, pod).await?;
        prepare_inside(&inner, pod_end, pod.ip).await
    }

    async fn prepare_outside(&self, name: &str, link: u32, pod: &Pod<'_>) -> anyhow::Result<()> {
        // By its link address of IPv6 a pod would reach the host past all rules.
        disable_ipv6(name)?;
        self.host.address(link, NEXT_HOP).await?;
        self.host.up(link).await?;
        let route = to(pod.ip).output_interface(link).scope(RouteScope::Link);
        let route = route.pref_source(pod.host).build();
        self.host.route("a pod", route).await?;
        let link = self.wasm.get(INNER).await?;
        let route = to(pod.ip).output_interface(link).table_id(LOCAL_TABLE);
        let route = route.gateway(pod.host).onlink().build();
        self.wasm
            .route("a pod, in the Wasm pods' namespace", route)
            .await
    }

    /// Takes the routes to a pod away: its address can be another's.
    pub(crate) async fn unroute(&self, ip: Ipv4Addr) -> anyhow::Result<()> {
        let mut host = to(ip).scope(RouteScope::NoWhere).build();
        host.header.kind = RouteType::Unspec;
        self.host.remove_route("a pod", host).await?;
        let mut wasm = to(ip)
            .table_id(LOCAL_TABLE)
            .scope(RouteScope::NoWhere)
            .build();
        // Not the range's own, which is of another type.
        wasm.header.kind = RouteType::Unicast;
        self.wasm.remove_route("a pod", wasm).await
    }

    /// The index of the host's end of a pod's link.
    pub(crate) async fn find(&self, names: &Names, uid: &str) -> anyhow::Result<Option<u32>> {
        self.host.find(&names.pod_link(uid)).await
    }

    /// Removes the host's end of a link, and so the pod's.
    pub(crate) async fn remove(&self, index: u32) -> anyhow::Result<()> {
        self.host.remove(index).await
    }

    /// What is left of an earlier run.
    pub(crate) async fn found(&self, names: &Names, uids: &[String]) -> anyhow::Result<Found> {
        let links = self.host.links().await?;
        let mut by_index: BTreeMap<u32, String> = links
            .into_iter()
            .filter(|(name, _)| name.starts_with(&names.pod_links))
            .map(|(name, index)| (index, name))
            .collect();
        let mut addresses = BTreeMap::new();
        for route in self.host.routes().await? {
            if let Some(name) = link(&route).and_then(|index| by_index.get(&index))
                && let Some(ip) = only_address(&route)
                && ip != NEXT_HOP
            {
                addresses.insert(name.clone(), ip);
            }
        }
        let pods: BTreeMap<String, Ipv4Addr> = uids
            .iter()
            .filter_map(|uid| Some((uid.clone(), *addresses.get(&names.pod_link(uid))?)))
            .collect();
        let wanted: HashSet<String> = uids.iter().map(|uid| names.pod_link(uid)).collect();
        by_index.retain(|_, name| !wanted.contains(name));
        let kept: HashSet<Ipv4Addr> = pods.values().copied().collect();
        let stray_routes = self.wasm.routes().await?;
        let stray_routes = stray_routes.iter().filter_map(exception);
        Ok(Found {
            stray_routes: stray_routes.filter(|ip| !kept.contains(ip)).collect(),
            stray_links: by_index.into_keys().collect(),
            pods,
        })
    }
}

/// What an earlier run left.
pub(crate) struct Found {
    /// Pods by uid, with the address that the host routes to them.
    pub(crate) pods: BTreeMap<String, Ipv4Addr>,
    /// Links of pods that have no namespace any more.
    pub(crate) stray_links: Vec<u32>,
    /// Addresses that the Wasm pods' namespace has routes to, and no pod has.
    pub(crate) stray_routes: Vec<Ipv4Addr>,
}

/// Opens or makes a pod's namespace, and netlink in it.
async fn enter(path: &Path) -> anyhow::Result<(Namespace, Netlink)> {
    let path = path.to_owned();
    let made = tokio::task::spawn_blocking(move || {
        let namespace = Namespace::ensure(&path, prepare)?;
        let inner = Netlink::within(&namespace).context("open netlink in the pod's namespace")?;
        Ok((namespace, inner))
    });
    made.await.context("make a pod's namespace")?
}

/// What containers find in a new namespace, as under other runtimes: any port may be bound, and every
/// group may ping. Links that come have no IPv6.
fn prepare() -> anyhow::Result<()> {
    write_sysctl("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
    // In a user namespace there are fewer groups than this names.
    if let Err(error) = write_sysctl("/proc/sys/net/ipv4/ping_group_range", "0 2147483647") {
        tracing::debug!(error = format!("{error:#}"), "pods' groups may not ping");
    }
    disable_ipv6("default")
}

fn disable_ipv6(link: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
    // A kernel without IPv6 has nothing to disable.
    if !fs::exists(&path).unwrap_or(false) {
        return Ok(());
    }
    write_sysctl(&path, "1")
}

async fn prepare_inside(inner: &Netlink, link: u32, ip: Ipv4Addr) -> anyhow::Result<()> {
    inner.up(LO).await?;
    inner.address(link, ip).await?;
    inner.up(link).await?;
    let next = to(NEXT_HOP).output_interface(link).scope(RouteScope::Link);
    inner
        .route("the next hop, in the pod", next.build())
        .await?;
    let outside = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
        .output_interface(link)
        .gateway(NEXT_HOP);
    inner
        .route("the outside, in the pod", outside.build())
        .await
}

fn to(ip: Ipv4Addr) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32)
}

fn link(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}

/// The address that a unicast route to one address is for.
fn only_address(route: &RouteMessage) -> Option<Ipv4Addr> {
    let header = &route.header;
    let one = header.address_family == AddressFamily::Inet
        && header.destination_prefix_length == 32
        && header.kind == RouteType::Unicast;
    let mut attributes = route.attributes.iter().filter(|_| one);
    attributes.find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    })
}

/// The address that a route of the Wasm pods' namespace sends to the host although the range is local.
fn exception(route: &RouteMessage) -> Option<Ipv4Addr> {
    let via = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Gateway(_));
    let table = u32::from(route.header.table) == LOCAL_TABLE;
    only_address(route).filter(|_| table && route.attributes.iter().any(via))
}
