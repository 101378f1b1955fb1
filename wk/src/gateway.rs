//! This node's gateway: its flags, its sockets, its certificates' CA.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use network::gateway::{Config, Gateway, Handle, Listeners, Pem, Sign};
use runtimes::Invoke;

use crate::{
    pki::{Pair, Subject},
    tasks::Tasks,
};

/// How functions and Ingresses are reached.
#[derive(clap::Args)]
#[group(id = "gateway")]
pub(crate) struct Flags {
    /// Where functions and Ingresses are served over HTTP, or "none"
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    gateway_listen: Place,
    /// Where functions and Ingresses are served over HTTPS, or "none"
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    gateway_tls_listen: Place,
    /// What the names of functions end in: NAME.NAMESPACE.DOMAIN
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    pub(crate) gateway_domain: String,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place(Option<SocketAddr>);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            _ => match text.parse() {
                Ok(address) => Ok(Self(Some(address))),
                Err(_) => Err("it is an address and a port, as 0.0.0.0:8080, or none".to_owned()),
            },
        }
    }
}

impl Flags {
    /// Whether there is a gateway at all.
    pub(crate) fn is_on(&self) -> bool {
        self.gateway_listen.0.is_some() || self.gateway_tls_listen.0.is_some()
    }
}

/// The open sockets of a gateway, and how they are spoken of.
pub(crate) struct Sockets {
    listeners: Listeners,
    /// Where this host reaches it without TLS.
    pub(crate) plain: Option<SocketAddr>,
    /// Where it is reached, in words.
    pub(crate) words: String,
}

impl Sockets {
    /// Those of a host without a gateway.
    pub(crate) fn none() -> Self {
        Self {
            listeners: Listeners::default(),
            plain: None,
            words: "none: this host runs no pods".to_owned(),
        }
    }

    /// Opens what the flags name. A port that is taken is told, and no more.
    pub(crate) async fn open(flags: &Flags, mode: network::Mode, node_ip: IpAddr) -> Self {
        let mut sockets = Self {
            words: "none (--gateway-listen none)".to_owned(),
            ..Self::none()
        };
        let mut words = Vec::new();
        for (place, tls) in [
            (flags.gateway_listen, false),
            (flags.gateway_tls_listen, true),
        ] {
            let Some(address) = place.0 else {
                continue;
            };
            let (flag, scheme) = match tls {
                false => ("--gateway-listen", "http"),
                true => ("--gateway-tls-listen", "https"),
            };
            match sockets.add(address, tls, mode, node_ip).await {
                Ok(opened) => {
                    let (domain, port) = (&flags.gateway_domain, opened.port());
                    words.push(format!("{scheme}://NAME.NAMESPACE.{domain}:{port}"));
                    if !tls {
                        sockets.plain = Some(opened);
                    }
                }
                Err(error) => {
                    tracing::warn!("cannot serve functions and Ingresses on {address}: {error}");
                    words.push(format!(
                        "not on {address} ({error}; name another address with {flag})"
                    ));
                }
            }
        }
        if !words.is_empty() {
            sockets.words = words.join(", ");
        }
        sockets
    }

    /// Opens one; where this host reaches it. Rootless, pods have loopback addresses, whose ports a socket on every
    /// address would take.
    async fn add(
        &mut self,
        address: SocketAddr,
        tls: bool,
        mode: network::Mode,
        node_ip: IpAddr,
    ) -> io::Result<SocketAddr> {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let (first, second) = match address.ip().is_unspecified() {
            false => (address.ip(), None),
            true if mode == network::Mode::Privileged => (address.ip(), None),
            true => (loopback, Some(node_ip).filter(|ip| !ip.is_loopback())),
        };
        let mut opened = None;
        for ip in [Some(first), second].into_iter().flatten() {
            // Both on the port that the first was given.
            let port = opened.map_or(address.port(), |opened: SocketAddr| opened.port());
            let address = SocketAddr::new(ip, port);
            let here = match tls {
                false => self.listeners.open(address).await?,
                true => self.listeners.open_tls(address).await?,
            };
            opened.get_or_insert(here);
        }
        let port = opened.map_or(address.port(), |opened| opened.port());
        let ip = if first.is_unspecified() {
            loopback
        } else {
            first
        };
        Ok(SocketAddr::new(ip, port))
    }
}

/// What a gateway is started with.
pub(crate) struct Start<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) node_name: &'a str,
    pub(crate) node_ip: IpAddr,
    pub(crate) ca: &'a Pair,
    pub(crate) network: &'a network::Handle,
    pub(crate) client: kube::Client,
    pub(crate) invoke: Arc<dyn Invoke>,
}

/// Starts the gateway on its sockets.
pub(crate) fn start(tasks: &mut Tasks, sockets: Sockets, start: Start<'_>) -> Handle {
    let signer = Signer {
        ca: start.ca.clone(),
        addresses: vec![Ipv4Addr::LOCALHOST.into(), start.node_ip],
    };
    let config = Config::new(start.node_name, &start.flags.gateway_domain);
    let (handle, gateway) = Gateway::new(
        config,
        start.client,
        start.network,
        start.invoke,
        Arc::new(signer),
        sockets.listeners,
    );
    let stop = tasks.stop();
    tasks.start("gateway", gateway.run(stop));
    handle
}

/// The cluster's CA, for names that the gateway serves.
struct Signer {
    ca: Pair,
    /// What clients reach it by without a name.
    addresses: Vec<IpAddr>,
}

impl Sign for Signer {
    fn sign(&self, name: &str) -> anyhow::Result<Pem> {
        let mut names = vec![name.to_owned()];
        if name == "localhost" {
            names.extend(self.addresses.iter().map(IpAddr::to_string));
        }
        let subject = Subject {
            user: "wk-gateway",
            groups: &[],
            names: &names,
        };
        let Pair { certificate, key } = self.ca.issue(&subject, jiff::Zoned::now().date())?;
        Ok(Pem { certificate, key })
    }
}
