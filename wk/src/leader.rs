//! One leader among several `wk` processes on one database: a Lease in `kube-system`.
//!
//! Reads and writes one Lease through the apiserver; each write carries the resourceVersion that was
//! read, so two processes never both take it. A holder that cannot renew stops leading before
//! another may begin. On SQLite there is one process and no election.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, bail};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that has not managed to renew for this long stops leading.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often a lease is renewed, or looked at by who waits for it.
const RETRY: Duration = Duration::from_secs(2);

/// Who holds the lease, as last seen, and since when (by this process' clock) it has not changed.
#[derive(Clone, PartialEq, Debug)]
struct Observed {
    version: Option<String>,
    at: Instant,
}

/// Waits for the lease `name`, then runs `leading` until it ends, the lease is lost (an error) or
/// `stop` is given; a lease that is held at the end is given up.
pub(crate) async fn lead<F>(
    client: Client,
    name: &str,
    identity: &str,
    stop: CancellationToken,
    leading: impl FnOnce(CancellationToken) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let leases: Api<Lease> = Api::namespaced(client, "kube-system");
    let mut observed = Observed {
        version: None,
        at: Instant::now(),
    };
    loop {
        if try_hold(&leases, name, identity, &mut observed)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(
                    lease = name,
                    error = format!("{error:#}"),
                    "cannot take the lease"
                );
                false
            })
        {
            break;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    tracing::info!(lease = name, identity, "leading");
    let work = leading(stop.clone());
    tokio::pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        error = renew(&leases, name, identity, &mut observed) => Err(error),
    };
    give_up(&leases, name, identity).await;
    result
}

/// Renews until that has failed for too long, and says why.
async fn renew(
    leases: &Api<Lease>,
    name: &str,
    identity: &str,
    observed: &mut Observed,
) -> anyhow::Error {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(RETRY).await;
        match try_hold(leases, name, identity, observed).await {
            Ok(true) => renewed = Instant::now(),
            Ok(false) => return anyhow::anyhow!("another process took the lease {name}"),
            Err(error) if renewed.elapsed() >= RENEW_DEADLINE => {
                return error.context(format!("the lease {name} could not be renewed"));
            }
            Err(error) => tracing::warn!(
                lease = name,
                error = format!("{error:#}"),
                "cannot renew the lease"
            ),
        }
    }
}

/// Takes or renews the lease if it may be had; true if it is now held.
async fn try_hold(
    leases: &Api<Lease>,
    name: &str,
    identity: &str,
    observed: &mut Observed,
) -> Result<bool> {
    let attempt = async {
        let Some(mut lease) = leases.get_opt(name).await.context("read the lease")? else {
            let metadata = ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata,
                spec: Some(claim(None, identity)),
            };
            return won(leases.create(&PostParams::default(), &lease).await);
        };
        if observed.version != lease.metadata.resource_version {
            *observed = Observed {
                version: lease.metadata.resource_version.clone(),
                at: Instant::now(),
            };
        }
        if !may_hold(lease.spec.as_ref(), identity, observed.at.elapsed()) {
            return Ok(false);
        }
        lease.spec = Some(claim(lease.spec.take(), identity));
        won(leases.replace(name, &PostParams::default(), &lease).await)
    };
    match tokio::time::timeout(RENEW_DEADLINE / 2, attempt).await {
        Ok(result) => result,
        Err(_) => bail!("the apiserver did not answer"),
    }
}

/// A write that lost the race is no error: somebody else holds the lease.
fn won(written: kube::Result<Lease>) -> Result<bool> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error).context("write the lease"),
    }
}

/// True if the lease is ours, free, or has not changed for as long as it holds. Pure.
fn may_hold(spec: Option<&LeaseSpec>, identity: &str, unchanged: Duration) -> bool {
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    let seconds = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .unwrap_or_default();
    let holds = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    holder.is_empty() || holder == identity || unchanged >= holds
}

/// The lease as we hold it.
fn claim(spec: Option<LeaseSpec>, identity: &str) -> LeaseSpec {
    let now = MicroTime(jiff::Timestamp::now());
    let spec = spec.unwrap_or_default();
    let ours = spec.holder_identity.as_deref() == Some(identity);
    LeaseSpec {
        acquire_time: if ours {
            spec.acquire_time
        } else {
            Some(now.clone())
        },
        lease_transitions: Some(spec.lease_transitions.unwrap_or_default() + i32::from(!ours)),
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).expect("a constant fits")),
        renew_time: Some(now),
        ..LeaseSpec::default()
    }
}

/// Lets the next process lead at once. Failing to is no error: the lease runs out by itself.
async fn give_up(leases: &Api<Lease>, name: &str, identity: &str) {
    let release = async {
        let mut lease = leases.get(name).await?;
        if let Some(spec) = lease
            .spec
            .as_mut()
            .filter(|spec| spec.holder_identity.as_deref() == Some(identity))
        {
            spec.holder_identity = None;
            leases.replace(name, &PostParams::default(), &lease).await?;
        }
        Ok::<_, kube::Error>(())
    };
    match tokio::time::timeout(RETRY, release).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(lease = name, %error, "the lease was not given up"),
        Err(_) => tracing::debug!(lease = name, "the lease was not given up in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_free_ours_or_run_out() {
        let second = Duration::from_secs(1);
        assert!(may_hold(None, "a", Duration::ZERO));
        assert!(may_hold(Some(&spec("")), "a", Duration::ZERO));
        assert!(may_hold(Some(&spec("a")), "a", second));
        assert!(!may_hold(Some(&spec("b")), "a", 14 * second));
        assert!(may_hold(Some(&spec("b")), "a", 15 * second));
    }

    #[test]
    fn taking_a_lease_from_another_counts_as_a_transition() {
        let taken = claim(
            Some(LeaseSpec {
                lease_transitions: Some(3),
                ..spec("b")
            }),
            "a",
        );
        assert_eq!(
            (taken.lease_transitions, taken.holder_identity.as_deref()),
            (Some(4), Some("a"))
        );
        let renewed = claim(Some(taken.clone()), "a");
        assert_eq!(
            (renewed.lease_transitions, renewed.acquire_time),
            (Some(4), taken.acquire_time)
        );
    }
}
