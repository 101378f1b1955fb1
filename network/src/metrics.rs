//! What the network counts. One set for the process.

use std::sync::LazyLock;

use hickory_proto::op::ResponseCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// How a question was answered: the usual codes by their names, all others as one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Code {
    rcode: &'static str,
}

static RESPONSES: LazyLock<Family<Code, Counter>> = LazyLock::new(Family::default);

/// Counts an answer of the DNS server.
pub(crate) fn answered(code: ResponseCode) {
    let rcode = match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        _ => "other",
    };
    RESPONSES.get_or_create(&Code { rcode }).inc();
}

/// Puts the network's metrics into a registry.
pub fn register(registry: &mut Registry) {
    registry.register(
        "wk_network_dns_responses",
        "Answers of the node's DNS server by response code",
        RESPONSES.clone(),
    );
    crate::gateway::register(registry);
}
