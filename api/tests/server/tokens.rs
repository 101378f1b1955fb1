//! ServiceAccounts' tokens: asked for, shown, reviewed, ended.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Cluster, ISSUER, JANE, PODS, config, pod};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

async fn account(cluster: &Cluster, name: &str) -> Value {
    let body = json!({"metadata": {"name": name}}).to_string();
    cluster.ok(&format!("POST {ACCOUNTS}"), &body).await
}

/// Asks for a token with a `spec`.
async fn token(cluster: &Cluster, name: &str, spec: &Value) -> String {
    let body = json!({"spec": spec}).to_string();
    let answer = cluster
        .ok(&format!("POST {ACCOUNTS}/{name}/token"), &body)
        .await;
    answer["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("three parts");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
    serde_json::from_slice(&claims).expect("JSON")
}

/// Whom a token identifies, by a request of its own.
async fn whoami(cluster: &Cluster, token: &str) -> Value {
    let reply = cluster
        .send_with(
            "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
            "{}",
            &[("authorization", &format!("Bearer {token}"))],
        )
        .await;
    match reply.code.as_u16() {
        201 => reply.json()["status"]["userInfo"].clone(),
        _ => reply.failure().into(),
    }
}

async fn review(cluster: &Cluster, token: &str, audiences: &[&str]) -> Value {
    let body = json!({"spec": {"token": token, "audiences": audiences}}).to_string();
    cluster.ok(&format!("POST {REVIEWS}"), &body).await["status"].clone()
}

#[tokio::test]
async fn a_token_identifies_its_account() {
    let cluster = Cluster::start().await;
    let account = account(&cluster, "bot").await;
    let uid = &account["metadata"]["uid"];
    let token = token(&cluster, "bot", &json!({})).await;
    let claims = claims(&token);
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["aud"], json!([ISSUER]));
    assert_eq!(claims["sub"], "system:serviceaccount:default:bot");
    assert_eq!(
        claims["kubernetes.io"],
        json!({"namespace": "default", "serviceaccount": {"name": "bot", "uid": uid}})
    );
    let life = claims["exp"].as_i64().expect("a time") - claims["iat"].as_i64().expect("a time");
    assert_eq!(life, 3600);
    let user = whoami(&cluster, &token).await;
    assert_eq!(user["username"], "system:serviceaccount:default:bot");
    assert_eq!(user["uid"], *uid);
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/credential-id"],
        json!([format!("JTI={}", claims["jti"].as_str().expect("text"))])
    );
    // It may read the keys that verify it.
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let keys = cluster
        .send_with("GET /openid/v1/jwks", "", &headers)
        .await
        .json();
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    let configuration = cluster
        .send_with("GET /.well-known/openid-configuration", "", &headers)
        .await
        .json();
    assert_eq!(configuration["issuer"], ISSUER);
}

#[tokio::test]
async fn a_token_ends_with_its_account() {
    let cluster = Cluster::start().await;
    account(&cluster, "bot").await;
    let token = token(&cluster, "bot", &json!({})).await;
    cluster.ok(&format!("DELETE {ACCOUNTS}/bot"), "").await;
    assert_eq!(
        whoami(&cluster, &token).await,
        "401 Unauthorized: Unauthorized"
    );
    account(&cluster, "bot").await;
    assert_eq!(
        whoami(&cluster, &token).await,
        "401 Unauthorized: Unauthorized"
    );
}

#[tokio::test]
async fn a_token_ends_with_the_pod_that_it_is_bound_to() {
    let cluster = Cluster::start().await;
    account(&cluster, "other").await;
    let pod = cluster.ok(&format!("POST {PODS}"), &pod("web")).await;
    let bound = |uid: &Value| json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid}});
    let uid = &pod["metadata"]["uid"];
    let token = token(&cluster, "default", &bound(uid)).await;
    let user = whoami(&cluster, &token).await;
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["web"])
    );
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/pod-uid"],
        json!([uid])
    );

    let ask = async |name: &str, spec: Value| {
        let body = json!({"spec": spec}).to_string();
        cluster
            .failure(&format!("POST {ACCOUNTS}/{name}/token"), &body)
            .await
    };
    assert_eq!(
        ask("default", bound(&json!("x"))).await,
        format!(
            "409 Conflict: Operation cannot be fulfilled on pods \"web\": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated",
        )
    );
    assert_eq!(
        ask("other", bound(uid)).await,
        r#"400 BadRequest: cannot bind token for serviceaccount "other" to pod running with different serviceaccount name."#
    );
    assert_eq!(
        ask(
            "default",
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "none"}})
        )
        .await,
        r#"404 NotFound: pods "none" not found"#
    );
    cluster
        .ok(&format!("DELETE {PODS}/web?gracePeriodSeconds=0"), "")
        .await;
    assert_eq!(
        whoami(&cluster, &token).await,
        "401 Unauthorized: Unauthorized"
    );
}

#[tokio::test]
async fn a_request_for_a_token_is_checked() {
    let cluster = Cluster::start().await;
    account(&cluster, "bot").await;
    let ask = async |name: &str, spec: Value| {
        let body = json!({"spec": spec}).to_string();
        cluster
            .failure(&format!("POST {ACCOUNTS}/{name}/token"), &body)
            .await
    };
    assert_eq!(
        ask("bot", json!({"expirationSeconds": 599})).await,
        r#"422 Invalid: TokenRequest.authentication.k8s.io "bot" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"#
    );
    assert_eq!(
        ask("bot", json!({"expirationSeconds": 4_294_967_297_i64})).await,
        r#"422 Invalid: TokenRequest.authentication.k8s.io "bot" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds"#
    );
    assert_eq!(
        ask("none", json!({})).await,
        r#"404 NotFound: serviceaccounts "none" not found"#
    );
    assert!(
        ask("bot", json!({"audiences": "a"}))
            .await
            .starts_with("400 BadRequest")
    );
    assert!(ask("bot", json!(3)).await.starts_with("400 BadRequest"));
}

#[tokio::test]
async fn a_review_says_whom_a_token_identifies_to_an_audience() {
    let cluster = Cluster::start().await;
    account(&cluster, "bot").await;
    let token = token(&cluster, "bot", &json!({"audiences": ["vault"]})).await;
    assert_eq!(
        whoami(&cluster, &token).await,
        "401 Unauthorized: Unauthorized"
    );
    let status = review(&cluster, &token, &["vault", "other"]).await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["audiences"], json!(["vault"]));
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:bot"
    );
    assert_eq!(
        review(&cluster, &token, &[]).await["authenticated"],
        Value::Null
    );
    let status = review(&cluster, "nonsense", &[]).await;
    assert_eq!(
        status["error"],
        "[invalid bearer token, the token is not known]"
    );
    let status = review(&cluster, "jane-token", &[]).await;
    assert_eq!(status["user"]["username"], "jane");
    // Nobody reviews others' tokens unasked.
    let body = json!({"spec": {"token": "jane-token"}}).to_string();
    let refused = cluster
        .send_with(&format!("POST {REVIEWS}"), &body, &[JANE])
        .await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        cluster
            .failure(&format!("POST {REVIEWS}"), r#"{"spec":{"token":""}}"#)
            .await,
        "400 BadRequest: token is required for TokenReview in authentication"
    );
}

#[tokio::test]
async fn the_token_of_a_secret_holds_as_long_as_it_stands_there() {
    let config = config();
    let issuer = config.issuer.clone();
    let cluster = Cluster::start_with(config).await;
    let account = account(&cluster, "bot").await;
    let reference = api::auth::service_account::Reference {
        name: "bot".to_owned(),
        uid: account["metadata"]["uid"]
            .as_str()
            .expect("a uid")
            .to_owned(),
    };
    let token = issuer
        .mint_for_secret("default", &reference, "bot-token")
        .expect("a token");
    assert_eq!(
        whoami(&cluster, &token).await,
        "401 Unauthorized: Unauthorized"
    );
    let secret = json!({
        "metadata": {"name": "bot-token", "annotations": {"kubernetes.io/service-account.name": "bot"}},
        "type": "kubernetes.io/service-account-token",
        "stringData": {"token": token},
    });
    cluster
        .ok(&format!("POST {SECRETS}"), &secret.to_string())
        .await;
    let user = whoami(&cluster, &token).await;
    assert_eq!(user["username"], "system:serviceaccount:default:bot");
    cluster
        .ok(
            &format!("PATCH {SECRETS}/bot-token"),
            r#"{"data":{"token":"YQ=="}}"#,
        )
        .await;
    assert_eq!(
        whoami(&cluster, &token).await,
        "401 Unauthorized: Unauthorized"
    );
}

#[tokio::test]
async fn no_forged_token_is_anybodys() {
    let cluster = Cluster::start().await;
    account(&cluster, "bot").await;
    let token = token(&cluster, "bot", &json!({})).await;
    let parts: Vec<&str> = token.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let mut claims = claims(&token);
    claims["sub"] = "system:serviceaccount:kube-system:admin".into();
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    let deep = URL_SAFE_NO_PAD.encode("[".repeat(4000));
    for forged in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{claims}.{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}."),
        format!("{token}.{}", parts[2]),
        format!("{deep}.{deep}.{deep}"),
        "ey..".to_owned(),
        format!("ey{}", "a".repeat(20_000)),
    ] {
        assert_eq!(
            whoami(&cluster, &forged).await,
            "401 Unauthorized: Unauthorized",
            "{forged}"
        );
    }
}
