//! What Functions and Ingresses ask for.

use std::{cmp::Ordering, fmt};

use function_kinds as functions;
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};

use super::paths::{self, Methods};
use crate::directory::Name;

/// Where a route leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum To {
    /// A Function, as `NAME.NAMESPACE`.
    Function(Box<str>),
    Service(Name, Port),
    /// A backend that is no Service: nothing answers.
    Nothing,
}

impl To {
    /// Whose it is.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Function(key) => key.split_once('.').map(|(_, namespace)| namespace),
            Self::Service(name, _) => Some(&name.namespace),
            Self::Nothing => None,
        }
    }
}

/// A Service's port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Port {
    Number(u16),
    Named(Box<str>),
}

/// Whose requests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Host {
    Exact(Box<str>),
    /// What follows `*.`.
    Wildcard(Box<str>),
    Any,
    /// Those that no other claim is about.
    Default,
}

/// Which of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    /// A prefix is without final slash.
    pub(crate) path: Box<str>,
    pub(crate) exact: bool,
    pub(crate) methods: Methods,
}

/// Who asks: the eldest comes first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Owner {
    /// When it was created, in seconds.
    pub(crate) created: i64,
    pub(crate) kind: Kind,
    pub(crate) name: Name,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Function,
    Ingress,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Function => "Function",
            Kind::Ingress => "Ingress",
        };
        write!(f, "{kind} {}/{}", self.name.namespace, self.name.name)
    }
}

/// One route that an object asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) owner: Owner,
    pub(crate) host: Host,
    pub(crate) route: Route,
    pub(crate) to: To,
}

impl Host {
    /// As an object names it; `None` for every host.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Exact(host) => Some(host.to_string()),
            Self::Wildcard(suffix) => Some(format!("*.{suffix}")),
            Self::Any | Self::Default => None,
        }
    }
}

impl Claim {
    /// The order in which claims are granted.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        self.owner.cmp(&other.owner)
    }
}

/// What an object does not get: what is another's, or what nobody serves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Conflict {
    pub(crate) loser: Owner,
    /// The Event's reason.
    pub(crate) reason: &'static str,
    /// In words, for the loser's Event.
    pub(crate) message: String,
}

const TAKEN: &str = "RouteConflict";
const NOT_SERVED: &str = "BackendNotServed";

impl Conflict {
    pub(crate) fn new(claim: &Claim, holder: &Claim) -> Self {
        let host = claim.host.name();
        let host = host.as_deref().unwrap_or("every host");
        let path = match &*claim.route.path {
            "" => "/",
            path => path,
        };
        let holder = &holder.owner;
        Self {
            loser: claim.owner.clone(),
            reason: TAKEN,
            message: format!("host {host} path {path} is served by the older {holder}"),
        }
    }

    /// A claim to a host that is a namespace's alone.
    pub(crate) fn reserved(claim: &Claim, host: &str, namespace: &str) -> Self {
        let message = format!("host {host} is only for objects of namespace {namespace}");
        Self {
            loser: claim.owner.clone(),
            reason: TAKEN,
            message,
        }
    }

    /// A backend that is no Service.
    fn not_served(owner: &Owner, host: &Host, path: &str, backend: &IngressBackend) -> Self {
        let resource = backend.resource.as_ref();
        let kind = resource.map_or("nothing", |resource| &resource.kind);
        let name = resource.map_or("", |resource| &resource.name);
        let which = match host {
            Host::Default => "the default backend".to_owned(),
            host => {
                let host = host.name();
                let host = host.as_deref().unwrap_or("every host");
                format!("the backend of host {host} path {path}")
            }
        };
        Self {
            loser: owner.clone(),
            reason: NOT_SERVED,
            message: format!(
                "{which} is {kind} {name}: only Services are served, requests get 503"
            ),
        }
    }
}

fn host(name: Option<&str>) -> Host {
    match name.filter(|name| !name.is_empty()) {
        None => Host::Any,
        Some(name) => {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(suffix) => Host::Wildcard(suffix.into()),
                None => Host::Exact(name.into()),
            }
        }
    }
}

fn route(path: Option<&str>, path_type: Option<&str>, methods: &[String]) -> Route {
    let path = path.filter(|path| !path.is_empty()).unwrap_or("/");
    let exact = path_type == Some("Exact");
    Route {
        path: match exact {
            true => path,
            false => paths::prefix(path),
        }
        .into(),
        exact,
        methods: Methods::named(methods),
    }
}

/// What a Function's routes claim.
pub(crate) fn of_function(owner: &Owner, key: &str, routes: &[functions::Route]) -> Vec<Claim> {
    let claim = |each: &functions::Route| Claim {
        owner: owner.clone(),
        host: host(each.host.as_deref()),
        route: route(
            each.path.as_deref(),
            each.path_type.as_deref(),
            &each.methods,
        ),
        to: To::Function(key.into()),
    };
    routes.iter().map(claim).collect()
}

/// What an Ingress claims.
pub(crate) fn of_ingress(owner: &Owner, ingress: &Ingress) -> Vec<Claim> {
    let Some(spec) = &ingress.spec else {
        return Vec::new();
    };
    let namespace = &owner.name.namespace;
    let mut claims = Vec::new();
    for rule in spec.rules.iter().flatten() {
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            claims.push(Claim {
                owner: owner.clone(),
                host: host(rule.host.as_deref()),
                route: route(path.path.as_deref(), Some(&path.path_type), &[]),
                to: backend(namespace, &path.backend),
            });
        }
    }
    if let Some(default) = &spec.default_backend {
        claims.push(Claim {
            owner: owner.clone(),
            host: Host::Default,
            route: route(None, None, &[]),
            to: backend(namespace, default),
        });
    }
    claims
}

/// The backends of an Ingress that are no Services.
pub(crate) fn not_served(owner: &Owner, ingress: &Ingress) -> Vec<Conflict> {
    let Some(spec) = &ingress.spec else {
        return Vec::new();
    };
    let mut backends: Vec<(Host, &str, &IngressBackend)> = Vec::new();
    for rule in spec.rules.iter().flatten() {
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            let shown = path.path.as_deref().unwrap_or("/");
            backends.push((host(rule.host.as_deref()), shown, &path.backend));
        }
    }
    let default = spec.default_backend.iter();
    backends.extend(default.map(|backend| (Host::Default, "/", backend)));
    let others = backends
        .iter()
        .filter(|(_, _, backend)| backend.service.is_none());
    others
        .map(|(host, path, backend)| Conflict::not_served(owner, host, path, backend))
        .collect()
}

fn backend(namespace: &str, backend: &IngressBackend) -> To {
    let Some(service) = &backend.service else {
        return To::Nothing;
    };
    let port = service.port.as_ref();
    let named = port.and_then(|port| port.name.as_deref());
    let number = port.and_then(|port| u16::try_from(port.number?).ok());
    let port = match (named, number) {
        (Some(name), _) if !name.is_empty() => Port::Named(name.into()),
        (_, Some(number)) => Port::Number(number),
        _ => return To::Nothing,
    };
    To::Service(
        Name {
            namespace: namespace.to_owned(),
            name: service.name.clone(),
        },
        port,
    )
}
