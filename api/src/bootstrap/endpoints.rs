//! Where the `kubernetes` Service leads: to every apiserver that lives, and to none that is gone.
//!
//! Each apiserver keeps a Lease in `kube-system` with its address. All of them look at all Leases: one that
//! has not changed for its time, by the looker's own clock, is another's that died, and is removed. The
//! EndpointSlices of the Service are what the Leases say, whoever writes them, and so are its Endpoints, for those who
//! still read them. Slices of the Service that somebody else made are left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{create, send};
use crate::time;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Kubernetes marks the Leases of its apiservers with it.
const IDENTITY: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");
/// Holds the address that a Lease is about.
const ADDRESS: &str = "apiserver.wk.dev/address";
/// How long an apiserver that is not heard of counts as alive: three of its renewals.
pub(super) const LIFE: Duration = Duration::from_secs(30);

/// What one apiserver knows of the others.
pub(super) struct Peers {
    own: SocketAddr,
    /// The version of each Lease, and when it was first seen.
    seen: BTreeMap<String, (String, Instant)>,
}

impl Peers {
    pub(super) fn new(own: SocketAddr) -> Self {
        Self {
            own,
            seen: BTreeMap::new(),
        }
    }

    /// Renews the own Lease, removes those of the dead, and makes the slices what the rest say.
    pub(super) async fn reconcile(
        &mut self,
        client: &Client,
        now: Instant,
    ) -> Result<(), kube::Error> {
        renew(client, self.own).await?;
        let listed = list(client, LEASES, &format!("{}={}", IDENTITY.0, IDENTITY.1)).await?;
        let (alive, dead) = self.judge(&listed, now);
        for lease in dead {
            tracing::info!(lease = lease.0, "an apiserver is gone");
            remove(client, LEASES, &lease.0, &lease.1).await?;
        }
        write_slices(client, &alive).await?;
        write_endpoints(client, &alive).await
    }

    /// Leaves: no client is led here any more.
    pub(super) async fn leave(&self, client: &Client) -> Result<(), kube::Error> {
        remove(client, LEASES, &lease_name(self.own), "").await?;
        let listed = list(client, LEASES, &format!("{}={}", IDENTITY.0, IDENTITY.1)).await?;
        let alive = listed.iter().filter_map(address).collect();
        write_slices(client, &alive).await?;
        write_endpoints(client, &alive).await
    }

    /// The addresses of those that live, and name and version of the others' Leases.
    fn judge(
        &mut self,
        leases: &[Value],
        now: Instant,
    ) -> (BTreeSet<SocketAddr>, Vec<(String, String)>) {
        let mut seen = BTreeMap::new();
        let mut alive = BTreeSet::from([self.own]);
        let mut dead = Vec::new();
        for lease in leases {
            let Some(address) = address(lease) else {
                continue;
            };
            let text = |field: &str| lease["metadata"][field].as_str().unwrap_or_default();
            let (name, version) = (text("name").to_owned(), text("resourceVersion").to_owned());
            let since = match self.seen.get(&name) {
                Some((known, since)) if *known == version => *since,
                _ => now,
            };
            if address == self.own || now.duration_since(since) < LIFE {
                alive.insert(address);
            } else {
                dead.push((name.clone(), version.clone()));
            }
            seen.insert(name, (version, since));
        }
        self.seen = seen;
        (alive, dead)
    }
}

fn address(lease: &Value) -> Option<SocketAddr> {
    let annotations = &lease["metadata"]["annotations"];
    annotations[ADDRESS].as_str()?.parse().ok()
}

/// Kubernetes names these Leases by a digest too.
fn lease_name(own: SocketAddr) -> String {
    let digest = Sha256::digest(own.to_string());
    let hex: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("apiserver-{hex}")
}

async fn renew(client: &Client, own: SocketAddr) -> Result<(), kube::Error> {
    let name = lease_name(own);
    let spec = json!({
        "holderIdentity": own.to_string(),
        "leaseDurationSeconds": LIFE.as_secs(),
        "renewTime": time::micros(Timestamp::now()),
    });
    let lease = json!({
        "metadata": {
            "name": name,
            "labels": {IDENTITY.0: IDENTITY.1},
            "annotations": {ADDRESS: own.to_string()},
        },
        "spec": spec,
    });
    let path = format!("{LEASES}/{name}");
    match send(client, Method::PATCH, &path, &lease).await {
        Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => {
            create(client, LEASES, &name, &lease).await.map(drop)
        }
        renewed => renewed.map(drop),
    }
}

async fn list(client: &Client, path: &str, selector: &str) -> Result<Vec<Value>, kube::Error> {
    let path = format!("{path}?labelSelector={}", selector.replace('=', "%3D"));
    let mut listed = send(client, Method::GET, &path, &Value::Null).await?;
    match listed["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

/// Removes an object, if it still is of a version; of any, if that is empty.
async fn remove(
    client: &Client,
    collection: &str,
    name: &str,
    version: &str,
) -> Result<(), kube::Error> {
    let options = match version {
        "" => json!({}),
        version => json!({"preconditions": {"resourceVersion": version}}),
    };
    let path = format!("{collection}/{name}");
    match send(client, Method::DELETE, &path, &options).await {
        // It is gone, or lives after all.
        Err(kube::Error::Api(status))
            if [StatusCode::CONFLICT, StatusCode::NOT_FOUND]
                .iter()
                .any(|code| status.code == code.as_u16()) =>
        {
            Ok(())
        }
        removed => removed.map(drop),
    }
}

async fn write_slices(client: &Client, alive: &BTreeSet<SocketAddr>) -> Result<(), kube::Error> {
    let wanted = slices(alive);
    let listed = list(client, SLICES, "kubernetes.io/service-name=kubernetes").await?;
    let own = |slice: &&Value| {
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == MANAGER
            || slice["metadata"]["name"] == "kubernetes"
    };
    for found in listed.iter().filter(own) {
        let name = found["metadata"]["name"].as_str().unwrap_or_default();
        let version = found["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let stays = wanted
            .get(name)
            .is_some_and(|slice| slice["addressType"] == found["addressType"]);
        if !stays {
            remove(client, SLICES, name, version).await?;
        }
    }
    for (name, slice) in &wanted {
        let found = create(client, SLICES, name, slice).await?;
        if ["endpoints", "ports"]
            .iter()
            .any(|part| found[part] != slice[part])
        {
            // Made from an older state than somebody else's, it must not win.
            let patch = json!({
                "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
                "endpoints": slice["endpoints"],
                "ports": slice["ports"],
            });
            match send(client, Method::PATCH, &format!("{SLICES}/{name}"), &patch).await {
                Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => {}
                patched => drop(patched?),
            }
        }
    }
    Ok(())
}

async fn write_endpoints(client: &Client, alive: &BTreeSet<SocketAddr>) -> Result<(), kube::Error> {
    let wanted = endpoints(alive);
    let found = create(client, ENDPOINTS, "kubernetes", &wanted).await?;
    if subsets(&found) == subsets(&wanted) {
        return Ok(());
    }
    // Made from an older state than somebody else's, it must not win.
    let patch = json!({
        "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
        "subsets": wanted["subsets"],
    });
    match send(
        client,
        Method::PATCH,
        &format!("{ENDPOINTS}/kubernetes"),
        &patch,
    )
    .await
    {
        Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => Ok(()),
        patched => patched.map(drop),
    }
}

fn subsets(endpoints: &Value) -> &[Value] {
    endpoints["subsets"].as_array().map_or(&[], Vec::as_slice)
}

/// The Endpoints of the Service; no controller makes slices of them. They take no loopback addresses, which an apiserver
/// without another has. Pure.
fn endpoints(alive: &BTreeSet<SocketAddr>) -> Value {
    let mut ports: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for address in alive.iter().filter(|address| !address.ip().is_loopback()) {
        let ip = json!({"ip": address.ip().to_string()});
        ports.entry(address.port()).or_default().push(ip);
    }
    let subsets = ports.into_iter().map(|(port, addresses)| {
        json!({"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]})
    });
    json!({
        "metadata": {
            "name": "kubernetes",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": subsets.collect::<Vec<_>>(),
    })
}

const MANAGER: &str = "apiserver.wk.dev";

/// The slices of the Service: one for each port and family, the first under the Service's own name. Pure.
fn slices(alive: &BTreeSet<SocketAddr>) -> BTreeMap<String, Value> {
    let mut groups: BTreeMap<(bool, u16), Vec<String>> = BTreeMap::new();
    for address in alive {
        let group = groups
            .entry((address.is_ipv6(), address.port()))
            .or_default();
        group.push(address.ip().to_string());
    }
    let groups = groups.into_iter().enumerate();
    let slices = groups.map(|(index, ((six, port), addresses))| {
        let family = if six { "IPv6" } else { "IPv4" };
        let name = match index {
            0 => "kubernetes".to_owned(),
            _ => format!("kubernetes-{}-{port}", family.to_lowercase()),
        };
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
            .collect();
        let slice = json!({
            "metadata": {
                "name": name,
                "labels": {
                    "endpointslice.kubernetes.io/managed-by": MANAGER,
                    "kubernetes.io/service-name": "kubernetes",
                },
            },
            "addressType": family,
            "endpoints": endpoints,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        });
        (name, slice)
    });
    slices.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(address: &str, version: &str) -> Value {
        json!({"metadata": {
            "name": lease_name(address.parse().expect("an address")),
            "resourceVersion": version,
            "annotations": {ADDRESS: address},
        }})
    }

    #[test]
    fn one_that_is_not_heard_of_is_dead_and_one_that_comes_back_lives() {
        let mut peers = Peers::new("10.0.0.1:6443".parse().expect("an address"));
        let begun = Instant::now();
        let mut judge = |seconds: u64, version: &str| {
            let leases = [lease("10.0.0.1:6443", "1"), lease("10.0.0.2:6443", version)];
            let (alive, dead) = peers.judge(&leases, begun + Duration::from_secs(seconds));
            (alive.len(), dead.len())
        };
        assert_eq!(judge(0, "5"), (2, 0));
        assert_eq!(judge(29, "5"), (2, 0));
        assert_eq!(judge(31, "5"), (1, 1));
        assert_eq!(judge(40, "6"), (2, 0));
        assert_eq!(judge(69, "6"), (2, 0));
    }

    #[test]
    fn endpoints_have_no_loopback_addresses() {
        let alive = ["10.0.0.1:6443", "127.0.0.1:6443", "10.0.0.2:7443"];
        let alive = alive.map(|address| address.parse().expect("an address"));
        let port = |port: u16| json!([{"name": "https", "port": port, "protocol": "TCP"}]);
        assert_eq!(
            endpoints(&BTreeSet::from(alive))["subsets"],
            json!([
                {"addresses": [{"ip": "10.0.0.1"}], "ports": port(6443)},
                {"addresses": [{"ip": "10.0.0.2"}], "ports": port(7443)},
            ])
        );
    }

    #[test]
    fn those_of_one_port_share_a_slice() {
        let of = |addresses: &[&str]| -> Vec<String> {
            let alive = addresses
                .iter()
                .map(|address| address.parse().expect("an address"));
            slices(&alive.collect())
                .iter()
                .map(|(name, slice)| {
                    let endpoints = slice["endpoints"].as_array().expect("endpoints").iter();
                    let addresses: Vec<_> = endpoints
                        .filter_map(|endpoint| endpoint["addresses"][0].as_str())
                        .collect();
                    format!(
                        "{name} {} {}",
                        slice["ports"][0]["port"],
                        addresses.join(",")
                    )
                })
                .collect()
        };
        assert_eq!(
            of(&["10.0.0.2:6443", "10.0.0.1:6443"]),
            ["kubernetes 6443 10.0.0.1,10.0.0.2"]
        );
        assert_eq!(
            of(&["10.0.0.1:6443", "10.0.0.1:7443", "[fd00::1]:6443"]),
            [
                "kubernetes 6443 10.0.0.1",
                "kubernetes-ipv4-7443 7443 10.0.0.1",
                "kubernetes-ipv6-6443 6443 fd00::1"
            ]
        );
    }
}
