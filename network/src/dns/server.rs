//! The DNS server of a node, for containers and for the host: UDP and TCP (privileged).
//!
//! Answers for the cluster's domain from the directory, and asks the host's resolvers for the rest.
//! It listens on the host's address of the Wasm pods' link; the host's rules lead the cluster's DNS
//! address there, so nothing is on the host by that address and every node answers its own pods.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use async_trait::async_trait;
use hickory_proto::{
    op::{Edns, MessageType, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::{TcpListener, UdpSocket};

use super::{
    upstream::Upstream,
    zone::{Found, Zone},
};
use crate::{handle::Shared, metrics};

const PORT: u16 = 53;

/// How long a TCP connection may stay silent.
const IDLE: Duration = Duration::from_secs(10);

/// Answers that wait to be read on one TCP connection.
const BUFFERED: usize = 32;

/// What a client that says nothing of it takes in one datagram, and what is sent at most: larger ones
/// are broken up on their way, or lost.
const MIN_PAYLOAD: u16 = 512;
const MAX_PAYLOAD: u16 = 1_232;

/// Where a server listens.
pub(crate) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    pub(crate) address: SocketAddrV4,
}

impl Sockets {
    /// Listens at an address: on the usual port, or if another server of the host has it on any other.
    pub(crate) async fn bind(ip: Ipv4Addr) -> io::Result<Self> {
        match Self::bind_to(ip, PORT).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                // The same free port for both: another may be faster, so it is tried a few times.
                let mut last = error;
                for _ in 0..8 {
                    let free = UdpSocket::bind((ip, 0)).await?.local_addr()?.port();
                    match Self::bind_to(ip, free).await {
                        Err(error) => last = error,
                        bound => return bound,
                    }
                }
                Err(last)
            }
            bound => bound,
        }
    }

    async fn bind_to(ip: Ipv4Addr, port: u16) -> io::Result<Self> {
        Ok(Self {
            udp: UdpSocket::bind((ip, port)).await?,
            tcp: TcpListener::bind((ip, port)).await?,
            address: SocketAddrV4::new(ip, port),
        })
    }
}

/// Serves until it is dropped; without sockets (rootless) there is nothing to serve.
pub(crate) async fn run(shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut range = shared.subscribe_range();
    range.wait_for(Option::is_some).await?;
    let Some(sockets) = shared.take_dns_sockets() else {
        return std::future::pending().await;
    };
    let own = [shared.config.dns_address(), Some(*sockets.address.ip())];
    let own = own.into_iter().flatten().map(Into::into);
    let mut server = Server::new(Handler {
        upstream: Upstream::new(own),
        shared,
        turn: AtomicUsize::new(0),
    });
    server.register_socket(sockets.udp);
    server.register_listener(sockets.tcp, IDLE, BUFFERED);
    server.block_until_done().await.context("serve DNS")
}

struct Handler {
    shared: Arc<Shared>,
    upstream: Upstream,
    /// Which of a name's addresses comes first.
    turn: AtomicUsize,
}

/// What is told to a client.
struct Answer {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    soa: Option<Record>,
    additionals: Vec<Record>,
}

impl Answer {
    fn error(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            answers: Vec::new(),
            soa: None,
            additionals: Vec::new(),
        }
    }
}

impl Handler {
    async fn answer(&self, request: &Request) -> Answer {
        if request.metadata.op_code != OpCode::Query {
            return Answer::error(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Answer::error(ResponseCode::BADVERS);
        }
        let Ok(info) = request.request_info() else {
            return Answer::error(ResponseCode::FormErr);
        };
        let (name, kind) = (Name::from(info.query.name()), info.query.query_type());
        if info.query.query_class() != DNSClass::IN {
            return Answer::error(ResponseCode::Refused);
        }
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Answer::error(ResponseCode::Refused);
        }
        self.find(name, kind).await
    }

    async fn find(&self, name: Name, kind: RecordType) -> Answer {
        let (found, soa) = {
            let config = &self.shared.config;
            let directory = self.shared.directory();
            if !directory.complete() {
                // What is not known yet may be there.
                return Answer::error(ResponseCode::ServFail);
            }
            let zone = Zone {
                directory: &directory,
                domain: &config.cluster_domain,
                pods: config.cluster_pod_range,
                services: config.service_range,
                server: config.dns_address().unwrap_or(Ipv4Addr::UNSPECIFIED),
            };
            (zone.find(&name, kind), zone.soa())
        };
        match found {
            Found::Elsewhere => {
                let outside = self.upstream.ask(name, kind).await;
                Answer {
                    code: outside.code,
                    authoritative: false,
                    answers: outside.answers,
                    soa: outside.soa,
                    additionals: Vec::new(),
                }
            }
            Found::Missing => Answer {
                authoritative: true,
                soa: Some(soa),
                ..Answer::error(ResponseCode::NXDomain)
            },
            Found::Records(mut records) => {
                let mut code = ResponseCode::NoError;
                let mut soa = Some(soa);
                if let Some(target) = records.outside.take() {
                    let outside = self.upstream.ask(target, kind).await;
                    (code, soa) = (outside.code, outside.soa);
                    records.answers.extend(outside.answers);
                } else if records
                    .answers
                    .iter()
                    .all(|record| record.record_type() == kind)
                {
                    self.take_turns(&mut records.answers);
                }
                let found = |record: &Record| record.record_type() == kind;
                Answer {
                    code,
                    authoritative: true,
                    soa: soa.filter(|_| !records.answers.iter().any(found)),
                    answers: records.answers,
                    additionals: records.additionals,
                }
            }
        }
    }

    /// Most clients take the first.
    fn take_turns(&self, answers: &mut [Record]) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answers.rotate_left(turn.checked_rem(answers.len()).unwrap_or(0));
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let answer = self.answer(request).await;
        metrics::answered(answer.code);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = answer.code;
        metadata.authoritative = answer.authoritative;
        metadata.recursion_available = true;
        let mut edns = Edns::new();
        let mut message = MessageResponseBuilder::from_message_request(request);
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().clamp(MIN_PAYLOAD, MAX_PAYLOAD));
            edns.set_rcode_high(answer.code.high());
            message.edns(&edns);
        }
        let message = message.build(
            metadata,
            &answer.answers,
            [],
            &answer.soa,
            &answer.additionals,
        );
        match response.send_response(message).await {
            Ok(sent) => sent,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "a client did not take its answer");
                failed(request)
            }
        }
    }
}

/// What is told of an answer that could not be sent.
fn failed(request: &Request) -> ResponseInfo {
    let id = request.metadata.id;
    let mut metadata = Metadata::new(id, MessageType::Response, request.metadata.op_code);
    metadata.response_code = ResponseCode::ServFail;
    hickory_proto::op::Header {
        metadata,
        counts: Default::default(),
    }
    .into()
}
