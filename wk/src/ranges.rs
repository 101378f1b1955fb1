//! Which addresses a cluster's pods and Services get, chosen once for a data directory.
//!
//! As root pods get addresses of their own; without root, or without `nft` to make Services with,
//! loopback ones. The choice is kept in the data directory: Services keep their addresses.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result, bail};

use crate::{
    data_dir::{DataDir, write_private},
    up::NetworkMode,
};

/// The address ranges of a cluster.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Ranges {
    pub(crate) mode: network::Mode,
    pub(crate) cluster_pods: &'static str,
    /// This node's part, where the node controller does not give it one.
    pub(crate) own_pods: Option<&'static str>,
    pub(crate) services: &'static str,
    pub(crate) first_service: Ipv4Addr,
}

impl Ranges {
    /// Where containers look the cluster's names up: the tenth address of the Services' range. Rootless there are no
    /// containers.
    pub(crate) fn dns(&self) -> Option<IpAddr> {
        let [a, b, c, d] = self.first_service.octets();
        let address = Ipv4Addr::new(a, b, c, d + 9);
        (self.mode == network::Mode::Privileged).then(|| address.into())
    }
}

const PRIVILEGED: Ranges = Ranges {
    mode: network::Mode::Privileged,
    cluster_pods: "10.64.0.0/10",
    own_pods: None,
    services: "10.43.0.0/16",
    first_service: Ipv4Addr::new(10, 43, 0, 1),
};

const ROOTLESS: Ranges = Ranges {
    mode: network::Mode::Rootless,
    cluster_pods: "127.42.0.0/16",
    own_pods: Some("127.42.0.0/16"),
    services: "127.43.0.0/16",
    first_service: Ipv4Addr::new(127, 43, 0, 1),
};

/// What the host allows.
#[derive(Clone, Copy)]
struct Host {
    root: bool,
    nft: bool,
}

/// Chooses as the flag says, else as the data directory remembers, else by what the host allows;
/// keeps the choice.
pub(crate) fn choose(flag: NetworkMode, data: &DataDir) -> Result<Ranges> {
    let host = Host {
        root: nix::unistd::geteuid().is_root(),
        nft: on_path("nft"),
    };
    let path = data.path("network");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let ranges = decide(flag, kept.trim(), host)
        .with_context(|| format!("cannot use the data directory {}", data.root().display()))?;
    if kept.is_empty() {
        write_private(&path, &format!("{}\n", name(ranges.mode)))?;
        if flag == NetworkMode::Auto && host.root && !host.nft {
            eprintln!(
                "nft is not installed, so pods get loopback addresses (`apt-get install nftables` and a new --data-dir give them their own)"
            );
        }
    }
    Ok(ranges)
}

fn name(mode: network::Mode) -> &'static str {
    match mode {
        network::Mode::Privileged => "privileged",
        network::Mode::Rootless => "rootless",
    }
}

/// Decides from the flag, the kept choice (empty if there is none) and the host. Pure.
fn decide(flag: NetworkMode, kept: &str, host: Host) -> Result<Ranges> {
    let ranges = match (flag, kept) {
        (NetworkMode::Privileged, _) | (NetworkMode::Auto, "privileged") => PRIVILEGED,
        (NetworkMode::Rootless, _) | (NetworkMode::Auto, "rootless") => ROOTLESS,
        (NetworkMode::Auto, _) if host.root && host.nft => PRIVILEGED,
        (NetworkMode::Auto, _) => ROOTLESS,
    };
    let wanted = name(ranges.mode);
    if !kept.is_empty() && kept != wanted {
        bail!(
            "its cluster's network is {kept}: start it with --network {kept}, or a new one with another --data-dir"
        );
    }
    if ranges.mode == network::Mode::Privileged && !host.root {
        bail!(
            "--network privileged needs root: run as root, or start a rootless cluster with another --data-dir"
        );
    }
    if ranges.mode == network::Mode::Privileged && !host.nft {
        bail!(
            "--network privileged needs nft: install the nftables package, or take --network rootless"
        );
    }
    Ok(ranges)
}

/// True if a program is on PATH, or where root's programs are.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let also = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(also)
        .any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Host = Host {
        root: true,
        nft: true,
    };
    const BARE: Host = Host {
        root: true,
        nft: false,
    };
    const USER: Host = Host {
        root: false,
        nft: true,
    };

    #[track_caller]
    fn check(flag: NetworkMode, kept: &str, host: Host, expected: Result<Ranges, &str>) {
        let decided = decide(flag, kept, host).map_err(|error| error.to_string());
        match expected {
            Ok(ranges) => assert_eq!(decided, Ok(ranges)),
            Err(part) => assert!(
                decided.as_ref().is_err_and(|e| e.contains(part)),
                "{decided:?}"
            ),
        }
    }

    #[test]
    fn the_host_decides_for_a_new_cluster() {
        check(NetworkMode::Auto, "", ROOT, Ok(PRIVILEGED));
        check(NetworkMode::Auto, "", BARE, Ok(ROOTLESS));
        check(NetworkMode::Auto, "", USER, Ok(ROOTLESS));
        check(NetworkMode::Rootless, "", ROOT, Ok(ROOTLESS));
    }

    #[test]
    fn a_cluster_keeps_its_network() {
        check(NetworkMode::Auto, "rootless", ROOT, Ok(ROOTLESS));
        check(
            NetworkMode::Rootless,
            "privileged",
            ROOT,
            Err("--network privileged"),
        );
        check(
            NetworkMode::Privileged,
            "rootless",
            ROOT,
            Err("--network rootless"),
        );
    }

    #[test]
    fn what_the_host_does_not_allow_is_said_with_what_to_do() {
        check(NetworkMode::Privileged, "", USER, Err("needs root"));
        check(NetworkMode::Privileged, "", BARE, Err("nftables"));
        check(NetworkMode::Auto, "privileged", USER, Err("needs root"));
    }
}
