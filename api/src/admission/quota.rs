//! ResourceQuota: what a namespace may hold in sum.
//!
//! - [`usage`]: what one object uses. [`scope`]: which objects a quota is about.
//! - [`account`]: a quota's sums, and what a write would make of them. Pure, all three.
//! - [`ledger`]: commits writes with the sums they change, and counts again what was freed.
//!
//! A quota's `status.used` is written in the same group as the object that uses it, so that no number
//! of servers can exceed it together. Deletes do not wait for quotas: what they free is counted again
//! at once, and everything every five minutes. A count is right or is not written: whatever was added
//! since it was begun changed the quota's own revision too.

mod account;
pub(crate) mod ledger;
mod scope;
mod usage;

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use store::{Commit, Expect, Op, ResourceKey};

use super::{Operation, Review, objects};
use crate::{
    codec, error::Error, kinds::value::text, object, server::state::Server, verbs::call::Call,
};
use account::Account;
use usage::Kind;

/// A write that uses more of what quotas limit.
#[derive(Debug)]
pub(crate) struct Charge {
    namespace: String,
    kind: Kind,
    object: Value,
    old: Option<Value>,
    subject: crate::error::Subject,
}

fn quotas() -> ResourceKey {
    ResourceKey::new("", "resourcequotas")
}

/// What a write adds to what its namespace uses, if a quota limits it; a dry run is checked at once.
pub(super) fn charge(
    review: &Review<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<Option<Charge>, Error> {
    let call = review.call;
    let names = call.resource.names();
    let kind = Kind::of(names.group, names.plural);
    let counts = match (review.operation, review.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => kind.is_measured_on_update(),
        (Operation::Update, "resize") => kind == Kind::Pod,
        _ => false,
    };
    let Some(object) = object.filter(|_| counts && !call.namespace.is_empty()) else {
        return Ok(None);
    };
    let accounts = accounts(call)?;
    let charge = Charge {
        namespace: call.namespace.clone(),
        kind,
        object: object.clone(),
        old: old.cloned(),
        subject: call.subject(&review.name),
    };
    let limited = accounts.iter().any(|account| account.limits(&charge));
    if !limited {
        return Ok(None);
    }
    if review.dry_run {
        let mut accounts = accounts;
        return account::charge_all(&mut accounts, &charge, call.server.now()).map(|()| None);
    }
    Ok(Some(charge))
}

/// The namespace whose quotas must be counted again once the write is done.
pub(super) fn touched(
    review: &Review<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Option<String> {
    let call = review.call;
    let names = call.resource.names();
    let is_quota = names.group.is_empty() && names.plural == "resourcequotas";
    let has_quotas = || {
        let namespace = Some(call.namespace.as_str());
        let snapshot = call.server.cache.list(&quotas(), namespace);
        !snapshot.items.is_empty()
    };
    let frees = match (review.operation, object, old) {
        (Operation::Delete, ..) => true,
        (Operation::Update, Some(object), Some(old)) => {
            let phase = |pod: &Value| text(pod, "/status/phase").to_owned();
            let measured = Kind::of(names.group, names.plural);
            object::deleting(object)
                || (measured == Kind::Pod && phase(object) != phase(old))
                || (measured.is_measured_on_update() && review.subresource.is_empty())
                || (measured == Kind::Revision && {
                    let now = call.server.now();
                    measured.usage(object, now) != measured.usage(old, now)
                })
        }
        _ => false,
    };
    let concerned = !call.namespace.is_empty() && (is_quota || (frees && has_quotas()));
    concerned.then(|| call.namespace.clone())
}

/// The quotas of the call's namespace as the cache has them.
fn accounts(call: &Call) -> Result<Vec<Account>, Error> {
    let values = objects::list(call, "", "resourcequotas", Some(&call.namespace))?;
    let values = values.into_iter().map(Arc::unwrap_or_clone);
    Ok(values.map(Account::read).collect())
}

/// What several writes that commit together make of the quotas of their namespaces, on the newest state.
pub(crate) async fn price(server: &Server, charges: &[Charge]) -> Result<Vec<Op>, Error> {
    let namespaces: BTreeSet<&str> = charges.iter().map(|c| c.namespace.as_str()).collect();
    let mut ops = Vec::new();
    for namespace in namespaces {
        let found = ledger::current(server, namespace).await?;
        let (places, mut accounts): (Vec<_>, Vec<_>) = found
            .into_iter()
            .map(|(key, revision, account)| ((key, revision), account))
            .unzip();
        for charge in charges.iter().filter(|c| c.namespace == namespace) {
            account::charge_all(&mut accounts, charge, server.now())?;
        }
        let changed = places.into_iter().zip(&accounts);
        ops.extend(changed.filter(|(_, account)| account.changed).map(
            |((key, revision), account)| Op::Put {
                key,
                expect: Expect::At(revision),
                value: codec::stored(&mut account.write()),
            },
        ));
    }
    Ok(ops)
}

/// Commits a write with its charge.
pub(super) async fn commit(call: &Call, charge: Charge, ops: Vec<Op>) -> Result<Commit, Error> {
    call.server.quota.commit(charge, ops).await
}
