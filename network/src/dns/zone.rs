//! The cluster's domain as the records of a zone. Pure: reads the directory.
//!
//! Follows the Kubernetes DNS specification, version 1.1.0: A, SRV, PTR and CNAME records of Services,
//! endpoints and pods. Where the specification leaves something open it does as CoreDNS.

use std::{net::Ipv4Addr, str::FromStr};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{CNAME, NS, PTR, SOA, SRV, TXT},
};

use crate::{
    Range,
    directory::{self, Directory, Lookup},
    dns::{MAX_ALIASES, full},
};

/// How long an answer is good for, in seconds.
pub(super) const TTL: u32 = 5;

/// The version of the specification, as `dns-version` tells it.
const VERSION: &str = "1.1.0";

/// The cluster's names.
pub(super) struct Zone<'a> {
    pub(super) directory: &'a Directory,
    /// `cluster.local`
    pub(super) domain: &'a str,
    pub(super) pods: Range,
    pub(super) services: Range,
    /// The server's own address.
    pub(super) server: Ipv4Addr,
}

/// What there is at a name.
#[derive(Debug)]
pub(super) enum Found {
    /// The name is there, with these records of the type asked for (perhaps none).
    Records(Records),
    /// There is no such name.
    Missing,
    /// It is a name of another domain.
    Elsewhere,
}

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) answers: Vec<Record>,
    pub(super) additionals: Vec<Record>,
    /// An alias' target in another domain, whose records are still to be added.
    pub(super) outside: Option<Name>,
}

impl Zone<'_> {
    /// The records of a type at a name, which is in lower case.
    pub(super) fn find(&self, name: &Name, kind: RecordType) -> Found {
        let mut found = Records::default();
        let mut name = name.clone();
        for _ in 0..MAX_ALIASES {
            match self.find_one(&name, kind, &mut found) {
                Step::Done => return Found::Records(found),
                // An alias that leads to no name of the cluster: the alias itself is there.
                Step::Missing if found.answers.is_empty() => return Found::Missing,
                Step::Missing => return Found::Records(found),
                Step::Elsewhere if found.answers.is_empty() => return Found::Elsewhere,
                Step::Elsewhere => {
                    found.outside = Some(name);
                    return Found::Records(found);
                }
                Step::Alias(target) => name = target,
            }
        }
        Found::Records(found)
    }

    /// The zone's own record, which says for how long a name is known not to be there.
    pub(super) fn soa(&self) -> Record {
        let here = self.absolute("ns.dns");
        let mail = self.absolute("hostmaster");
        let data = SOA::new(here, mail, 1, 7_200, 1_800, 86_400, TTL);
        self.record(&self.absolute(""), RData::SOA(data))
    }

    fn find_one(&self, name: &Name, kind: RecordType, found: &mut Records) -> Step {
        let text = name.to_ascii();
        let text = text.trim_end_matches('.');
        if let Some(reverse) = text.strip_suffix(".in-addr.arpa") {
            return self.reverse(name, reverse, kind, found);
        }
        let labels: Vec<&str> = if text == self.domain {
            Vec::new()
        } else {
            let relative = text.strip_suffix(self.domain);
            match relative.and_then(|text| text.strip_suffix('.')) {
                Some(relative) => relative.split('.').collect(),
                None => return Step::Elsewhere,
            }
        };
        let addresses = match labels[..] {
            [] => return self.apex(name, kind, found),
            ["dns-version"] => {
                let data = TXT::new(vec![VERSION.to_owned()]);
                return self.give(name, kind, [RData::TXT(data)], found);
            }
            ["ns", "dns"] => vec![self.server],
            ["dns" | "svc" | "pod"] | [_, "pod"] => Vec::new(),
            [namespace, "svc"] if self.directory.has_namespace(namespace) => Vec::new(),
            [service, namespace, "svc"] => {
                let service = full(namespace, service);
                match self.directory.lookup(&service) {
                    None => return Step::Missing,
                    Some(Lookup::Alias(target)) => return self.alias(name, kind, &target, found),
                    Some(Lookup::Addresses(_)) if kind == RecordType::SRV => {
                        return self.ports(name, &service, |_, _| true, found);
                    }
                    Some(Lookup::Addresses(addresses)) => addresses,
                }
            }
            [port, protocol, service, namespace, "svc"]
                if port.starts_with('_') && protocol.starts_with('_') =>
            {
                let wanted =
                    |name: &str, transport: &str| name == &port[1..] && transport == &protocol[1..];
                return self.port(name, kind, &full(namespace, service), wanted, found);
            }
            [hostname, service, namespace, "svc"] => {
                let service = full(namespace, service);
                let protocol = ["_tcp", "_udp"].contains(&hostname);
                if protocol && self.directory.lookup(&service).is_some() {
                    Vec::new()
                } else {
                    match self.directory.lookup_endpoint(&service, hostname) {
                        none if none.is_empty() => return Step::Missing,
                        addresses => addresses,
                    }
                }
            }
            [address, _namespace, "pod"] => match address.replace('-', ".").parse() {
                Ok(address) if self.pods.contains(address) => vec![address],
                _ => return Step::Missing,
            },
            _ => return Step::Missing,
        };
        let addresses = addresses.into_iter().map(|ip| RData::A(ip.into()));
        self.give(name, kind, addresses, found)
    }

    fn apex(&self, name: &Name, kind: RecordType, found: &mut Records) -> Step {
        match kind {
            RecordType::SOA => found.answers.push(self.soa()),
            RecordType::NS => {
                let data = RData::NS(NS(self.absolute("ns.dns")));
                found.answers.push(self.record(name, data));
            }
            _ => {}
        }
        Step::Done
    }

    fn alias(&self, name: &Name, kind: RecordType, target: &str, found: &mut Records) -> Step {
        let target = format!("{}.", target.trim_end_matches('.').to_ascii_lowercase());
        let Ok(target) = Name::from_str(&target) else {
            return Step::Done;
        };
        let data = RData::CNAME(CNAME(target.clone()));
        found.answers.push(self.record(name, data));
        if kind == RecordType::CNAME {
            return Step::Done;
        }
        Step::Alias(target)
    }

    /// A name such as `_http._tcp.web.default.svc`.
    fn port(
        &self,
        name: &Name,
        kind: RecordType,
        service: &directory::Name,
        wanted: impl Fn(&str, &str) -> bool,
        found: &mut Records,
    ) -> Step {
        let mut ports = self.directory.ports(service).into_iter();
        if !ports.any(|(port, transport, _)| wanted(port, &transport.to_string())) {
            return Step::Missing;
        }
        match kind {
            RecordType::SRV => self.ports(name, service, wanted, found),
            _ => Step::Done,
        }
    }

    /// Service records: where the Service's ports are, or each endpoint's of one without an address.
    fn ports(
        &self,
        name: &Name,
        service: &directory::Name,
        wanted: impl Fn(&str, &str) -> bool,
        found: &mut Records,
    ) -> Step {
        let own = self.service(service);
        let headless = self.directory.cluster_ip(service).is_none();
        let mut give = |number: u16, target: Name, address: Ipv4Addr| {
            let data = SRV::new(0, 100, number, target.clone());
            found.answers.push(self.record(name, RData::SRV(data)));
            let address = self.record(&target, RData::A(address.into()));
            if !found.additionals.contains(&address) {
                found.additionals.push(address);
            }
        };
        let served = self.directory.ports(service).into_iter();
        let served = served.filter(|(port, transport, _)| wanted(port, &transport.to_string()));
        for (port, transport, number) in served {
            if let Some(address) = self.directory.cluster_ip(service) {
                give(number, own.clone(), address);
            }
            if !headless {
                continue;
            }
            for member in self.directory.endpoints(service) {
                let Ok(target) = Name::from_str(&format!("{}.{own}", member.hostname)) else {
                    continue;
                };
                let same = |each: &&(&str, _, _)| each.0 == port && each.1 == transport;
                if let Some((_, _, number)) = member.ports.iter().find(same) {
                    give(*number, target, member.address);
                }
            }
        }
        Step::Done
    }

    fn reverse(&self, name: &Name, reverse: &str, kind: RecordType, found: &mut Records) -> Step {
        let parts: Vec<&str> = reverse.rsplit('.').collect();
        let Ok(address) = parts.join(".").parse::<Ipv4Addr>() else {
            return Step::Elsewhere;
        };
        if !self.pods.contains(address) && !self.services.contains(address) {
            return Step::Elsewhere;
        }
        let names = self.directory.names_of(address);
        if names.is_empty() {
            return Step::Missing;
        }
        let names = names.into_iter().filter_map(|(service, hostname)| {
            let own = self.service(service);
            match hostname {
                None => Some(own),
                Some(hostname) => Name::from_str(&format!("{hostname}.{own}")).ok(),
            }
        });
        self.give(name, kind, names.map(|name| RData::PTR(PTR(name))), found)
    }

    /// Answers with the records that are of the type asked for.
    fn give(
        &self,
        name: &Name,
        kind: RecordType,
        data: impl IntoIterator<Item = RData>,
        found: &mut Records,
    ) -> Step {
        let wanted = |data: &RData| kind == data.record_type() || kind == RecordType::ANY;
        let records = data.into_iter().filter(wanted);
        found
            .answers
            .extend(records.map(|data| self.record(name, data)));
        Step::Done
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), TTL, data)
    }

    fn service(&self, service: &directory::Name) -> Name {
        self.absolute(&format!("{}.{}.svc", service.name, service.namespace))
    }

    /// A name of the cluster's domain; the domain itself if it is none.
    fn absolute(&self, relative: &str) -> Name {
        let text = format!("{relative}.{}.", self.domain);
        Name::from_str(text.trim_start_matches('.')).unwrap_or_default()
    }
}

/// What one name of a chain of aliases came to.
enum Step {
    Done,
    Alias(Name),
    Missing,
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::directory::fixture::directory;

    const CLUSTER: &str = "
        service default/web 10.43.0.5 http:80/TCP dns:53/UDP
        slice default/web-1 web http:8080/TCP dns:5353/UDP 10.64.0.8
        service shop/db headless sql:5432/TCP
        slice shop/db-1 db sql:5432/TCP 10.64.0.5=db-0 10.64.0.6 10.64.0.7!=db-2
        service shop/empty headless :80/TCP
        service default/alias >web.default.svc.cluster.local
        service default/dangling >nobody.default.svc.cluster.local
        service default/outside >Api.example.org.
        service default/loop >loop.default.svc.cluster.local
    ";

    /// Each line is a type and a name; a name without a final dot is relative to the cluster's domain.
    #[track_caller]
    fn check(questions: &[&str], expected: Expect) {
        let directory = directory(CLUSTER);
        let zone = Zone {
            directory: &directory,
            domain: "cluster.local",
            pods: "10.64.0.0/10".parse().unwrap(),
            services: "10.43.0.0/16".parse().unwrap(),
            server: Ipv4Addr::new(10, 43, 0, 10),
        };
        let mut seen = String::new();
        for question in questions {
            let (kind, name) = question.split_once(' ').unwrap();
            let absolute = match name.strip_suffix('.') {
                Some(_) => name.to_owned(),
                None => format!("{name}.cluster.local."),
            };
            let name = Name::from_str(&absolute).unwrap();
            seen += &format!("{question}:");
            match zone.find(&name, kind.parse().unwrap()) {
                Found::Missing => seen += " missing\n",
                Found::Elsewhere => seen += " elsewhere\n",
                Found::Records(records) => {
                    for record in records.answers {
                        seen += &format!(" {} {};", record.data.record_type(), record.data);
                    }
                    for record in records.additionals {
                        seen += &format!(" with {} {};", record.name, record.data);
                    }
                    if let Some(name) = records.outside {
                        seen += &format!(" then {name}");
                    }
                    seen += "\n";
                }
            }
        }
        expected.assert_eq(&seen);
    }

    #[test]
    fn services_and_endpoints_have_addresses() {
        check(
            &[
                "A web.default.svc",
                "A db.shop.svc",
                "A empty.shop.svc",
                "A db-0.db.shop.svc",
                "A 10-64-0-6.db.shop.svc",
                "A db-2.db.shop.svc",
                "A nobody.default.svc",
                "A 10-64-0-9.default.pod",
                "A 192-168-0-1.default.pod",
                "A ns.dns",
            ],
            expect![[r#"
                A web.default.svc: A 10.43.0.5;
                A db.shop.svc: A 10.64.0.5; A 10.64.0.6;
                A empty.shop.svc:
                A db-0.db.shop.svc: A 10.64.0.5;
                A 10-64-0-6.db.shop.svc: A 10.64.0.6;
                A db-2.db.shop.svc: missing
                A nobody.default.svc: missing
                A 10-64-0-9.default.pod: A 10.64.0.9;
                A 192-168-0-1.default.pod: missing
                A ns.dns: A 10.43.0.10;
            "#]],
        );
    }

    #[test]
    fn a_name_that_is_there_has_no_records_of_other_types() {
        check(
            &[
                "AAAA web.default.svc",
                "AAAA nobody.default.svc",
                "MX db-0.db.shop.svc",
                "A svc",
                "A default.svc",
                "A nowhere.svc",
                "A _tcp.web.default.svc",
                "A _http._tcp.web.default.svc",
                "A cluster.local.",
                "A a.b.c.d.e.f",
                "A example.org.",
                "A notcluster.local.",
            ],
            expect![[r#"
                AAAA web.default.svc:
                AAAA nobody.default.svc: missing
                MX db-0.db.shop.svc:
                A svc:
                A default.svc:
                A nowhere.svc: missing
                A _tcp.web.default.svc:
                A _http._tcp.web.default.svc:
                A cluster.local.:
                A a.b.c.d.e.f: missing
                A example.org.: elsewhere
                A notcluster.local.: elsewhere
            "#]],
        );
    }

    #[test]
    fn ports_have_service_records() {
        check(
            &[
                "SRV _http._tcp.web.default.svc",
                "SRV _dns._udp.web.default.svc",
                "SRV _http._udp.web.default.svc",
                "SRV _sql._tcp.db.shop.svc",
                "SRV web.default.svc",
                "SRV _sql._tcp.nobody.shop.svc",
            ],
            expect![[r#"
                SRV _http._tcp.web.default.svc: SRV 0 100 80 web.default.svc.cluster.local.; with web.default.svc.cluster.local. 10.43.0.5;
                SRV _dns._udp.web.default.svc: SRV 0 100 53 web.default.svc.cluster.local.; with web.default.svc.cluster.local. 10.43.0.5;
                SRV _http._udp.web.default.svc: missing
                SRV _sql._tcp.db.shop.svc: SRV 0 100 5432 db-0.db.shop.svc.cluster.local.; SRV 0 100 5432 10-64-0-6.db.shop.svc.cluster.local.; with db-0.db.shop.svc.cluster.local. 10.64.0.5; with 10-64-0-6.db.shop.svc.cluster.local. 10.64.0.6;
                SRV web.default.svc: SRV 0 100 80 web.default.svc.cluster.local.; SRV 0 100 53 web.default.svc.cluster.local.; with web.default.svc.cluster.local. 10.43.0.5;
                SRV _sql._tcp.nobody.shop.svc: missing
            "#]],
        );
    }

    #[test]
    fn addresses_have_names() {
        check(
            &[
                "PTR 5.0.43.10.in-addr.arpa.",
                "PTR 5.0.64.10.in-addr.arpa.",
                "PTR 6.0.64.10.in-addr.arpa.",
                "PTR 8.0.64.10.in-addr.arpa.",
                "PTR 9.9.43.10.in-addr.arpa.",
                "PTR 1.1.168.192.in-addr.arpa.",
                "PTR 43.10.in-addr.arpa.",
            ],
            expect![[r#"
                PTR 5.0.43.10.in-addr.arpa.: PTR web.default.svc.cluster.local.;
                PTR 5.0.64.10.in-addr.arpa.: PTR db-0.db.shop.svc.cluster.local.;
                PTR 6.0.64.10.in-addr.arpa.: PTR 10-64-0-6.db.shop.svc.cluster.local.;
                PTR 8.0.64.10.in-addr.arpa.: missing
                PTR 9.9.43.10.in-addr.arpa.: missing
                PTR 1.1.168.192.in-addr.arpa.: elsewhere
                PTR 43.10.in-addr.arpa.: elsewhere
            "#]],
        );
    }

    #[test]
    fn an_alias_brings_its_targets_records() {
        check(
            &[
                "A alias.default.svc",
                "AAAA alias.default.svc",
                "CNAME alias.default.svc",
                "CNAME outside.default.svc",
                "A dangling.default.svc",
                "A outside.default.svc",
                "A loop.default.svc",
            ],
            expect![[r#"
                A alias.default.svc: CNAME web.default.svc.cluster.local.; A 10.43.0.5;
                AAAA alias.default.svc: CNAME web.default.svc.cluster.local.;
                CNAME alias.default.svc: CNAME web.default.svc.cluster.local.;
                CNAME outside.default.svc: CNAME api.example.org.;
                A dangling.default.svc: CNAME nobody.default.svc.cluster.local.;
                A outside.default.svc: CNAME api.example.org.; then api.example.org.
                A loop.default.svc: CNAME loop.default.svc.cluster.local.; CNAME loop.default.svc.cluster.local.; CNAME loop.default.svc.cluster.local.; CNAME loop.default.svc.cluster.local.; CNAME loop.default.svc.cluster.local.; CNAME loop.default.svc.cluster.local.; CNAME loop.default.svc.cluster.local.; CNAME loop.default.svc.cluster.local.;
            "#]],
        );
    }

    #[test]
    fn the_domain_says_who_answers_for_it() {
        check(
            &["SOA cluster.local.", "NS cluster.local.", "TXT dns-version"],
            expect![[r#"
                SOA cluster.local.: SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5;
                NS cluster.local.: NS ns.dns.cluster.local.;
                TXT dns-version: TXT 1.1.0;
            "#]],
        );
    }
}
