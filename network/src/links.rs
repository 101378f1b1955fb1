//! The link between the host and the Wasm pods' namespace, and the routes on both sides of it.
//!
//! The namespace takes every address of the node's range as its own (one `local` route), so a pod's
//! address costs nothing to add. The host reaches the range through the namespace's end of the link.
//! Everything is put in place anew at each start; what is there already stays.

use std::{fs, io, net::Ipv4Addr, os::fd::AsRawFd};

use anyhow::Context;
use futures::TryStreamExt;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoKind, InfoVeth, LinkMessage},
        route::{RouteMessage, RouteScope, RouteType},
    },
};
use tokio_util::task::AbortOnDropHandle;

use crate::{Range, names::Names, namespace::Namespace, pool, task};

/// The namespace's end of the link.
const INNER: &str = "eth0";

/// The kernel's table of local addresses, looked at before all others.
const LOCAL_TABLE: u32 = 255;

/// The link's size of packets when the host has no default route to take it from.
const DEFAULT_MTU: u32 = 1500;

/// One end's view of the network.
struct Netlink {
    handle: rtnetlink::Handle,
    _connection: AbortOnDropHandle<()>,
}

impl Netlink {
    fn host() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = task::owned(connection);
        Ok(Self {
            handle,
            _connection: connection,
        })
    }

    /// A socket stays in the namespace that it was made in.
    fn within(namespace: &Namespace) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        namespace.within(move || {
            let _context = runtime.enter();
            Self::host()
        })
    }

    /// The index of a link; `None` if there is none of that name.
    async fn find(&self, name: &str) -> anyhow::Result<Option<u32>> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        match links.try_next().await {
            Ok(link) => Ok(link.map(|link: LinkMessage| link.header.index)),
            Err(error) if is(&error, nix::Error::ENODEV) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("find link {name}")),
        }
    }

    async fn get(&self, name: &str) -> anyhow::Result<u32> {
        let index = self.find(name).await?;
        index.with_context(|| format!("link {name} is gone"))
    }

    async fn up(&self, index: u32) -> anyhow::Result<()> {
        let up = LinkUnspec::new_with_index(index).up().build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .context("set a link up")
    }

    async fn address(&self, index: u32, address: Ipv4Addr) -> anyhow::Result<()> {
        let add = self.handle.address().add(index, address.into(), 32);
        let added = add.replace().execute().await;
        added.with_context(|| format!("add address {address}"))
    }

    async fn route(&self, what: &str, route: RouteMessage) -> anyhow::Result<()> {
        let added = self.handle.route().add(route).replace().execute().await;
        added.with_context(|| format!("add the route to {what}"))
    }

    async fn remove_route(&self, what: &str, route: RouteMessage) -> anyhow::Result<()> {
        match self.handle.route().del(route).execute().await {
            Err(error) if !is(&error, nix::Error::ESRCH) => {
                Err(error).with_context(|| format!("remove the route to {what}"))
            }
            _ => Ok(()),
        }
    }
}

fn is(error: &rtnetlink::Error, code: nix::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -(code as i32))
}

/// Makes the link, unless it is there.
pub(crate) async fn ensure_link(names: &Names, namespace: &Namespace) -> anyhow::Result<()> {
    let host = Netlink::host().context("open netlink")?;
    let inner = Netlink::within(namespace).context("open netlink in the namespace")?;
    match (host.find(&names.link).await?, inner.find(INNER).await?) {
        (Some(_), Some(_)) => {}
        (outer, stray) => {
            // Half a link is one to another namespace of the same name, now lost.
            if let Some(index) = outer {
                host.handle
                    .link()
                    .del(index)
                    .execute()
                    .await
                    .context("remove a stale link")?;
            }
            if let Some(index) = stray {
                inner
                    .handle
                    .link()
                    .del(index)
                    .execute()
                    .await
                    .context("remove a stale link")?;
            }
            create_link(&host, names, namespace).await?;
        }
    }
    inner.up(inner.get("lo").await?).await?;
    inner.up(inner.get(INNER).await?).await?;
    host.up(host.get(&names.link).await?).await
}

async fn create_link(host: &Netlink, names: &Names, namespace: &Namespace) -> anyhow::Result<()> {
    let mtu = uplink_mtu().unwrap_or(DEFAULT_MTU);
    // The peer is set up afterwards: asked for here, the kernel refuses.
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(INNER)
        .mtu(mtu)
        .setns_by_fd(namespace.file().as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(names.link.as_str())
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let created = host.handle.link().add(pair).execute().await;
    created.with_context(|| format!("create link {}", names.link))
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
        host.handle
            .link()
            .del(index)
            .execute()
            .await
            .context("remove the link")?;
    }
    // The routes over the link went with it; the others are known by their metric.
    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes: Vec<RouteMessage> = host
        .handle
        .route()
        .get(all)
        .execute()
        .try_collect()
        .await
        .context("list routes")?;
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

/// The packet size of the interface that the default route leaves by.
fn uplink_mtu() -> Option<u32> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let mut lines = routes.lines().skip(1).map(|line| line.split_whitespace());
    let name = lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.next()? == "00000000").then_some(name)
    })?;
    fs::read_to_string(format!("/sys/class/net/{name}/mtu"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Sets a kernel setting; one that has the value already is left alone.
fn write_sysctl(path: &str, value: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(path, value)
        .with_context(|| format!("write {value} to {path}: set it before wk starts"))
}
