//! `wkctl port-forward`: local ports that lead into a pod, or into whichever ready pod a workload or Service
//! has at the moment.
//!
//! Each local connection is one connection to the pod. When a workload's pod ends, or is not ready any more,
//! its connections end with it, and those that come later go to another.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use futures::{
    StreamExt as _,
    stream::{self, FuturesUnordered, SelectAll},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    api::{Api, JSON, code},
    duration, forward, pods, query, selection,
    session::Session,
};

/// How long to wait for a ready pod, if the user does not say.
const START: Duration = Duration::from_secs(60);
/// Before a watch that ended is opened again.
const PAUSE: Duration = Duration::from_millis(500);
/// Local connections at once; more wait to be accepted.
const CONNECTIONS: usize = 512;

/// Forward local ports to a pod
#[derive(Args)]
pub(crate) struct PortForward {
    /// POD, or TYPE/NAME such as service/hello
    #[arg(value_name = "POD")]
    target: String,
    /// [LOCAL:]REMOTE; without a LOCAL the same port, with an empty one any free one
    #[arg(required = true, value_name = "PORT")]
    ports: Vec<String>,
    /// Where to listen: addresses, or localhost
    #[arg(long, default_value = "localhost", value_delimiter = ',')]
    address: Vec<String>,
    /// How long to wait for a pod that is ready: 30s, 5m
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pod_running_timeout: Option<Duration>,
}

/// One port: ours (0: any), and the other side's, a number or a name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pair {
    local: Option<u16>,
    remote: String,
}

fn parse_pair(text: &str) -> Result<Pair> {
    let invalid = || anyhow!("invalid port {text:?}, expected [LOCAL:]REMOTE");
    let (local, remote) = match text.split_once(':') {
        None => (text.parse::<u16>().ok(), text),
        Some(("", remote)) => (Some(0), remote),
        Some((local, remote)) => (Some(local.parse().map_err(|_| invalid())?), remote),
    };
    if remote.is_empty() || remote == "0" || remote.contains(':') {
        return Err(invalid());
    }
    Ok(Pair {
        local,
        remote: remote.to_owned(),
    })
}

/// What leads to pods.
struct Target {
    /// `service/web`
    name: String,
    /// Which pods; for one pod, only it.
    parameters: [(&'static str, String); 1],
    /// The Service, whose ports are not the pods'.
    service: Option<Value>,
    /// True if another pod is as good as the first.
    replaceable: bool,
}

impl Target {
    async fn find(session: &Session, namespace: &str, text: &str) -> Result<Self> {
        let one = |name: &str| Self {
            name: format!("pod/{name}"),
            parameters: [("fieldSelector", format!("metadata.name={name}"))],
            service: None,
            replaceable: false,
        };
        let Some((kind, name)) = text.split_once('/') else {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{text}");
            session.api().await?.get(&path).await?;
            return Ok(one(text));
        };
        let named = [format!("{kind}/{name}")];
        let resources = session.resources().await?;
        let named = selection::parse(resources, &named, "forward to")?;
        let Some((resource, _)) = named.first() else {
            bail!("name a pod");
        };
        let object = session
            .api()
            .await?
            .get(&resource.object(namespace, name))
            .await?;
        if resource.kind == "Pod" {
            return Ok(one(name));
        }
        let selector = pods::selector_of(&object);
        if selector.is_empty() {
            bail!(
                "cannot forward to {}: it selects no pods",
                resource.quoted(name)
            );
        }
        Ok(Self {
            name: resource.display(name),
            parameters: [("labelSelector", selector)],
            service: (resource.kind == "Service").then_some(object),
            replaceable: true,
        })
    }

    /// The port's number in a pod.
    fn port(&self, remote: &str, pod: &Value) -> Result<u16> {
        let wanted = match &self.service {
            Some(service) => target_port(service, remote)?,
            None => remote.to_owned(),
        };
        if let Ok(number) = wanted.parse() {
            return Ok(number);
        }
        let lists = ["containers", "initContainers"];
        let containers = lists.iter().filter_map(|list| pod["spec"][list].as_array());
        let mut ports = containers
            .flatten()
            .filter_map(|container| container["ports"].as_array())
            .flatten();
        let found = ports.find(|port| port["name"] == *wanted);
        let number = found.and_then(|port| u16::try_from(port["containerPort"].as_u64()?).ok());
        number.ok_or_else(|| {
            anyhow!(
                "Pod '{}' does not have a named port '{wanted}'",
                pods::name(pod)
            )
        })
    }
}

/// What a Service's port is in its pods: a number or a name.
fn target_port(service: &Value, remote: &str) -> Result<String> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let number = remote.parse::<u16>().ok();
    let mut found = ports.filter(|port| match number {
        Some(number) => port["port"] == number,
        None => port["name"] == remote,
    });
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let Some(port) = found.next() else {
        bail!("Service {name} does not have a service port {remote}");
    };
    // There is nobody between a headless Service's clients and its pods.
    if service["spec"]["clusterIP"] == "None" {
        return Ok(port["port"].to_string());
    }
    Ok(match &port["targetPort"] {
        Value::String(name) => name.clone(),
        Value::Number(number) => number.to_string(),
        _ => port["port"].to_string(),
    })
}

/// True if connections may go to a pod.
fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    pod["status"]["phase"] == "Running"
        && pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// True if connections may go to a pod that the user named, ready or not.
fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

/// Which pod of those that are there connections go to: the one they went to, as long as it will do, else the
/// newest that will. Pure.
fn choose<'a>(
    pods: &'a BTreeMap<String, Value>,
    now: Option<&str>,
    will_do: impl Fn(&Value) -> bool,
) -> Option<&'a Value> {
    let mut able = pods.values().filter(|pod| will_do(pod));
    let same = now.and_then(|now| able.clone().find(|pod| pods::name(pod) == now));
    let created = |pod: &&Value| pod["metadata"]["creationTimestamp"].to_string();
    same.or_else(|| able.by_ref().max_by_key(created))
}

impl PortForward {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let namespace = session.namespace().await?;
        let pairs = self.ports.iter().map(|text| parse_pair(text));
        let pairs: Vec<Pair> = pairs.collect::<Result<_>>()?;
        let target = Target::find(session, &namespace, &self.target).await?;
        let (chosen, mut pod) = watch::channel(None);
        let follow = follow(session, api, &namespace, &target, &chosen);
        tokio::pin!(follow);
        let patience = self.pod_running_timeout.unwrap_or(START);
        let first = tokio::select! {
            first = pod.wait_for(Option::is_some) => first.context("a pod is chosen")?.clone(),
            ended = &mut follow => return ended,
            () = tokio::time::sleep(patience) => {
                bail!("{} has no pod that is ready: timed out waiting for the condition", target.name)
            }
        };
        let first = first.unwrap_or_default();
        let mut accepted: SelectAll<_> = SelectAll::new();
        for pair in &pairs {
            let remote = target.port(&pair.remote, &first)?;
            let wanted = pair.local.unwrap_or(remote);
            for listener in listen(&self.address, wanted).await? {
                let local = listener.local_addr().context("read a listener's address")?;
                session.line(format_args!("Forwarding from {local} -> {remote}"))?;
                accepted.push(incoming(listener, local.port(), pair));
            }
        }
        let way = Way {
            session,
            api,
            namespace: &namespace,
            target: &target,
            pod,
        };
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                ended = &mut follow => return ended,
                Some(()) = open.next(), if !open.is_empty() => {}
                Some((local, pair, stream)) = accepted.next(), if open.len() < CONNECTIONS => {
                    session.line(format_args!("Handling connection for {local}"))?;
                    open.push(way.pass(local, pair, stream));
                }
            }
        }
    }
}

type Incoming<'a> = stream::LocalBoxStream<'a, (u16, &'a Pair, TcpStream)>;

/// The connections that come to a listener.
fn incoming(listener: TcpListener, local: u16, pair: &Pair) -> Incoming<'_> {
    stream::unfold(listener, move |listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some(((local, pair, stream), listener)),
                // The client is gone already, or there are too many of them: the listener itself is well.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    })
    .boxed_local()
}

/// Listens at every address; of those that localhost is, one is enough.
async fn listen(addresses: &[String], port: u16) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let ips: &[IpAddr] = match address.as_str() {
            "localhost" => &[
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ],
            text => &[text
                .parse()
                .map_err(|_| anyhow!("{text} is not a valid IP"))?],
        };
        let mut port = port;
        let mut failure = None;
        let before = listeners.len();
        for ip in ips {
            match TcpListener::bind(SocketAddr::new(*ip, port)).await {
                Ok(listener) => {
                    port = listener
                        .local_addr()
                        .context("read a listener's address")?
                        .port();
                    listeners.push(listener);
                }
                Err(error) => failure = Some((SocketAddr::new(*ip, port), error)),
            }
        }
        if let Some((address, error)) = failure.filter(|_| listeners.len() == before) {
            return Err(error).with_context(|| format!("unable to listen on {address}"));
        }
    }
    Ok(listeners)
}

/// The way to whichever pod is chosen.
struct Way<'a> {
    session: &'a Session,
    api: &'a Api,
    namespace: &'a str,
    target: &'a Target,
    pod: watch::Receiver<Option<Value>>,
}

impl Way<'_> {
    /// Joins a local connection to the pod's port; says what went wrong.
    async fn pass(&self, local: u16, pair: &Pair, stream: TcpStream) {
        if let Err(error) = self.join(pair, stream).await {
            self.session.note(format_args!(
                "error: an error occurred forwarding {local} -> {}: {error:#}",
                pair.remote
            ));
        }
    }

    async fn join(&self, pair: &Pair, stream: TcpStream) -> Result<()> {
        // Small writes are passed on at once; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        let mut chosen = self.pod.clone();
        let pod = match tokio::time::timeout(START, chosen.wait_for(Option::is_some)).await {
            Ok(pod) => pod.context("a pod is chosen")?.clone().unwrap_or_default(),
            Err(_) => bail!("{} has no pod that is ready", self.target.name),
        };
        let port = self.target.port(&pair.remote, &pod)?.to_string();
        let name = pods::name(&pod);
        let path = format!(
            "/api/v1/namespaces/{}/pods/{name}/portforward",
            self.namespace
        );
        let path = query::with(&path, &[("ports", &port)]);
        let (socket, _) = self.api.websocket(&path, forward::PROTOCOL).await?;
        let own = name.to_owned();
        let gone =
            chosen.wait_for(move |pod| pod.as_ref().is_none_or(|pod| pods::name(pod) != own));
        tokio::select! {
            joined = forward::join(socket, stream) => joined,
            _ = gone => bail!("lost connection to pod/{name}"),
        }
    }
}

/// Follows the target's pods, and chooses one of them as long as there is one that will do.
async fn follow(
    session: &Session,
    api: &Api,
    namespace: &str,
    target: &Target,
    chosen: &watch::Sender<Option<Value>>,
) -> Result<()> {
    let collection = format!("/api/v1/namespaces/{namespace}/pods");
    let [(name, value)] = &target.parameters;
    let narrow = [(*name, value.as_str())];
    loop {
        let list = match api.get(&query::with(&collection, &narrow)).await {
            Ok(list) => list,
            // The apiserver may be on its way back; connections that are open go on.
            Err(error) if code(&error).is_none() && chosen.borrow().is_some() => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let items = list["items"].as_array().into_iter().flatten();
        let mut known: BTreeMap<String, Value> = items
            .map(|pod| (pods::name(pod).to_owned(), pod.clone()))
            .collect();
        settle(session, target, &known, chosen)?;
        let revision = list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let watching = [narrow[0], ("watch", "true"), ("resourceVersion", revision)];
        if let Ok(events) = api.watch(&query::with(&collection, &watching), JSON).await {
            let mut events = Box::pin(events);
            while let Some(Ok((kind, pod))) = events.next().await {
                let name = pods::name(&pod).to_owned();
                match kind.as_str() {
                    "BOOKMARK" => continue,
                    "DELETED" => known.remove(&name),
                    _ => known.insert(name, pod),
                };
                settle(session, target, &known, chosen)?;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Chooses among the pods that are there. A pod that the user named is not replaced by another.
fn settle(
    session: &Session,
    target: &Target,
    known: &BTreeMap<String, Value>,
    chosen: &watch::Sender<Option<Value>>,
) -> Result<()> {
    let now = chosen
        .borrow()
        .as_ref()
        .map(|pod| pods::name(pod).to_owned());
    let will_do = if target.replaceable {
        is_ready
    } else {
        is_running
    };
    let next = choose(known, now.as_deref(), will_do);
    if !target.replaceable {
        let ended = known.values().find(|pod| pods::has_ended(pod));
        match ended {
            Some(pod) => bail!(
                "unable to forward port because pod is not running. Current status={}",
                pod["status"]["phase"].as_str().unwrap_or_default()
            ),
            None if known.is_empty() || (now.is_some() && next.is_none()) => {
                bail!("lost connection to pod")
            }
            None => {}
        }
    }
    let next_name = next.map(pods::name);
    if let (Some(_), Some(next)) = (&now, next_name)
        && now.as_deref() != Some(next)
    {
        session.note(format_args!("{} is pod/{next} now", target.name));
    }
    if now.as_deref() != next_name {
        chosen.send_replace(next.cloned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::session::fake::Server;

    fn pod(name: &str, created: &str, ready: bool) -> (String, Value) {
        let status = if ready { "True" } else { "False" };
        let pod = json!({
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
        });
        (name.to_owned(), pod)
    }

    #[test]
    fn a_pod_is_kept_while_it_will_do_and_then_the_newest_takes_its_place() {
        let chosen = |pods: &[(&str, &str, bool)], now: Option<&str>| {
            let pods = pods
                .iter()
                .map(|(name, created, ready)| pod(name, created, *ready));
            let pods: BTreeMap<_, _> = pods.collect();
            choose(&pods, now, is_ready).map(|pod| pods::name(pod).to_owned())
        };
        let all = [("a", "1", true), ("b", "3", true), ("c", "2", true)];
        assert_eq!(chosen(&all, Some("a")).as_deref(), Some("a"));
        assert_eq!(chosen(&all, Some("gone")).as_deref(), Some("b"));
        assert_eq!(
            chosen(&[("a", "1", false), ("b", "0", true)], Some("a")).as_deref(),
            Some("b")
        );
        assert_eq!(chosen(&[("a", "1", false)], Some("a")), None);
    }

    #[track_caller]
    fn check_pair(text: &str, expected: Expect) {
        expected.assert_eq(&match parse_pair(text) {
            Ok(Pair { local, remote }) => format!("{local:?} {remote}"),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn a_port_may_be_another_one_here() {
        check_pair("80", expect!["Some(80) 80"]);
        check_pair("http", expect!["None http"]);
        check_pair("8080:80", expect!["Some(8080) 80"]);
        check_pair(":http", expect!["Some(0) http"]);
        check_pair(
            "8080:",
            expect![[r#"invalid port "8080:", expected [LOCAL:]REMOTE"#]],
        );
        check_pair(
            "x:80",
            expect![[r#"invalid port "x:80", expected [LOCAL:]REMOTE"#]],
        );
    }

    #[test]
    fn a_services_port_is_another_one_in_its_pods() {
        let service = json!({
            "metadata": {"name": "web"},
            "spec": {"ports": [
                {"name": "http", "port": 80, "targetPort": "http"},
                {"name": "api", "port": 81, "targetPort": 9090},
            ]},
        });
        let target = |service: Option<Value>| Target {
            name: "service/web".to_owned(),
            parameters: [("labelSelector", "a=b".to_owned())],
            service,
            replaceable: true,
        };
        let (_, pod) = pod("a", "1", true);
        let port = |service: Option<&Value>, remote: &str| {
            let port = target(service.cloned()).port(remote, &pod);
            port.map_err(|error| error.to_string())
        };
        assert_eq!(port(Some(&service), "80"), Ok(8080));
        assert_eq!(port(Some(&service), "api"), Ok(9090));
        assert_eq!(
            port(Some(&service), "82"),
            Err("Service web does not have a service port 82".to_owned())
        );
        assert_eq!(port(None, "82"), Ok(82));
        assert_eq!(
            port(None, "api"),
            Err("Pod 'a' does not have a named port 'api'".to_owned())
        );
    }

    #[tokio::test]
    async fn a_pod_that_does_not_run_is_not_forwarded_to() {
        let pods = "/api/v1/namespaces/default/pods";
        let ended = json!({"metadata": {"name": "a"}, "status": {"phase": "Succeeded"}});
        let server = Server::new()
            .on(&format!("GET {pods}/a"), ended.clone())
            .on(
                &format!("GET {pods}?fieldSelector=metadata.name%3Da"),
                json!({"items": [ended]}),
            );
        expect![[r#"
            ! error: unable to forward port because pod is not running. Current status=Succeeded
            exit 1
        "#]]
        .assert_eq(&server.run("port-forward a 80").await);
    }
}
