//! A cluster behind its REST API: what each call of [`Cluster`] is as a request. Whoever sends them brings a
//! [`Transport`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    CallError, Cluster, ObjectId, Report,
    cluster::{Apply, Propagation, Scope, Served},
    managers::MANAGER,
};

/// A request to the apiserver.
#[derive(Clone, PartialEq, Debug)]
pub struct Call<'a> {
    pub method: &'static str,
    /// With its query.
    pub path: String,
    /// The media types that it wants.
    pub accept: &'static str,
    /// Its body and the body's type.
    pub body: Option<(&'static str, &'a Value)>,
}

/// Sends requests, and what an action needs of the world besides.
#[async_trait]
pub trait Transport: Send + Sync {
    /// The body of an answer that is a success.
    async fn send(&self, call: Call<'_>) -> Result<Vec<u8>, CallError>;

    fn now(&self) -> Timestamp;

    async fn pause(&self, length: Duration);

    async fn report(&self, report: Report);

    /// Runs work on a thread that may wait.
    async fn blocking(&self, work: Box<dyn FnOnce() + Send>);
}

/// One version of a group: its kinds, where each is served and whether in namespaces.
type Kinds = Arc<HashMap<String, (String, Scope)>>;

/// A cluster that is reached by requests.
pub struct Remote<T> {
    transport: T,
    /// Refuses fields that the server does not know, rather than warning of them.
    strict: bool,
    served: Mutex<HashMap<String, Kinds>>,
}

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";
const JSON_PATCH: &str = "application/json-patch+json";
/// Everything that is served, in one answer where the server knows how.
const DISCOVERY: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
/// Where wk applies several objects as one write.
const TRANSACTIONS: &str = "apply.wk.dev/v1";
/// Most objects of one answer to a list.
const PAGE: &str = "500";

impl<T: Transport> Remote<T> {
    pub fn new(transport: T, strict: bool) -> Remote<T> {
        Remote {
            transport,
            strict,
            served: Mutex::default(),
        }
    }

    /// What carries the requests.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Sends a request, and reads its answer as JSON.
    ///
    /// # Errors
    /// When the server does not do as asked.
    pub async fn json(
        &self,
        method: &'static str,
        path: String,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, CallError> {
        self.json_as(JSON, method, path, body).await
    }

    async fn json_as(
        &self,
        accept: &'static str,
        method: &'static str,
        path: String,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, CallError> {
        let call = Call {
            method,
            path,
            accept,
            body,
        };
        let answer = self.transport.send(call).await?;
        serde_json::from_slice(&answer).map_err(|error| CallError {
            code: None,
            message: format!("the server's answer is not JSON: {error}"),
        })
    }

    /// Where a kind is served; asks again about one that was not there before.
    async fn place(
        &self,
        api_version: &str,
        kind: &str,
    ) -> Result<Option<(String, Scope)>, CallError> {
        let known = {
            let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
            served.get(api_version).cloned()
        };
        if let Some(place) = known.and_then(|known| known.get(kind).cloned()) {
            return Ok(Some(place));
        }
        let list = match self.json("GET", root_of(api_version), None).await {
            Ok(list) => list,
            Err(CallError {
                code: Some(404), ..
            }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let served = Arc::new(kinds(&list));
        let place = served.get(kind).cloned();
        let mut all = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(api_version.to_owned(), served);
        Ok(place)
    }

    async fn collection(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Result<String, CallError> {
        let Some((plural, scope)) = self.place(api_version, kind).await? else {
            return Err(CallError {
                code: Some(404),
                message: format!("no matches for kind {kind:?} in version {api_version:?}"),
            });
        };
        let root = root_of(api_version);
        Ok(match namespace {
            Some(namespace) if scope == Scope::Namespaced => {
                format!("{root}/namespaces/{namespace}/{plural}")
            }
            _ => format!("{root}/{plural}"),
        })
    }

    /// The path of an object.
    ///
    /// # Errors
    /// When its kind is not served.
    pub async fn path(&self, id: &ObjectId) -> Result<String, CallError> {
        let namespace = Some(id.namespace.as_str());
        let collection = self
            .collection(&id.api_version, &id.kind, namespace)
            .await?;
        Ok(format!("{collection}/{}", id.name))
    }

    fn validation(&self) -> &'static str {
        if self.strict { "Strict" } else { "Warn" }
    }
}

fn root_of(api_version: &str) -> String {
    if api_version.contains('/') {
        format!("/apis/{api_version}")
    } else {
        format!("/api/{api_version}")
    }
}

/// The kinds of an `APIResourceList`.
fn kinds(list: &Value) -> HashMap<String, (String, Scope)> {
    let resources = list["resources"].as_array();
    resources
        .into_iter()
        .flatten()
        .filter_map(|resource| {
            let plural = resource["name"].as_str().filter(|n| !n.contains('/'))?;
            let scope = match resource["namespaced"].as_bool() {
                Some(true) => Scope::Namespaced,
                _ => Scope::Cluster,
            };
            Some((
                resource["kind"].as_str()?.to_owned(),
                (plural.to_owned(), scope),
            ))
        })
        .collect()
}

/// The versions and kinds of an `APIGroupDiscoveryList`.
fn aggregated(list: &Value, into: &mut BTreeSet<String>) {
    for group in list["items"].as_array().into_iter().flatten() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in group["versions"].as_array().into_iter().flatten() {
            let text = version["version"].as_str().unwrap_or_default();
            let api_version = match name {
                "" => text.to_owned(),
                name => format!("{name}/{text}"),
            };
            for resource in version["resources"].as_array().into_iter().flatten() {
                if let Some(kind) = resource["responseKind"]["kind"].as_str() {
                    into.insert(format!("{api_version}/{kind}"));
                }
            }
            into.insert(api_version);
        }
    }
}

/// The versions of an `APIVersions` or `APIGroupList`.
fn plain_versions(list: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(versions) = list["versions"].as_array() {
        return versions.iter().filter_map(text).collect();
    }
    let groups = list["groups"].as_array().into_iter().flatten();
    groups
        .flat_map(|group| group["versions"].as_array().into_iter().flatten())
        .filter_map(|version| text(&version["groupVersion"]))
        .collect()
}

/// A selector as part of a query.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[async_trait]
impl<T: Transport> Cluster for Remote<T> {
    async fn scope(&self, api_version: &str, kind: &str) -> Result<Option<Scope>, CallError> {
        Ok(self.place(api_version, kind).await?.map(|(_, scope)| scope))
    }

    async fn served(&self) -> Result<Served, CallError> {
        let version = self.json("GET", "/version".to_owned(), None).await?;
        let mut api_versions = BTreeSet::new();
        for root in ["/api", "/apis"] {
            let list = self
                .json_as(DISCOVERY, "GET", root.to_owned(), None)
                .await?;
            if list["items"].is_array() {
                aggregated(&list, &mut api_versions);
                continue;
            }
            let versions = plain_versions(&list);
            let lists = versions.iter().map(|version| async move {
                let list = self.json("GET", root_of(version), None).await?;
                Ok::<_, CallError>((version, list))
            });
            for (version, list) in futures::future::try_join_all(lists).await? {
                api_versions.insert(version.clone());
                let kinds = kinds(&list).into_keys();
                api_versions.extend(kinds.map(|kind| format!("{version}/{kind}")));
            }
        }
        let text = version["gitVersion"].as_str().unwrap_or_default();
        Ok(Served {
            version: text.to_owned(),
            api_versions: api_versions.into_iter().collect(),
        })
    }

    async fn find(&self, id: &ObjectId) -> Result<Option<Value>, CallError> {
        match self.json("GET", self.path(id).await?, None).await {
            Ok(object) => Ok(Some(object)),
            Err(CallError {
                code: Some(404), ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<Value>, CallError> {
        let collection = self.collection(api_version, kind, namespace).await?;
        let path = format!(
            "{collection}?limit={PAGE}&labelSelector={}",
            encode(selector)
        );
        let mut all = Vec::new();
        let mut next = path.clone();
        loop {
            let mut list = self.json("GET", next, None).await?;
            if let Value::Array(items) = list["items"].take() {
                all.extend(items);
            }
            match list["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => {
                    next = format!("{path}&continue={}", encode(token));
                }
                _ => return Ok(all),
            }
        }
    }

    async fn create(&self, id: &ObjectId, object: &Value) -> Result<Value, CallError> {
        let namespace = Some(id.namespace.as_str());
        let collection = self
            .collection(&id.api_version, &id.kind, namespace)
            .await?;
        let path = format!("{collection}?fieldManager={MANAGER}");
        self.json("POST", path, Some((JSON, object))).await
    }

    async fn replace(&self, id: &ObjectId, object: &Value) -> Result<Value, CallError> {
        let path = format!("{}?fieldManager={MANAGER}", self.path(id).await?);
        self.json("PUT", path, Some((JSON, object))).await
    }

    async fn patch(&self, id: &ObjectId, patch: &Value) -> Result<Value, CallError> {
        let path = format!("{}?fieldManager={MANAGER}", self.path(id).await?);
        self.json("PATCH", path, Some((JSON_PATCH, patch))).await
    }

    async fn apply(&self, id: &ObjectId, object: &Value, how: Apply) -> Result<Value, CallError> {
        let mut path = format!(
            "{}?fieldManager={MANAGER}&force={}&fieldValidation={}",
            self.path(id).await?,
            how.force,
            self.validation()
        );
        if how.dry_run {
            path.push_str("&dryRun=All");
        }
        self.json("PATCH", path, Some((APPLY, object))).await
    }

    async fn transacts(&self) -> Result<bool, CallError> {
        let place = self.place(TRANSACTIONS, "Transaction").await?;
        Ok(place.is_some())
    }

    async fn apply_together(&self, objects: &[&Value], how: Apply) -> Result<(), CallError> {
        let transaction = json!({
            "apiVersion": TRANSACTIONS, "kind": "Transaction", "spec": {"objects": objects},
        });
        let mut path = format!(
            "{}/transactions?fieldManager={MANAGER}&force={}&fieldValidation={}",
            root_of(TRANSACTIONS),
            how.force,
            self.validation()
        );
        if how.dry_run {
            path.push_str("&dryRun=All");
        }
        let body = Some((JSON, &transaction));
        self.json("POST", path, body).await.map(drop)
    }

    async fn delete(&self, id: &ObjectId, how: Propagation) -> Result<bool, CallError> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": how.text(),
        });
        let path = self.path(id).await?;
        match self.json("DELETE", path, Some((JSON, &options))).await {
            Ok(_) => Ok(true),
            Err(CallError {
                code: Some(404), ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn log(&self, namespace: &str, pod: &str, container: &str) -> Result<String, CallError> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}");
        let call = Call {
            method: "GET",
            path,
            accept: "*/*",
            body: None,
        };
        let log = self.transport.send(call).await?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    fn now(&self) -> Timestamp {
        self.transport.now()
    }

    async fn pause(&self, length: Duration) {
        self.transport.pause(length).await;
    }

    async fn report(&self, report: Report) {
        self.transport.report(report).await;
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.transport.blocking(work).await;
    }
}
