//! What a Deployment asks for, with its percentages worked out.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What the Deployment says.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) replicas: i32,
    pub(super) recreate: bool,
    /// Pods that there may be beyond `replicas`; none when pods are recreated.
    pub(super) surge: i32,
    /// Replicas that may be missing meanwhile.
    pub(super) unavailable: i32,
    pub(super) paused: bool,
    /// Old ReplicaSets to keep; `None` keeps all.
    pub(super) history: Option<usize>,
    pub(super) min_ready_seconds: i32,
}

impl Wish {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.clone().unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let history = spec.revision_history_limit.unwrap_or(10);
        let strategy = spec.strategy.unwrap_or_default();
        let recreate = strategy.type_.as_deref() == Some("Recreate");
        let rolling = strategy.rolling_update.unwrap_or_default();
        let (mut surge, mut unavailable) = (
            part_of(rolling.max_surge.as_ref(), replicas, true),
            part_of(rolling.max_unavailable.as_ref(), replicas, false),
        );
        if recreate {
            (surge, unavailable) = (0, 0);
        } else if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self {
            replicas,
            recreate,
            surge,
            unavailable: unavailable.min(replicas),
            paused: spec.paused.unwrap_or(false),
            history: Some(usize::try_from(history).unwrap_or(0)).filter(|_| history != i32::MAX),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        }
    }

    /// The most pods that there may be during a roll-out.
    pub(super) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// The fewest that must serve.
    pub(super) fn least(&self) -> i32 {
        self.replicas - self.unavailable
    }
}

/// A number, or a percentage of the replicas: surge is rounded up, unavailable down. Default 25 %.
fn part_of(value: Option<&IntOrString>, replicas: i32, up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return *number,
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(0),
        None => 25,
    };
    let hundredths = i64::from(replicas).saturating_mul(percent);
    i32::try_from(if up {
        hundredths.saturating_add(99) / 100
    } else {
        hundredths / 100
    })
    .unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    /// Surge and unavailable of so many replicas.
    #[track_caller]
    fn check(replicas: i32, surge: Value, unavailable: Value, expect: Expect) {
        let deployment: Deployment = serde_json::from_value(json!({"spec": {
            "replicas": replicas, "selector": {}, "template": {},
            "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        }}))
        .unwrap();
        let wish = Wish::of(&deployment);
        let said = format!(
            "+{} -{}, {} to {}",
            wish.surge,
            wish.unavailable,
            wish.least(),
            wish.most()
        );
        expect.assert_eq(&said);
    }

    #[test]
    fn surge_is_rounded_up_and_unavailable_down() {
        check(3, json!("25%"), json!("25%"), expect!["+1 -0, 3 to 4"]);
        check(10, Value::Null, Value::Null, expect!["+3 -2, 8 to 13"]);
    }

    #[test]
    fn one_may_be_missing_if_nothing_else_could_move() {
        check(3, json!(0), json!("25%"), expect!["+0 -1, 2 to 3"]);
        check(3, json!("0%"), json!(0), expect!["+0 -1, 2 to 3"]);
    }

    #[test]
    fn large_numbers_stay_within_bounds() {
        check(3, json!("300%"), json!("100%"), expect!["+9 -3, 0 to 12"]);
        check(2, json!(7), json!(7), expect!["+7 -2, 0 to 9"]);
        check(
            i32::MAX,
            json!("999999999999999%"),
            json!(1),
            expect!["+2147483647 -1, 2147483646 to 2147483647"],
        );
        check(-4, json!(1), json!(1), expect!["+1 -0, 0 to 1"]);
    }
}
