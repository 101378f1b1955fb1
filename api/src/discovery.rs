//! Which kinds are served, where, and what may be done with them: `/api`, `/apis`, `/version`.
//!
//! Reads the catalog: every answer is made once for what is served and kept as bytes. The forms are
//! Kubernetes' legacy lists and the aggregated document (KEP-3352), chosen by `Accept`. Never answers
//! for what is not served: that is the fallback's.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    accept,
    catalog::Catalog,
    error::Error,
    kinds::{GroupVersion, Kind, Names, Subresource},
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
pub fn router(catalog: Arc<Catalog>) -> Router {
    let mut router = Router::new();
    for path in [
        "/version",
        "/api",
        "/apis",
        "/api/{version}",
        "/apis/{group}",
        "/apis/{group}/{version}",
    ] {
        router = router
            .route(path, get(serve))
            .route(&format!("{path}/"), get(serve));
    }
    router.with_state(catalog)
}

async fn serve(State(catalog): State<Arc<Catalog>>, uri: Uri, headers: HeaderMap) -> Response {
    let served = catalog.served();
    match served.discovery().0.get(uri.path().trim_end_matches('/')) {
        Some(document) => document.answer(&headers),
        None => Error::NoSuchPath.into_response(),
    }
}

/// Every document by its path.
pub(crate) struct Documents(BTreeMap<String, Document>);

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
    fn root(groups: &[&[GroupVersion<'_>]], plain: &Value) -> Self {
        let aggregated = AGGREGATED
            .iter()
            .map(|(version, kind)| Form::new(kind, &aggregated(groups, version)));
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

impl Documents {
    /// Makes the documents of these group-versions, which are in the order of their preference.
    pub(crate) fn build(served: &[GroupVersion<'_>]) -> Self {
        let mut documents: BTreeMap<String, Document> = served
            .iter()
            .map(|served| {
                let path = format!("/{}", served.path());
                (path, Document::plain(&resources(served)))
            })
            .collect();
        let all: Vec<_> = served
            .chunk_by(|one, next| one.group == next.group)
            .collect();
        let (core, named): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|group| group[0].group.is_empty());
        let groups: Vec<_> = named.iter().map(|group| api_group(group)).collect();
        for mut group in groups.clone() {
            let path = format!("/apis/{}", group["name"].as_str().unwrap_or_default());
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            documents.insert(path, Document::plain(&group));
        }
        let versions = json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        });
        let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
        for (path, document) in [
            ("/version", Document::plain(&version())),
            ("/api", Document::root(&core, &versions)),
            ("/apis", Document::root(&named, &groups)),
        ] {
            documents.insert(path.to_owned(), document);
        }
        Self(documents)
    }
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

/// Groups, each with its versions.
fn aggregated(groups: &[&[GroupVersion<'_>]], form: &str) -> Value {
    let items: Vec<_> = groups
        .iter()
        .map(|group| {
            let versions: Vec<_> = group
                .iter()
                .map(|served| {
                    let resources: Vec<_> =
                        served.kinds.iter().map(|kind| resource(*kind)).collect();
                    json!({
                        "version": served.version,
                        "freshness": "Current",
                        "resources": resources,
                    })
                })
                .collect();
            let metadata = match group[0].group {
                "" => json!({}),
                name => json!({ "name": name }),
            };
            json!({ "metadata": metadata, "versions": versions })
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

/// Group, version and kind of what a path takes and answers.
pub(crate) fn gvk(names: &Names, subresource: Option<Subresource>) -> [&'static str; 3] {
    // Clients look for a kind's own methods by its name: kubectl takes any PATCH for the object's.
    if let Some(options) = subresource.and_then(|part| part.options_kind(names.kind)) {
        return ["", "v1", options];
    }
    match subresource.and_then(Subresource::own_kind) {
        Some([group, version, kind, _]) => [group, version, kind],
        None => [names.group, names.version, names.kind],
    }
}

/// A group with its versions, the first of which is preferred.
fn api_group(group: &[GroupVersion<'_>]) -> Value {
    let versions: Vec<_> = group
        .iter()
        .map(|served| json!({ "groupVersion": served.api_version(), "version": served.version }))
        .collect();
    json!({ "name": group[0].group, "preferredVersion": versions[0], "versions": versions })
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
    use crate::kinds::Registry;

    async fn ask(path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Value) {
        let mut request = http::Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let router = router(Catalog::new(&Registry::builtin()));
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
        let groups = body["items"].as_array().expect("groups");
        let apps = groups
            .iter()
            .find(|group| group["metadata"]["name"] == "apps");
        check(
            &apps.expect("the group")["versions"][0]["resources"][0],
            expect![[
                r#"{"resource":"controllerrevisions","responseKind":{"group":"apps","kind":"ControllerRevision","version":"v1"},"scope":"Namespaced","singularResource":"controllerrevision","verbs":["create","delete","deletecollection","get","list","patch","update","watch"]}"#
            ]],
        );
        let (_, _, body) = ask("/apis/apps/v1", &[]).await;
        check(
            &body["resources"][1],
            expect![[
                r#"{"categories":["all"],"kind":"DaemonSet","name":"daemonsets","namespaced":true,"shortNames":["ds"],"singularName":"daemonset","verbs":["create","delete","deletecollection","get","list","patch","update","watch"]}"#
            ]],
        );
    }
}
