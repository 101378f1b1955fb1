//! Which node this process is, and that no other process on this host is the same.
//!
//! Two nodelets of one name would run every pod twice. The claim is an abstract socket that nobody
//! talks to: the kernel takes it back when the process ends, however it ends.

use std::os::{
    linux::net::SocketAddrExt,
    unix::net::{SocketAddr, UnixListener},
};

use anyhow::{Context, Result, bail};

/// The name, as long as this process holds it.
#[derive(Debug)]
pub(crate) struct Claim {
    _socket: UnixListener,
}

/// The name given, or the host's.
pub(crate) fn choose(given: Option<&str>) -> Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname()
            .context("read the host's name")?
            .to_string_lossy()
            .into_owned(),
    };
    Ok(name.to_lowercase())
}

/// Takes the name on this host, or says that another process has it.
pub(crate) fn claim(name: &str) -> Result<Claim> {
    let address = SocketAddr::from_abstract_name(format!("wk-node-{name}"))
        .with_context(|| format!("the node name {name:?} is too long"))?;
    match UnixListener::bind_addr(&address) {
        Ok(socket) => Ok(Claim { _socket: socket }),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "another wk on this host is node {name:?} already: name this one with --node-name"
        ),
        Err(error) => Err(error).with_context(|| format!("claim the node name {name:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once_until_it_is_let_go() {
        let name = format!("test-{}", std::process::id());
        let first = claim(&name).unwrap();
        let error = claim(&name).unwrap_err().to_string();
        assert!(error.contains("--node-name"), "{error}");
        drop(first);
        claim(&name).unwrap();
    }

    #[test]
    fn a_name_is_in_small_letters() {
        assert_eq!(choose(Some("Worker-1")).unwrap(), "worker-1");
    }
}
