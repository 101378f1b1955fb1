//! The endpoints of a Service, for an Ingress.

use std::{net::SocketAddr, time::Duration};

use http::{Response, StatusCode};

use super::{
    Shared,
    answer::Refusal,
    body::{Held, Outgoing},
    function::{self, Again, Called, in_origin_form},
    headers,
    routes::{claim::Port, row},
    serve::Job,
    upgrade,
    upstream::{Broken, Speaks},
};
use crate::{
    directory::{Endpoint, Name, PortName},
    policy::{GATEWAY_LABEL, GATEWAY_NAMESPACE},
};

/// How long an endpoint may take to answer, from the last of the request's body that was taken.
const ANSWER: Duration = Duration::from_secs(60);
/// Endpoints that a request may try, as long as none has been sent anything.
const TRIES: usize = 3;

/// Answers by an endpoint of a Service; by the Function, if it is a Function's Service.
pub(super) async fn forward(
    mut job: Job<'_>,
    name: &Name,
    port: &Port,
) -> Result<Response<Outgoing>, Refusal> {
    let shared = &job.link.shared;
    let mut tried: Vec<SocketAddr> = Vec::new();
    let sent = job.sent.clone();
    let wanted = match port {
        Port::Number(number) => PortName::Number(*number),
        Port::Named(name) => PortName::Named(name),
    };
    let upgrade = job.upgrade.take();
    let mut again = None;
    let mut speaks;
    loop {
        let endpoint = shared.network.directory().endpoint(name, wanted, &tried);
        let address = match endpoint {
            Endpoint::Ready { address, h2c } => {
                // WebSockets begin with HTTP/1.1, whatever else is spoken there.
                speaks = match h2c && upgrade.is_none() {
                    true => Speaks::Http2,
                    false => Speaks::Http1,
                };
                SocketAddr::V4(address)
            }
            Endpoint::Function(function) => {
                let key = row::key(&name.namespace, &function);
                let Some(function) = shared.table().function(&key).cloned() else {
                    return Err(unavailable(name, "names a Function that there is not"));
                };
                job.upgrade = upgrade;
                let called = Called {
                    function: &function,
                    tag: None,
                };
                return function::call(job, called).await;
            }
            Endpoint::NoService => return Err(unavailable(name, "does not exist")),
            Endpoint::NoPort => return Err(unavailable(name, "has no such port")),
            Endpoint::NotReady => return Err(unavailable(name, "has no ready endpoint")),
        };
        if !admits(shared, address) {
            if tried.contains(&address) || tried.len() + 1 >= TRIES {
                return Err(kept_out(name));
            }
            tried.push(address);
            continue;
        }
        if again.is_none() {
            in_origin_form(&mut job.request);
            match &upgrade {
                Some(wanted) => wanted.ask(job.request.headers_mut()),
                None => again = Again::without_body(&job.request),
            }
        }
        let request = std::mem::replace(&mut job.request, http::Request::new(function::nothing()));
        match sent
            .within(ANSWER, shared.pool.send(address, speaks, request))
            .await
        {
            Some(Ok((response, lease))) => {
                let held = Held {
                    lease,
                    permit: None,
                };
                if let Some(wanted) = upgrade {
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        return Ok(upgrade::join(response, wanted, held, &job.link.state));
                    }
                    if wanted.is_mistaken(response.status()) {
                        return Err(no_tunnel(name));
                    }
                }
                let mut response = response.map(|body| Outgoing::endpoint(body, held));
                headers::remove_hop_by_hop(response.headers_mut());
                return Ok(response.map(|body| body.resting_at_most(upgrade::IDLE)));
            }
            Some(Err(Broken::Unsent(unsent, cause))) => {
                tried.push(address);
                if tried.len() >= TRIES {
                    return Err(broken(name, cause));
                }
                job.request = *unsent;
            }
            Some(Err(Broken::Sent { kept: true, cause })) if tried.len() < TRIES => {
                // The endpoint most likely closed it as the request left.
                let Some(again) = &again else {
                    return Err(broken(name, cause));
                };
                tried.push(address);
                job.request = again.request();
            }
            Some(Err(Broken::Sent { cause, .. })) => return Err(broken(name, cause)),
            None => {
                let who = format!("Service {}/{}", name.namespace, name.name);
                return Err(Refusal::late(who, ANSWER));
            }
        }
    }
}

/// Whether NetworkPolicies let gateways reach a pod.
fn admits(shared: &Shared, endpoint: SocketAddr) -> bool {
    let policies = shared.network.policies();
    !policies.any() || policies.admits_gateway(endpoint.ip(), endpoint.port())
}

fn kept_out(name: &Name) -> Refusal {
    let Name { namespace, name } = name;
    let (label, value) = GATEWAY_LABEL;
    Refusal::new(
        StatusCode::FORBIDDEN,
        format!(
            "a NetworkPolicy keeps gateways (namespace {GATEWAY_NAMESPACE}, label {label}={value}) from the pods of \
             Service {namespace}/{name}"
        ),
    )
}

fn no_tunnel(name: &Name) -> Refusal {
    let Name { namespace, name } = name;
    Refusal::new(
        StatusCode::BAD_GATEWAY,
        format!("Service {namespace}/{name} serves no WebSocket here"),
    )
}

fn unavailable(name: &Name, why: &str) -> Refusal {
    let Name { namespace, name } = name;
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("Service {namespace}/{name} {why}"),
    )
}

fn broken(name: &Name, cause: String) -> Refusal {
    let Name { namespace, name } = name;
    Refusal::new(
        StatusCode::BAD_GATEWAY,
        format!("an endpoint of Service {namespace}/{name} broke off"),
    )
    .because(cause)
}
