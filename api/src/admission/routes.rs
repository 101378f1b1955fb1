//! Routes of Functions: no two Functions have the same, in any namespace, and none has an older Ingress's.
//!
//! A host and path that Functions have is a key `wk.internal/routes//<host and path>` with who has it, and by
//! which methods; it is written in the same group as the Function, so that of two that ask at once, one loses
//! and is told of the other.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Expect, Key, Op, ResourceKey};

use super::objects;
use crate::{
    codec::INTERNAL_GROUP,
    error::Error,
    field::{FieldErrors, Path},
    kinds::{
        functions::route::{self, Methods, Place},
        value::{items, text},
    },
    object,
    verbs::call::Call,
};

/// A Function's hold on a place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Claim {
    namespace: String,
    name: String,
    methods: Vec<Methods>,
}

impl Claim {
    fn is_of(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }
}

fn key(place: &Place) -> Key {
    let kind = if place.exact { "=" } else { "" };
    let text = format!("{}{}{kind}", place.host, place.path);
    // A key's name has no slash.
    let escaped = text.replace('%', "%25").replace('/', "%2F");
    ResourceKey::new(INTERNAL_GROUP, "routes").key("", &escaped)
}

/// Takes the routes of a Function, or says whose they are; `old` is what it was before, if it was.
pub(super) fn allocate(
    call: &Call,
    function: &Value,
    old: Option<&Value>,
) -> Result<Vec<Op>, Error> {
    let (before, now) = (old.map(route::of).unwrap_or_default(), route::of(function));
    if before == now {
        return Ok(Vec::new());
    }
    let (namespace, name) = (&*call.namespace, object::name(function));
    let mut errors = FieldErrors::default();
    let routes = Path::root("spec").field("routes");
    let mut ingresses = None;
    for (index, (place, methods)) in now.iter().enumerate() {
        let owner = holder(&claims(call, place)?, namespace, name, methods);
        let owner = match owner {
            None if !before.contains(&(place.clone(), methods.clone())) => {
                if ingresses.is_none() {
                    ingresses = Some(objects::list(call, "networking.k8s.io", "ingresses", None)?);
                }
                let ingresses = ingresses.iter().flatten();
                ingresses
                    .filter(|ingress| has(ingress, place))
                    .map(|ingress| of("Ingress", object::namespace(ingress), object::name(ingress)))
                    .next()
            }
            owner => owner,
        };
        if let Some(owner) = owner {
            let route = items(function, "/spec/routes").get(index);
            let detail = format!("is already a route of {owner}");
            errors.invalid(
                &routes.index(index),
                route.cloned().unwrap_or_default(),
                detail,
            );
        }
    }
    if !errors.is_empty() {
        return Err(Error::Invalid {
            subject: call.subject(name),
            errors,
        });
    }
    changes(call, name, &before, &now)
}

/// Gives a Function's routes back.
pub(super) fn release(call: &Call, function: &Value) -> Vec<Op> {
    let held = route::of(function);
    changes(call, object::name(function), &held, &[]).unwrap_or_else(|error| {
        tracing::error!(%error, function = object::name(function), "routes cannot be given back");
        Vec::new()
    })
}

/// What writes the claims of a Function that had some routes and now has others.
fn changes(
    call: &Call,
    name: &str,
    before: &[(Place, Methods)],
    now: &[(Place, Methods)],
) -> Result<Vec<Op>, Error> {
    let places: BTreeSet<&Place> = before.iter().chain(now).map(|(place, _)| place).collect();
    let mut ops = Vec::new();
    for place in places {
        let key = key(place);
        let item = call.server.cache.get(&key);
        let held = claims(call, place)?;
        let claims = claimed(&held, &call.namespace, name, place, now);
        let expect = item
            .as_ref()
            .map_or(Expect::Absent, |item| Expect::At(item.revision));
        match item {
            _ if claims == held => {}
            Some(item) if claims.is_empty() => ops.push(Op::Delete {
                key,
                expect,
                value: item.decoded.value.clone(),
            }),
            _ => ops.push(Op::Put {
                key,
                expect,
                value: Bytes::from(serde_json::to_vec(&claims).map_err(Error::internal)?),
            }),
        }
    }
    Ok(ops)
}

fn claims(call: &Call, place: &Place) -> Result<Vec<Claim>, Error> {
    let item = call.server.cache.get(&key(place));
    let claims = item.map(|item| serde_json::from_slice(&item.decoded.value));
    claims
        .transpose()
        .map_err(Error::internal)
        .map(Option::unwrap_or_default)
}

/// Who else has a place by one of these methods. Pure.
fn holder(claims: &[Claim], namespace: &str, name: &str, methods: &Methods) -> Option<String> {
    let mut others = claims.iter().filter(|claim| !claim.is_of(namespace, name));
    let claim = others.find(|claim| claim.methods.iter().any(|own| route::meet(own, methods)))?;
    Some(of("Function", &claim.namespace, &claim.name))
}

/// The claims on a place once a Function has these routes. Pure.
fn claimed(
    held: &[Claim],
    namespace: &str,
    name: &str,
    place: &Place,
    routes: &[(Place, Methods)],
) -> Vec<Claim> {
    let others = held.iter().filter(|claim| !claim.is_of(namespace, name));
    let mut claims: Vec<Claim> = others.cloned().collect();
    let own = routes.iter().filter(|(own, _)| own == place);
    let methods: Vec<Methods> = own.map(|(_, methods)| methods.clone()).collect();
    if !methods.is_empty() {
        claims.push(Claim {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            methods,
        });
    }
    claims
}

/// True if an Ingress has exactly this host and path. Pure.
fn has(ingress: &Value, place: &Place) -> bool {
    let rules = items(ingress, "/spec/rules").iter();
    rules
        .filter(|rule| text(rule, "/host") == place.host)
        .flat_map(|rule| items(rule, "/http/paths"))
        .any(|path| {
            let given = match text(path, "/path") {
                "" => "/",
                given => given,
            };
            given == place.path && (text(path, "/pathType") == "Exact") == place.exact
        })
}

fn of(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind} {namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn routes(routes: &Value) -> Vec<(Place, Methods)> {
        route::of(&json!({"spec": {"routes": routes}}))
    }

    #[test]
    fn a_place_is_shared_by_those_who_share_no_method() {
        let asked =
            routes(&json!([{"host": "a", "methods": ["GET"]}, {"host": "a", "methods": ["PUT"]}]));
        let claims = claimed(&[], "ns", "one", &asked[0].0, &asked);
        assert_eq!(claims.len(), 1);
        let methods = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Methods>()
        };
        let who = |list: &[&str]| holder(&claims, "ns", "two", &methods(list));
        assert_eq!(who(&["POST"]), None);
        assert_eq!(who(&["PUT"]).as_deref(), Some("Function ns/one"));
        assert_eq!(who(&[]).as_deref(), Some("Function ns/one"));
        assert_eq!(holder(&claims, "ns", "one", &methods(&["PUT"])), None);
    }

    #[test]
    fn what_a_function_gives_up_is_free() {
        let asked = routes(&json!([{"host": "a"}]));
        let claims = claimed(&[], "ns", "one", &asked[0].0, &asked);
        assert_eq!(claimed(&claims, "ns", "one", &asked[0].0, &[]), []);
        assert_eq!(claimed(&claims, "ns", "two", &asked[0].0, &[]), claims);
    }

    #[test]
    fn places_have_keys_of_their_own() {
        let places = routes(&json!([
            {"host": "a", "path": "/b"}, {"host": "a", "path": "/b", "pathType": "Exact"}, {"path": "/a/b"},
            {"host": "a", "path": "/%2Fb"},
        ]));
        let keys: BTreeSet<String> = places
            .iter()
            .map(|(place, _)| key(place).as_str().to_owned())
            .collect();
        assert_eq!(keys.len(), places.len());
        assert!(keys.iter().all(|text| Key::parse(text).is_some()));
    }

    #[test]
    fn an_ingress_has_what_its_rules_say_exactly() {
        let ingress = json!({"spec": {"rules": [{"host": "a", "http": {"paths": [{"path": "/x", "pathType": "Exact"}, {"pathType": "Prefix"}]}}]}});
        let place = |route: Value| route::read(&route).0;
        assert!(has(&ingress, &place(json!({"host": "a"}))));
        assert!(has(
            &ingress,
            &place(json!({"host": "a", "path": "/x", "pathType": "Exact"}))
        ));
        assert!(!has(&ingress, &place(json!({"host": "a", "path": "/x"}))));
        assert!(!has(&ingress, &place(json!({"host": "b"}))));
    }
}
