//! ClusterIPs: each address of the service range belongs to at most one Service.
//!
//! An address in use is a key `wk.internal/clusterips//<address>`, created and removed in the same
//! group as its Service.

use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use bytes::Bytes;
use serde_json::{Value, json};
use store::{Expect, Key, Op, ResourceKey};

use crate::{
    codec::INTERNAL_GROUP,
    error::Error,
    field::{FieldErrors, Path},
    object,
    verbs::call::Call,
};

/// The IPv4 range that Services get their addresses from: `10.43.0.0/16`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceRange {
    network: u32,
    prefix: u8,
}

/// A text that is no usable range.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
#[error("{0:?} is not an IPv4 range of 4 addresses or more, such as 10.43.0.0/16")]
pub struct ServiceRangeError(String);

impl FromStr for ServiceRange {
    type Err = ServiceRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let prefix: u8 = prefix
                .parse()
                .ok()
                .filter(|prefix| (1..=30).contains(prefix))?;
            let network =
                u32::from(address.parse::<Ipv4Addr>().ok()?) & (u32::MAX << (32 - prefix));
            Some(Self { network, prefix })
        };
        parse().ok_or_else(|| ServiceRangeError(text.to_owned()))
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }
}

impl ServiceRange {
    /// The first address: the `kubernetes` Service's.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1)
    }

    /// The tenth address: the `kube-dns` Service's, in ranges that have it; loopback addresses have no
    /// server for it.
    pub fn dns(&self) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from(self.network + 10);
        (self.contains(address) && !address.is_loopback()).then_some(address)
    }

    /// Addresses that a Service may have: all but the network's and the broadcast address.
    fn usable(&self) -> u32 {
        (1 << (32 - self.prefix)) - 2
    }

    fn nth(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1 + index)
    }

    /// True if a Service may have the address.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        address > self.network && address - self.network <= self.usable()
    }

    /// Addresses at the start that are only given on request, so that a fixed one is seldom taken.
    fn reserved(&self) -> u32 {
        (self.usable() / 16).clamp(16, 256).min(self.usable() - 1)
    }

    /// A free address: a random place in the upper part, then on from there, the lower part last.
    fn pick(&self, start: u32, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let (reserved, usable) = (self.reserved(), self.usable());
        let upper = usable - reserved;
        (0..upper)
            .map(|step| reserved + (start % upper + step) % upper)
            .chain(0..reserved)
            .map(|index| self.nth(index))
            .find(|&address| !taken(address))
    }
}

fn key(address: IpAddr) -> Key {
    ResourceKey::new(INTERNAL_GROUP, "clusterips").key("", &address.to_string())
}

/// The address that a Service has, if it has one.
fn address(service: &Value) -> Option<IpAddr> {
    service["spec"]["clusterIP"].as_str()?.parse().ok()
}

/// Completes a Service with its address; `old` is what it was before, if it was.
pub(crate) fn allocate(
    call: &Call,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<Op>, Error> {
    let invalid = |service: &Value, errors: FieldErrors| Error::Invalid {
        subject: call.subject(object::name(service)),
        errors,
    };
    let mut errors = FieldErrors::default();
    let spec = Path::root("spec");
    let had = old.and_then(address);
    if service["spec"]["type"] == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(spec) = service["spec"].as_object_mut() {
                spec.remove(field);
            }
        }
        return Ok(old.map(|old| release(call, old)).unwrap_or_default());
    }
    let asked = match service["spec"]["clusterIP"].as_str().unwrap_or_default() {
        "" => service["spec"]["clusterIPs"][0]
            .as_str()
            .unwrap_or_default(),
        own => own,
    };
    let path = spec.field("clusterIPs");
    if asked == "None" {
        complete(service, "None");
        return Ok(Vec::new());
    }
    if let Some(had) = had.filter(|had| asked.is_empty() || asked == had.to_string()) {
        complete(service, &had.to_string());
        return Ok(Vec::new());
    }
    let range = call.server.config.service_range;
    let taken = |address: Ipv4Addr| call.server.cache.get(&key(address.into())).is_some();
    let chosen = if asked.is_empty() {
        // The cache is asked once an address: a range is full only when every one was tried.
        range
            .pick(rand::random(), taken)
            .ok_or_else(|| Error::Exhausted("failed to allocate a serviceIP: range is full"))?
    } else {
        let complaint = match asked.parse::<Ipv4Addr>() {
            Err(_) => Some("must be a valid IPv4 address, \"None\" or empty".to_owned()),
            Ok(address) if !range.contains(address) => Some(format!(
                "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
            )),
            Ok(address) if taken(address) => Some(format!(
                "failed to allocate IP {address}: provided IP is already allocated"
            )),
            Ok(_) => None,
        };
        if let Some(complaint) = complaint {
            errors.invalid(&path, json!([asked]), complaint);
            return Err(invalid(service, errors));
        }
        asked.parse().expect("it was parsed above")
    };
    let mut ops = old.map(|old| release(call, old)).unwrap_or_default();
    complete(service, &chosen.to_string());
    let owner = json!({
        "namespace": call.namespace,
        "name": object::name(service),
        "uid": object::uid(service),
    });
    ops.push(Op::Put {
        key: key(chosen.into()),
        expect: Expect::Absent,
        value: Bytes::from(owner.to_string()),
    });
    Ok(ops)
}

fn complete(service: &mut Value, address: &str) {
    let spec = &mut service["spec"];
    spec["clusterIP"] = address.into();
    spec["clusterIPs"] = json!([address]);
    if !spec["ipFamilies"].is_array() {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if !spec["ipFamilyPolicy"].is_string() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
}

/// Gives a Service's address back.
pub(crate) fn release(call: &Call, service: &Value) -> Vec<Op> {
    let held = address(service)
        .map(key)
        .and_then(|key| call.server.cache.get(&key));
    held.into_iter()
        .map(|item| Op::Delete {
            key: item.key.clone(),
            expect: Expect::At(item.revision),
            value: item.decoded.value.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn range(text: &str) -> ServiceRange {
        text.parse().expect("a range")
    }

    #[test]
    fn a_range_is_read_and_its_first_address_is_known() {
        assert_eq!(range("10.43.0.0/16").first().to_string(), "10.43.0.1");
        assert_eq!(range("10.43.7.9/16").to_string(), "10.43.0.0/16");
        let dns = |text: &str| range(text).dns().map(|address| address.to_string());
        assert_eq!(dns("10.43.0.0/16").as_deref(), Some("10.43.0.10"));
        assert_eq!((dns("127.43.0.0/16"), dns("10.43.0.0/29")), (None, None));
        for wrong in ["", "10.43.0.0", "10.43.0.0/31", "10.43.0.0/0", "fd00::/64"] {
            assert!(wrong.parse::<ServiceRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn network_and_broadcast_address_are_not_given() {
        let range = range("10.0.0.0/29");
        let contains = |text: &str| range.contains(text.parse().expect("an address"));
        assert!(!contains("10.0.0.0"));
        assert!(contains("10.0.0.1"));
        assert!(contains("10.0.0.6"));
        assert!(!contains("10.0.0.7"));
        assert!(!contains("9.255.255.255"));
    }

    #[test]
    fn every_address_is_given_once_and_low_ones_last() {
        for text in ["10.0.0.0/30", "10.0.0.0/28", "10.0.0.0/24"] {
            let range = range(text);
            let mut taken = HashSet::new();
            while let Some(address) = range.pick(12_345, |address| taken.contains(&address)) {
                assert!(range.contains(address), "{address}");
                assert!(taken.insert(address), "{address}");
            }
            assert_eq!(taken.len() as u32, range.usable(), "{text}");
        }
        let first = range("10.43.0.0/16")
            .pick(0, |_| false)
            .expect("an address");
        assert_eq!(first.to_string(), "10.43.1.1");
    }
}
