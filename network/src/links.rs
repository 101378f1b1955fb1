//! The link between the host and the Wasm pods' namespace, and the routes on both sides of it.
//!
//! The namespace takes every address of the node's range as its own (one `local` route), so a pod's
//! address costs nothing to add. The host reaches the range through the namespace's end of the link.
//! Everything is put in place anew at each start; what is there already stays.

mod netlink;
pub(crate) mod pod;

use std::net::Ipv4Addr;

use anyhow::Context;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{RouteMessage, RouteScope, RouteType},
};

use self::netlink::LOCAL_TABLE;
pub(crate) use self::netlink::{Netlink, write_sysctl};
use crate::{Range, names::Names, namespace::Namespace, pool};

/// The namespace's end of a link.
const INNER: &str = "eth0";

/// Makes the link, unless it is there.
pub(crate) async fn ensure_link(names: &Names, namespace: &Namespace) -> anyhow::Result<()> {
    let host = Netlink::host().context("open netlink")?;
    let inner = Netlink::within(namespace).context("open netlink in the namespace")?;
    match (host.find(&names.link).await?, inner.find(INNER).await?) {
        (Some(_), Some(_)) => {}
        (outer, stray) => {
            // Half a link is one to another namespace of the same name, now lost.
            if let Some(index) = outer {
                host.remove(index).await?;
            }
            if let Some(index) = stray {
                inner.remove(index).await?;
            }
            host.pair(&names.link, INNER, namespace).await?;
        }
    }
    inner.up(inner.get("lo").await?).await?;
    inner.up(inner.get(INNER).await?).await?;
    host.up(host.get(&names.link).await?).await
}

/// Routes the node's pods and the cluster's Services, on both sides.
pub(crate) async fn configure(
    names: &Names,
    namespace: &Namespace,
    pods: Range,
    services: Range,
) -> anyhow::Result<()> {
    configure_namespace(namespace, pods).await?;
    let host = Netlink::host().context("open netlink")?;
    let link = host.get(&names.link).await?;
    let (outer, inner) = (pool::host_address(pods), pool::namespace_address(pods));
    host.address(link, outer).await?;
    // By way of one neighbour, whatever the number of pods.
    let to_pods = to(pods)
        .output_interface(link)
        .gateway(inner)
        .onlink()
        .pref_source(outer);
    host.route("this node's pods", to_pods.build()).await?;
    // Without a route connect() fails before the rules see the packet.
    host.route(
        "Services",
        to_services(&host, names, services, outer).await?,
    )
    .await?;
    let proc = "/proc/sys/net/ipv4";
    write_sysctl(&format!("{proc}/ip_forward"), "1")?;
    write_sysctl(&format!("{proc}/conf/{}/send_redirects", names.link), "0")
}

async fn configure_namespace(namespace: &Namespace, pods: Range) -> anyhow::Result<()> {
    let netlink = Netlink::within(namespace).context("open netlink in the namespace")?;
    let (lo, link) = (netlink.get("lo").await?, netlink.get(INNER).await?);
    let (outer, inner) = (pool::host_address(pods), pool::namespace_address(pods));
    netlink.address(link, inner).await?;
    let all = to(pods).output_interface(lo).table_id(LOCAL_TABLE);
    let all = all.kind(RouteType::Local).scope(RouteScope::Host);
    netlink
        .route("this node's pods, in the namespace", all.build())
        .await?;
    // The host's own address is in the range and yet not in here: the longer prefix wins.
    let host = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(outer, 32)
        .output_interface(link)
        .table_id(LOCAL_TABLE)
        .scope(RouteScope::Link)
        .pref_source(inner);
    netlink
        .route("the host, in the namespace", host.build())
        .await?;
    let outside = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
        .output_interface(link)
        .gateway(outer)
        .onlink()
        .pref_source(inner);
    netlink
        .route("the outside, in the namespace", outside.build())
        .await
}

fn to(range: Range) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(range.base(), range.prefix())
}

async fn to_services(
    host: &Netlink,
    names: &Names,
    services: Range,
    source: Ipv4Addr,
) -> anyhow::Result<RouteMessage> {
    let lo = host.get("lo").await?;
    host.up(lo).await?;
    let route = to(services).output_interface(lo).scope(RouteScope::Link);
    Ok(route.priority(names.metric).pref_source(source).build())
}

/// Routes another node's pods through that node, which must be on the same link.
pub(crate) async fn route_node(names: &Names, pods: Range, node: Ipv4Addr) -> anyhow::Result<()> {
    let host = Netlink::host().context("open netlink")?;
    let route = to(pods).gateway(node).priority(names.metric).build();
    host.route(&format!("{pods} by way of {node}"), route).await
}

/// Takes that route away.
pub(crate) async fn unroute_node(names: &Names, pods: Range, node: Ipv4Addr) -> anyhow::Result<()> {
    let host = Netlink::host().context("open netlink")?;
    let route = to(pods).gateway(node).priority(names.metric).build();
    host.remove_route(&format!("{pods} by way of {node}"), route)
        .await
}

/// Takes the link and all routes of this node away. Done already, it does nothing.
pub(crate) async fn remove(names: &Names) -> anyhow::Result<()> {
    let host = Netlink::host().context("open netlink")?;
    if let Some(index) = host.find(&names.link).await? {
        host.remove(index).await?;
    }
    // The routes over the link went with it; the others are known by their metric.
    let routes = host.routes().await?;
    for route in routes
        .into_iter()
        .filter(|route| has_metric(route, names.metric))
    {
        host.remove_route("a range of the cluster", route).await?;
    }
    Ok(())
}

fn has_metric(route: &RouteMessage, metric: u32) -> bool {
    use rtnetlink::packet_route::route::RouteAttribute;
    let mut attributes = route.attributes.iter();
    attributes.any(|attribute| matches!(attribute, RouteAttribute::Priority(p) if *p == metric))
}
