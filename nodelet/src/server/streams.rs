//! `/exec/…`, `/attach/…` and `/portForward/…`: requests whose connections become sessions, as the kubelet has them.
//!
//! What is wrong before the connection is upgraded is answered with a `Status`; after it, on the session's error
//! stream. Parameters have the kubelet's names: `command`, `input`, `output`, `error`, `tty`, `port`.

mod parameters;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{StatusCode, request::Parts},
    response::Response,
    routing::get,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use runtimes::{ContainerId, PodAddress, PodRef, Process, RuntimeError};
use streaming::{
    Negotiated, PortForward, Purpose, RemoteCommand, SessionError, Verb, negotiate, port_forward,
};
use tokio::{net::TcpStream, sync::watch};
use tracing::debug;

use self::parameters::Parameters;
use super::{Shared, refusal::Refusal};
use crate::{
    pod::{
        place::is_on_host,
        worker::{ContainerView, Context},
    },
    sessions::{Kind, Slot},
};

/// How long the connection may take to be handed over once the answer is sent.
const UPGRADE: Duration = Duration::from_secs(10);
/// How long a session may take to say how its container ended.
const FAREWELL: Duration = Duration::from_secs(10);

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/exec/{namespace}/{pod}/{container}", get(exec).post(exec))
        .route(
            "/attach/{namespace}/{pod}/{container}",
            get(attach).post(attach),
        )
        .route("/portForward/{namespace}/{pod}", get(forward).post(forward))
}

/// A container that runs.
struct Running {
    pod: Arc<Pod>,
    container: String,
    attempt: u32,
    id: ContainerId,
    views: watch::Receiver<Vec<ContainerView>>,
}

impl Running {
    fn find(
        shared: &Shared,
        namespace: &str,
        name: &str,
        container: String,
    ) -> Result<Running, Refusal> {
        let (pod, views) = find_pod(shared, namespace, name)?;
        let missing = format!("container not found ({container:?})");
        let attempt = {
            let views = views.borrow();
            let view = views.iter().find(|view| *view.name == *container);
            let Some(view) = view else {
                return Err(Refusal::new(StatusCode::NOT_FOUND, missing));
            };
            view.attempt
                .filter(|_| view.running)
                .ok_or_else(|| Refusal::bad(missing))?
        };
        Ok(Running {
            pod: shared.pods.get(&pod.uid).ok_or_else(no_pod)?,
            id: ContainerId(format!("{}/{container}/{attempt}", pod.uid).into()),
            container,
            attempt,
            views,
        })
    }

    /// What the pod's spec says of the container's own streams: stdin, stdinOnce, tty.
    fn streams(&self) -> (bool, bool, bool) {
        let spec = self.pod.spec.as_ref();
        let usual = spec.into_iter().flat_map(|spec| {
            spec.init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
        });
        let usual = usual.map(|c| (&c.name, c.stdin, c.stdin_once, c.tty));
        let ephemeral = spec
            .into_iter()
            .flat_map(|spec| spec.ephemeral_containers.iter().flatten());
        let ephemeral = ephemeral.map(|c| (&c.name, c.stdin, c.stdin_once, c.tty));
        let found = usual
            .chain(ephemeral)
            .find(|(name, ..)| **name == self.container);
        let on = |switch: Option<bool>| switch.unwrap_or_default();
        found.map_or_else(Default::default, |(_, stdin, once, tty)| {
            (on(stdin), on(once), on(tty))
        })
    }

    /// Waits until the container has ended.
    async fn ended(mut self) {
        let ended = |views: &Vec<ContainerView>| {
            let view = views.iter().find(|view| *view.name == *self.container);
            view.is_none_or(|view| !view.running || view.attempt != Some(self.attempt))
        };
        // An error is that the pod's worker has ended, and the pod with it.
        let _ = self.views.wait_for(ended).await;
    }
}

fn no_pod() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "pod does not exist")
}

fn find_pod(
    shared: &Shared,
    namespace: &str,
    name: &str,
) -> Result<(PodRef, watch::Receiver<Vec<ContainerView>>), Refusal> {
    shared.pods.find(namespace, name).ok_or_else(no_pod)
}

/// A connection that may become a session.
struct Opening {
    negotiated: Negotiated,
    upgrade: OnUpgrade,
    slot: Slot,
}

impl Opening {
    fn new(shared: &Shared, request: &mut Parts, kind: Kind) -> Result<Opening, Refusal> {
        let purpose = match kind {
            Kind::PortForward => Purpose::PortForward,
            Kind::Exec | Kind::Attach => Purpose::RemoteCommand,
        };
        let negotiated = negotiate(request, purpose).map_err(|refused| Refusal {
            code: refused.status,
            message: refused.message,
            headers: refused.headers,
        })?;
        let upgrade = request.extensions.remove::<OnUpgrade>();
        let upgrade =
            upgrade.ok_or_else(|| Refusal::bad("unable to upgrade: the connection cannot be"))?;
        let busy = || {
            Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many exec, attach and port-forward sessions on this node",
            )
        };
        let slot = shared.sessions.reserve(kind).ok_or_else(busy)?;
        Ok(Opening {
            negotiated,
            upgrade,
            slot,
        })
    }

    /// Answers, and runs the session on what the connection is then, until `over`.
    fn run<S>(
        self,
        shared: &Shared,
        over: impl Future<Output = ()> + Send + 'static,
        session: impl FnOnce(TokioIo<Upgraded>, Negotiated) -> S + Send + 'static,
    ) -> Response
    where
        S: Future<Output = Result<(), SessionError>> + Send,
    {
        let Opening {
            negotiated,
            upgrade,
            slot,
        } = self;
        let answer = negotiated.response().map(|()| Body::empty());
        shared.sessions.run(slot, async move {
            let connection = match tokio::time::timeout(UPGRADE, upgrade).await {
                Ok(Ok(connection)) => TokioIo::new(connection),
                Ok(Err(error)) => return debug!(%error, "upgrade a connection"),
                Err(_) => return debug!("a connection was not upgraded in time"),
            };
            tokio::select! {
                ended = session(connection, negotiated) => if let Err(error) = ended {
                    debug!(error = %chain(&error), "a session broke off");
                },
                () = over => {}
            }
        });
        answer
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn exec(
    State(shared): State<Shared>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    let Parameters { command, stdio, .. } = Parameters::parse(query);
    if !(stdio.stdin || stdio.stdout || stdio.stderr) {
        return Err(Refusal::bad(parameters::NO_STREAM));
    }
    if command.is_empty() {
        return Err(Refusal::bad("you must specify at least 1 command"));
    }
    let running = Running::find(&shared, &namespace, &pod, container)?;
    let opening = Opening::new(&shared, &mut request.into_parts().0, Kind::Exec)?;
    let session = RemoteCommand {
        verb: Verb::Exec {
            command: command.clone(),
        },
        stdio,
        idle: shared.context.config.streaming_idle_timeout,
    };
    let (context, id) = (shared.context.clone(), running.id.clone());
    let start = async move {
        for runtime in &context.runtimes {
            match runtime.exec(&id, command.clone(), stdio).await {
                Err(RuntimeError::NotFound(_)) => {}
                answer => return answer,
            }
        }
        Err(RuntimeError::NotFound(id))
    };
    Ok(command_session(&shared, opening, running, session, start))
}

async fn attach(
    State(shared): State<Shared>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    let Parameters { mut stdio, .. } = Parameters::parse(query);
    if !(stdio.stdin || stdio.stdout || stdio.stderr) {
        return Err(Refusal::bad(parameters::NO_STREAM));
    }
    let running = Running::find(&shared, &namespace, &pod, container)?;
    let opening = Opening::new(&shared, &mut request.into_parts().0, Kind::Attach)?;
    let (has_stdin, stdin_once, tty) = running.streams();
    // Whether there is a terminal was settled when the container was made.
    stdio.tty = tty;
    stdio.stderr &= !tty;
    let session = RemoteCommand {
        verb: Verb::Attach { stdin_once },
        stdio,
        idle: shared.context.config.streaming_idle_timeout,
    };
    // What is sent to a container without an input is thrown away, as the kubelet does.
    stdio.stdin &= has_stdin;
    let (context, id) = (shared.context.clone(), running.id.clone());
    let start = async move {
        for runtime in &context.runtimes {
            match runtime.attach(&id, stdio).await {
                Err(RuntimeError::NotFound(_)) => {}
                answer => return answer,
            }
        }
        Err(RuntimeError::NotFound(id))
    };
    Ok(command_session(&shared, opening, running, session, start))
}

/// Runs a session for as long as its container runs. A runtime ends what runs in a container with it, and the session
/// tells how: the time for that is bounded.
fn command_session(
    shared: &Shared,
    opening: Opening,
    running: Running,
    session: RemoteCommand,
    start: impl Future<Output = Result<Process, RuntimeError>> + Send + 'static,
) -> Response {
    let over = async move {
        running.ended().await;
        tokio::time::sleep(FAREWELL).await;
    };
    opening.run(shared, over, |connection, negotiated| async move {
        session.serve(connection, &negotiated, start).await
    })
}

async fn forward(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    let (pod, mut views) = find_pod(&shared, &namespace, &name)?;
    let target = forward_target(&shared, &pod.uid)
        .ok_or_else(|| Refusal::bad(format!("pod {name:?} has no address yet")))?;
    let opening = Opening::new(&shared, &mut request.into_parts().0, Kind::PortForward)?;
    let ports = if opening.negotiated.ports_in_request() {
        let values = Parameters::parse(query).ports;
        port_forward::parse_ports(values.iter().map(String::as_str)).map_err(Refusal::bad)?
    } else {
        Vec::new()
    };
    let session = PortForward {
        pod: pod.name,
        uid: pod.uid,
        ports,
        idle: shared.context.config.streaming_idle_timeout,
    };
    // Until nothing is left of the pod: containers that start again keep their ports.
    let over = async move { while views.changed().await.is_ok() {} };
    let context: Arc<Context> = shared.context.clone();
    Ok(
        opening.run(&shared, over, move |connection, negotiated| async move {
            let connect = |port| {
                let context = context.clone();
                async move {
                    match target {
                        ForwardTarget::Pod(address) => context.network.connect(address, port).await,
                        ForwardTarget::Host(ip) => connect_on_host(ip, port).await,
                    }
                }
            };
            session.serve(connection, &negotiated, connect).await
        }),
    )
}

/// Where a pod's ports are.
#[derive(Clone, Copy)]
enum ForwardTarget {
    Pod(PodAddress),
    /// Its node's own, at this address and at the host's loopback address.
    Host(IpAddr),
}

fn forward_target(shared: &Shared, uid: &str) -> Option<ForwardTarget> {
    if shared.pods.get(uid).is_some_and(|pod| is_on_host(&pod)) {
        let ip = *shared.context.config.addresses.first()?;
        return Some(ForwardTarget::Host(ip));
    }
    shared.context.network.find(uid).map(ForwardTarget::Pod)
}

async fn connect_on_host(ip: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            TcpStream::connect((ip, port)).await
        }
        connected => connected,
    }
}
