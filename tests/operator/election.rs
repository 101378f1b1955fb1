//! Leader election: who holds the Lease works, and whoever finds it run out takes it.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

const LEASE: &str = "operator";
const SECONDS: i32 = 2;
const TICK: Duration = Duration::from_millis(300);

/// A Lease that this process holds.
pub(crate) struct Held {
    leases: Api<Lease>,
    lease: Lease,
}

/// Waits until the Lease is ours.
pub(crate) async fn win(client: &Client, name: &str) -> anyhow::Result<Held> {
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    loop {
        if let Some(lease) = attempt(&leases, name).await? {
            return Ok(Held { leases, lease });
        }
        tokio::time::sleep(TICK).await;
    }
}

impl Held {
    /// Renews the Lease for as long as it is ours.
    pub(crate) async fn keep(mut self) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(TICK).await;
            let spec = self.lease.spec.get_or_insert_default();
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            let params = PostParams::default();
            let renewed = self.leases.replace(LEASE, &params, &self.lease).await;
            self.lease = renewed.context("renew the lease")?;
        }
    }
}

/// Takes the Lease if nobody holds it. A conflict means that somebody else was faster.
async fn attempt(leases: &Api<Lease>, name: &str) -> anyhow::Result<Option<Lease>> {
    let now = Timestamp::now();
    let wanted = LeaseSpec {
        holder_identity: Some(name.to_owned()),
        lease_duration_seconds: Some(SECONDS),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    };
    let params = PostParams::default();
    let taken = match leases.get_opt(LEASE).await? {
        None => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(wanted),
            };
            leases.create(&params, &lease).await
        }
        Some(lease) if runs(&lease, now) => return Ok(None),
        Some(mut lease) => {
            lease.spec = Some(wanted);
            leases.replace(LEASE, &params, &lease).await
        }
    };
    match taken {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn runs(lease: &Lease, now: Timestamp) -> bool {
    let renewed = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.renew_time.as_ref());
    renewed
        .is_some_and(|time| now.duration_since(time.0) < SignedDuration::from_secs(SECONDS.into()))
}
