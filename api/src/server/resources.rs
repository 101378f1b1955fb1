//! From a path and a method to the verb that answers: find the kind, ask whether the user may, serve.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    path::{self, Target},
    state::{Resource, Server},
};
use crate::{
    accept::Format,
    auth::{self, Attributes, User},
    error::{Denial, Error},
    kinds::{METRICS_GROUP, Subresource},
    metrics::Asked,
    metrics_api, reviews,
    selector::FieldSelector,
    serve::Draining,
    subresources::{
        attach, binding, eviction, exec, finalize, log, portforward, proxy, scale, status, stream,
        token,
    },
    verbs::{
        accept, answer,
        call::{Call, Warnings},
        change::Part,
        create, delete, deletecollection, get, list, managed, patch,
        query::Query,
        transaction, update, watch,
    },
};

/// Answers every path that no other route answers.
pub(crate) async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let mut asked = None;
    let mut response = match route(server, request, &mut asked).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    if let Some(asked) = asked {
        response.extensions_mut().insert::<Asked>(asked);
    }
    response
}

async fn route(
    server: Arc<Server>,
    request: Request,
    asked: &mut Option<Asked>,
) -> Result<Response, Error> {
    let (mut parts, body) = request.into_parts();
    let user = parts
        .extensions
        .get::<User>()
        .cloned()
        .ok_or(Error::Unauthorized)?;
    let draining = parts
        .extensions
        .get::<Draining>()
        .map_or_else(CancellationToken::new, |draining| draining.0.clone());
    let target = path::parse(parts.uri.path()).ok_or(Error::NoSuchPath)?;
    let query = Query::read(&parts.uri)?;
    let watching = matches!(parts.method, Method::GET)
        && target.subresource.is_none()
        && (target.watching || query.flag("watch")?.unwrap_or(false));
    if target.watching && !watching {
        return Err(Error::MethodNotAllowed);
    }
    let verb = match parts.method {
        // What it asks is the backend's to say; it changes nothing.
        Method::OPTIONS if target.is_proxied() => Some("get"),
        _ => verb(&parts.method, target.name.is_some(), watching),
    };
    let verb = verb.ok_or(Error::MethodNotAllowed)?;
    let span = tracing::info_span!(
        "api",
        otel.name = format!("api.{}.{verb}", target.plural),
        resource = target.plural,
        verb,
        namespace = target.namespace,
        name = target.name.as_deref().unwrap_or_default(),
        user = user.name,
    );
    let request = Parts {
        upgrade: parts.extensions.remove(),
        user,
        draining,
        target,
        query,
        verb,
        method: parts.method,
        headers: parts.headers,
        uri: parts.uri,
    };
    request.answer(server, body, asked).instrument(span).await
}

/// The API verb of a request.
fn verb(method: &Method, named: bool, watching: bool) -> Option<&'static str> {
    Some(match (method.as_str(), named) {
        ("GET" | "HEAD", _) if watching => "watch",
        ("GET" | "HEAD", true) => "get",
        ("GET" | "HEAD", false) => "list",
        ("POST", _) => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return None,
    })
}

struct Parts {
    user: User,
    draining: CancellationToken,
    target: Target,
    query: Query,
    verb: &'static str,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Option<OnUpgrade>,
}

impl Parts {
    async fn answer(
        self,
        server: Arc<Server>,
        body: Body,
        asked: &mut Option<Asked>,
    ) -> Result<Response, Error> {
        tracing::debug!(uri = %self.uri, "request");
        let target = &self.target;
        self.authorize(&server).await?;
        let resource = server
            .find(&target.group, &target.version, &target.plural)
            .ok_or(Error::NoSuchPath)?;
        let names = resource.names();
        if !names.namespaced && !target.namespace.is_empty() {
            return Err(Error::NoSuchPath);
        }
        if names.namespaced && target.namespace.is_empty() && target.name.is_some() {
            return Err(Error::NoSuchPath);
        }
        let subresource = match &target.subresource {
            None => None,
            Some(text) => Some(
                parse_subresource(text)
                    .filter(|subresource| resource.kind.subresources().contains(subresource))
                    .ok_or(Error::NoSuchPath)?,
            ),
        };
        *asked = Some(self.asked(&resource));
        if subresource.is_none() && !resource.kind.verbs().contains(&self.verb) {
            return Err(Error::MethodNotAllowed);
        }
        let call = Call {
            namespace: target.namespace.clone(),
            name: target.name.clone().unwrap_or_default(),
            view: match subresource {
                None | Some(Subresource::Status | Subresource::Approval | Subresource::Scale) => {
                    view(&self.headers, self.verb)?
                }
                Some(_) => accept::View::Object,
            },
            user: self.user,
            query: self.query,
            headers: self.headers,
            subresource,
            draining: self.draining,
            warnings: Warnings::default(),
            together: None,
            resource,
            server,
        };
        if let (Some(Subresource::Proxy), Some(beyond)) = (subresource, self.target.beyond) {
            let incoming = proxy::Incoming {
                method: self.method,
                uri: self.uri,
                beyond,
                body,
                upgrade: self.upgrade,
            };
            return proxy::serve(call, incoming).await;
        }
        if let Some(part) = subresource.filter(|part| stream::leads_into_a_pod(*part)) {
            let opening = stream::Opening {
                method: self.method,
                upgrade: self.upgrade,
            };
            return match part {
                Subresource::Attach => attach::serve(&call, opening).await,
                Subresource::PortForward => portforward::serve(&call, opening).await,
                _ => exec::serve(&call, opening).await,
            };
        }
        managed::check_options(&call, self.verb)?;
        let reads = matches!(self.verb, "get" | "list" | "watch");
        let body = if reads {
            Bytes::new()
        } else {
            read_body(&call.headers, body, call.server.config.limits.body_bytes).await?
        };
        let warnings = call.warnings.clone();
        if let Some(text) = call
            .resource
            .kind
            .custom()
            .and_then(|kind| kind.deprecation())
        {
            warnings.add(text);
        }
        let answered = match subresource {
            None if call.resource.names().group == METRICS_GROUP => {
                metrics_api::serve(&call, self.verb).await
            }
            None if call.resource.names().group == transaction::GROUP
                && !call.resource.kind.is_stored() =>
            {
                transaction::serve(&call, &body).await
            }
            None if !call.resource.kind.is_stored() => reviews::serve(&call, &body).await,
            None => serve_object(call, self.verb, &body).await,
            Some(Subresource::Status) => {
                status::serve(&call, &self.method, &body, Part::Status).await
            }
            Some(Subresource::Approval) => {
                status::serve(&call, &self.method, &body, Part::Approval).await
            }
            Some(Subresource::EphemeralContainers) => {
                status::serve(&call, &self.method, &body, Part::EphemeralContainers).await
            }
            Some(Subresource::Resize) => {
                status::serve(&call, &self.method, &body, Part::Resize).await
            }
            Some(Subresource::Scale) => scale::serve(&call, &self.method, &body).await,
            Some(Subresource::Log) => log::serve(&call, &self.method).await,
            Some(Subresource::Binding) => binding::serve(&call, &self.method, &body).await,
            Some(Subresource::Finalize) => finalize::serve(&call, &self.method, &body).await,
            Some(Subresource::Eviction) => eviction::serve(&call, &self.method, &body).await,
            Some(Subresource::Token) => token::serve(&call, &self.method, &body).await,
            Some(
                Subresource::Attach
                | Subresource::Exec
                | Subresource::PortForward
                | Subresource::Proxy,
            ) => Err(Error::NoSuchPath),
        };
        let mut response = answered.unwrap_or_else(Error::into_response);
        answer::warn(&mut response, &warnings.take());
        Ok(response)
    }
}

impl Parts {
    /// May the user do this? Asked before anything is said of what there is.
    async fn authorize(&self, server: &Server) -> Result<(), Error> {
        let target = &self.target;
        let fields = match self.verb {
            "list" | "watch" | "deletecollection" => {
                let text = self.query.text("fieldSelector");
                // One that cannot be read is refused once it is known who may ask.
                text.and_then(|text| FieldSelector::parse(text).ok())
            }
            _ => None,
        };
        let selected = fields.as_ref().and_then(named);
        let name = target.name.as_deref().or(selected).unwrap_or_default();
        // A Namespace is in itself: whoever may read what is in it may be allowed to read it too.
        let itself = target.group.is_empty() && target.plural == "namespaces";
        let asked = auth::authorizer::Resource {
            group: &target.group,
            resource: &target.plural,
            subresource: target.subresource.as_deref().unwrap_or_default(),
            namespace: if itself { name } else { &target.namespace },
            name,
            fields: fields.as_ref(),
        };
        allow(server, &self.user, &Attributes::resource(self.verb, asked)).await
    }

    /// What is counted. The resource is one that is served, and so is its subresource.
    fn asked(&self, resource: &Resource) -> Asked {
        let target = &self.target;
        let names = resource.names();
        let patches = self.headers.get(http::header::CONTENT_TYPE);
        let applies = patches.is_some_and(|media| media.as_bytes().starts_with(APPLY));
        let part = target.subresource.as_deref().and_then(parse_subresource);
        let connects = part.is_some_and(|part| part.options_kind(names.kind).is_some());
        Asked {
            verb: match self.verb {
                _ if connects => "CONNECT",
                "get" => "GET",
                "list" => "LIST",
                "watch" => "WATCH",
                "create" => "POST",
                "update" => "PUT",
                "patch" if applies => "APPLY",
                "patch" => "PATCH",
                "delete" => "DELETE",
                _ => "DELETECOLLECTION",
            },
            dry_run: match self.query.dry_run() {
                Ok(true) => "All",
                _ => "",
            },
            group: names.group.to_string(),
            version: names.version.to_string(),
            resource: names.plural.to_string(),
            subresource: target.subresource.clone().unwrap_or_default(),
            scope: match (&target.name, target.namespace.is_empty()) {
                (Some(_), _) => "resource",
                (None, false) => "namespace",
                (None, true) => "cluster",
            },
            component: "apiserver",
        }
    }
}

const APPLY: &[u8] = b"application/apply-patch";

/// How the answer is shown. A watch is a stream of JSON: no other format is one.
fn view(headers: &HeaderMap, verb: &str) -> Result<accept::View, Error> {
    match accept::negotiate(headers)? {
        (_, Format::Yaml) if verb == "watch" => Err(Error::NotAcceptable),
        (view, _) => Ok(view),
    }
}

/// Asks whether a user may; an error says why not.
pub(crate) async fn allow(
    server: &Server,
    user: &User,
    asked: &Attributes<'_>,
) -> Result<(), Error> {
    let decision = server.authorizer.decide_current(user, asked).await;
    match decision.allowed {
        true => Ok(()),
        false => Err(Denial::of(asked, user, &decision).into()),
    }
}

/// The one name that a field selector allows.
fn named(selector: &FieldSelector) -> Option<&str> {
    let mut required = selector.requirements().iter();
    let (_, _, name) = required.find(|(field, equal, _)| *equal && field == "metadata.name")?;
    Some(name)
}

async fn serve_object(call: Call, verb: &str, body: &Bytes) -> Result<Response, Error> {
    if let Some(deprecation) = call.resource.kind.deprecation() {
        call.warnings.add(deprecation.to_owned());
    }
    let is_binding = call.resource.names().definition == "io.k8s.api.core.v1.Binding";
    let answer = match verb {
        "watch" => return watch::watch(call).await,
        "create" if is_binding => return binding::create(call, body).await,
        "get" => get::get(&call).await?,
        "list" => list::list(&call).await?,
        "create" if call.name.is_empty() => create::create(&call, body).await?,
        "update" => update::update(&call, Part::Main, body).await?,
        "patch" => patch::patch(&call, Part::Main, body).await?,
        "delete" => delete::delete(&call, body).await?,
        "deletecollection" => deletecollection::delete_collection(&call, body).await?,
        _ => return Err(Error::MethodNotAllowed),
    };
    Ok(answer.into_response())
}

fn parse_subresource(text: &str) -> Option<Subresource> {
    Some(match text {
        "status" => Subresource::Status,
        "approval" => Subresource::Approval,
        "scale" => Subresource::Scale,
        "ephemeralcontainers" => Subresource::EphemeralContainers,
        "eviction" => Subresource::Eviction,
        "resize" => Subresource::Resize,
        "attach" => Subresource::Attach,
        "exec" => Subresource::Exec,
        "log" => Subresource::Log,
        "portforward" => Subresource::PortForward,
        "binding" => Subresource::Binding,
        "finalize" => Subresource::Finalize,
        "proxy" => Subresource::Proxy,
        "token" => Subresource::Token,
        _ => return None,
    })
}

async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Error> {
    let coding = headers.get(http::header::CONTENT_ENCODING);
    if let Some(coding) = coding.filter(|coding| *coding != "identity") {
        return Err(Error::UnsupportedMediaType(format!(
            "the body of the request is encoded ({}): send it as it is",
            coding.to_str().unwrap_or_default()
        )));
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::TooLarge { limit }),
        Err(error) => Err(Error::BadRequest(format!(
            "the body cannot be read: {error}"
        ))),
    }
}
