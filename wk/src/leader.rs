//! One leader among several `wk` processes on one database: a Lease in `kube-system`.
//!
//! Reads and writes one Lease through the apiserver; each write carries the resourceVersion that was
//! read, so two processes never both take it. A holder that cannot renew stops leading before
//! another may begin. On SQLite there is one process and no election.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
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
/// How long one attempt to take or renew it may last.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Who holds the lease, as last seen, and since when (by this process' clock) it has not changed.
#[derive(Clone, PartialEq, Debug)]
struct Observed {
    version: Option<String>,
    at: Instant,
}

/// One process that wants a lease.
struct Candidate<'a> {
    leases: Api<Lease>,
    name: &'a str,
    identity: &'a str,
    observed: Observed,
}

/// Waits for the lease `name`, then runs `leading` until it ends by itself or by `stop`, and gives the
/// lease up. If the lease is lost meanwhile, the work is dropped and waiting begins anew.
pub(crate) async fn lead<F>(
    client: Client,
    name: &str,
    identity: &str,
    stop: CancellationToken,
    leading: impl Fn(CancellationToken) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let mut candidate = Candidate {
        leases: Api::namespaced(client, "kube-system"),
        name,
        identity,
        observed: Observed {
            version: None,
            at: Instant::now(),
        },
    };
    loop {
        let held = tokio::select! {
            held = candidate.take() => held,
            () = stop.cancelled() => return Ok(()),
        };
        tracing::info!(lease = name, identity, "leading");
        // Whichever ends first, the other is dropped before the lease is given up.
        let ended = tokio::select! {
            result = leading(stop.clone()) => Some(result),
            reason = candidate.renew(held) => {
                tracing::warn!(lease = name, error = format!("{reason:#}"), "leading no more");
                None
            }
        };
        candidate.give_up().await;
        if let Some(result) = ended {
            return result;
        }
    }
}

impl Candidate<'_> {
    /// Tries until the lease is held, and says since when at the latest.
    async fn take(&mut self) -> Instant {
        loop {
            let begun = Instant::now();
            match self.try_hold().await {
                Ok(true) => return begun,
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    lease = self.name,
                    error = format!("{error:#}"),
                    "cannot take the lease"
                ),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews a lease that is held since `held` until it is lost or that has failed for too long, and
    /// says why. Counts from before each request: the others count from when they see it written.
    async fn renew(&mut self, mut held: Instant) -> anyhow::Error {
        loop {
            tokio::time::sleep(RETRY).await;
            let begun = Instant::now();
            let until = held + RENEW_DEADLINE;
            match tokio::time::timeout_at(until, self.try_hold()).await {
                Ok(Ok(true)) => held = begun,
                Ok(Ok(false)) => return anyhow!("another process took the lease"),
                Ok(Err(error)) if Instant::now() + RETRY >= until => {
                    return error.context("the lease could not be renewed");
                }
                Ok(Err(error)) => tracing::warn!(
                    lease = self.name,
                    error = format!("{error:#}"),
                    "cannot renew the lease"
                ),
                Err(_) => return anyhow!("the lease could not be renewed in time"),
            }
        }
    }

    /// Takes or renews the lease if it may be had; true if it is now held.
    async fn try_hold(&mut self) -> Result<bool> {
        match tokio::time::timeout(ATTEMPT, self.try_hold_once()).await {
            Ok(result) => result,
            Err(_) => bail!("the apiserver did not answer"),
        }
    }

    async fn try_hold_once(&mut self) -> Result<bool> {
        let found = self.leases.get_opt(self.name).await;
        let Some(mut lease) = found.context("read the lease")? else {
            let metadata = ObjectMeta {
                name: Some(self.name.to_owned()),
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata,
                spec: Some(claim(None, self.identity)),
            };
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        if self.observed.version != lease.metadata.resource_version {
            self.observed = Observed {
                version: lease.metadata.resource_version.clone(),
                at: Instant::now(),
            };
        }
        if !may_hold(
            lease.spec.as_ref(),
            self.identity,
            self.observed.at.elapsed(),
        ) {
            return Ok(false);
        }
        lease.spec = Some(claim(lease.spec.take(), self.identity));
        let params = PostParams::default();
        won(self.leases.replace(self.name, &params, &lease).await)
    }

    /// Lets the next process lead at once. Failing to is no error: the lease runs out by itself.
    async fn give_up(&self) {
        let name = self.name;
        let release = async {
            let mut lease = self.leases.get(name).await?;
            let ours = lease
                .spec
                .as_mut()
                .filter(|spec| spec.holder_identity.as_deref() == Some(self.identity));
            if let Some(spec) = ours {
                spec.holder_identity = None;
                let params = PostParams::default();
                self.leases.replace(name, &params, &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(RETRY, release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(lease = name, %error, "the lease was not given up"),
            Err(_) => tracing::debug!(lease = name, "the lease was not given up in time"),
        }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, MutexGuard};

    use serde_json::{Value, json};
    use tokio::{sync::watch, task::JoinSet};

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

    /// An apiserver with one Lease.
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        lease: Option<Value>,
        version: u64,
        /// Requests are never answered.
        silent: bool,
        renewals: usize,
    }

    impl Fake {
        fn client(&self) -> Client {
            let fake = self.clone();
            let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
                let fake = fake.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect_bytes().await.unwrap();
                    if fake.state().silent {
                        std::future::pending::<()>().await;
                    }
                    let (code, value) = fake.answer(&parts.method, &body);
                    let body = kube::client::Body::from(value.to_string().into_bytes());
                    let response = http::Response::builder().status(code).body(body);
                    Ok::<_, std::convert::Infallible>(response.unwrap())
                }
            });
            Client::new(service, "default")
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap()
        }

        fn answer(&self, method: &http::Method, body: &[u8]) -> (u16, Value) {
            let mut state = self.state();
            let status = |code: u16, reason: &str| {
                let value = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Failure", "message": reason, "reason": reason, "code": code});
                (code, value)
            };
            if method == http::Method::GET {
                return match &state.lease {
                    Some(lease) => (200, lease.clone()),
                    None => status(404, "NotFound"),
                };
            }
            let mut new: Value = serde_json::from_slice(body).unwrap();
            let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
            if state.lease.as_ref().map_or(Value::Null, version) != version(&new) {
                return status(409, "Conflict");
            }
            state.version += 1;
            state.renewals += 1;
            new["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.lease = Some(new.clone());
            (200, new)
        }

        /// Writes as another process would.
        fn hold(&self, holder: &str) {
            let mut state = self.state();
            state.version += 1;
            let version = state.version.to_string();
            state.lease = Some(json!({
                "metadata": {"name": "job", "resourceVersion": version},
                "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
            }));
        }

        fn holder(&self) -> Option<String> {
            let state = self.state();
            let holder = &state.lease.as_ref()?["spec"]["holderIdentity"];
            holder.as_str().map(str::to_owned)
        }
    }

    /// A process that wants the lease `job`; says when it leads and when it does no more.
    struct Process {
        leading: watch::Receiver<bool>,
        stop: CancellationToken,
        task: JoinSet<Result<()>>,
    }

    struct Leading(watch::Sender<bool>);

    impl Drop for Leading {
        fn drop(&mut self) {
            self.0.send_replace(false);
        }
    }

    impl Process {
        fn start(fake: &Fake, identity: &'static str) -> Self {
            let (sender, leading) = watch::channel(false);
            let (stop, client) = (CancellationToken::new(), fake.client());
            let mut task = JoinSet::new();
            let stopped = stop.clone();
            task.spawn(async move {
                lead(client, "job", identity, stopped, |stop| {
                    let leading = Leading(sender.clone());
                    async move {
                        leading.0.send_replace(true);
                        stop.cancelled().await;
                        Ok(())
                    }
                })
                .await
            });
            Self {
                leading,
                stop,
                task,
            }
        }

        /// How long it takes until this process leads, or leads no more.
        async fn becomes(&mut self, leading: bool) -> Duration {
            let begun = Instant::now();
            let changed = self.leading.wait_for(|now| *now == leading);
            tokio::time::timeout(Duration::from_secs(60), changed)
                .await
                .expect("it changes within a minute")
                .unwrap();
            begun.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_renews_while_the_other_waits() {
        let fake = Fake::default();
        let mut first = Process::start(&fake, "a");
        assert_eq!(first.becomes(true).await, Duration::ZERO);
        let second = Process::start(&fake, "b");
        tokio::time::sleep(10 * DURATION).await;
        assert!(*first.leading.borrow() && !*second.leading.borrow());
        assert_eq!(fake.holder().as_deref(), Some("a"));
        assert!(fake.state().renewals > 70);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_stops_gives_the_lease_up_and_the_next_leads_at_once() {
        let fake = Fake::default();
        let mut first = Process::start(&fake, "a");
        first.becomes(true).await;
        let mut second = Process::start(&fake, "b");
        first.stop.cancel();
        first.task.join_next().await.unwrap().unwrap().unwrap();
        assert!(second.becomes(true).await <= RETRY);
        assert_eq!(fake.holder().as_deref(), Some("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_leader_is_followed_when_its_lease_has_run_out() {
        let fake = Fake::default();
        fake.hold("dead");
        let mut process = Process::start(&fake, "a");
        let waited = process.becomes(true).await;
        assert!(
            waited >= DURATION && waited <= DURATION + RETRY,
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_lease_was_taken_stops_and_waits_for_it_again() {
        let fake = Fake::default();
        let mut process = Process::start(&fake, "a");
        process.becomes(true).await;
        fake.hold("b");
        assert!(process.becomes(false).await <= RETRY);
        assert_eq!(fake.holder().as_deref(), Some("b"));
        assert!(process.becomes(true).await >= DURATION - RETRY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_hears_nothing_stops_before_another_may_begin() {
        let fake = Fake::default();
        let mut process = Process::start(&fake, "a");
        process.becomes(true).await;
        fake.state().silent = true;
        let waited = process.becomes(false).await;
        assert!(waited <= RENEW_DEADLINE, "{waited:?}");
        fake.state().silent = false;
        process.becomes(true).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_lease_stops_at_once() {
        let fake = Fake::default();
        fake.hold("b");
        let mut process = Process::start(&fake, "a");
        tokio::time::sleep(RETRY / 2).await;
        process.stop.cancel();
        process.task.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(fake.holder().as_deref(), Some("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_fails_is_an_error_and_the_lease_is_given_up() {
        let fake = Fake::default();
        let result = lead(
            fake.client(),
            "job",
            "a",
            CancellationToken::new(),
            |_| async { bail!("no snapshot") },
        );
        assert_eq!(result.await.unwrap_err().to_string(), "no snapshot");
        assert_eq!(fake.holder(), None);
    }
}
