//! The Function that `deploy` writes: of a project's `function.yaml`, or of flags alone. Pure.

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

/// What may be said of a function besides its code.
#[derive(Args, Clone, Default, Debug)]
pub(super) struct Settings {
    /// Environment variable NAME=VALUE, or NAME- to take one away; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// Fewest instances
    #[arg(long, value_name = "N")]
    pub(super) min: Option<u32>,
    /// Most instances
    #[arg(long, value_name = "N")]
    pub(super) max: Option<u32>,
    /// How long a request may take, in seconds
    #[arg(long = "request-timeout", value_name = "SECONDS")]
    pub(super) request_timeout: Option<u32>,
    /// Memory of one instance, such as 64Mi
    #[arg(long, value_name = "QUANTITY")]
    pub(super) memory: Option<String>,
    /// CPU of one instance, such as 500m
    #[arg(long, value_name = "QUANTITY")]
    pub(super) cpu: Option<String>,
    /// Port that a container listens on
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// Requests that one instance of a container serves at once
    #[arg(long, value_name = "N")]
    pub(super) concurrency: Option<u32>,
    /// Whether an instance of a component serves one request, or many one after another
    #[arg(long, value_enum)]
    pub(super) isolation: Option<Isolation>,
    /// HOST[/PATH] that the function answers too; may be given several times, and replaces those there were
    #[arg(long, value_name = "HOST[/PATH]")]
    pub(super) route: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(super) enum Isolation {
    Fresh,
    Pooled,
}

impl Settings {
    /// Writes what was given over a Function's `spec`; the rest stays.
    ///
    /// # Errors
    /// A variable or a route that is none.
    pub(super) fn put_on(&self, spec: &mut Value) -> Result<()> {
        for given in &self.env {
            put_variable(spec, given)?;
        }
        let numbers = [
            ("/scale/min", self.min),
            ("/scale/max", self.max),
            ("/timeoutSeconds", self.request_timeout),
            ("/port", self.port.map(u32::from)),
            ("/concurrency", self.concurrency),
        ];
        for (path, number) in numbers {
            if let Some(number) = number {
                put(spec, path, number.into());
            }
        }
        let limits = [("memory", &self.memory), ("cpu", &self.cpu)];
        for (name, amount) in limits {
            if let Some(amount) = amount {
                put(
                    spec,
                    &format!("/resources/limits/{name}"),
                    amount.as_str().into(),
                );
            }
        }
        if let Some(isolation) = self.isolation {
            let isolation = match isolation {
                Isolation::Fresh => "fresh",
                Isolation::Pooled => "pooled",
            };
            put(spec, "/isolation", isolation.into());
        }
        if !self.route.is_empty() {
            let routes: Result<Vec<Value>> = self.route.iter().map(|text| route(text)).collect();
            put(spec, "/routes", routes?.into());
        }
        Ok(())
    }
}

/// Sets what a JSON pointer names, making the objects on the way.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for part in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[part];
    }
    *at = value;
}

fn put_variable(spec: &mut Value, given: &str) -> Result<()> {
    if !spec["env"].is_array() {
        spec["env"] = json!([]);
    }
    let list = spec["env"].as_array_mut().context("spec.env is no list")?;
    let (name, value) = match (given.split_once('='), given.strip_suffix('-')) {
        (Some((name, value)), _) if !name.is_empty() => (name, Some(value)),
        (None, Some(name)) if !name.is_empty() => (name, None),
        _ => bail!("--env {given:?}: it must be NAME=VALUE, or NAME- to take a variable away"),
    };
    let place = list.iter().position(|variable| variable["name"] == name);
    let variable = value.map(|value| json!({"name": name, "value": value}));
    match (place, variable) {
        (Some(place), Some(variable)) => list[place] = variable,
        (None, Some(variable)) => list.push(variable),
        (Some(place), None) => drop(list.remove(place)),
        (None, None) => {}
    }
    Ok(())
}

fn route(text: &str) -> Result<Value> {
    let (host, path) = match text.find('/') {
        Some(slash) => text.split_at(slash),
        None => (text, ""),
    };
    if host.is_empty() && path.is_empty() {
        bail!("--route {text:?}: it must be HOST, HOST/PATH or /PATH");
    }
    let mut route = Map::new();
    if !host.is_empty() {
        route.insert("host".to_owned(), host.into());
    }
    if !path.is_empty() {
        route.insert("path".to_owned(), path.into());
    }
    Ok(Value::Object(route))
}

/// A project's manifest as the Function that is applied.
///
/// # Errors
/// It is of another kind or namespace, or names an image.
pub(super) fn of_project(mut manifest: Value, name: &str, namespace: &str) -> Result<Value> {
    if manifest["kind"] != "Function" || manifest["apiVersion"] != "functions.wk.dev/v1" {
        bail!("it must hold one Function of functions.wk.dev/v1");
    }
    manifest["metadata"]["name"] = name.into();
    let own = &manifest["metadata"]["namespace"];
    if own.as_str().is_some_and(|own| own != namespace) {
        bail!("it is of namespace {own}; choose it with -n");
    }
    if !manifest["spec"]["image"].is_null() {
        bail!(
            "spec.image is what is built here: take the field out, or apply the manifest with wkctl apply"
        );
    }
    manifest["metadata"]["namespace"] = namespace.into();
    Ok(manifest)
}
