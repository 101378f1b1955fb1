//! A Function and its revisions, as requests need them: small, for there may be ten thousand.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use function_kinds as functions;
use runtimes::RevisionRef;

use crate::gateway::activator::Capacity;

/// A request may take so long where its revision does not say.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Where a container listens if its revision does not say.
const PORT: u16 = 8080;
/// Before a failed request is sent again, where the revision does not say.
const BACKOFF: Duration = Duration::from_millis(100);

/// A Function with the revisions that its traffic goes to.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    shares: Box<[Share]>,
}

/// A revision's part of the requests.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) revision: Arc<Revision>,
    pub(crate) percent: u8,
    pub(crate) tag: Option<Box<str>>,
}

/// What of a revision requests need.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    pub(crate) id: RevisionRef,
    pub(crate) timeout: Duration,
    /// Sent again at most so often, after that long, doubled each time.
    pub(crate) attempts: u8,
    pub(crate) backoff: Duration,
    /// What of it NetworkPolicies select by, beside its two names.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its pods, if it is a container; a component has none.
    pub(crate) pods: Option<Arc<Capacity>>,
}

/// What a revision asks of its pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Container {
    pub(crate) port: u16,
    /// Requests at once in one pod; 0 is no bound.
    pub(crate) concurrency: u32,
    /// Whether there should be no pod now.
    pub(crate) at_zero: bool,
}

impl Function {
    pub(crate) fn new(namespace: &str, name: &str, shares: Vec<Share>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            shares: shares.into(),
        }
    }

    pub(crate) fn shares(&self) -> &[Share] {
        &self.shares
    }

    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tagged(tag).is_some()
    }

    fn tagged(&self, tag: &str) -> Option<&Arc<Revision>> {
        let tagged = |share: &&Share| share.tag.as_deref() == Some(tag);
        self.shares.iter().find(tagged).map(|share| &share.revision)
    }

    /// The revision for a request: the tag's, or by the shares; `dice` gives a number below its argument.
    pub(crate) fn choose(
        &self,
        tag: Option<&str>,
        dice: impl FnOnce(u32) -> u32,
    ) -> Option<&Arc<Revision>> {
        if let Some(tag) = tag {
            return self.tagged(tag);
        }
        if let [only] = &*self.shares {
            return (only.percent > 0).then_some(&only.revision);
        }
        let total: u32 = self
            .shares
            .iter()
            .map(|share| u32::from(share.percent))
            .sum();
        if total == 0 {
            return None;
        }
        let mut place = dice(total);
        for share in &self.shares {
            match place.checked_sub(share.percent.into()) {
                None => return Some(&share.revision),
                Some(rest) => place = rest,
            }
        }
        None
    }
}

impl Revision {
    /// One that was not seen yet.
    pub(crate) fn unseen(id: RevisionRef) -> Self {
        Self {
            id,
            timeout: TIMEOUT,
            attempts: 0,
            backoff: BACKOFF,
            labels: BTreeMap::new(),
            pods: None,
        }
    }

    /// What an object says, but for the pods.
    pub(crate) fn read(object: &functions::FunctionRevision) -> Self {
        let spec = &object.spec;
        let positive = |number: i32| u64::try_from(number).ok().filter(|number| *number > 0);
        let retries = spec.retries.as_ref();
        let attempts = retries.map_or(0, |retries| retries.attempts.clamp(0, 10));
        let backoff = retries.and_then(|retries| positive(retries.backoff_milliseconds?));
        Self {
            timeout: spec
                .timeout_seconds
                .and_then(positive)
                .map_or(TIMEOUT, Duration::from_secs),
            attempts: u8::try_from(attempts).expect("it is at most ten"),
            backoff: backoff.map_or(BACKOFF, Duration::from_millis),
            labels: spec.labels.clone(),
            ..Self::unseen(RevisionRef {
                namespace: object.metadata.namespace.clone().unwrap_or_default(),
                name: object.metadata.name.clone().unwrap_or_default(),
            })
        }
    }
}

impl Container {
    /// What an object says; `None` if it is a component, or not known yet.
    pub(crate) fn read(object: &functions::FunctionRevision) -> Option<Self> {
        let spec = &object.spec;
        let status = object.status.as_ref();
        let runtime = status.and_then(|status| status.runtime.as_deref());
        let runtime = runtime.or(spec.runtime_class_name.as_deref());
        (runtime == Some("oci")).then(|| Self {
            port: spec
                .port
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(PORT),
            concurrency: spec
                .concurrency
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(0),
            at_zero: spec.replicas.unwrap_or(0) == 0,
        })
    }
}

/// What Functions and revisions are found by: `NAME.NAMESPACE`. Names of neither have a dot.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}")
}
