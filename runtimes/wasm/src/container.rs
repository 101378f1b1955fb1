//! One container: what it was made from, where it is in its life, and what stops it.

use std::{sync::Arc, time::SystemTime};

use runtimes::{ContainerSpec, ContainerState, ContainerStatus, Exit};
use tokio::sync::{OnceCell, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    audience::Audience,
    bounds::SocketUse,
    code::Code,
    guest::{MemoryUse, OutOfMemory},
    meter::Meter,
    mounts::Mounts,
    notices::Notices,
    output::Log,
    pipe::{Reader, Writer},
    pod::Pod,
    trap,
};

/// A container in any state.
pub(crate) struct Container {
    pub(crate) spec: Arc<ContainerSpec>,
    pub(crate) code: Arc<Code>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) mounts: Arc<Mounts>,
    /// Memory of each instance that is not the container's to pay for, in bytes.
    pub(crate) uncounted: u64,
    pub(crate) log: Arc<Log>,
    pub(crate) audience: Arc<Audience>,
    /// Both ends of a program's input, if it has one that stays open.
    pub(crate) stdin: Option<(Writer, Reader)>,
    pub(crate) meter: Arc<Meter>,
    /// The limits of `spec` are each instance's, rather than those of all of them together.
    pub(crate) limits_each: bool,
    pub(crate) memory: Arc<MemoryUse>,
    pub(crate) sockets: Arc<SocketUse>,
    pub(crate) notices: Notices,
    pub(crate) state: watch::Sender<ContainerState>,
    /// Asks it to end; a server finishes its requests first.
    pub(crate) stop: CancellationToken,
    /// Ends it at once.
    pub(crate) kill: CancellationToken,
    /// `^C` was typed at its terminal.
    pub(crate) interrupt: CancellationToken,
    /// The task that runs it, once it has been started.
    pub(crate) task: OnceCell<AbortOnDropHandle<()>>,
}

impl Container {
    /// The meter of a new instance.
    pub(crate) fn instance_meter(&self) -> Arc<Meter> {
        if self.limits_each {
            Arc::new(self.meter.part())
        } else {
            self.meter.clone()
        }
    }

    pub(crate) fn status(&self) -> ContainerStatus {
        ContainerStatus {
            id: self.spec.id.clone(),
            pod: self.spec.pod.clone(),
            name: self.spec.name.clone(),
            state: self.state.borrow().clone(),
        }
    }

    pub(crate) fn is_created(&self) -> bool {
        *self.state.borrow() == ContainerState::Created
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), ContainerState::Running { .. })
    }

    /// From created to running; false if it is not created (it was stopped meanwhile).
    pub(crate) fn set_running(&self) -> bool {
        self.state.send_if_modified(|state| {
            let created = *state == ContainerState::Created;
            if created {
                *state = ContainerState::Running {
                    started_at: SystemTime::now(),
                };
            }
            created
        })
    }

    /// Says why a request was not answered: in an Event, and with its backtrace in the log; in the log
    /// alone, and shorter, if something was said a moment ago.
    pub(crate) fn request_failed(&self, error: &wasmtime::Error) {
        let end = End::error(error);
        let message = format!("a request failed: {}", end.message);
        let told = match end.event() {
            Some(reason) => self.notices.tell(&self.spec, reason, message.clone()),
            None => true,
        };
        if told {
            self.log.note(&format!("{error:?}"));
        } else {
            self.log.note(&message);
        }
    }

    /// To exited, for good: the first end stands.
    pub(crate) fn set_exited(&self, end: End) {
        if let Some((input, _)) = &self.stdin {
            input.close();
        }
        self.audience.close();
        self.state.send_if_modified(|state| {
            let finished_at = SystemTime::now();
            let started_at = match state {
                ContainerState::Created => finished_at,
                ContainerState::Running { started_at } => *started_at,
                ContainerState::Exited(_) => return false,
            };
            *state = ContainerState::Exited(Exit {
                code: end.code,
                reason: end.reason,
                message: end.message,
                started_at,
                finished_at,
            });
            true
        });
    }
}

/// The exit code of a trap: 128 + SIGABRT.
const TRAPPED: i32 = 134;

/// How a container ended, before it is told when.
pub(crate) struct End {
    pub(crate) code: i32,
    reason: &'static str,
    pub(crate) message: String,
}

impl End {
    /// By itself.
    pub(crate) fn code(code: i32) -> End {
        End {
            code,
            reason: if code == 0 { "Completed" } else { "Error" },
            message: String::new(),
        }
    }

    /// The reason of the Event that tells of such an end; `None` for what users see anyway.
    pub(crate) fn event(&self) -> Option<&'static str> {
        match (self.reason, self.code) {
            ("OOMKilled", _) => Some("OOMKilling"),
            (_, TRAPPED) if !self.message.is_empty() => Some("WasmTrap"),
            _ => None,
        }
    }

    /// Asked to: 128 + SIGTERM.
    pub(crate) fn stopped() -> End {
        End::code(143)
    }

    /// Past its grace period: 128 + SIGKILL.
    pub(crate) fn killed(message: &str) -> End {
        End {
            message: message.to_owned(),
            ..End::code(137)
        }
    }

    /// By an error out of the guest: its own exit, its memory limit, or a trap, which is 128 + SIGABRT.
    pub(crate) fn error(error: &wasmtime::Error) -> End {
        if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            return End::code(exit.0 & 0xff);
        }
        if let Some(error) = error.downcast_ref::<OutOfMemory>() {
            return End {
                code: 137,
                reason: "OOMKilled",
                message: error.to_string(),
            };
        }
        End {
            code: TRAPPED,
            reason: "Error",
            message: trap::in_words(error),
        }
    }
}
