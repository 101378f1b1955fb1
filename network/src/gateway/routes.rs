//! Which request is whose: an immutable table, and what it is made of. Pure.
//!
//! - [`shards`]: maps whose copies share what did not change, so that one change among ten thousand rows costs
//!   microseconds. [`paths`]: the paths of one host. [`host`]: a request's host.
//! - [`claim`]: what Functions and Ingresses ask for. [`row`]: a Function and its revisions, as requests need them.
//! - [`book`]: takes changes in and makes the next [`Table`].
//!
//! Hosts: an exact one before what is under a wildcard, before every host, before the default backend; a Function's own
//! name (`NAME.NAMESPACE.<domain>`) is an exact one whose routes come last. Whatever ends in `.NAMESPACE.<domain>` is that
//! namespace's alone, served or not: no other namespace's claim to it counts. Never a clock, a lock or I/O.

pub(super) mod book;
pub(super) mod claim;
pub(super) mod host;
pub(super) mod paths;
pub(super) mod row;
pub(super) mod shards;

use std::sync::Arc;

use http::Method;

use self::{
    claim::To,
    paths::{Methods, Paths},
    row::Function,
    shards::Shards,
};
use crate::directory::Name;

/// Every route of the cluster at one moment. A copy is cheap.
#[derive(Clone)]
pub(super) struct Table {
    /// What Functions' own names are under: `localhost`.
    domain: Box<str>,
    /// By `NAME.NAMESPACE`.
    functions: Shards<Arc<Function>>,
    /// By host.
    hosts: Shards<Arc<Paths>>,
    /// By what follows `*.`.
    wildcards: Shards<Arc<Paths>>,
    /// Of every host.
    any: Arc<Paths>,
    /// What no rule matches.
    default: Option<To>,
    /// The Secrets with the certificates of hosts, as Ingresses name them; a wildcard is `*.` and its suffix.
    /// The eldest first; which of them is used depends on who holds the host.
    secrets: Shards<Arc<[Name]>>,
}

/// What a request leads to.
#[derive(Debug)]
pub(super) enum Found<'a> {
    To(&'a To),
    /// A Function, perhaps by one of its tags.
    Function(&'a Arc<Function>, Option<&'a str>),
    /// There are routes, for other methods.
    OtherMethods(Methods),
    /// The host is somebody's, the path nobody's.
    NoPath,
    NoHost,
}

impl Table {
    pub(super) fn new(domain: &str) -> Self {
        Self {
            domain: domain.into(),
            functions: Shards::default(),
            hosts: Shards::default(),
            wildcards: Shards::default(),
            any: Arc::default(),
            default: None,
            secrets: Shards::default(),
        }
    }

    /// Finds the route of a request. The host is lower case, without port.
    pub(super) fn find<'a>(&'a self, host: &'a str, path: &str, method: &Method) -> Found<'a> {
        let mut others = Methods::default();
        let mut known = false;
        if let Some(paths) = self.hosts.get(host) {
            known = true;
            match paths.find(path, method) {
                Ok(to) => return Found::To(to),
                Err(methods) => others |= methods,
            }
        }
        if let Some((function, tag)) = self.own(host) {
            return Found::Function(function, tag);
        }
        if !known && let Some(paths) = self.under_wildcard(host) {
            known = true;
            match paths.find(path, method) {
                Ok(to) => return Found::To(to),
                Err(methods) => others |= methods,
            }
        }
        let reserved = self.reserved(host);
        let may = |to: &&To| reserved.is_none_or(|namespace| to.namespace() == Some(namespace));
        if !known {
            match self.any.find(path, method) {
                Ok(to) if may(&to) => return Found::To(to),
                Ok(_) => {}
                Err(methods) => others |= methods,
            }
        }
        match self.default.as_ref().filter(may) {
            Some(to) => Found::To(to),
            None if !others.is_empty() => Found::OtherMethods(others),
            None if known || !self.any.is_empty() => Found::NoPath,
            None => Found::NoHost,
        }
    }

    /// A Function by `NAME.NAMESPACE`.
    pub(super) fn function(&self, key: &str) -> Option<&Arc<Function>> {
        self.functions.get(key)
    }

    /// The Secret with the certificate of a host: of a namespace that serves it.
    pub(super) fn secret(&self, host: &str) -> Option<&Name> {
        let wildcard = || self.secrets.get(&format!("*.{}", host.split_once('.')?.1));
        let named = [self.secrets.get(host), wildcard()];
        let mut named = named.into_iter().flatten().flat_map(|names| names.iter());
        named.find(|secret| self.holds(&secret.namespace, host))
    }

    /// Whether a namespace has routes of a host, or alone may have.
    fn holds(&self, namespace: &str, host: &str) -> bool {
        if let Some(owner) = self.reserved(host) {
            return owner == namespace;
        }
        match self.hosts.get(host).or_else(|| self.under_wildcard(host)) {
            Some(paths) => paths.is_of(namespace),
            None => {
                let default = self.default.as_ref().and_then(To::namespace);
                self.any.is_of(namespace) || default == Some(namespace)
            }
        }
    }

    /// The namespace that alone has a host, which may be a wildcard.
    pub(super) fn reserved<'a>(&self, host: &'a str) -> Option<&'a str> {
        let below = host.strip_suffix(&*self.domain)?.strip_suffix('.')?;
        Some(below.rsplit_once('.')?.1)
    }

    /// Whether anybody serves the host: a certificate may be made for it.
    pub(super) fn serves(&self, host: &str) -> bool {
        self.hosts.get(host).is_some()
            || self.own(host).is_some()
            || self.under_wildcard(host).is_some()
    }

    fn own<'a>(&'a self, host: &'a str) -> Option<(&'a Arc<Function>, Option<&'a str>)> {
        let key = host.strip_suffix(&*self.domain)?.strip_suffix('.')?;
        if let Some(function) = self.functions.get(key) {
            return Some((function, None));
        }
        let (tag, key) = key.split_once("---")?;
        let function = self.functions.get(key)?;
        function.has_tag(tag).then_some((function, Some(tag)))
    }

    /// A wildcard stands for one label, as in an Ingress.
    fn under_wildcard(&self, host: &str) -> Option<&Arc<Paths>> {
        let (_, suffix) = host.split_once('.')?;
        self.wildcards.get(suffix)
    }
}

#[cfg(test)]
mod tests;
