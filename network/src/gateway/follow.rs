//! The watches that fill the table. What comes together goes into it together.

use std::sync::Arc;

use anyhow::bail;
use function_kinds::{Function, FunctionRevision, REVISION_LABEL};
use futures::{FutureExt, StreamExt, stream::BoxStream};
use k8s_openapi::api::{
    core::v1::{Pod, Secret},
    networking::v1::{Ingress, IngressClass},
};
use kube::{Api, Client, runtime::watcher};

use super::{
    Shared,
    routes::book::{ClassSeen, FunctionSeen, IngressSeen, PodSeen, RevisionSeen, Update},
    tls::SecretSeen,
};
use crate::feed::{Change, changes_as};

/// Changes that are taken in at once, at most.
const TOGETHER: usize = 256;

/// What a watch says.
enum News {
    Routes(Update),
    Secrets(Change<SecretSeen>),
}

/// Runs until it is dropped.
pub(super) async fn run(shared: Arc<Shared>, client: Client) -> anyhow::Result<()> {
    let usual = watcher::Config::default;
    let mut streams: Vec<BoxStream<'static, News>> = Vec::new();
    let functions: Api<Function> = Api::all(client.clone());
    let news = changes_as(functions, usual(), FunctionSeen::read);
    streams.push(news.map(|it| News::Routes(Update::Functions(it))).boxed());
    let revisions: Api<FunctionRevision> = Api::all(client.clone());
    let news = changes_as(revisions, usual(), RevisionSeen::read);
    streams.push(news.map(|it| News::Routes(Update::Revisions(it))).boxed());
    let pods: Api<Pod> = Api::all(client.clone());
    let news = changes_as(pods, usual().labels(REVISION_LABEL), PodSeen::read);
    streams.push(news.map(|it| News::Routes(Update::Pods(it))).boxed());
    let ingresses: Api<Ingress> = Api::all(client.clone());
    let news = changes_as(ingresses, usual(), IngressSeen::read);
    streams.push(news.map(|it| News::Routes(Update::Ingresses(it))).boxed());
    let classes: Api<IngressClass> = Api::all(client.clone());
    let news = changes_as(classes, usual(), ClassSeen::read);
    streams.push(news.map(|it| News::Routes(Update::Classes(it))).boxed());
    let secrets: Api<Secret> = Api::all(client);
    let only = usual().fields("type=kubernetes.io/tls");
    let news = changes_as(secrets, only, SecretSeen::read);
    streams.push(news.map(News::Secrets).boxed());

    let kinds = streams.len();
    let mut lists = 0;
    let mut news = futures::stream::select_all(streams);
    while let Some(first) = news.next().await {
        let mut updates = Vec::new();
        let mut next = Some(first);
        while let Some(it) = next.take() {
            lists += usize::from(it.is_list());
            match it {
                News::Routes(update) => updates.push(update),
                News::Secrets(change) => shared.certificates.update(change),
            }
            if updates.len() < TOGETHER {
                next = news.next().now_or_never().flatten();
            }
        }
        shared.update(updates);
        // A watch that breaks lists again: more than enough is fine, for each begins with one.
        if lists >= kinds {
            shared
                .listed
                .send_if_modified(|listed| !std::mem::replace(listed, true));
        }
    }
    bail!("the watches of the gateway ended")
}

impl News {
    fn is_list(&self) -> bool {
        match self {
            Self::Routes(Update::Functions(change)) => change.is_all(),
            Self::Routes(Update::Revisions(change)) => change.is_all(),
            Self::Routes(Update::Pods(change)) => change.is_all(),
            Self::Routes(Update::Ingresses(change)) => change.is_all(),
            Self::Routes(Update::Classes(change)) => change.is_all(),
            Self::Secrets(change) => change.is_all(),
        }
    }
}
