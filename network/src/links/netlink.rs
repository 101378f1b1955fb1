//! Netlink requests, in the host's namespace or in another, and kernel settings.

use std::{fs, io, net::Ipv4Addr, os::fd::AsRawFd};

use anyhow::Context;
use futures::TryStreamExt;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::AddressAttribute,
        link::{InfoData, InfoKind, InfoVeth, LinkMessage},
        route::RouteMessage,
    },
};
use tokio_util::task::AbortOnDropHandle;

use crate::{namespace::Namespace, task};

/// The kernel's table of local addresses, looked at before all others.
pub(super) const LOCAL_TABLE: u32 = 255;

/// The link's size of packets when the host has no default route to take it from.
const DEFAULT_MTU: u32 = 1500;

/// One end's view of the network.
pub(crate) struct Netlink {
    pub(super) handle: rtnetlink::Handle,
    _connection: AbortOnDropHandle<()>,
}

impl Netlink {
    pub(crate) fn host() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = task::owned(connection);
        Ok(Self {
            handle,
            _connection: connection,
        })
    }

    /// A socket stays in the namespace that it was made in.
    pub(crate) fn within(namespace: &Namespace) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        namespace.within(move || {
            let _context = runtime.enter();
            Self::host()
        })
    }

    /// The index of a link; `None` if there is none of that name.
    pub(super) async fn find(&self, name: &str) -> anyhow::Result<Option<u32>> {
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

    pub(super) async fn get(&self, name: &str) -> anyhow::Result<u32> {
        let index = self.find(name).await?;
        index.with_context(|| format!("link {name} is gone"))
    }

    pub(super) async fn up(&self, index: u32) -> anyhow::Result<()> {
        let up = LinkUnspec::new_with_index(index).up().build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .context("set a link up")
    }

    pub(super) async fn address(&self, index: u32, address: Ipv4Addr) -> anyhow::Result<()> {
        let add = self.handle.address().add(index, address.into(), 32);
        let added = add.replace().execute().await;
        added.with_context(|| format!("add address {address}"))
    }

    pub(super) async fn route(&self, what: &str, route: RouteMessage) -> anyhow::Result<()> {
        let added = self.handle.route().add(route).replace().execute().await;
        added.with_context(|| format!("add the route to {what}"))
    }

    pub(super) async fn remove_route(&self, what: &str, route: RouteMessage) -> anyhow::Result<()> {
        match self.handle.route().del(route).execute().await {
            Err(error) if !is(&error, nix::Error::ESRCH) => {
                Err(error).with_context(|| format!("remove the route to {what}"))
            }
            _ => Ok(()),
        }
    }

    /// Makes a pair of links, one end here by that name, the other in the namespace.
    pub(super) async fn pair(
        &self,
        name: &str,
        peer: &str,
        namespace: &Namespace,
    ) -> anyhow::Result<()> {
        let mtu = uplink_mtu().unwrap_or(DEFAULT_MTU);
        // The peer is set up afterwards: asked for here, the kernel refuses.
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .mtu(mtu)
            .setns_by_fd(namespace.file().as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let created = self.handle.link().add(pair).execute().await;
        created.with_context(|| format!("create link {name}"))
    }

    /// Removes a link; one that is gone already is no error.
    pub(super) async fn remove(&self, index: u32) -> anyhow::Result<()> {
        match self.handle.link().del(index).execute().await {
            Err(error) if !is(&error, nix::Error::ENODEV) => Err(error).context("remove a link"),
            _ => Ok(()),
        }
    }

    /// Whether a link has that address.
    pub(super) async fn has(&self, index: u32, address: Ipv4Addr) -> anyhow::Result<bool> {
        let addresses = self.handle.address().get().set_link_index_filter(index);
        let all: Vec<_> = addresses
            .execute()
            .try_collect()
            .await
            .context("list addresses")?;
        let mut attributes = all.iter().flat_map(|message| &message.attributes);
        Ok(attributes.any(|attribute| *attribute == AddressAttribute::Local(address.into())))
    }

    /// Every link's name and index.
    pub(super) async fn links(&self) -> anyhow::Result<Vec<(String, u32)>> {
        use rtnetlink::packet_route::link::LinkAttribute;
        let all: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .context("list links")?;
        let named = all.into_iter().filter_map(|link| {
            let index = link.header.index;
            let mut attributes = link.attributes.into_iter();
            attributes.find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some((name, index)),
                _ => None,
            })
        });
        Ok(named.collect())
    }

    /// Every route of IPv4.
    pub(super) async fn routes(&self) -> anyhow::Result<Vec<RouteMessage>> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes = self.handle.route().get(all).execute();
        routes.try_collect().await.context("list routes")
    }
}

fn is(error: &rtnetlink::Error, code: nix::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -(code as i32))
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
pub(crate) fn write_sysctl(path: &str, value: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(path, value)
        .with_context(|| format!("write {value} to {path}: set it before wk starts"))
}
