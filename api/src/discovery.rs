//! Which kinds are served, where, and what may be done with them: `/api`, `/apis`, `/version`.
//!
//! Reads the registry, once: every answer is made with the router and kept as bytes. The forms are
//! Kubernetes' legacy lists and the aggregated document (KEP-3352), chosen by `Accept`. Never answers
//! for what is not served: that is the fallback's.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::Body, response::Response, routing::get};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    accept,
    kinds::{GroupVersion, Kind, Names, Registry, Subresource},
};

/// The Kubernetes version whose API this is, and ours as build metadata.
pub const GIT_VERSION: &str = concat!("v1.36.0+wk", env!("CARGO_PKG_VERSION"));

/// The two versions of the aggregated form, newest first.
const AGGREGATED: [(&str, &str); 2] = [
    (
        "v2",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ),
    (
        "v2beta1",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    ),
];

/// Routes of discovery and of `/version`.
pub fn router(registry: Arc<Registry>) -> Router {
    let mut router = Router::new();
    for (path, document) in documents(&registry) {
        let document = Arc::new(document);
        let serve = get(move |headers: HeaderMap| {
            let response = document.answer(&headers);
            async { response }
        });
        router = router
            .route(&path, serve.clone())
            .route(&format!("{path}/"), serve);
    }
    router
}

/// What one path answers.
struct Document {
    plain: Form,
    /// In the order of [`AGGREGATED`]; empty where there is only the plain form.
    aggregated: Vec<Form>,
}

/// One form of an answer, ready to be sent.
struct Form {
    content_type: &'static str,
    body: Bytes,
    tag: String,
}

impl Form {
    fn new(content_type: &'static str, body: &Value) -> Self {
        let body = Bytes::from(body.to_string());
        let tag = etag(&body);
        Self {
            content_type,
            body,
            tag,
        }
    }

    fn plain(body: &Value) -> Self {
        Self::new("application/json", body)
    }
}

impl Document {
    fn plain(body: &Value) -> Self {
        Self {
            plain: Form::plain(body),
            aggregated: Vec::new(),
        }
    }

    /// A root: also the aggregated forms of the groups that are below it.
    fn root(registry: &Registry, plain: &Value, wanted: impl Fn(&str) -> bool) -> Self {
        let aggregated = AGGREGATED
            .iter()
            .map(|(version, kind)| Form::new(kind, &aggregated(registry, version, &wanted)));
        Self {
            plain: Form::plain(plain),
            aggregated: aggregated.collect(),
        }
    }

    /// The form that the client likes best, unless it has it already.
    fn answer(&self, request: &HeaderMap) -> Response {
        let chosen = chosen(request).and_then(|index| self.aggregated.get(index));
        let form = chosen.unwrap_or(&self.plain);
        let response = Response::builder()
            .header(header::ETAG, &form.tag)
            .header(header::VARY, "Accept")
            .header(header::CACHE_CONTROL, "public");
        let response = if is_known(request, &form.tag) {
            response
                .status(StatusCode::NOT_MODIFIED)
                .body(Body::empty())
        } else {
            response
                .header(header::CONTENT_TYPE, form.content_type)
                .body(form.body.clone().into())
        };
        response.expect("every header is a constant or a digest")
    }
}

/// The first of [`AGGREGATED`] that `Accept` names before plain JSON.
fn chosen(headers: &HeaderMap) -> Option<usize> {
    for range in accept::ranges(headers) {
        if range.format() != Some(accept::Format::Json) {
            continue;
        }
        if range.parameter("as").is_empty() {
            return None;
        }
        let discovers = range.parameter("g") == "apidiscovery.k8s.io"
            && range.parameter("as") == "APIGroupDiscoveryList";
        let version = range.parameter("v");
        let found = AGGREGATED.iter().position(|(known, _)| *known == version);
        if discovers && found.is_some() {
            return found;
        }
    }
    None
}

/// Every document by its path.
fn documents(registry: &Registry) -> BTreeMap<String, Document> {
    let served = registry.group_versions();
    let mut documents: BTreeMap<String, Document> = served
        .iter()
        .map(|served| {
            let path = format!("/{}", served.path());
            (path, Document::plain(&resources(served)))
        })
        .collect();
    let mut groups = Vec::new();
    for served in served.iter().filter(|served| !served.group.is_empty()) {
        let mut group = api_group(served);
        groups.push(group.clone());
        group["kind"] = "APIGroup".into();
        group["apiVersion"] = "v1".into();
        documents.insert(format!("/apis/{}", served.group), Document::plain(&group));
    }
    let core = json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    });
    let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
    let is_core = |group: &str| group.is_empty();
    for (path, document) in [
        ("/version", Document::plain(&version())),
        ("/api", Document::root(registry, &core, is_core)),
        (
            "/apis",
            Document::root(registry, &groups, |group| !is_core(group)),
        ),
    ] {
        documents.insert(path.to_owned(), document);
    }
    documents
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    })
}

/// The processor by the name that Kubernetes gives it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn aggregated(registry: &Registry, form: &str, wanted: impl Fn(&str) -> bool) -> Value {
    let items: Vec<_> = registry
        .group_versions()
        .iter()
        .filter(|served| wanted(served.group))
        .map(|served| {
            let resources: Vec<_> = served.kinds.iter().map(|kind| resource(*kind)).collect();
            let metadata = if served.group.is_empty() {
                json!({})
            } else {
                json!({ "name": served.group })
            };
            json!({
                "metadata": metadata,
                "versions": [{
                    "version": served.version,
                    "freshness": "Current",
                    "resources": resources,
                }],
            })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {},
        "items": items,
    })
}

fn resource(kind: &dyn Kind) -> Value {
    let names = kind.names();
    let mut resource = json!({
        "resource": names.plural,
        "responseKind": response_kind(names, None),
        "scope": if names.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": names.singular,
        "verbs": kind.verbs(),
    });
    if !names.short.is_empty() {
        resource["shortNames"] = json!(names.short);
    }
    if !names.categories.is_empty() {
        resource["categories"] = json!(names.categories);
    }
    let subresources: Vec<_> = kind
        .subresources()
        .iter()
        .map(|subresource| {
            json!({
                "subresource": subresource.path(),
                "responseKind": response_kind(names, Some(*subresource)),
                "verbs": subresource.verbs(),
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

fn response_kind(names: &Names, subresource: Option<Subresource>) -> Value {
    let [group, version, kind] = gvk(names, subresource);
    json!({ "group": group, "version": version, "kind": kind })
}

/// Group, version and kind of what a path answers.
pub(crate) fn gvk(names: &Names, subresource: Option<Subresource>) -> [&'static str; 3] {
    match subresource.and_then(Subresource::own_kind) {
        Some([group, version, kind, _]) => [group, version, kind],
        None => [names.group, names.version, names.kind],
    }
}

fn api_group(served: &GroupVersion<'_>) -> Value {
    let version = json!({ "groupVersion": served.api_version(), "version": served.version });
    json!({ "name": served.group, "versions": [version], "preferredVersion": version })
}

/// The legacy list of one group-version.
fn resources(served: &GroupVersion<'_>) -> Value {
    let mut list = Vec::new();
    for kind in &served.kinds {
        let names = kind.names();
        let mut own = json!({
            "name": names.plural,
            "singularName": names.singular,
            "namespaced": names.namespaced,
            "kind": names.kind,
            "verbs": kind.verbs(),
        });
        if !names.short.is_empty() {
            own["shortNames"] = json!(names.short);
        }
        if !names.categories.is_empty() {
            own["categories"] = json!(names.categories);
        }
        list.push(own);
        for subresource in kind.subresources() {
            let [other_group, other_version, kind] = gvk(names, Some(*subresource));
            let mut own = json!({
                "name": format!("{}/{}", names.plural, subresource.path()),
                "singularName": "",
                "namespaced": names.namespaced,
                "kind": kind,
                "verbs": subresource.verbs(),
            });
            if (other_group, other_version) != (served.group, served.version) {
                own["group"] = other_group.into();
                own["version"] = other_version.into();
            }
            list.push(own);
        }
    }
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": served.api_version(),
        "resources": list,
    })
}

/// A digest of a body, quoted.
pub(crate) fn etag(body: &[u8]) -> String {
    format!("\"{}\"", hash(body))
}

/// A digest of a body in upper-case hexadecimal.
pub(crate) fn hash(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// True if the client already has the body of this tag.
pub(crate) fn is_known(request: &HeaderMap, tag: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == tag)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use expect_test::{Expect, expect};
    use tower::util::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Value) {
        let mut request = http::Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let router = router(Arc::new(Registry::builtin()));
        let response = router.oneshot(request).await.expect("it cannot fail");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let body = serde_json::from_slice(&body).unwrap_or_default();
        (head.status, head.headers, body)
    }

    #[track_caller]
    fn check(value: &Value, expect: Expect) {
        expect.assert_eq(&value.to_string());
    }

    #[tokio::test]
    async fn a_client_gets_the_first_form_that_it_names() {
        for (accept, shown, kind) in [
            ("*/*", "application/json", "APIGroupList"),
            (AGGREGATED[1].1, AGGREGATED[1].1, "APIGroupDiscoveryList"),
            (
                &format!("{},{},application/json", AGGREGATED[0].1, AGGREGATED[1].1),
                AGGREGATED[0].1,
                "APIGroupDiscoveryList",
            ),
        ] {
            let (_, headers, body) = ask("/apis", &[("accept", accept)]).await;
            assert_eq!(headers[header::CONTENT_TYPE], shown, "{accept}");
            assert_eq!(body["kind"], kind, "{accept}");
        }
    }

    #[tokio::test]
    async fn what_the_client_has_is_not_sent_again() {
        let (_, headers, _) = ask("/api/v1", &[]).await;
        let tag = headers[header::ETAG].to_str().expect("it is text");
        let (status, _, _) = ask("/api/v1", &[("if-none-match", tag)]).await;
        assert_eq!(status, StatusCode::NOT_MODIFIED);
        let (status, _, _) = ask("/api", &[("if-none-match", tag)]).await;
        assert_eq!(status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_kind_is_listed_with_its_subresources() {
        let (_, _, body) = ask("/apis", &[("accept", AGGREGATED[0].1)]).await;
        check(
            &body["items"][0]["versions"][0]["resources"][0],
            expect![[
                r#"{"categories":["all"],"resource":"deployments","responseKind":{"group":"apps","kind":"Deployment","version":"v1"},"scope":"Namespaced","shortNames":["deploy"],"singularResource":"deployment","subresources":[{"responseKind":{"group":"autoscaling","kind":"Scale","version":"v1"},"subresource":"scale","verbs":["get","patch","update"]},{"responseKind":{"group":"apps","kind":"Deployment","version":"v1"},"subresource":"status","verbs":["get","patch","update"]}],"verbs":["create","delete","deletecollection","get","list","patch","update","watch"]}"#
            ]],
        );
        let (_, _, body) = ask("/apis/apps/v1", &[]).await;
        check(
            &body["resources"][1],
            expect![[
                r#"{"group":"autoscaling","kind":"Scale","name":"deployments/scale","namespaced":true,"singularName":"","verbs":["get","patch","update"],"version":"v1"}"#
            ]],
        );
    }
}
