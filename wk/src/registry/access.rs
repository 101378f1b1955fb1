//! The registry's questions, answered by the apiserver in this process: its authenticators, its authorizer, its
//! namespaces and quotas.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::{
    Apiserver,
    auth::{Attributes, User, authorizer},
};
use async_trait::async_trait;
use http::Extensions;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::{Api, Client, api::ListParams};
use registry::{Access, Action, Caller, Repository, Unavailable};

/// The group and resource of roles on repositories.
const GROUP: &str = "registry.wk.dev";
const RESOURCE: &str = "repositories";
/// What a ResourceQuota limits.
const STORAGE: &str = "registry.wk.dev/storage";
/// How long the apiserver may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The apiserver of this process.
pub(super) struct ClusterAccess {
    apiserver: Apiserver,
    client: Client,
}

impl ClusterAccess {
    pub(super) fn new(apiserver: Apiserver) -> Self {
        Self {
            client: apiserver.client(User::apiserver()),
            apiserver,
        }
    }
}

/// A user of the cluster.
struct ClusterCaller {
    apiserver: Apiserver,
    user: User,
}

impl Caller for ClusterCaller {
    fn name(&self) -> &str {
        &self.user.name
    }

    fn may(&self, action: Action, repository: &Repository) -> Result<(), String> {
        may(&self.apiserver, &self.user, action, repository)
    }
}

/// Asks the authorizer.
pub(super) fn may(
    apiserver: &Apiserver,
    user: &User,
    action: Action,
    repository: &Repository,
) -> Result<(), String> {
    let resource = authorizer::Resource {
        group: GROUP,
        resource: RESOURCE,
        namespace: repository.namespace(),
        name: repository.name(),
        ..authorizer::Resource::default()
    };
    let asked = Attributes::resource(action.verb(), resource);
    let decision = apiserver.decide(user, &asked);
    if decision.allowed {
        return Ok(());
    }
    let mut why = format!(
        "{RESOURCE}.{GROUP} {:?} is forbidden: {}",
        repository.name(),
        asked.refusal(user)
    );
    if !decision.reason.is_empty() {
        why.push_str(": ");
        why.push_str(&decision.reason);
    }
    Err(why)
}

#[async_trait]
impl Access for ClusterAccess {
    async fn identify(
        &self,
        extensions: &Extensions,
        token: Option<&str>,
    ) -> Option<Arc<dyn Caller>> {
        let user = self.apiserver.identify(extensions, token).await?;
        Some(Arc::new(ClusterCaller {
            apiserver: self.apiserver.clone(),
            user,
        }))
    }

    async fn namespace(&self, name: &str) -> Result<Option<String>, Unavailable> {
        let found = call(Api::<Namespace>::all(self.client.clone()).get_opt(name)).await?;
        // One that is going takes and gives nothing more.
        let found = found.filter(|found| found.metadata.deletion_timestamp.is_none());
        Ok(found.and_then(|found| found.metadata.uid))
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, String>, Unavailable> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let listed = call(namespaces.list_metadata(&ListParams::default())).await?;
        let listed = listed.items.into_iter();
        let known = listed.filter_map(|one| Some((one.metadata.name?, one.metadata.uid?)));
        Ok(known.collect())
    }

    async fn quotas(&self, namespace: &str) -> Result<Vec<(String, u64)>, Unavailable> {
        let quotas = Api::<ResourceQuota>::namespaced(self.client.clone(), namespace);
        let quotas = call(quotas.list(&ListParams::default())).await?;
        Ok(quotas.items.iter().filter_map(limit).collect())
    }
}

/// A quota's name and how many bytes it leaves the registry, if it limits that.
fn limit(quota: &ResourceQuota) -> Option<(String, u64)> {
    let none = BTreeMap::new();
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let limit = hard.unwrap_or(&none).get(STORAGE)?;
    let parsed = limit.0.parse::<api::quantity::Quantity>().ok()?;
    let bytes = u64::try_from(parsed.value()).unwrap_or(0);
    Some((quota.metadata.name.clone().unwrap_or_default(), bytes))
}

async fn call<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Unavailable> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Unavailable(error.to_string())),
        Err(_) => Err(Unavailable(format!(
            "the API did not answer within {} s",
            DEADLINE.as_secs()
        ))),
    }
}
