//! Names outside of the cluster, asked of the host's own resolvers (`/etc/resolv.conf`).
//!
//! Answers are cached as long as they say. The file is read again when it changed: a laptop moves.

use std::{
    collections::HashSet,
    fs,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, Record, RecordType},
};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::ResolveHosts,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    system_conf::read_system_conf,
};
use tokio::{sync::Semaphore, time::timeout};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How long one question may take, with all attempts: a client asks again after five seconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long one resolver may take, and how often they are asked.
const ATTEMPT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// Questions that wait for an answer at a time; what is asked beyond that fails at once.
const MAX_WAITING: usize = 512;

/// How many answers are kept.
const CACHE: u64 = 4_096;

/// The host's resolvers.
pub(super) struct Upstream {
    /// This server's own addresses: asked, it would ask itself.
    own: HashSet<IpAddr>,
    waiting: Semaphore,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    looked: Option<Instant>,
    changed: Option<SystemTime>,
    /// `None` while the host names none.
    resolver: Option<Arc<TokioResolver>>,
}

/// An answer of the host's resolvers.
pub(super) struct Outside {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    /// The other zone's own record, where there is nothing.
    pub(super) soa: Option<Record>,
}

impl Outside {
    fn nothing(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            soa: None,
        }
    }
}

impl Upstream {
    pub(super) fn new(own: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            own: own.into_iter().collect(),
            waiting: Semaphore::new(MAX_WAITING),
            current: Mutex::default(),
        }
    }

    pub(super) async fn ask(&self, mut name: Name, kind: RecordType) -> Outside {
        let Ok(_place) = self.waiting.try_acquire() else {
            return Outside::nothing(ResponseCode::ServFail);
        };
        let Some(resolver) = self.resolver() else {
            return Outside::nothing(ResponseCode::ServFail);
        };
        name.set_fqdn(true);
        match timeout(DEADLINE, resolver.lookup(name, kind)).await {
            Ok(Ok(found)) => Outside {
                code: ResponseCode::NoError,
                answers: found.answers().to_vec(),
                soa: None,
            },
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => Outside {
                code: none.response_code,
                answers: Vec::new(),
                soa: none.soa.map(|soa| soa.into_record_of_rdata()),
            },
            Ok(Err(NetError::Dns(DnsError::ResponseCode(code)))) => Outside::nothing(code),
            Ok(Err(_)) | Err(_) => Outside::nothing(ResponseCode::ServFail),
        }
    }

    fn resolver(&self) -> Option<Arc<TokioResolver>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let looked = current.looked;
        if looked.is_some_and(|looked| now.duration_since(looked) < LOOK) {
            return current.resolver.clone();
        }
        current.looked = Some(now);
        let changed = fs::metadata(RESOLV_CONF)
            .and_then(|file| file.modified())
            .ok();
        if looked.is_none() || changed != current.changed {
            current.changed = changed;
            current.resolver = match self.read() {
                Ok(resolver) => Some(Arc::new(resolver)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "names outside of the cluster are not found");
                    None
                }
            };
        }
        current.resolver.clone()
    }

    fn read(&self) -> Result<TokioResolver, NetError> {
        let (mut config, mut options) = read_system_conf()?;
        config
            .name_servers
            .retain(|server| !self.own.contains(&server.ip));
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true;
        options.timeout = ATTEMPT;
        options.attempts = ATTEMPTS;
        options.cache_size = CACHE;
        let provider = TokioRuntimeProvider::default();
        let builder = Resolver::builder_with_config(config, provider);
        builder.with_options(options).build()
    }
}
