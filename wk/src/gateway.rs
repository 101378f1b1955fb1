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
    gateway_domain: String,
    /// Log a line for each request to functions and Ingresses
    #[arg(long)]
    gateway_access_log: bool,
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
    /// What the names of Functions end in.
    pub(crate) fn domain(&self) -> &str {
        &self.gateway_domain
    }

    /// The port that URLs of Functions name: where plain HTTP is served.
    pub(crate) fn http_port(&self) -> Option<u16> {
        self.gateway_listen.0.map(|address| address.port())
    }

    /// What of a log's filter the flags ask for, beside `--log`.
    pub(crate) fn log(&self) -> Option<String> {
        let on = self.gateway_access_log && self.is_on();
        on.then(|| format!("{}=info", network::gateway::ACCESS_LOG))
    }

    /// Whether there is a gateway at all.
    pub(crate) fn is_on(&self) -> bool {
        self.gateway_listen.0.is_some() || self.gateway_tls_listen.0.is_some()
    }
}

/// What a gateway is started with.
pub(crate) struct Start<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) mode: network::Mode,
    pub(crate) node_name: &'a str,
    pub(crate) node_ip: IpAddr,
    pub(crate) ca: &'a Pair,
    pub(crate) network: &'a network::Handle,
    pub(crate) client: kube::Client,
}

/// A gateway that was started, if one was.
pub(crate) struct Started {
    /// Where it is reached, in words.
    pub(crate) words: String,
    pub(crate) handle: Option<Handle>,
    /// Where it answers plain HTTP on this host.
    pub(crate) http: Option<SocketAddr>,
    /// Where it answers this process, whatever became of the other addresses.
    pub(crate) inside: Option<SocketAddr>,
}

impl Started {
    pub(crate) fn none(words: &str) -> Self {
        Self {
            words: words.to_owned(),
            handle: None,
            http: None,
            inside: None,
        }
    }
}

/// Starts the gateway. A port that is taken is told, and no more.
pub(crate) async fn start(tasks: &mut Tasks, start: Start<'_>, invoke: Arc<dyn Invoke>) -> Started {
    let flags = start.flags;
    if !flags.is_on() {
        return Started::none("none (--gateway-listen none)");
    }
    let mut http = None;
    let mut listeners = Listeners::default();
    let mut words = Vec::new();
    let places = [
        (flags.gateway_listen, false),
        (flags.gateway_tls_listen, true),
    ];
    for (place, tls) in places {
        let Some(address) = place.0 else {
            continue;
        };
        let (flag, scheme) = match tls {
            false => ("--gateway-listen", "http"),
            true => ("--gateway-tls-listen", "https"),
        };
        match open(&mut listeners, address, tls, &start).await {
            Ok(port) => {
                if !tls {
                    http = Some(SocketAddr::new(here(address.ip()), port));
                }
                words.push(format!(
                    "NAME.NAMESPACE.{}:{port} ({scheme})",
                    flags.gateway_domain
                ));
            }
            Err(error) => {
                tracing::warn!("cannot serve functions and Ingresses on {address}: {error}");
                words.push(format!(
                    "not on {address} ({error}; name another address with {flag})"
                ));
            }
        }
    }
    let inside = match http {
        Some(http) => Some(http),
        // For requests of triggers.
        None => {
            let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let port = open(&mut listeners, own, false, &start).await.ok();
            port.map(|port| SocketAddr::new(own.ip(), port))
        }
    };
    let signer = Signer {
        ca: start.ca.clone(),
        addresses: vec![Ipv4Addr::LOCALHOST.into(), start.node_ip],
    };
    let config = Config {
        access_log: flags.gateway_access_log,
        ..Config::new(start.node_name, &flags.gateway_domain)
    };
    let (handle, gateway) = Gateway::new(
        config,
        start.client,
        start.network,
        invoke,
        Arc::new(signer),
        listeners,
    );
    let stop = tasks.stop();
    tasks.start("gateway", gateway.run(stop));
    Started {
        words: words.join(", "),
        handle: Some(handle),
        http,
        inside,
    }
}

/// Where this host reaches a socket that listens on an address.
fn here(address: IpAddr) -> IpAddr {
    match address.is_unspecified() {
        true => Ipv4Addr::LOCALHOST.into(),
        false => address,
    }
}

/// Opens an address; the port. Rootless, pods have loopback addresses, whose ports a socket on every address would take.
async fn open(
    listeners: &mut Listeners,
    address: SocketAddr,
    tls: bool,
    start: &Start<'_>,
) -> io::Result<u16> {
    let mut addresses = vec![address];
    if address.ip().is_unspecified() && start.mode == network::Mode::Rootless {
        addresses = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())];
        if !start.node_ip.is_loopback() {
            addresses.push(SocketAddr::new(start.node_ip, address.port()));
        }
    }
    let mut port = address.port();
    for address in addresses {
        let address = SocketAddr::new(address.ip(), port);
        let opened = match tls {
            false => listeners.open(address).await?,
            true => listeners.open_tls(address).await?,
        };
        port = opened.port();
    }
    Ok(port)
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
