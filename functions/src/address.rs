//! Where Functions answer: hosts and URLs. Pure.

use crate::key::Key;

/// The domain of the cluster's Services.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Where gateways listen, as requests from outside name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The domain beneath which every Function has a host.
    pub domain: String,
    /// The port of plain HTTP; none: no gateway listens.
    pub port: Option<u16>,
}

impl Address {
    /// The host of a Function.
    pub fn host(&self, function: &Key) -> String {
        format!("{}.{}.{}", function.name, function.namespace, self.domain)
    }

    pub(crate) fn outside(&self, function: &Key) -> Option<String> {
        self.url(&self.host(function))
    }

    pub(crate) fn tagged(&self, function: &Key, tag: &str) -> Option<String> {
        self.url(&format!("{tag}---{}", self.host(function)))
    }

    pub(crate) fn inside(&self, function: &Key) -> String {
        let Key { namespace, name } = function;
        format!("http://{name}.{namespace}.svc.{CLUSTER_DOMAIN}")
    }

    fn url(&self, host: &str) -> Option<String> {
        Some(match self.port? {
            80 => format!("http://{host}"),
            port => format!("http://{host}:{port}"),
        })
    }
}
