//! The endpoints of a Service, for an Ingress.

use std::{net::SocketAddr, time::Duration};

use http::{Response, StatusCode};

use super::{
    answer::Refusal,
    body::{Held, Outgoing},
    function::{self, Again, Called, in_origin_form},
    headers,
    routes::{claim::Port, row},
    serve::Job,
    upgrade,
    upstream::Broken,
};
use crate::directory::{Endpoint, Name, PortName};

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
    loop {
        let endpoint = shared.network.directory().endpoint(name, wanted, &tried);
        let address = match endpoint {
            Endpoint::Ready(address) => SocketAddr::V4(address),
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
        if again.is_none() {
            in_origin_form(&mut job.request);
            match &upgrade {
                Some(wanted) => upgrade::ask(job.request.headers_mut(), &wanted.protocol),
                None => again = Again::without_body(&job.request),
            }
        }
        let request = std::mem::replace(&mut job.request, http::Request::new(function::nothing()));
        match sent
            .within(ANSWER, shared.pool.send(address, request))
            .await
        {
            Some(Ok((response, lease))) => {
                let held = Held {
                    lease,
                    permit: None,
                };
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    && let Some(wanted) = upgrade
                {
                    return Ok(upgrade::join(response, wanted, held, &job.link.state));
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
