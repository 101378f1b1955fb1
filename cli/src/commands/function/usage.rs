//! `wkctl fn usage`: what functions used, summed over the nodes.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::text;
use crate::{columns::Columns, encode, session::Session};

/// Show what functions used: requests, CPU, memory over time, bytes sent
#[derive(Args)]
pub(super) struct Usage {
    /// Function; by default all
    name: Option<String>,
    /// Of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Each revision for itself
    #[arg(long)]
    revisions: bool,
    /// Print numbers for programs
    #[arg(short, long, value_parser = ["json", "yaml"])]
    output: Option<String>,
}

/// What one used.
#[derive(Clone, Copy, PartialEq, Default, serde::Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Sum {
    requests: u64,
    failed: u64,
    cpu_nanoseconds: u64,
    memory_byte_milliseconds: f64,
    egress_bytes: u64,
    instances: u64,
}

/// Namespace, function, and the revision if each counts for itself.
type Key = (String, String, String);

impl Usage {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let (api, namespace) = (session.api().await?, session.namespace().await?);
        let nodes = api.get("/api/v1/nodes").await?;
        let mut sums = BTreeMap::new();
        for node in nodes["items"].as_array().into_iter().flatten() {
            let name = text(&node["metadata"]["name"]);
            match api
                .get(&format!("/api/v1/nodes/{name}/proxy/functionUsage"))
                .await
            {
                Ok(told) => self.add(&told["items"], &namespace, &mut sums),
                Err(error) => session.note(format_args!("error: node {name}: {error:#}")),
            }
        }
        match self.output.as_deref() {
            None if sums.is_empty() => {
                session.note(format_args!("No function was called yet."));
                Ok(())
            }
            None => session.text(&self.shown(&sums)),
            Some("yaml") => session.text(&encode::yaml(&json(&sums)?)?),
            Some(_) => session.text(&encode::json(&json(&sums)?)?),
        }
    }

    /// Adds what one node tells. Pure.
    fn add(&self, items: &Value, namespace: &str, sums: &mut BTreeMap<Key, Sum>) {
        for item in items.as_array().into_iter().flatten() {
            let function = text(&item["function"]);
            let here = self.all_namespaces || item["namespace"] == namespace;
            if !here || self.name.as_deref().is_some_and(|name| name != function) {
                continue;
            }
            let revision = if self.revisions {
                text(&item["revision"])
            } else {
                ""
            };
            let key = [text(&item["namespace"]), function, revision].map(str::to_owned);
            let sum = sums.entry(key.into()).or_default();
            let number = |field: &str| item[field].as_u64().unwrap_or_default();
            sum.requests += number("requests");
            sum.failed += number("failed");
            sum.cpu_nanoseconds += number("cpuNanoseconds");
            sum.memory_byte_milliseconds +=
                item["memoryByteMilliseconds"].as_f64().unwrap_or_default();
            sum.egress_bytes += number("egressBytes");
            sum.instances += number("instances");
        }
    }

    fn shown(&self, sums: &BTreeMap<Key, Sum>) -> String {
        let optional = |on: bool, cell: &str| on.then(|| cell.to_owned());
        let row = |key: [&str; 3], rest: [String; 6]| -> Vec<String> {
            let head = [
                optional(self.all_namespaces, key[0]),
                optional(true, key[1]),
                optional(self.revisions, key[2]),
            ];
            head.into_iter().flatten().chain(rest).collect()
        };
        let header = [
            "REQUESTS",
            "FAILED",
            "CPU",
            "MEMORY (MiB s)",
            "EGRESS",
            "INSTANCES",
        ];
        let mut rows = vec![row(
            ["NAMESPACE", "FUNCTION", "REVISION"],
            header.map(str::to_owned),
        )];
        rows.extend(sums.iter().map(|((namespace, function, revision), sum)| {
            let mebibytes = sum.memory_byte_milliseconds / 1000.0 / f64::from(1 << 20);
            let cells = [
                sum.requests.to_string(),
                sum.failed.to_string(),
                format!("{}ms", sum.cpu_nanoseconds / 1_000_000),
                format!("{mebibytes:.1}"),
                sum.egress_bytes.to_string(),
                sum.instances.to_string(),
            ];
            row([namespace, function, revision], cells)
        }));
        Columns::default().format(&rows)
    }
}

fn json(sums: &BTreeMap<Key, Sum>) -> Result<Value> {
    let items = sums.iter().map(|((namespace, function, revision), sum)| {
        let mut item = serde_json::to_value(sum)?;
        item["namespace"] = namespace.as_str().into();
        item["function"] = function.as_str().into();
        if !revision.is_empty() {
            item["revision"] = revision.as_str().into();
        }
        Ok(item)
    });
    let items: Result<Vec<Value>> = items.collect();
    Ok(serde_json::json!({"kind": "FunctionUsage", "items": items?}))
}
