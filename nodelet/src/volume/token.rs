//! Tokens of ServiceAccounts, bound to the pod that they are mounted into.
//!
//! A token is nowhere but in its file: when its volume is written again it is read back, and its own claims say when
//! it is to be renewed. Asks the API for tokens, a few at a time.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection},
};
use kube::{Api, Client, api::PostParams};
use runtimes::PodRef;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::{deadline::call, functions};

/// `expirationSeconds` where the volume says none.
const USUAL_SECONDS: i64 = 3_600;
/// A token is renewed at this age, however long it is valid.
const OLDEST: SignedDuration = SignedDuration::from_hours(24);
/// Tokens asked for at the same time; the apiserver answers only so many writes at once, everybody's together.
const CONCURRENT_REQUESTS: usize = 32;

/// Asks for tokens.
pub(crate) struct Tokens {
    client: Client,
    requests: Semaphore,
}

impl Tokens {
    pub(crate) fn new(client: Client) -> Tokens {
        Tokens {
            client,
            requests: Semaphore::new(CONCURRENT_REQUESTS),
        }
    }

    /// A new token for the pod's ServiceAccount.
    ///
    /// # Errors
    /// As the API says, in the kubelet's words.
    pub(crate) async fn request(
        &self,
        pod: &Pod,
        pod_ref: &PodRef,
        wanted: &ServiceAccountTokenProjection,
    ) -> Result<String, String> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.as_deref())
            .unwrap_or("default");
        let audience = wanted.audience.clone().filter(|name| !name.is_empty());
        // What runs a revision is no object: the revision is.
        let revision = functions::revision_of(&pod_ref.uid);
        let (version, kind) = match revision {
            Some(_) => ("functions.wk.dev/v1", "FunctionRevision"),
            None => ("v1", "Pod"),
        };
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.map(|audience| vec![audience]),
                expiration_seconds: Some(seconds(wanted)),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some(version.to_owned()),
                    kind: Some(kind.to_owned()),
                    name: Some(pod_ref.name.clone()),
                    uid: Some(revision.unwrap_or(&pod_ref.uid).to_owned()),
                }),
            }),
            ..TokenRequest::default()
        };
        let failed = |why: &dyn std::fmt::Display| {
            format!(
                "failed to fetch token: {:?}/{account:?}: {why}",
                pod_ref.namespace
            )
        };
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.client.clone(), &pod_ref.namespace);
        let _permit = self.requests.acquire().await;
        let parameters = PostParams::default();
        let answer = accounts.create_subresource("token", account, &parameters, &request);
        let answer: TokenRequest = call(answer).await.map_err(|error| failed(&error))?;
        match answer.status.and_then(|status| status.token) {
            Some(token) if !token.is_empty() => Ok(token),
            _ => Err(failed(&"the answer holds no token")),
        }
    }
}

fn seconds(wanted: &ServiceAccountTokenProjection) -> i64 {
    wanted.expiration_seconds.unwrap_or(USUAL_SECONDS)
}

/// What a token says of its time.
#[derive(Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
}

/// When a token is to be renewed: after 80 % of its life, and of the life that was asked for, or at the age of a
/// day. `None` if it says nothing of its time.
pub(crate) fn renewal(token: &[u8], wanted: &ServiceAccountTokenProjection) -> Option<Timestamp> {
    let token = std::str::from_utf8(token).ok()?;
    let claims = token.split('.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let life = claims.exp.saturating_sub(claims.iat).min(seconds(wanted));
    let age = SignedDuration::from_secs(life / 5 * 4).min(OLDEST);
    Timestamp::from_second(claims.iat)
        .ok()?
        .checked_add(age)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(issued: i64, expires: i64, asked: i64, expected: Option<i64>) {
        let claims = format!(r#"{{"iat": {issued}, "exp": {expires}, "sub": "x"}}"#);
        let token = format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let wanted = ServiceAccountTokenProjection {
            expiration_seconds: Some(asked),
            ..ServiceAccountTokenProjection::default()
        };
        let renewed = renewal(token.as_bytes(), &wanted);
        assert_eq!(renewed.map(Timestamp::as_second), expected);
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life_or_after_a_day() {
        check(1_000, 4_600, 3_600, Some(1_000 + 2_880));
        check(
            1_000,
            1_000 + 10 * 86_400,
            10 * 86_400,
            Some(1_000 + 86_400),
        );
        // A server may give longer than was asked for, and shorter.
        check(0, 31_536_000, 3_607, Some(2_884));
        check(0, 600, 3_600, Some(480));
    }

    #[test]
    fn what_is_no_token_has_no_time() {
        let wanted = ServiceAccountTokenProjection::default();
        for text in ["", "a.b.c", "a", "a.e30.c"] {
            assert_eq!(renewal(text.as_bytes(), &wanted), None, "{text}");
        }
    }
}
