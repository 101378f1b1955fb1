//! `wk up -f`: applies manifests, waits until their objects are ready, prints the Services' URLs.

use std::time::Duration;

use anyhow::{Result, bail};
use cli::{
    api::Api,
    apply::{self, Target},
    resources::Resources,
    wait::{self, Progress},
};
use futures::{StreamExt as _, stream};
use kube::{
    api::{ApiResource, DynamicObject},
    runtime::watcher::watch_object,
};
use serde_json::Value;
use tokio::{net::TcpStream, time::Instant};

use crate::{components::Components, progress::Board};

/// Who applies, and how: what was started with a manifest is as the manifest says, and `wkctl apply`
/// goes on with it.
const PARAMETERS: &str = "fieldManager=wkctl&force=true&fieldValidation=Strict";

/// How long a Service may take from its objects being ready to the first connection.
const REACHABLE: Duration = Duration::from_secs(10);

/// Applies what can be applied, waits, prints URLs; what could not be read or applied is one error
/// at the end.
pub(crate) async fn apply(
    components: &Components,
    sources: &[String],
    recursive: bool,
) -> Result<()> {
    let api = Api::new(components.admin.clone());
    let resources = Resources::discover(&api).await?;
    let (targets, mut errors) =
        apply::targets(&resources, sources, recursive, "default", false).await?;
    let mut applied = Vec::new();
    for target in targets {
        match apply::apply(&api, &target, PARAMETERS).await {
            Ok((outcome, _)) => {
                eprintln!("{} {outcome}", target.display());
                applied.push(target);
            }
            Err(error) => errors.push(format!("{}: {error:#}", target.display())),
        }
    }
    wait_ready(&api, &applied).await;
    for target in applied
        .iter()
        .filter(|target| target.resource.kind == "Service")
    {
        print_urls(components, &api, target).await?;
    }
    if errors.is_empty() {
        return Ok(());
    }
    bail!("{}", errors.join("\n"))
}

/// Shows how far each object is until all are ready or have failed.
async fn wait_ready(api: &Api, targets: &[Target]) {
    let mut board = Board::new(targets.iter().map(Target::display));
    let watches = targets
        .iter()
        .enumerate()
        .map(|(index, target)| progress(api, target).map(move |p| (index, p)).boxed());
    let mut watches = stream::select_all(watches);
    while let Some((index, progress)) = watches.next().await {
        board.set(index, progress);
    }
}

/// How far one object is, each time it changes, until it is ready or has failed.
fn progress<'a>(api: &'a Api, target: &'a Target) -> impl stream::Stream<Item = Progress> + 'a {
    let kind = ApiResource {
        group: target.resource.group.clone(),
        version: target.resource.version.clone(),
        api_version: target.resource.api_version(),
        kind: target.resource.kind.clone(),
        plural: target.resource.plural.clone(),
    };
    let client = api.client().clone();
    let objects: kube::Api<DynamicObject> = if target.resource.namespaced {
        kube::Api::namespaced_with(client, &target.namespace, &kind)
    } else {
        kube::Api::all_with(client, &kind)
    };
    let changes = watch_object(objects, &target.name).then(move |change| async move {
        match change {
            Ok(Some(object)) => {
                judge(
                    api,
                    target,
                    &serde_json::to_value(&object).unwrap_or_default(),
                )
                .await
            }
            Ok(None) => Progress::Failed("it was deleted".to_owned()),
            Err(error) => Progress::Waiting(error.to_string()),
        }
    });
    // Up to and with the first that is not waiting.
    stream::unfold(
        (Box::pin(changes), false),
        |(mut changes, done)| async move {
            if done {
                return None;
            }
            let progress = changes.next().await?;
            let done = !matches!(progress, Progress::Waiting(_));
            Some((progress, (changes, done)))
        },
    )
}

/// An object's own progress; a workload that waits also says what its pods wait for.
async fn judge(api: &Api, target: &Target, object: &Value) -> Progress {
    let progress = wait::progress(object);
    let (Progress::Waiting(text), Some(labels)) = (
        &progress,
        object["spec"]["selector"]["matchLabels"].as_object(),
    ) else {
        return progress;
    };
    let selector: Vec<String> = labels
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}%3D{}", value.as_str()?)))
        .collect();
    let path = format!(
        "/api/v1/namespaces/{}/pods?labelSelector={}",
        target.namespace,
        selector.join("%2C")
    );
    let pods = api.get(&path).await.unwrap_or_default();
    let reason = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(wait::waiting_reason);
    match reason.filter(|reason| reason != "ContainerCreating") {
        Some(reason) => Progress::Waiting(format!("{text} ({reason})")),
        None => progress,
    }
}

/// Prints where each TCP port of a Service answers on this host, once it does.
#[expect(clippy::print_stdout, reason = "what the user asked for")]
async fn print_urls(components: &Components, api: &Api, target: &Target) -> Result<()> {
    let Some(network) = &components.network else {
        return Ok(());
    };
    let service = api.get(&target.path()).await?;
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        let number = port["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default();
        if port["protocol"]
            .as_str()
            .is_some_and(|protocol| protocol != "TCP")
        {
            continue;
        }
        let end = Instant::now() + REACHABLE;
        let address = loop {
            let address = network.host_address(&target.namespace, &target.name, number);
            if let Some(address) = address
                && tokio::time::timeout_at(end, TcpStream::connect(address))
                    .await
                    .is_ok_and(|c| c.is_ok())
            {
                break Some(address);
            }
            if Instant::now() > end {
                break None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        match address {
            Some(address) if number == 443 => {
                println!("{}: https://{}/", target.display(), address);
            }
            Some(address) if address.port() == 80 => {
                println!("{}: http://{}/", target.display(), address.ip());
            }
            Some(address) => println!("{}: http://{address}/", target.display()),
            None => eprintln!(
                "{}: port {number} does not answer on this host yet",
                target.display()
            ),
        }
    }
    Ok(())
}
