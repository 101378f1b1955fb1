//! Cluster DNS, answered in process: what a pod's resolver would find, search domains included.
//!
//! Follows the Kubernetes DNS specification for A records of Services, headless Services, endpoints
//! with a hostname, ExternalName and pods. Pure: reads the directory; never asks another server.
//!
//! - [`zone`]: the same as the records of a DNS zone, pure. [`server`]: the server that answers with
//!   them (privileged); [`upstream`]: what it asks for other names.

pub(crate) mod server;
mod upstream;
mod zone;

use std::net::Ipv4Addr;

use crate::{
    Range,
    directory::{Directory, Lookup, Name},
};

/// Aliases that lead to aliases are followed this far.
const MAX_ALIASES: usize = 8;

/// A name with this many dots is tried as it stands before the search domains (`ndots:5`).
const NDOTS: usize = 5;

/// What a name leads to.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It is a name of the cluster, with these addresses (perhaps none).
    Addresses(Vec<Ipv4Addr>),
    /// It is an ExternalName Service of the cluster that leads to this name outside.
    Outside(String),
    /// It is not a name of the cluster.
    Unknown,
}

/// The cluster's names as one pod sees them.
pub(crate) struct Resolver<'a> {
    pub(crate) directory: &'a Directory,
    /// `cluster.local`
    pub(crate) domain: &'a str,
    /// Where pods' addresses are from: others have no `pod` record.
    pub(crate) pods: Range,
    /// The asking pod's namespace.
    pub(crate) namespace: &'a str,
}

impl Resolver<'_> {
    /// Looks a name up, relative or absolute, in any case.
    pub(crate) fn resolve(&self, name: &str) -> Answer {
        let name = name.to_ascii_lowercase();
        if let Some(absolute) = name.strip_suffix('.') {
            return self
                .absolute(absolute, MAX_ALIASES)
                .unwrap_or(self.missing(absolute));
        }
        let domain = self.domain;
        let searched = [
            format!("{name}.{}.svc.{domain}", self.namespace),
            format!("{name}.svc.{domain}"),
            format!("{name}.{domain}"),
        ];
        let mut tries: Vec<&str> = searched.iter().map(String::as_str).collect();
        let place = if name.matches('.').count() >= NDOTS {
            0
        } else {
            tries.len()
        };
        tries.insert(place, &name);
        let found = tries
            .iter()
            .find_map(|each| self.absolute(each, MAX_ALIASES));
        found.unwrap_or_else(|| self.missing(&name))
    }

    /// A name that was not found: ours to deny, or the host's resolver's to answer?
    fn missing(&self, name: &str) -> Answer {
        if self.relative(name).is_some() || name.ends_with(".svc") {
            Answer::Addresses(Vec::new())
        } else {
            Answer::Unknown
        }
    }

    /// Looks up a full name, without its trailing dot; `None` if there is none such.
    fn absolute(&self, name: &str, aliases_left: usize) -> Option<Answer> {
        let labels: Vec<&str> = self.relative(name)?.split('.').collect();
        let found = match labels[..] {
            [service, namespace, "svc"] => self.directory.lookup(&full(namespace, service))?,
            [hostname, service, namespace, "svc"] => Lookup::Addresses(
                Some(
                    self.directory
                        .lookup_endpoint(&full(namespace, service), hostname),
                )
                .filter(|addresses| !addresses.is_empty())?,
            ),
            [address, _namespace, "pod"] => {
                let address: Ipv4Addr = address.replace('-', ".").parse().ok()?;
                Lookup::Addresses(self.pods.contains(address).then(|| vec![address])?)
            }
            _ => return None,
        };
        match found {
            Lookup::Addresses(addresses) => Some(Answer::Addresses(addresses)),
            Lookup::Alias(target) => {
                let target = target.trim_end_matches('.').to_ascii_lowercase();
                if self.relative(&target).is_none() {
                    return Some(Answer::Outside(target));
                }
                let nothing = Answer::Addresses(Vec::new());
                let left = aliases_left.checked_sub(1);
                Some(
                    left.and_then(|left| self.absolute(&target, left))
                        .unwrap_or(nothing),
                )
            }
        }
    }

    /// The part of a full name before the cluster's domain; `None` if it is of another domain.
    fn relative<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_suffix(self.domain)?.strip_suffix('.')
    }
}

fn full(namespace: &str, name: &str) -> Name {
    Name {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::directory::fixture::directory;

    const CLUSTER: &str = "
        service default/web 10.43.0.5 :80/TCP
        service shop/db headless :5432/TCP
        slice shop/db-1 db :5432/TCP 10.64.0.5=db-0 10.64.0.6 10.64.0.7!=db-2
        service shop/empty headless :80/TCP
        service default/alias >web.default.svc.cluster.local
        service default/outside >api.example.org.
        service default/loop >loop.default.svc.cluster.local
    ";

    /// What a pod of namespace `default` sees.
    #[track_caller]
    fn check(names: &[&str], expected: Expect) {
        let directory = directory(CLUSTER);
        let resolver = Resolver {
            directory: &directory,
            domain: "cluster.local",
            pods: "10.64.0.0/10".parse().unwrap(),
            namespace: "default",
        };
        let lines = names.iter().map(|name| match resolver.resolve(name) {
            Answer::Addresses(addresses) => format!("{name}: {addresses:?}\n"),
            Answer::Outside(target) => format!("{name}: outside, {target}\n"),
            Answer::Unknown => format!("{name}: unknown\n"),
        });
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn a_service_answers_to_every_form_of_its_name() {
        check(
            &[
                "web",
                "WEB",
                "web.default",
                "web.default.svc",
                "web.default.svc.cluster.local",
                "web.default.svc.cluster.local.",
            ],
            expect![[r#"
                web: [10.43.0.5]
                WEB: [10.43.0.5]
                web.default: [10.43.0.5]
                web.default.svc: [10.43.0.5]
                web.default.svc.cluster.local: [10.43.0.5]
                web.default.svc.cluster.local.: [10.43.0.5]
            "#]],
        );
    }

    #[test]
    fn a_headless_service_is_its_ready_endpoints() {
        check(
            &["db.shop", "empty.shop", "db"],
            expect![[r#"
            db.shop: [10.64.0.5, 10.64.0.6]
            empty.shop: []
            db: unknown
        "#]],
        );
    }

    #[test]
    fn an_endpoint_answers_to_its_hostname_or_its_address() {
        check(
            &[
                "db-0.db.shop",
                "10-64-0-6.db.shop.svc",
                "db-2.db.shop.svc",
                "10-64-0-5.db.shop.svc",
            ],
            expect![[r#"
                db-0.db.shop: [10.64.0.5]
                10-64-0-6.db.shop.svc: [10.64.0.6]
                db-2.db.shop.svc: []
                10-64-0-5.db.shop.svc: []
            "#]],
        );
    }

    #[test]
    fn an_alias_is_followed_within_the_cluster_and_named_outside() {
        check(
            &["alias", "outside", "loop"],
            expect![[r#"
            alias: [10.43.0.5]
            outside: outside, api.example.org
            loop: []
        "#]],
        );
    }

    #[test]
    fn a_pods_address_has_a_name() {
        check(
            &[
                "10-64-0-5.default.pod.cluster.local",
                "192-168-0-1.default.pod",
                "a-b.default.pod.cluster.local",
            ],
            expect![[r#"
                10-64-0-5.default.pod.cluster.local: [10.64.0.5]
                192-168-0-1.default.pod: unknown
                a-b.default.pod.cluster.local: []
            "#]],
        );
    }

    #[test]
    fn a_name_of_the_cluster_that_is_missing_has_no_address_and_others_are_unknown() {
        check(
            &[
                "nobody.default.svc.cluster.local",
                "nobody.default.svc",
                "web.",
                "web.default.",
                "example.org",
                "nobody",
                "",
                ".",
                "..cluster.local",
                "notcluster.local",
            ],
            expect![[r#"
                nobody.default.svc.cluster.local: []
                nobody.default.svc: []
                web.: unknown
                web.default.: unknown
                example.org: unknown
                nobody: unknown
                : unknown
                .: unknown
                ..cluster.local: []
                notcluster.local: unknown
            "#]],
        );
    }
}
