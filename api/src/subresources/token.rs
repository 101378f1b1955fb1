//! POST `serviceaccounts/<name>/token`: a token for the ServiceAccount, which may be bound to a pod, a
//! secret or a node: it ends with that.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    admission::{self, Review},
    auth::service_account::{About, REVISIONS, Reference, find},
    error::{Error, Subject},
    field::{FieldErrors, Path},
    object, schema, time,
    verbs::{answer::Answer, call::Call, decode},
};

const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;
const USUAL_SECONDS: i64 = 3600;
const VERSION: &str = "authentication.k8s.io/v1";

pub(crate) async fn serve(call: &Call, method: &Method, body: &Bytes) -> Result<Response, Error> {
    if *method != Method::POST {
        return Err(Error::MethodNotAllowed);
    }
    let request = decode::body(call, body, VERSION, "TokenRequest")?.value;
    let mut request = checked(request)?;
    call.server.cache.fresh().await?;
    let account = find(
        &call.server.cache,
        "serviceaccounts",
        &call.namespace,
        &call.name,
    )
    .ok_or_else(|| call.not_found(&call.name))?;
    let wanted = object::uid(&request);
    if !wanted.is_empty() && wanted != object::uid(&account) {
        return Err(Error::Conflict {
            subject: call.subject(&call.name),
            message: format!(
                "the UID in the token request ({wanted}) does not match the UID of the service account ({})",
                object::uid(&account)
            ),
        });
    }
    let review = Review::create(call, &call.name)?;
    admission::mutate(&review, Some(&mut request), None).await?;
    let spec = complete(call, &mut request)?;
    admission::validate(&review, Some(&request), None).await?;
    let about = about(call, &account, &request["spec"]["boundObjectRef"])?;
    let minted = call
        .server
        .config
        .issuer
        .mint(about, &spec.audiences, spec.seconds, call.server.now())
        .map_err(Error::internal)?;
    request["apiVersion"] = VERSION.into();
    request["kind"] = "TokenRequest".into();
    request["metadata"] = json!({
        "name": call.name,
        "namespace": call.namespace,
        "creationTimestamp": time::seconds(call.server.now()),
    });
    request["status"] = json!({
        "token": if call.query.dry_run()? { "" } else { &minted.token },
        "expirationTimestamp": time::seconds(minted.expires),
    });
    Ok(Answer::json(StatusCode::CREATED, &request).into_response())
}

/// The request as its schema has it.
fn checked(request: Value) -> Result<Value, Error> {
    let schema = schema::builtin("io.k8s.api.authentication.v1.TokenRequest")
        .expect("the facts define every built-in kind");
    let checked = schema::check(&schema, request);
    let Some(error) = checked.errors.first() else {
        return Ok(checked.value);
    };
    Err(Error::BadRequest(format!(
        "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: {}: {}",
        error.path, error.message
    )))
}

struct Spec {
    audiences: Vec<String>,
    seconds: i64,
}

/// Fills in what the request left out, and checks it.
fn complete(call: &Call, request: &mut Value) -> Result<Spec, Error> {
    let path = Path::root("spec");
    let spec = &mut request["spec"];
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = USUAL_SECONDS.into();
    }
    if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
        spec["audiences"] = json!([call.server.config.issuer.url]);
    }
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or_default();
    let mut errors = FieldErrors::default();
    let place = path.field("expirationSeconds");
    if seconds < LEAST_SECONDS {
        errors.invalid(
            &place,
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > MOST_SECONDS {
        errors.invalid(
            &place,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    if !errors.is_empty() {
        return Err(Error::Invalid {
            subject: Subject {
                group: "authentication.k8s.io",
                kind: "TokenRequest",
                name: call.name.clone(),
                ..Subject::default()
            },
            errors,
        });
    }
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    Ok(Spec {
        audiences: audiences
            .filter_map(|audience| Some(audience.as_str()?.to_owned()))
            .collect(),
        seconds,
    })
}

/// What the token is about: the account, and the object that it is bound to, which must be there.
fn about(call: &Call, account: &Value, bound: &Value) -> Result<About, Error> {
    let mut about = About {
        namespace: call.namespace.clone(),
        serviceaccount: reference(account),
        ..About::default()
    };
    if !bound.is_object() {
        return Ok(about);
    }
    let text = |field: &str| bound[field].as_str().unwrap_or_default();
    let (plural, kind, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1" | "", "Pod") => ("pods", "Pod", call.namespace.as_str()),
        ("v1" | "", "Secret") => ("secrets", "Secret", call.namespace.as_str()),
        ("v1" | "", "Node") => ("nodes", "Node", ""),
        ("functions.wk.dev/v1", "FunctionRevision") => {
            (REVISIONS, "FunctionRevision", call.namespace.as_str())
        }
        (version, kind) => {
            return Err(Error::BadRequest(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let name = text("name");
    let subject = Subject {
        resource: plural,
        kind,
        name: name.to_owned(),
        ..Subject::default()
    };
    let Some(object) = find(&call.server.cache, plural, namespace, name) else {
        return Err(Error::NotFound(subject));
    };
    let uid = text("uid");
    if !uid.is_empty() && uid != object::uid(&object) {
        return Err(Error::Conflict {
            subject,
            message: format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        });
    }
    match kind {
        "Pod" => {
            let own = object["spec"]["serviceAccountName"].as_str();
            if own.unwrap_or("default") != call.name {
                return Err(Error::BadRequest(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.name
                )));
            }
            let node = object["spec"]["nodeName"].as_str().unwrap_or_default();
            about.node = (!node.is_empty()).then(|| {
                let found = find(&call.server.cache, "nodes", "", node);
                found.map_or_else(
                    || Reference {
                        name: node.to_owned(),
                        uid: String::new(),
                    },
                    |node| reference(&node),
                )
            });
            about.pod = Some(reference(&object));
        }
        "FunctionRevision" => {
            let own = object["spec"]["serviceAccountName"].as_str();
            if own.unwrap_or("default") != call.name {
                return Err(Error::BadRequest(format!(
                    "cannot bind token for serviceaccount {:?} to functionrevision running with different serviceaccount name.",
                    call.name
                )));
            }
            about.functionrevision = Some(reference(&object));
        }
        "Secret" => about.secret = Some(reference(&object)),
        _ => about.node = Some(reference(&object)),
    }
    Ok(about)
}

fn reference(object: &Value) -> Reference {
    Reference {
        name: object::name(object).to_owned(),
        uid: object::uid(object).to_owned(),
    }
}
