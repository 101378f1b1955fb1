//! Asks the metrics APIs what an autoscaler's metrics are.
//!
//! What pods use is asked for once a look, however many metrics there are. Metrics that are not
//! Kubernetes' own come from whatever an APIService registers for `custom.metrics.k8s.io` and
//! `external.metrics.k8s.io`.

use http::Request;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, MetricIdentifier, MetricSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, LabelSelector};
use kube::core::Selector;
use serde::de::DeserializeOwned;

use super::propose::Seen;
use super::usage::{self, ExternalValue, List, MetricValue, PodMetrics};
use crate::context::Context;
use crate::error::{Error, within};
use crate::selector;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";

/// One look's questions.
pub(super) struct Questions<'a> {
    context: &'a Context,
    namespace: &'a str,
    /// Of the target's pods, as text.
    selector: &'a str,
    used: Option<Result<Vec<PodMetrics>, String>>,
}

impl<'a> Questions<'a> {
    pub(super) fn new(context: &'a Context, namespace: &'a str, selector: &'a str) -> Self {
        Self {
            context,
            namespace,
            selector,
            used: None,
        }
    }

    /// What a metric is now, or why that is not known, in Kubernetes' words.
    pub(super) async fn ask(&mut self, spec: &MetricSpec) -> Result<Seen, String> {
        if let Some(source) = &spec.resource {
            let listed = self.used().await?;
            return Ok(Seen::Pods(usage::of_pods(listed, &source.name)));
        }
        if let Some(source) = &spec.container_resource {
            let (namespace, container) = (self.namespace, &source.container);
            let listed = self.used().await?;
            let usages = usage::of_containers(listed, namespace, &source.name, container)?;
            return Ok(Seen::Pods(usages));
        }
        if let Some(source) = &spec.pods {
            return self.of_pods(&source.metric).await;
        }
        if let Some(source) = &spec.object {
            let (of, metric) = (&source.described_object, &source.metric);
            let seen = self.of_object(of, metric).await.map_err(|error| {
                let (metric, kind, name) = (&metric.name, &of.kind, &of.name);
                let namespace = self.namespace;
                format!("unable to get metric {metric}: {kind} on {namespace} {name}/{error}")
            });
            return seen;
        }
        if let Some(source) = &spec.external {
            let metric = &source.metric;
            return self.external(metric).await.map_err(|error| {
                let (namespace, selector) =
                    (self.namespace, selector::as_go(metric.selector.as_ref()));
                let name = &metric.name;
                format!("unable to get external metric {namespace}/{name}/{selector}: {error}")
            });
        }
        Err(format!("unknown metric source type {:?}", spec.type_))
    }

    async fn used(&mut self) -> Result<&[PodMetrics], String> {
        if self.used.is_none() {
            self.used = Some(self.list_used().await);
        }
        match &self.used {
            Some(Ok(listed)) => Ok(listed),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(&[]),
        }
    }

    async fn list_used(&self) -> Result<Vec<PodMetrics>, String> {
        let (namespace, selector) = (escape(self.namespace), escape(self.selector));
        let path = format!(
            "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}"
        );
        let listed = self
            .get::<List<PodMetrics>>(&path, "pods.metrics.k8s.io")
            .await;
        let listed = listed.map_err(|error| {
            format!("unable to fetch metrics from resource metrics API: {error}")
        })?;
        if listed.items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        Ok(listed.items)
    }

    async fn of_pods(&self, metric: &MetricIdentifier) -> Result<Seen, String> {
        let listed = self.custom("pods", "*", metric, self.selector).await?;
        if listed.is_empty() {
            return Err("no metrics returned from custom metrics API".to_owned());
        }
        Ok(Seen::Pods(usage::of_values(&listed)))
    }

    async fn of_object(
        &self,
        of: &CrossVersionObjectReference,
        metric: &MetricIdentifier,
    ) -> Result<Seen, String> {
        let version = of.api_version.as_deref().unwrap_or_default();
        let listed = if of.kind == "Namespace" && !version.contains('/') {
            // Its own namespace, whatever name is given.
            self.custom("metrics", "", metric, "").await?
        } else {
            let client = &self.context.client;
            let served = self.context.scales.served(client, version, &of.kind).await;
            let served = served.map_err(|error| {
                format!("unable to fetch metrics from custom metrics API: {error}")
            })?;
            self.custom(&served.shown(), &of.name, metric, "").await?
        };
        let [value] = listed.as_slice() else {
            let count = listed.len();
            return Err(format!(
                "unable to fetch metrics from custom metrics API: the custom metrics API server returned \
                 {count} results when we asked for exactly one"
            ));
        };
        let value = value.milli();
        Ok(Seen::Total(
            value.ok_or("the metric's value is no quantity")?,
        ))
    }

    async fn custom(
        &self,
        resource: &str,
        name: &str,
        metric: &MetricIdentifier,
        selector: &str,
    ) -> Result<Vec<MetricValue>, String> {
        let fetch = async {
            let version = self.version(CUSTOM).await?;
            let version = version.ok_or_else(|| {
                Error::Invalid(format!("no custom metrics API ({CUSTOM}) registered"))
            })?;
            let mut path = format!(
                "/apis/{CUSTOM}/{version}/namespaces/{}/{}",
                escape(self.namespace),
                escape(resource)
            );
            for part in [name, &metric.name] {
                if !part.is_empty() {
                    path.push('/');
                    path.push_str(&escape(part));
                }
            }
            let of_metric = text(metric.selector.as_ref())?;
            let queries = [
                ("labelSelector", selector),
                ("metricLabelSelector", &of_metric),
            ];
            let queries = queries.iter().filter(|(_, value)| !value.is_empty());
            for (index, (key, value)) in queries.enumerate() {
                path.push(if index == 0 { '?' } else { '&' });
                path.push_str(&format!("{key}={}", escape(value)));
            }
            let what = format!("{resource}.{CUSTOM}");
            self.get::<List<MetricValue>>(&path, &what).await
        };
        let listed = fetch
            .await
            .map_err(|error| format!("unable to fetch metrics from custom metrics API: {error}"))?;
        Ok(listed.items)
    }

    async fn external(&self, metric: &MetricIdentifier) -> Result<Seen, String> {
        let fetch = async {
            let version = self.version(EXTERNAL).await?;
            let version = version.unwrap_or_else(|| "v1beta1".to_owned());
            let selector = text(metric.selector.as_ref())?;
            let path = format!(
                "/apis/{EXTERNAL}/{version}/namespaces/{}/{}?labelSelector={}",
                escape(self.namespace),
                escape(&metric.name),
                escape(&selector)
            );
            let what = format!("{}.{EXTERNAL}", metric.name);
            self.get::<List<ExternalValue>>(&path, &what).await
        };
        let listed = fetch.await.map_err(|error| {
            format!("unable to fetch metrics from external metrics API: {error}")
        })?;
        if listed.items.is_empty() {
            return Err("no metrics returned from external metrics API".to_owned());
        }
        Ok(Seen::Total(usage::total(&listed.items)))
    }

    /// The version of a group that the API prefers, if it serves the group.
    async fn version(&self, group: &str) -> Result<Option<String>, Error> {
        let asked = self.get::<APIGroup>(&format!("/apis/{group}"), group).await;
        match asked {
            Ok(group) => Ok(group.preferred_version.map(|preferred| preferred.version)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T, Error> {
        let request = Request::get(path).body(Vec::new());
        let request =
            request.map_err(|error| Error::Invalid(format!("ask for {what}: {error}")))?;
        within(self.context.client.request(request))
            .await
            .map_err(|error| worded(error, what))
    }
}

/// A failure in the words of Kubernetes' own client, where the server has none.
fn worded(error: Error, what: &str) -> Error {
    match error {
        Error::NotFound(message) if !message.contains('"') => Error::NotFound(format!(
            "the server could not find the requested resource (get {what})"
        )),
        Error::Unavailable(source) => Error::Invalid(match source.downcast_ref() {
            Some(kube::Error::Api(status)) if !status.message.is_empty() => status.message.clone(),
            _ => format!("the server is currently unable to handle the request (get {what})"),
        }),
        error => error,
    }
}

fn text(selector: Option<&LabelSelector>) -> Result<String, Error> {
    let Some(selector) = selector else {
        return Ok(String::new());
    };
    let selector = Selector::try_from(selector.clone());
    let selector = selector.map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(selector.to_string())
}

/// A part of a path, or a value of a query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_holds_nothing_that_ends_it() {
        assert_eq!(escape("pods"), "pods");
        assert_eq!(escape("a/b|c?d=e,f é"), "a%2Fb%7Cc%3Fd%3De%2Cf%20%C3%A9");
    }
}
