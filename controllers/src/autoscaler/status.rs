//! An autoscaler's status: what it saw, what it wants, and why.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
    MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::tell;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::events::Severity;

/// The status that is being made of the one there is.
pub(super) struct Draft<'a> {
    autoscaler: &'a Arc<HorizontalPodAutoscaler>,
    status: HorizontalPodAutoscalerStatus,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    pub(super) fn of(autoscaler: &'a Arc<HorizontalPodAutoscaler>, now: Timestamp) -> Self {
        Self {
            autoscaler,
            status: autoscaler.status.clone().unwrap_or_default(),
            now,
        }
    }

    /// Says how a condition is.
    pub(super) fn set(&mut self, kind: &str, is: bool, reason: &str, message: &str) {
        let status = if is { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let place = conditions.iter().position(|known| known.type_ == kind);
        let place = place.unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition {
                type_: kind.to_owned(),
                ..HorizontalPodAutoscalerCondition::default()
            });
            conditions.len() - 1
        });
        let condition = &mut conditions[place];
        if condition.status != status {
            condition.last_transition_time = Some(Time(self.now));
        }
        condition.status = status.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.to_owned());
    }

    /// Says how many replicas there are, how many there should be if that is known, and by which metrics.
    pub(super) fn count(&mut self, current: i32, desired: Option<i32>, metrics: Vec<MetricStatus>) {
        self.status.current_replicas = Some(current);
        if let Some(desired) = desired {
            self.status.desired_replicas = desired;
        }
        self.status.current_metrics = Some(metrics).filter(|metrics| !metrics.is_empty());
    }

    pub(super) fn rescaled(&mut self) {
        self.status.last_scale_time = Some(Time(self.now));
    }

    /// Writes the status, if it says something else than before.
    pub(super) async fn write(self, context: &Context) -> Result<(), Error> {
        let before = self.autoscaler.status.as_ref();
        if before.is_some_and(|before| *before == self.status) {
            return Ok(());
        }
        let namespace = self.autoscaler.namespace().unwrap_or_default();
        let api = Api::<HorizontalPodAutoscaler>::namespaced(context.client.clone(), &namespace);
        let (name, patch) = (self.autoscaler.name_any(), Patch::Merge(self.patch()?));
        let written = within_opt(api.patch_status(&name, &PatchParams::default(), &patch)).await;
        match written {
            Ok(Some(written)) => context.autoscalers.apply(written),
            Ok(None) => {}
            Err(error) => {
                let message = error.to_string();
                let (of, severity) = (self.autoscaler, Severity::Warning);
                tell(context, of, severity, "FailedUpdateStatus", message);
                return Err(error);
            }
        }
        Ok(())
    }

    fn patch(&self) -> Result<Value, Error> {
        let mut status = serde_json::to_value(&self.status)?;
        if self.status.current_metrics.is_none() {
            // A merge leaves what it does not name.
            status["currentMetrics"] = Value::Null;
        }
        Ok(json!({"metadata": {"uid": self.autoscaler.uid()}, "status": status}))
    }
}
