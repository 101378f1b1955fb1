//! The tokens of ServiceAccounts: what they say, and whom they identify.
//!
//! A token holds as long as its time runs and everything that it is bound to is there: its ServiceAccount,
//! and the pod, node or secret that it names. Claims are as Kubernetes writes them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Cache, ResourceKey};

use super::{SigningKey, User, jwt::KeyError};
use crate::object;

/// The issuer of tokens that stand in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
const PREFIX: &str = "system:serviceaccount:";
/// The type of the Secrets that hold a token.
pub const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
/// The annotation of such a Secret that names its ServiceAccount.
const SECRET_ACCOUNT: &str = "kubernetes.io/service-account.name";
/// A token of this life that is bound to a pod is what kubelets ask for: it holds a year, so that clients
/// that do not read it again have time to be found.
const WARNED_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// The name of a ServiceAccount as a user.
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("{PREFIX}{namespace}:{name}")
}

/// Namespace and name of a ServiceAccount, if a user is one.
pub fn parse_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of a ServiceAccount.
pub fn groups(namespace: &str) -> [String; 2] {
    [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// Signs and reads the tokens of a cluster.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// `iss`: `https://kubernetes.default.svc.cluster.local`.
    pub url: String,
    pub key: SigningKey,
}

/// An object that a token is about.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

/// `kubernetes.io` in the claims.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct About {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<Reference>,
    /// What runs a FunctionRevision has no pod to name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub functionrevision: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warnafter: Option<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    about: About,
    nbf: i64,
    sub: String,
}

/// The claims of a token in a Secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LegacyClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    sub: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyClaims {
    Bound(Box<Claims>),
    Legacy(LegacyClaims),
}

/// A token and when it ends.
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) expires: Timestamp,
}

/// Why a token identifies nobody, in words for logs and reviews.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Token(String),
    /// What it is bound to is not in the cache, or is another one.
    #[error("{0}")]
    Gone(String),
}

/// Whom a token identifies, and for which audiences.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) user: User,
    pub(crate) audiences: Vec<String>,
}

impl Issuer {
    /// Signs a token for `seconds` from `now`.
    pub(crate) fn mint(
        &self,
        mut about: About,
        audiences: &[String],
        seconds: i64,
        now: Timestamp,
    ) -> Result<Minted, KeyError> {
        let now = now.as_second();
        let mut life = seconds;
        if seconds == WARNED_SECONDS && about.pod.is_some() {
            about.warnafter = Some(now + seconds);
            life = EXTENDED_SECONDS;
        }
        let sub = user_name(&about.namespace, &about.serviceaccount.name);
        let claims = Claims {
            aud: audiences.to_vec(),
            exp: now.saturating_add(life),
            iat: now,
            iss: self.url.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            about,
            nbf: now,
            sub,
        };
        let expires = now.saturating_add(seconds);
        Ok(Minted {
            token: self.key.sign(&claims)?,
            expires: Timestamp::from_second(expires).unwrap_or(Timestamp::MAX),
        })
    }

    /// Signs the token of a Secret; it has no end but the Secret's.
    pub fn mint_for_secret(
        &self,
        namespace: &str,
        account: &Reference,
        secret: &str,
    ) -> Result<String, KeyError> {
        self.key.sign(&LegacyClaims {
            iss: LEGACY_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.name.clone(),
            uid: account.uid.clone(),
            sub: user_name(namespace, &account.name),
        })
    }

    /// Whom a token identifies to one of `audiences`.
    pub(crate) fn identify(
        &self,
        cache: &Cache,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Identity, Refusal> {
        let claims = self
            .key
            .verify::<AnyClaims>(token)
            .map_err(|error| Refusal::Token(error.to_string()))?;
        match claims {
            AnyClaims::Bound(claims) => self.bound(cache, *claims, audiences, now),
            AnyClaims::Legacy(claims) => self.legacy(cache, token, &claims, audiences),
        }
    }

    fn bound(
        &self,
        cache: &Cache,
        claims: Claims,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Identity, Refusal> {
        let refuse = |message: &str| Err(Refusal::Token(message.to_owned()));
        let now = now.as_second();
        if claims.iss != self.url {
            return refuse("the token is of another issuer");
        }
        if claims.exp <= now {
            return refuse("service account token has expired");
        }
        if claims.nbf > now {
            return refuse("service account token is not valid yet");
        }
        let common: Vec<String> = audiences
            .iter()
            .filter(|audience| claims.aud.contains(audience))
            .cloned()
            .collect();
        if common.is_empty() {
            return Err(Refusal::Token(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                claims.aud
            )));
        }
        let about = &claims.about;
        let namespace = &about.namespace;
        if claims.sub != user_name(namespace, &about.serviceaccount.name) {
            return refuse("the token's subject is not its service account");
        }
        alive(cache, "serviceaccounts", namespace, &about.serviceaccount)?;
        let mut user = user(namespace, &about.serviceaccount);
        let mut tell = |key: &str, value: &str| {
            let key = format!("authentication.kubernetes.io/{key}");
            user.extra.insert(key, vec![value.to_owned()]);
        };
        tell("credential-id", &format!("JTI={}", claims.jti));
        if let Some(secret) = &about.secret {
            alive(cache, "secrets", namespace, secret)?;
        }
        if let Some(pod) = &about.pod {
            alive(cache, "pods", namespace, pod)?;
            tell("pod-name", &pod.name);
            tell("pod-uid", &pod.uid);
        }
        if let Some(revision) = &about.functionrevision {
            alive(cache, REVISIONS, namespace, revision)?;
            tell("functionrevision-name", &revision.name);
            tell("functionrevision-uid", &revision.uid);
        }
        if let Some(node) = &about.node {
            // A pod's token only tells of its node.
            if about.pod.is_none() {
                alive(cache, "nodes", "", node)?;
            }
            tell("node-name", &node.name);
            tell("node-uid", &node.uid);
        }
        Ok(Identity {
            user,
            audiences: common,
        })
    }

    fn legacy(
        &self,
        cache: &Cache,
        token: &str,
        claims: &LegacyClaims,
        audiences: &[String],
    ) -> Result<Identity, Refusal> {
        let refuse = |message: &str| Err(Refusal::Token(message.to_owned()));
        if claims.iss != LEGACY_ISSUER {
            return refuse("the token is of another issuer");
        }
        if !audiences.contains(&self.url) {
            return refuse("a token of a secret is for the apiserver only");
        }
        let account = Reference {
            name: claims.account.clone(),
            uid: claims.uid.clone(),
        };
        let secret = find(cache, "secrets", &claims.namespace, &claims.secret)
            .filter(|secret| !object::deleting(secret))
            .ok_or_else(|| Refusal::Gone("Token has been invalidated".to_owned()))?;
        // The signature is good: only its holder can compare, so nothing is learned from the time.
        if decoded(&secret["data"]["token"]).as_deref() != Some(token.as_bytes()) {
            return Err(Refusal::Gone(
                "Token does not match server's copy".to_owned(),
            ));
        }
        alive(cache, "serviceaccounts", &claims.namespace, &account)?;
        Ok(Identity {
            user: user(&claims.namespace, &account),
            audiences: vec![self.url.clone()],
        })
    }
}

/// True if an object is a Secret that holds a ServiceAccount's token; answers the ServiceAccount's name.
pub fn account_of_secret(secret: &Value) -> Option<&str> {
    let name = secret["metadata"]["annotations"][SECRET_ACCOUNT].as_str()?;
    (secret["type"] == SECRET_TYPE && !name.is_empty()).then_some(name)
}

fn user(namespace: &str, account: &Reference) -> User {
    User {
        name: user_name(namespace, &account.name),
        uid: account.uid.clone(),
        groups: groups(namespace).to_vec(),
        ..User::default()
    }
}

fn decoded(value: &Value) -> Option<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(value.as_str()?).ok()
}

/// The one resource outside of the core group that tokens are bound to.
pub(crate) const REVISIONS: &str = "functionrevisions";

/// An object of the core group, or a FunctionRevision, as it is in the cache.
pub(crate) fn find(cache: &Cache, plural: &str, namespace: &str, name: &str) -> Option<Value> {
    let group = if plural == REVISIONS {
        function_kinds::GROUP
    } else {
        ""
    };
    let item = cache.get(&ResourceKey::new(group, plural).key(namespace, name))?;
    serde_json::from_slice(&item.decoded.value).ok()
}

/// The object is there, and is the one that is meant.
fn alive(cache: &Cache, plural: &str, namespace: &str, of: &Reference) -> Result<(), Refusal> {
    let gone = |what: String| Err(Refusal::Gone(what));
    let Some(object) = find(cache, plural, namespace, &of.name) else {
        return gone(format!("{plural} {:?} not found", of.name));
    };
    if object::uid(&object) != of.uid {
        return gone(format!(
            "the UID of {plural} {:?} ({}) does not match claim ({})",
            of.name,
            object::uid(&object),
            of.uid
        ));
    }
    Ok(())
}

/// What OpenID Connect clients ask for first.
pub(crate) fn discovery(issuer: &Issuer, keys: &str) -> Value {
    json!({
        "issuer": issuer.url,
        "jwks_uri": keys,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_accounts_name_is_read_back() {
        assert_eq!(parse_user_name(&user_name("a", "b")), Some(("a", "b")));
        for other in [
            "jane",
            "system:serviceaccount:a",
            "system:serviceaccount::b",
            "system:serviceaccount:a:b:c",
        ] {
            assert_eq!(parse_user_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_pods_usual_token_holds_longer_than_it_says() {
        let key = SigningKey::read(&SigningKey::generate().expect("a key")).expect("it is read");
        let issuer = Issuer {
            url: "https://issuer".to_owned(),
            key,
        };
        let about = About {
            pod: Some(Reference::default()),
            ..About::default()
        };
        let now = Timestamp::from_second(1_000).expect("a time");
        let claims = |about: &About, seconds| {
            let minted = issuer
                .mint(about.clone(), &[], seconds, now)
                .expect("a token");
            let claims: Claims = issuer.key.verify(&minted.token).expect("claims");
            (
                claims.exp,
                claims.about.warnafter,
                minted.expires.as_second(),
            )
        };
        assert_eq!(
            claims(&about, 3607),
            (1_000 + EXTENDED_SECONDS, Some(4607), 4607)
        );
        assert_eq!(claims(&about, 3600), (4600, None, 4600));
        assert_eq!(claims(&About::default(), 3607), (4607, None, 4607));
    }
}
