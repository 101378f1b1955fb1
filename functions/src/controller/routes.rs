//! Whose routes are whose: an index over all Functions and Ingresses, by host and path.
//!
//! The apiserver refuses a Function that asks for a route that another one has. What it cannot see is decided here:
//! objects that were restored, and Ingresses that ask later. The one that came first keeps the route.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use function_kinds::FunctionSpec;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::IngressSpec;
use kube::{ResourceExt, api::DynamicObject};
use serde::Deserialize;

use super::readiness::Why;
use crate::key::Key;

/// Requests, but for their methods.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    host: String,
    path: String,
    exact: bool,
}

/// A hold on a place. Empty methods are all of them.
#[derive(Clone, Debug)]
struct Claim {
    kind: Kind,
    key: Key,
    uid: String,
    created: Timestamp,
    methods: BTreeSet<String>,
}

/// What has routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Function,
    Ingress,
}

impl Claim {
    /// The first comes first; of two that came together, the one with the lesser uid.
    fn goes_before(&self, created: Timestamp, uid: &str) -> bool {
        (self.created, self.uid.as_str()) < (created, uid)
    }

    fn meets(&self, methods: &BTreeSet<String>) -> bool {
        self.methods.is_empty() || methods.is_empty() || !self.methods.is_disjoint(methods)
    }
}

/// All routes, as last seen.
#[derive(Default)]
pub(crate) struct Routes(Mutex<HashMap<Place, Vec<Claim>>>);

impl Routes {
    fn places(&self) -> MutexGuard<'_, HashMap<Place, Vec<Claim>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a change; answers the Functions that share a place with what changed.
    pub(crate) fn change(
        &self,
        kind: Kind,
        old: Option<&DynamicObject>,
        new: Option<&DynamicObject>,
    ) -> BTreeSet<Key> {
        let read = |object: Option<&DynamicObject>| {
            object
                .map(|object| routes(kind, object))
                .unwrap_or_default()
        };
        let (before, now) = (read(old), read(new));
        let mut places = self.places();
        let mut touched = BTreeSet::new();
        if before.is_empty() && now.is_empty() {
            return touched;
        }
        if let Some(old) = old {
            let uid = old.uid().unwrap_or_default();
            for (place, _) in &before {
                if let Some(claims) = places.get_mut(place) {
                    claims.retain(|claim| claim.uid != uid);
                    touched.extend(functions(claims));
                    if claims.is_empty() {
                        places.remove(place);
                    }
                }
            }
        }
        if let Some(new) = new {
            let created = new.creation_timestamp();
            let created = created.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            for (place, methods) in now {
                let claims = places.entry(place).or_default();
                touched.extend(functions(claims));
                claims.push(Claim {
                    kind,
                    key: Key::of(new),
                    uid: new.uid().unwrap_or_default(),
                    created,
                    methods,
                });
            }
        }
        touched
    }

    /// Who has one of a Function's routes and came before it.
    pub(crate) fn rival(&self, function: &DynamicObject) -> Option<Why> {
        let uid = function.uid().unwrap_or_default();
        let created = function.creation_timestamp();
        let created = created.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let places = self.places();
        let mut taken =
            routes(Kind::Function, function)
                .into_iter()
                .filter_map(|(place, methods)| {
                    let mut claims = places.get(&place)?.iter();
                    let claim = claims.find(|claim| {
                        claim.uid != uid
                            && claim.meets(&methods)
                            && claim.goes_before(created, &uid)
                    })?;
                    Some((place, claim.clone()))
                });
        let (place, claim) = taken.next()?;
        let message = format!(
            "route {}{} is already one of {:?} {}",
            if place.host.is_empty() {
                "*"
            } else {
                &place.host
            },
            place.path,
            claim.kind,
            claim.key
        );
        Some(Why::new("RouteConflict", message))
    }
}

fn functions(claims: &[Claim]) -> impl Iterator<Item = Key> {
    let functions = claims.iter().filter(|claim| claim.kind == Kind::Function);
    functions.map(|claim| claim.key.clone())
}

/// The host of a route that is another Function's own: `NAME.NAMESPACE.<domain>`, with a tag or without.
pub(crate) fn reserved(spec: &FunctionSpec, own: &Key, domain: &str) -> Option<Why> {
    let mut hosts = spec.routes.iter().filter_map(|route| route.host.as_deref());
    let (host, owner) = hosts.find_map(|host| {
        let (name, namespace) = host
            .strip_suffix(domain)?
            .strip_suffix('.')?
            .split_once('.')
            .filter(|(_, namespace)| !namespace.contains('.'))?;
        let name = name.rsplit_once("---").map_or(name, |(_, name)| name);
        let owner = Key::new(namespace, name);
        (owner != *own).then_some((host, owner))
    })?;
    let message = format!("host {host} is the one of Function {owner}, whether it is there or not");
    Some(Why::new("HostReserved", message))
}

fn routes(kind: Kind, object: &DynamicObject) -> Vec<(Place, BTreeSet<String>)> {
    let spec = &object.data["spec"];
    match kind {
        Kind::Function => FunctionSpec::deserialize(spec).map_or_else(|_| Vec::new(), of_function),
        Kind::Ingress => IngressSpec::deserialize(spec).map_or_else(|_| Vec::new(), of_ingress),
    }
}

fn place(host: Option<String>, path: Option<String>, exact: bool) -> Place {
    Place {
        host: host.unwrap_or_default(),
        path: path
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/".to_owned()),
        exact,
    }
}

fn of_function(spec: FunctionSpec) -> Vec<(Place, BTreeSet<String>)> {
    let routes = spec.routes.into_iter();
    routes
        .map(|route| {
            let exact = route.path_type.as_deref() == Some("Exact");
            let methods = route.methods.into_iter().collect();
            (place(route.host, route.path, exact), methods)
        })
        .collect()
}

fn of_ingress(spec: IngressSpec) -> Vec<(Place, BTreeSet<String>)> {
    let rules = spec.rules.into_iter().flatten();
    rules
        .flat_map(|rule| {
            let paths = rule.http.map(|http| http.paths).unwrap_or_default();
            let host = rule.host;
            paths.into_iter().map(move |path| {
                let exact = path.path_type == "Exact";
                (place(host.clone(), path.path, exact), BTreeSet::new())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn function(name: &str, second: u32, routes: serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"image": "i", "routes": routes},
        }))
        .unwrap()
    }

    fn rival(routes: &Routes, function: &DynamicObject) -> String {
        routes
            .rival(function)
            .map_or_else(String::new, |why| why.message)
    }

    #[test]
    fn the_first_keeps_a_route_and_the_next_gets_it_when_the_first_goes() {
        let routes = Routes::default();
        let first = function("first", 1, json!([{"host": "a.org", "methods": ["GET"]}]));
        let second = function("second", 2, json!([{"host": "a.org", "path": "/"}]));
        routes.change(Kind::Function, None, Some(&second));
        let touched = routes.change(Kind::Function, None, Some(&first));
        assert_eq!(touched, BTreeSet::from([Key::new("ns", "second")]));
        assert_eq!(rival(&routes, &first), "");
        assert_eq!(
            rival(&routes, &second),
            "route a.org/ is already one of Function ns/first"
        );
        let touched = routes.change(Kind::Function, Some(&first), None);
        assert_eq!(touched, BTreeSet::from([Key::new("ns", "second")]));
        assert_eq!(rival(&routes, &second), "");
    }

    #[test]
    fn an_ingress_that_was_first_keeps_its_path() {
        let routes = Routes::default();
        let mut ingress = function("web", 1, json!(null));
        ingress.data = json!({"spec": {"rules": [{"host": "a.org", "http": {"paths": [
            {"path": "/x", "pathType": "Prefix", "backend": {}},
        ]}}]}});
        routes.change(Kind::Ingress, None, Some(&ingress));
        let later = function(
            "f",
            2,
            json!([{"host": "a.org", "path": "/x", "methods": ["PUT"]}]),
        );
        assert_eq!(
            rival(&routes, &later),
            "route a.org/x is already one of Ingress ns/web"
        );
        let other = function(
            "f",
            2,
            json!([{"host": "a.org", "path": "/x", "pathType": "Exact"}]),
        );
        assert_eq!(rival(&routes, &other), "");
    }

    #[test]
    fn the_own_host_of_a_function_is_nobody_elses() {
        let check = |host: &str| {
            let spec = json!({"routes": [{"host": host}]});
            let spec = serde_json::from_value(spec).unwrap();
            reserved(&spec, &Key::new("ns", "f"), "localhost").is_some()
        };
        assert!(!check("f.ns.localhost"));
        assert!(!check("hello.localhost"));
        assert!(!check("a.b.c.localhost"));
        assert!(check("g.ns.localhost"));
        assert!(check("tag---g.ns.localhost"));
    }
}
