//! What changes when the worker takes an action of the plan: what is now under way is not planned again.

use std::time::Duration;

use jiff::Timestamp;

use super::{Over, PodState, Removal, Sandbox};
use crate::pod::{
    container::{
        FIRST_DELAY, LONGEST_DELAY, Reason, StartFailure, State, Step, Stopping, Why, doubled,
        go_duration, lost,
    },
    plan::Action,
};

impl PodState {
    /// Takes an action of the plan.
    pub(crate) fn begin(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::SetUp => self.sandbox = Sandbox::SettingUp,
            Action::TearDown => {
                self.give_up_lost(now);
                self.sandbox = Sandbox::TearingDown;
            }
            Action::Start(place) => self.begin_start(*place),
            Action::Resume(place) => {
                if let State::Lost { under_way, .. } = &mut self.containers[*place].state {
                    *under_way = true;
                }
            }
            Action::PostStart(place) => {
                if let State::PostStart { begun, .. } = &mut self.containers[*place].state {
                    *begun = true;
                }
            }
            Action::Stop(place, why, grace) => self.begin_stop(*place, *why, *grace, now),
            Action::Hasten(place, grace) => {
                if let State::Stopping(stopping) = &mut self.containers[*place].state {
                    stopping.grace = *grace;
                    stopping.until = stopping.until.min(after(now, *grace));
                }
            }
            Action::Signal(place, _) => {
                if let State::Stopping(stopping) = &mut self.containers[*place].state {
                    stopping.step = Step::Signalled;
                }
            }
            Action::BackOffRestart(place, retry_at) => {
                self.back_off_restart(*place, *retry_at, now);
            }
            Action::BackOffPull(place) => self.back_off_pull(*place),
            Action::Expire => {
                self.over = Some(Over {
                    phase: "Failed",
                    reason: Some("DeadlineExceeded".to_owned()),
                    message: Some(
                        "Pod was active on the node longer than the specified deadline".to_owned(),
                    ),
                    rejected: false,
                });
            }
            Action::Remove => self.removal = Removal::UnderWay,
            Action::Forget => {}
        }
    }

    fn begin_start(&mut self, place: usize) {
        let image = self.fields(place).and_then(|fields| fields.image.clone());
        let container = &mut self.containers[place];
        let shown = match &container.state {
            State::Waiting {
                reason, message, ..
            } => Some(Box::new(StartFailure {
                reason: *reason,
                message: message.clone(),
                container_id: String::new(),
            })),
            _ => container.hook_failure.take().map(|message| {
                Box::new(StartFailure {
                    reason: Reason::PostStartHookError,
                    message: message.into(),
                    container_id: String::new(),
                })
            }),
        };
        container.hook_failure = None;
        container.image = image.unwrap_or_default().into();
        let state = std::mem::replace(&mut container.state, State::Starting { shown });
        if let State::Exited { ended, .. } = state {
            container.last = Some(ended);
        }
        if container.used {
            container.attempt += 1;
            container.used = false;
            container.restart_delay = if container.redo {
                Duration::ZERO
            } else {
                doubled(container.restart_delay, FIRST_DELAY, LONGEST_DELAY)
            };
        }
        container.redo = false;
    }

    fn begin_stop(&mut self, place: usize, why: Why, grace: Duration, now: Timestamp) {
        let hook = self
            .fields(place)
            .and_then(|fields| fields.lifecycle.as_ref()?.pre_stop.clone())
            .is_some();
        let container = &mut self.containers[place];
        let since = match container.state {
            State::PostStart { since, .. } | State::Running { since } => Some(since),
            _ => None,
        };
        let step = if hook && since.is_some() && !grace.is_zero() {
            Step::PreStop
        } else {
            Step::Turn
        };
        container.redo = why == Why::Changed;
        container.state = State::Stopping(Stopping {
            since,
            why,
            grace,
            until: after(now, grace),
            step,
        });
    }

    fn back_off_restart(&mut self, place: usize, retry_at: Timestamp, now: Timestamp) {
        let pod = self.pod_ref();
        let container = &mut self.containers[place];
        let message = format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            go_duration(container.restart_delay),
            container.name,
            pod.name,
            pod.namespace,
            pod.uid
        );
        let state = State::Waiting {
            reason: Reason::CrashLoopBackOff,
            message,
            since: now,
            retry_at: Some(retry_at),
        };
        if let State::Exited { ended, .. } = std::mem::replace(&mut container.state, state) {
            container.last = Some(ended);
        }
    }

    fn back_off_pull(&mut self, place: usize) {
        let container = &mut self.containers[place];
        let image = &container.image;
        if let State::Waiting {
            reason, message, ..
        } = &mut container.state
        {
            *reason = Reason::ImagePullBackOff;
            *message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
        }
    }

    /// The pod ends: what an earlier process lost is not looked for any more.
    fn give_up_lost(&mut self, now: Timestamp) {
        for container in &mut self.containers {
            if let State::Lost { since, .. } = container.state {
                let ended = lost(container.container_id.clone(), since);
                container.state = State::Exited { ended, at: now };
            }
        }
    }
}

/// As late as there is time.
fn after(now: Timestamp, grace: Duration) -> Timestamp {
    now.saturating_add(grace).unwrap_or(Timestamp::MAX)
}
