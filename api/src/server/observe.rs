//! Counts and measures every answer, and tells it all at `/metrics`.
//!
//! What a request was about is known once its path was read: the handler leaves it in the answer's
//! extensions. Never changes an answer.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Method, header};
use http_body::Body as _;
use metrics::text;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};

use super::{
    bounds::{self, Class},
    joined,
    state::Server,
};
use crate::metrics::Asked;

pub(crate) fn router() -> Router<Arc<Server>> {
    Router::new().route("/metrics", get(tell))
}

/// The gate has asked whether the user may have the path.
async fn tell(State(server): State<Arc<Server>>) -> Response {
    let headers = [(header::CONTENT_TYPE, text::CONTENT_TYPE)];
    (headers, server.config.metrics.text()).into_response()
}

/// Counts an answer.
pub(crate) async fn observe(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let lasts = bounds::class(&request) == Class::Lasting;
    let method = method(request.method());
    let mut response = next.run(request).await;
    let asked = response.extensions_mut().remove::<Asked>();
    let asked = asked.unwrap_or(Asked {
        verb: method,
        component: "apiserver",
        ..Asked::default()
    });
    let code = response.status().as_u16();
    if !lasts {
        let seconds = begun.elapsed().as_secs_f64();
        let bytes = response.body().size_hint().exact();
        server.metrics.answered(&asked, code, seconds, bytes);
        return response;
    }
    let lasting = server.metrics.last(&asked);
    server.metrics.count(asked, code);
    joined::hold(response, lasting)
}

/// The methods that a label may name.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "OTHER",
    }
}

/// What is only known when it is asked for: requests in flight and how many objects there are.
#[derive(Debug)]
struct Now(Weak<Server>);

/// Puts them into a registry.
pub(crate) fn collect(registry: &mut Registry, server: &Arc<Server>) {
    registry.register_collector(Box::new(Now(Arc::downgrade(server))));
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(server) = self.0.upgrade() else {
            return Ok(());
        };
        let mut family = encoder.encode_descriptor(
            "apiserver_current_inflight_requests",
            "Current number of requests in flight of this apiserver, by request kind",
            None,
            MetricType::Gauge,
        )?;
        let [reading, mutating] = server.bounds.in_flight();
        for (kind, count) in [("readOnly", reading), ("mutating", mutating)] {
            gauge(count).encode(family.encode_family(&[("request_kind", kind)])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "apiserver_storage_objects",
            "Number of stored objects, by resource",
            None,
            MetricType::Gauge,
        )?;
        let mut counts = server.cache.counts();
        counts.sort_by(|(a, _), (b, _)| (&a.group, &a.resource).cmp(&(&b.group, &b.resource)));
        for (key, count) in counts {
            let resource = match &*key.group {
                "" => key.resource.to_string(),
                group => format!("{}.{group}", key.resource),
            };
            gauge(count).encode(family.encode_family(&[("resource", resource)])?)?;
        }
        Ok(())
    }
}

fn gauge(count: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
}
