//! Names of hosts. Asks the network only where the rendering allows it: otherwise there is no address.

use std::net::{IpAddr, ToSocketAddrs as _};

use rand::RngExt as _;

use super::{arguments::lossy, fixed};
use crate::{Environment, Failure, Function, Param::String as Text, Value};

pub(super) const FUNCTIONS: &[Function] = &[fixed("getHostByName", &[Text], address)];

/// One of the host's addresses.
fn address(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let name = lossy(args, 0);
    if !environment.dns {
        return Ok(Value::string(""));
    }
    let found: Vec<IpAddr> = match (name.as_ref(), 0).to_socket_addrs() {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(_) => Vec::new(),
    };
    if found.is_empty() {
        return Err(Failure::new(format!("lookup {name}: no such host")));
    }
    let index = environment.random.borrow_mut().random_range(0..found.len());
    Ok(Value::string(found[index].to_string()))
}
