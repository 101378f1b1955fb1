//! `wkctl describe`: an object, what belongs to it and its events, for people to read.
//!
//! Text is written with tabs between columns and lined up at the end, as `kubectl` does.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::Api,
    columns,
    pods::selector_of,
    query,
    selection::{Pick, Selection, nothing_found},
    session::Session,
};

mod event;
mod generic;
mod kinds;
mod pod;

pub(super) use pod::template;

/// Show one or many objects in detail, with their events
#[derive(Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    selection: Selection,
    /// Show the events too
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true)]
    show_events: bool,
}

/// An object with what is needed to tell about it.
struct Subject<'a> {
    object: &'a Value,
    /// Pods on a node, ReplicaSets of a Deployment, EndpointSlices of a Service, pods of a ReplicaSet.
    related: Vec<Value>,
    now: Timestamp,
}

impl Describe {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let picks = self.selection.resolve(session, "describe").await?;
        let mut failures = picks.failures;
        let mut printed = false;
        for pick in &picks.picks {
            let objects = match &pick.name {
                Some(_) => api.get(&pick.path()).await.map(|object| vec![object]),
                None => {
                    let path = query::with(&pick.path(), &self.selection.parameters());
                    api.get(&path).await.map(|mut list| {
                        list["items"]
                            .as_array_mut()
                            .map(std::mem::take)
                            .unwrap_or_default()
                    })
                }
            };
            let objects = match objects {
                Ok(objects) => objects,
                Err(error) => {
                    failures.push(error)?;
                    continue;
                }
            };
            for mut object in objects {
                object["apiVersion"] = pick.resource.api_version().into();
                object["kind"] = pick.resource.kind.clone().into();
                if printed {
                    session.text("\n\n")?;
                }
                printed = true;
                session.text(&self.describe(api, pick, &object).await?)?;
            }
        }
        if !printed && failures.0.is_empty() {
            session.note(format_args!("{}", nothing_found(&picks.picks)));
        }
        failures.finish()
    }

    async fn describe(&self, api: &Api, pick: &Pick, object: &Value) -> Result<String> {
        let subject = Subject {
            object,
            related: related(api, object).await?,
            now: Timestamp::now(),
        };
        let mut text = String::new();
        let shows_events = match object["kind"].as_str().unwrap_or_default() {
            _ if !pick.resource.group.is_empty() && pick.resource.group != "apps" => {
                generic::describe(&subject, &mut text)
            }
            "Pod" => pod::describe(&subject, &mut text),
            "Deployment" => kinds::deployment(&subject, &mut text),
            "ReplicaSet" => kinds::replica_set(&subject, &mut text),
            "Service" => kinds::service(&subject, &mut text),
            "Node" => kinds::node(&subject, &mut text),
            "Namespace" => kinds::namespace(&subject, &mut text),
            "ConfigMap" => kinds::config_map(&subject, &mut text),
            "Secret" => kinds::secret(&subject, &mut text),
            _ => generic::describe(&subject, &mut text),
        };
        if self.show_events && shows_events {
            event::describe(&events(api, object).await?, subject.now, &mut text);
        }
        Ok(columns::align(&text))
    }
}

/// The objects that belong into an object's description.
async fn related(api: &Api, object: &Value) -> Result<Vec<Value>> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let own = selector_of(object);
    let of_service = format!("kubernetes.io/service-name={name}");
    let on_node = format!("spec.nodeName={name}");
    let path = match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => query::with(
            &format!("/apis/apps/v1/namespaces/{namespace}/replicasets"),
            &[("labelSelector", &own)],
        ),
        "ReplicaSet" => query::with(
            &format!("/api/v1/namespaces/{namespace}/pods"),
            &[("labelSelector", &own)],
        ),
        "Service" => query::with(
            &format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
            &[("labelSelector", &of_service)],
        ),
        "Node" => query::with("/api/v1/pods", &[("fieldSelector", &on_node)]),
        _ => return Ok(Vec::new()),
    };
    let mut list = api.find(&path).await?.unwrap_or_default();
    Ok(list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default())
}

async fn events(api: &Api, object: &Value) -> Result<Vec<Value>> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let namespace = Some(text("namespace")).filter(|namespace| !namespace.is_empty());
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut fields = vec![
        format!("involvedObject.name={}", text("name")),
        format!("involvedObject.kind={kind}"),
    ];
    if let Some(namespace) = namespace {
        fields.push(format!("involvedObject.namespace={namespace}"));
        // Events about a node name it by its name, not its uid.
        fields.push(format!("involvedObject.uid={}", text("uid")));
    }
    let collection = namespace.map_or("/api/v1/events".to_owned(), |n| {
        format!("/api/v1/namespaces/{n}/events")
    });
    let path = query::with(
        &collection,
        &[("fieldSelector", &fields.join(",")), ("limit", "500")],
    );
    let mut list = api.find(&path).await?.unwrap_or_default();
    Ok(list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default())
}

/// A field as text; empty if it is not there.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A field as text, `<none>` if it is not there.
fn or_none(value: &Value) -> String {
    Some(text(value))
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "<none>".to_owned())
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `Labels:  a=b` and a line for each further pair.
fn pairs(title: &str, separator: &str, map: &Value, into: &mut String) {
    let hidden = crate::apply::LAST_APPLIED;
    let map = map
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != hidden);
    let mut start = title;
    for (key, value) in map {
        into.push_str(&format!(
            "{start}\t{key}{separator}{}\n",
            text(value).replace('\n', "\n\t")
        ));
        start = "";
    }
    if !start.is_empty() {
        into.push_str(&format!("{start}\t<none>\n"));
    }
}

/// Name, namespace, labels and annotations.
fn metadata(object: &Value, into: &mut String) {
    into.push_str(&format!("Name:\t{}\n", text(&object["metadata"]["name"])));
    if object["metadata"]["namespace"].is_string() {
        into.push_str(&format!(
            "Namespace:\t{}\n",
            text(&object["metadata"]["namespace"])
        ));
    }
    pairs("Labels:", "=", &object["metadata"]["labels"], into);
    pairs(
        "Annotations:",
        ": ",
        &object["metadata"]["annotations"],
        into,
    );
}

/// A time as `Sat, 21 Nov 2026 04:40:00 +0000`.
fn time(value: &Value) -> String {
    match text(value).parse::<Timestamp>() {
        Ok(time) => time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
        Err(_) => "<unset>".to_owned(),
    }
}

#[cfg(test)]
mod tests;
