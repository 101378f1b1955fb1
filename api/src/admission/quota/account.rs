//! A quota's sums, and what a write would make of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Charge, scope, usage, usage::Kind};
use crate::{
    admission::pod_resources::{Amounts, add, amounts},
    error::Error,
    kinds::value::put,
    object,
};

/// One quota with what is used of it.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) quota: Value,
    pub(super) hard: Amounts,
    used: Amounts,
    /// True if the sums are not what the quota says.
    pub(super) changed: bool,
}

impl Account {
    pub(super) fn read(quota: Value) -> Self {
        Self {
            hard: amounts(&quota, "/spec/hard"),
            used: amounts(&quota, "/status/used"),
            quota,
            changed: false,
        }
    }

    /// True if there is a sum for everything that it limits.
    pub(super) fn is_counted(&self) -> bool {
        self.hard.keys().all(|name| self.used.contains_key(name))
            && self.quota["status"]["hard"] == self.quota["spec"]["hard"]
    }

    /// The kinds of which it limits something.
    pub(super) fn kinds(&self) -> BTreeSet<Kind> {
        self.hard
            .keys()
            .flat_map(|name| Kind::all_of_resource(name))
            .collect()
    }

    /// True if it limits something that the write uses more of.
    pub(super) fn limits(&self, charge: &Charge) -> bool {
        let about = |object: &Value| scope::matches(&self.quota, &charge.kind, object);
        let mine = self
            .hard
            .keys()
            .any(|name| Kind::all_of_resource(name).contains(&charge.kind));
        mine && (about(&charge.object) || charge.old.as_ref().is_some_and(about))
    }

    /// Counts everything anew: `objects` are those of a kind, or their number if it is only counted.
    pub(super) fn count(&mut self, objects: &BTreeMap<Kind, Objects>, now: Timestamp) {
        let mut used: Amounts = self
            .hard
            .keys()
            .map(|name| (name.clone(), crate::quantity::Quantity::whole(0)))
            .collect();
        for (kind, objects) in objects {
            match objects {
                Objects::Values(values) => {
                    for object in values {
                        if scope::matches(&self.quota, kind, object) {
                            add(&mut used, &kind.usage(object, now));
                        }
                    }
                }
                Objects::Number(number) => {
                    if scope::matches(&self.quota, kind, &Value::Null) {
                        let number = u32::try_from(*number).unwrap_or(u32::MAX);
                        let used_by_all = kind.counts().into_keys();
                        add(
                            &mut used,
                            &used_by_all
                                .map(|name| (name, crate::quantity::Quantity::whole(number)))
                                .collect(),
                        );
                    }
                }
            }
        }
        used.retain(|name, _| self.hard.contains_key(name));
        self.changed |= used != self.used || !self.is_counted();
        self.used = used;
    }

    /// The quota with its sums in its status.
    pub(super) fn write(&self) -> Value {
        let mut quota = self.quota.clone();
        let used: Map<String, Value> = self
            .used
            .iter()
            .filter(|(name, _)| self.hard.contains_key(*name))
            .map(|(name, amount)| (name.clone(), amount.to_string().into()))
            .collect();
        let status = json!({"hard": quota["spec"]["hard"], "used": used});
        put(&mut quota, "status", status);
        quota
    }

    /// The sums after a write, or why it may not be.
    fn after(&self, charge: &Charge, now: Timestamp) -> Result<Amounts, String> {
        let name = object::name(&self.quota);
        let usage = |object: &Value| {
            let mut used = if scope::matches(&self.quota, &charge.kind, object) {
                charge.kind.usage(object, now)
            } else {
                Amounts::new()
            };
            used.retain(|name, _| self.hard.contains_key(name));
            used
        };
        let instance = match charge.kind {
            Kind::Pod => Some(charge.object.clone()),
            Kind::Revision => usage::instance(&charge.object),
            _ => None,
        };
        if let Some(instance) = instance
            && scope::matches(&self.quota, &charge.kind, &charge.object)
            && let Some(missing) = usage::missing(&instance, self.hard.keys())
        {
            return Err(format!("failed quota: {name}: must specify {missing}"));
        }
        let mut asked = usage(&charge.object);
        for (resource, had) in charge.old.as_ref().map(usage).unwrap_or_default() {
            let more = asked
                .remove(&resource)
                .unwrap_or(crate::quantity::Quantity::whole(0))
                .minus(had);
            asked.insert(resource, more);
        }
        asked.retain(|_, amount| amount.nanos() != 0);
        let mut after = self.used.clone();
        add(&mut after, &asked);
        let exceeded: Vec<&String> = asked
            .iter()
            .filter(|(resource, amount)| {
                amount.nanos() > 0 && after[*resource] > self.hard[*resource]
            })
            .map(|(resource, _)| resource)
            .collect();
        if exceeded.is_empty() {
            return Ok(after);
        }
        let show = |amounts: &Amounts| {
            let texts: Vec<String> = exceeded
                .iter()
                .map(|&resource| {
                    let amount = amounts.get(resource);
                    format!(
                        "{resource}={}",
                        amount.map_or("0".to_owned(), ToString::to_string)
                    )
                })
                .collect();
            texts.join(",")
        };
        Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            show(&asked),
            show(&self.used),
            show(&self.hard)
        ))
    }
}

/// Objects of one kind in a namespace.
#[derive(Debug)]
pub(super) enum Objects {
    Values(Vec<Value>),
    Number(usize),
}

/// Adds a write to all accounts that it concerns, or to none.
pub(super) fn charge_all(
    accounts: &mut [Account],
    charge: &Charge,
    now: Timestamp,
) -> Result<(), Error> {
    let after = accounts
        .iter()
        .map(|account| {
            if account.limits(charge) {
                account.after(charge, now).map(Some)
            } else {
                Ok(None)
            }
        })
        .collect::<Result<Vec<_>, String>>()
        .map_err(|message| Error::Forbidden {
            subject: charge.subject.clone(),
            message,
            cause: None,
        })?;
    for (account, after) in accounts.iter_mut().zip(after) {
        if let Some(after) = after.filter(|after| *after != account.used) {
            account.used = after;
            account.changed = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{error::Subject, kinds::tests::read};

    #[track_caller]
    fn check(hard: &str, used: &str, group: &str, plural: &str, object: &str, expected: Expect) {
        let quota = read(&format!(
            "{{metadata: {{name: q}}, spec: {{hard: {hard}}}, status: {{hard: {hard}, used: {used}}}}}"
        ));
        let charge = Charge {
            namespace: "n".to_owned(),
            kind: Kind::of(group, plural),
            object: read(object),
            old: None,
            subject: Subject {
                resource: "things",
                name: "x".to_owned(),
                ..Subject::default()
            },
        };
        let mut accounts = [Account::read(quota)];
        expected.assert_eq(
            &match charge_all(&mut accounts, &charge, Timestamp::UNIX_EPOCH) {
                Ok(()) => accounts[0].write()["status"]["used"].to_string(),
                Err(error) => error.to_string(),
            },
        );
    }

    #[test]
    fn a_write_is_added_to_what_is_used() {
        check(
            "{pods: 2, requests.memory: 2Gi}",
            "{pods: 1, requests.memory: 1Gi}",
            "",
            "pods",
            "{spec: {containers: [{name: c, resources: {requests: {memory: 512Mi}}}]}}",
            expect![[r#"{"pods":"2","requests.memory":"1536Mi"}"#]],
        );
        check(
            "{count/deployments.apps: 1}",
            "{count/deployments.apps: 0}",
            "apps",
            "deployments",
            "{}",
            expect![[r#"{"count/deployments.apps":"1"}"#]],
        );
    }

    #[test]
    fn what_is_too_much_is_said_in_full() {
        check(
            "{pods: 2, requests.cpu: 1}",
            "{pods: 2, requests.cpu: 900m}",
            "",
            "pods",
            "{spec: {containers: [{name: c, resources: {requests: {cpu: 200m}}}]}}",
            expect![[
                r#"things "x" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=200m, used: pods=2,requests.cpu=900m, limited: pods=2,requests.cpu=1"#
            ]],
        );
        check(
            "{limits.cpu: 2}",
            "{limits.cpu: 0}",
            "",
            "pods",
            "{spec: {containers: [{name: c}]}}",
            expect![[
                r#"things "x" is forbidden: failed quota: q: must specify limits.cpu for: c"#
            ]],
        );
    }

    #[test]
    fn a_write_that_uses_less_is_let_through_though_too_much_is_used() {
        let quota = read(
            "{metadata: {name: q}, spec: {hard: {services.nodeports: 1}}, status: {hard: {services.nodeports: 1}, used: {services.nodeports: 3}}}",
        );
        let mut accounts = [Account::read(quota)];
        let charge = Charge {
            namespace: "n".to_owned(),
            kind: Kind::Service,
            object: read("{spec: {type: NodePort, ports: [{}, {}]}}"),
            old: Some(read("{spec: {type: NodePort, ports: [{}, {}, {}]}}")),
            subject: Subject::default(),
        };
        charge_all(&mut accounts, &charge, Timestamp::UNIX_EPOCH).expect("it uses less");
        assert_eq!(
            accounts[0].write()["status"]["used"],
            json!({"services.nodeports": "2"})
        );
    }

    #[test]
    fn a_count_forgets_what_is_not_limited_any_more() {
        let quota = read(
            "{metadata: {name: q}, spec: {hard: {secrets: 1}}, status: {hard: {pods: 1}, used: {pods: 1}}}",
        );
        let mut account = Account::read(quota);
        assert!(!account.is_counted());
        let secrets = Kind::of("", "secrets");
        account.count(
            &BTreeMap::from([(secrets, Objects::Number(3))]),
            Timestamp::UNIX_EPOCH,
        );
        assert!(account.changed);
        assert_eq!(
            account.write()["status"],
            json!({"hard": {"secrets": 1}, "used": {"secrets": "3"}})
        );
    }
}
