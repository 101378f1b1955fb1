//! What identities need: ServiceAccounts and their tokens, the CA in every namespace, roles that gather
//! others, certificates for those who ask.
//!
//! - [`authority`]: the contract: what only the owner of the cluster's keys can do.
//! - [`accounts`]: the `default` ServiceAccount of every namespace. [`root_ca`]: its `kube-root-ca.crt`.
//! - [`tokens`]: the token in a Secret. [`aggregation`]: ClusterRoles that gather others.
//! - [`certificates`]: CertificateSigningRequests, signed and cleaned up.
//!
//! They have caches of their own and share the one of namespaces.

mod accounts;
mod aggregation;
pub mod authority;
mod certificates;
mod root_ca;
mod tokens;

use std::sync::Arc;

use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ConfigMap, Namespace, Secret, ServiceAccount},
    rbac::v1::ClusterRole,
};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Listener};
use crate::context::Context;
use crate::key::Key;
use crate::queue::Queue;
use authority::Authority;

/// Namespaces worked on at a time; the other queues are short.
const WORKERS: usize = 4;

/// What these controllers share.
pub(crate) struct Access {
    context: Arc<Context>,
    authority: Arc<dyn Authority>,
    accounts: Arc<Cache<ServiceAccount>>,
    /// Only those named `kube-root-ca.crt`.
    bundles: Arc<Cache<ConfigMap>>,
    /// Only those that hold a ServiceAccount's token.
    secrets: Arc<Cache<Secret>>,
    /// As values: rules are copied whole.
    roles: Arc<Cache<DynamicObject>>,
    requests: Arc<Cache<CertificateSigningRequest>>,
    queues: Queues,
}

struct Queues {
    accounts: Queue<Key>,
    bundles: Queue<Key>,
    tokens: Queue<Key>,
    roles: Queue<Key>,
    requests: Queue<Key>,
}

impl Access {
    pub(crate) fn new(context: Arc<Context>, authority: Arc<dyn Authority>) -> Arc<Self> {
        let access = Arc::new(Self {
            context,
            authority,
            accounts: Cache::new(&[], |_| ()),
            bundles: Cache::new(&[], |_| ()),
            secrets: Cache::new(&[("account", tokens::account)], |_| ()),
            roles: Cache::new(&[], |_| ()),
            requests: Cache::new(&[], |_| ()),
            queues: Queues {
                accounts: Queue::new("serviceaccount"),
                bundles: Queue::new("root-ca-publisher"),
                tokens: Queue::new("serviceaccount-token"),
                roles: Queue::new("clusterrole-aggregation"),
                requests: Queue::new("certificate-signer"),
            },
        });
        let Queues {
            accounts: account_keys,
            bundles: bundle_keys,
            tokens: token_keys,
            roles: role_keys,
            requests: request_keys,
        } = &access.queues;
        access.accounts.listen(accounts::on_account(account_keys));
        let on_account = tokens::on_account(&access.secrets, token_keys);
        access.accounts.listen(on_account);
        access.bundles.listen(root_ca::on_bundle(bundle_keys));
        access.secrets.listen(tokens::on_secret(token_keys));
        let on_role = aggregation::on_role(&access.roles, role_keys);
        access.roles.listen(on_role);
        let on_request = certificates::on_request(request_keys);
        access.requests.listen(on_request);
        access
    }

    /// Hears of namespaces.
    pub(crate) fn on_namespace(&self) -> Listener<Namespace> {
        let queues = [self.queues.accounts.clone(), self.queues.bundles.clone()];
        Box::new(move |_, new| {
            if let Some(new) = new.filter(|new| new.metadata.deletion_timestamp.is_none()) {
                let key = Key::new(&new.name_any(), "");
                queues.iter().for_each(|queue| queue.add(key.clone()));
            }
        })
    }

    /// Watches and works until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        self.watch(&mut tasks, &stop);
        self.work(&mut tasks, &stop);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a controller of identities ended");
            }
        }
    }

    fn watch(&self, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        macro_rules! watch {
            ($cache:ident, $api:expr, $config:expr) => {{
                let (cache, api, stop) = (self.$cache.clone(), $api, stop.clone());
                tasks.spawn(async move { cache.run(api, $config, stop).await });
            }};
        }
        let client = || self.context.client.clone();
        let all = watcher::Config::default;
        watch!(accounts, Api::all(client()), all());
        let named = format!("metadata.name={}", root_ca::NAME);
        watch!(bundles, Api::all(client()), all().fields(&named));
        let typed = format!("type={}", tokens::TYPE);
        watch!(secrets, Api::all(client()), all().fields(&typed));
        watch!(roles, Api::all_with(client(), &role_resource()), all());
        watch!(requests, Api::all(client()), all());
    }

    /// Starts each controller once the caches that it reads hold their first lists.
    fn work(self: &Arc<Self>, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        macro_rules! work {
            ($queue:ident, $workers:expr, $reconcile:path, $($cache:ident).+ $(, $more:ident)*) => {{
                let (access, stop) = (self.clone(), stop.clone());
                tasks.spawn(async move {
                    let ready = async {
                        access.$($cache).+.ready().await;
                        $(access.$more.ready().await;)*
                    };
                    if stop.run_until_cancelled(ready).await.is_some() {
                        let reconcile = |key| $reconcile(access.clone(), key);
                        access.queues.$queue.run($workers, stop, reconcile).await;
                    }
                });
            }};
        }
        work!(
            accounts,
            WORKERS,
            accounts::reconcile,
            context.namespaces,
            accounts
        );
        work!(
            bundles,
            WORKERS,
            root_ca::reconcile,
            context.namespaces,
            bundles
        );
        work!(tokens, 1, tokens::reconcile, accounts, secrets);
        work!(roles, 1, aggregation::reconcile, roles);
        work!(requests, 1, certificates::reconcile, requests);
    }

    /// True if a namespace is there and stays.
    fn is_active(&self, namespace: &str) -> bool {
        let found = self.context.namespaces.get(&Key::new("", namespace));
        found.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
    }
}

fn role_resource() -> ApiResource {
    ApiResource::erase::<ClusterRole>(&())
}
