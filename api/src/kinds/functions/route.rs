//! Routes: which requests are a Function's. Pure.
//!
//! Two routes overlap if host, path and type of path are the same and a method is in both; admission keeps
//! Functions from that. A longer path, or a host that is no wildcard, is another route: it goes first.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::Value;

use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{items, part, text},
    },
    name,
};

const METHODS: &[&str] = &[
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];
const LONGEST_PATH: usize = 1024;

/// What a route matches, but for methods.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// Empty is every host that no other route names.
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) exact: bool,
}

/// Methods of a route; empty is all of them.
pub(crate) type Methods = BTreeSet<String>;

/// Where a route leads in, and by which methods.
pub(crate) fn read(route: &Value) -> (Place, Methods) {
    let or = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let methods = items(route, "/methods").iter();
    let place = Place {
        host: text(route, "/host").to_owned(),
        path: or(text(route, "/path"), "/"),
        exact: text(route, "/pathType") == "Exact",
    };
    let methods = methods.filter_map(|method| method.as_str().map(str::to_owned));
    (place, methods.collect())
}

/// The routes of a Function.
pub(crate) fn of(function: &Value) -> Vec<(Place, Methods)> {
    items(function, "/spec/routes").iter().map(read).collect()
}

/// True if a request could be of both.
pub(crate) fn meet(one: &Methods, other: &Methods) -> bool {
    one.is_empty() || other.is_empty() || !one.is_disjoint(other)
}

/// Fills in a route.
pub(super) fn default(route: &mut Value) {
    crate::kinds::value::fill_text(route, "path", "/");
    crate::kinds::value::fill_text(route, "pathType", "Prefix");
}

/// Checks the routes of a spec.
pub(super) fn validate(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let mut seen: Vec<(Place, Methods)> = Vec::new();
    for (index, route) in items(spec, "/routes").iter().enumerate() {
        let path = path.index(index);
        validate_host(&path.field("host"), text(route, "/host"), errors);
        validate_path(&path.field("path"), text(route, "/path"), errors);
        check::one_of(
            &path.field("pathType"),
            part(route, "/pathType"),
            &["Exact", "Prefix"],
            errors,
        );
        let mut names = check::Seen::new();
        for (index, method) in items(route, "/methods").iter().enumerate() {
            let path = path.field("methods").index(index);
            check::one_of(&path, method, METHODS, errors);
            check::unique(
                &path,
                method.as_str().unwrap_or_default(),
                &mut names,
                errors,
            );
        }
        let own = read(route);
        if seen
            .iter()
            .any(|(place, methods)| *place == own.0 && meet(methods, &own.1))
        {
            errors.push(&path, Cause::Duplicate, route.clone(), "");
        }
        seen.push(own);
    }
}

fn validate_host(path: &Path, host: &str, errors: &mut FieldErrors) {
    if host.is_empty() {
        return;
    }
    if host.parse::<IpAddr>().is_ok() {
        errors.invalid(path, host, "must be a DNS name, not an IP address");
    } else if host.contains('*') {
        check::problems(path, host, name::wildcard_problems(host), errors);
    } else {
        check::problems(path, host, name::subdomain_problems(host), errors);
    }
}

/// Checks a path that a request may have; an empty one is its default.
pub(super) fn validate_path(path: &Path, given: &str, errors: &mut FieldErrors) {
    if given.is_empty() {
        return;
    }
    if given.len() > LONGEST_PATH {
        check::too_long(path, LONGEST_PATH, errors);
    }
    if !given.starts_with('/') {
        errors.invalid(path, given, "must be an absolute path");
    }
    let (route, _) = given.split_once('?').unwrap_or((given, ""));
    if route.split('/').any(|step| matches!(step, "." | "..")) || route.contains("//") {
        errors.invalid(path, given, "must not contain '//', '/./' or '/../'");
    }
    if given
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || c == '#')
    {
        errors.invalid(path, given, "must not contain white space or '#'");
    }
}
