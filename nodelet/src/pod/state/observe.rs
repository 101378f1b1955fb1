//! What changes when something happened.

use std::time::Duration;

use jiff::Timestamp;
use runtimes::Exit;

use super::{Observation, PodState, Removal, Sandbox, Started};
use crate::{
    pod::container::{
        ERROR_SHOWN, Ended, FIRST_DELAY, LONGEST_DELAY, Reason, STEADY, StartFailure, State, Step,
        Why, doubled, lost,
    },
    probe::Kind,
};

/// First delay before reading a missing ConfigMap or Secret again, doubled up to [`LONGEST_CONFIG_DELAY`].
const FIRST_CONFIG_DELAY: Duration = Duration::from_secs(1);
const LONGEST_CONFIG_DELAY: Duration = Duration::from_secs(10);

impl PodState {
    /// Takes in what happened.
    pub(crate) fn observe(&mut self, observation: Observation, now: Timestamp) {
        match observation {
            Observation::SandboxReady(address) => {
                self.ip = Some(address.ip);
                self.sandbox = Sandbox::Ready(address);
            }
            Observation::SandboxRefused { retry_in } => {
                self.sandbox = Sandbox::Refused {
                    retry_at: now + retry_in,
                }
            }
            Observation::TornDown => self.sandbox = Sandbox::TornDown,
            Observation::Started(place, started) => self.started(place, started, now),
            Observation::StartFailed(place, failure) => self.start_failed(place, failure, now),
            Observation::PostStarted(place, outcome) => self.post_started(place, outcome),
            Observation::Probed {
                place,
                attempt,
                kind,
                passed,
            } if self.containers[place].attempt == attempt => self.probed(place, kind, passed),
            Observation::Probed { .. } => {}
            Observation::PreStopped(place) => {
                if let State::Stopping(stopping) = &mut self.containers[place].state
                    && stopping.step == Step::PreStop
                {
                    stopping.step = Step::Turn;
                }
            }
            Observation::Exited(place, exit) => self.exited(place, exit, now),
            Observation::Lost(place) => {
                let container = &mut self.containers[place];
                let since = container.running_since();
                container.condemned = None;
                let ended = lost(container.container_id.clone(), since);
                container.state = State::Exited { ended, at: now };
            }
            Observation::Removed => self.removal = Removal::Done,
            Observation::RemovalFailed { retry_in } => {
                self.removal = Removal::Failed {
                    retry_at: now + retry_in,
                }
            }
        }
    }

    fn started(&mut self, place: usize, started: Started, now: Timestamp) {
        let probed = |kind| self.probe(place, kind).is_some();
        let (startup, readiness) = (probed(Kind::Startup), probed(Kind::Readiness));
        let hook = self
            .fields(place)
            .and_then(|fields| fields.lifecycle.as_ref()?.post_start.clone())
            .is_some();
        let container = &mut self.containers[place];
        container.used = true;
        container.image_id = started.image_id;
        container.container_id = started.container_id;
        container.pull_delay = Duration::ZERO;
        container.config_delay = Duration::ZERO;
        container.condemned = None;
        (container.started, container.passes) = (!startup, !readiness);
        match container.state {
            State::Starting { .. } if hook => {
                container.state = State::PostStart {
                    since: now,
                    begun: false,
                };
            }
            State::Starting { .. } => container.state = State::Running { since: now },
            State::Lost { since, .. } => {
                container.state = State::Running {
                    since: since.unwrap_or(now),
                };
            }
            _ => {}
        }
    }

    fn post_started(&mut self, place: usize, outcome: Result<(), String>) {
        let container = &mut self.containers[place];
        if let State::PostStart { since, .. } = container.state {
            match outcome {
                Ok(()) => container.state = State::Running { since },
                Err(message) => {
                    container.condemned = Some(Why::PostStart);
                    container.hook_failure = Some(message.into());
                }
            }
        }
    }

    fn probed(&mut self, place: usize, kind: Kind, passed: bool) {
        let container = &mut self.containers[place];
        match (kind, passed) {
            (Kind::Startup, true) => container.started = true,
            (Kind::Readiness, passed) => container.passes = passed,
            (Kind::Startup, false) if container.running() => {
                container.condemned = Some(Why::Startup);
            }
            (Kind::Liveness, false) if container.running() => {
                container.condemned = Some(Why::Liveness);
            }
            (Kind::Startup | Kind::Liveness, _) => {}
        }
    }

    fn exited(&mut self, place: usize, exit: Exit, now: Timestamp) {
        let container = &mut self.containers[place];
        let since = container.running_since();
        if since.is_some_and(|since| now.duration_since(since) >= STEADY) {
            container.restart_delay = Duration::ZERO;
        }
        let ended = Box::new(Ended {
            code: exit.code,
            reason: exit.reason.to_owned(),
            message: exit.message,
            container_id: container.container_id.clone(),
            started_at: Timestamp::try_from(exit.started_at).ok(),
            finished_at: Timestamp::try_from(exit.finished_at).ok(),
        });
        container.used = true;
        container.condemned = None;
        container.state = State::Exited { ended, at: now };
    }

    fn start_failed(&mut self, place: usize, failure: StartFailure, now: Timestamp) {
        let restarts = self.restarts(place, 128);
        let container = &mut self.containers[place];
        let delay = match failure.reason {
            Reason::CreateContainerConfigError => {
                container.config_delay = doubled(
                    container.config_delay,
                    FIRST_CONFIG_DELAY,
                    LONGEST_CONFIG_DELAY,
                );
                container.config_delay
            }
            // A container was made, and its end is that it could not start: what follows is a restart.
            Reason::RunContainerError => {
                container.used = true;
                container.pull_delay = Duration::ZERO;
                container.config_delay = Duration::ZERO;
                container.restart_delay().max(ERROR_SHOWN)
            }
            _ => {
                container.pull_delay = doubled(container.pull_delay, FIRST_DELAY, LONGEST_DELAY);
                container.pull_delay
            }
        };
        if failure.reason == Reason::RunContainerError {
            let ended = Box::new(Ended {
                code: 128,
                reason: "StartError".to_owned(),
                message: failure.message.clone(),
                container_id: failure.container_id,
                started_at: Some(now),
                finished_at: Some(now),
            });
            if !restarts {
                container.state = State::Exited { ended, at: now };
                return;
            }
            container.last = Some(ended);
        }
        container.state = State::Waiting {
            reason: failure.reason,
            message: failure.message,
            since: now,
            retry_at: Some(now + delay),
        };
    }
}
