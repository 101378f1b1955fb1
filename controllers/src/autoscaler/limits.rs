//! How far and how fast a recommendation is followed: windows, rates, least and most. Pure.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerSpec};
use tokio::time::Instant;

use super::memory::Memory;

/// Without rules of its own, a target is at most doubled, or brought to this many.
const ALWAYS_ALLOWED: i32 = 4;

/// What is done about a recommendation, and the conditions that say why.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    /// Reason and message of AbleToScale.
    pub(super) able: (&'static str, &'static str),
    /// Whether the recommendation was cut, and why.
    pub(super) limited: (bool, &'static str, &'static str),
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const TOO_FAST_UP: (&str, &str) = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const TOO_FAST_DOWN: (&str, &str) = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: (&str, &str) = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: (&str, &str) = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const IN_RANGE: (&str, &str) = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);

/// Limits a recommendation, and remembers it. `window` is that of going down where the spec names none.
pub(super) fn limit(
    spec: &HorizontalPodAutoscalerSpec,
    memory: &mut Memory,
    (current, recommended): (i32, i32),
    window: Duration,
    now: Instant,
) -> Limited {
    let none = HPAScalingRules::default();
    let rules = spec.behavior.as_ref().map(|behavior| {
        let up = behavior.scale_up.as_ref().unwrap_or(&none);
        let down = behavior.scale_down.as_ref().unwrap_or(&none);
        (up, down)
    });
    let windows = match rules {
        Some((up, down)) => (window_of(up, Duration::ZERO), window_of(down, window)),
        None => (Duration::ZERO, window),
    };
    let (stable, why) = match rules {
        Some(_) => stabilize(memory, (current, recommended), windows, now),
        // Without rules it goes up to whatever was recommended in the window, even again.
        None => {
            let recent = memory.recommended(window, now);
            (recent.fold(recommended, i32::max), DOWN_STABILIZED)
        }
    };
    memory.recommend(recommended, now);
    let able = if stable == recommended { READY } else { why };
    let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let (replicas, (reason, message)) = match rules {
        Some((up, down)) => {
            let range = (least, most);
            pace(memory, (up, down), (current, stable), range, now)
        }
        None => pace_by_default(current, stable, least, most),
    };
    Limited {
        replicas,
        able,
        limited: (replicas != stable, reason, message),
    }
}

fn window_of(rules: &HPAScalingRules, default: Duration) -> Duration {
    let seconds = rules.stabilization_window_seconds;
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(default, Duration::from_secs)
}

/// The replicas nearest to the current ones that recent recommendations agree on.
fn stabilize(
    memory: &Memory,
    (current, recommended): (i32, i32),
    (up, down): (Duration, Duration),
    now: Instant,
) -> (i32, (&'static str, &'static str)) {
    let lowest = memory.recommended(up, now).fold(recommended, i32::min);
    let highest = memory.recommended(down, now).fold(recommended, i32::max);
    let why = if recommended >= current {
        UP_STABILIZED
    } else {
        DOWN_STABILIZED
    };
    (current.max(lowest).min(highest), why)
}

fn pace_by_default(
    current: i32,
    wanted: i32,
    least: i32,
    most: i32,
) -> (i32, (&'static str, &'static str)) {
    let fast = current.saturating_mul(2).max(ALWAYS_ALLOWED);
    let (highest, why) = if most > fast {
        (fast, TOO_FAST_UP)
    } else {
        (most, TOO_MANY)
    };
    if wanted < least {
        (least, TOO_FEW)
    } else if wanted > highest {
        (highest, why)
    } else {
        (wanted, IN_RANGE)
    }
}

fn pace(
    memory: &Memory,
    (up, down): (&HPAScalingRules, &HPAScalingRules),
    (current, wanted): (i32, i32),
    (least, most): (i32, i32),
    now: Instant,
) -> (i32, (&'static str, &'static str)) {
    if wanted > current {
        let fast = bound(memory, up, current, true, now).max(current);
        let (highest, why) = if most > fast {
            (fast, TOO_FAST_UP)
        } else {
            (most, TOO_MANY)
        };
        if wanted > highest {
            return (highest, why);
        }
    } else if wanted < current {
        let fast = bound(memory, down, current, false, now).min(current);
        let (lowest, why) = if least < fast {
            (fast, TOO_FAST_DOWN)
        } else {
            (least, TOO_FEW)
        };
        if wanted < lowest {
            return (lowest, why);
        }
    }
    (wanted, IN_RANGE)
}

/// How many replicas the policies of a direction allow by now.
fn bound(memory: &Memory, rules: &HPAScalingRules, current: i32, up: bool, now: Instant) -> i32 {
    let select = rules.select_policy.as_deref().unwrap_or("Max");
    if select == "Disabled" {
        return current;
    }
    let policies = rules.policies.iter().flatten().map(|policy| {
        let seconds = u64::try_from(policy.period_seconds).unwrap_or_default();
        let before = memory.before(current, Duration::from_secs(seconds), now);
        match (policy.type_.as_str(), up) {
            ("Pods", true) => before.saturating_add(policy.value),
            ("Pods", false) => before.saturating_sub(policy.value),
            (_, up) => percent(before, policy.value, up),
        }
    });
    // The most that changes is the highest bound going up and the lowest going down.
    let bound = if (select == "Min") == up {
        policies.min()
    } else {
        policies.max()
    };
    bound.unwrap_or(current)
}

/// A share more or less; up is rounded up, for else one replica never became two.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn percent(of: i32, percent: i32, up: bool) -> i32 {
    let share = f64::from(percent) / 100.0;
    if up {
        (f64::from(of) * (1.0 + share)).ceil() as i32
    } else {
        (f64::from(of) * (1.0 - share)) as i32
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    /// Each step is `seconds:recommendation`; shown is what came of it and why it is not the recommendation.
    #[track_caller]
    fn check(behavior: Value, current: i32, steps: &str, expect: Expect) {
        let spec: HorizontalPodAutoscalerSpec = serde_json::from_value(json!({
            "minReplicas": 2, "maxReplicas": 100, "behavior": behavior,
            "scaleTargetRef": {"kind": "Deployment", "name": "web"},
        }))
        .expect("a spec");
        let (mut memory, mut current, begun) = (Memory::default(), current, Instant::now());
        memory.begin(current, begun);
        let mut shown = Vec::new();
        for step in steps.split_whitespace() {
            let (seconds, wanted) = step.split_once(':').expect("a step");
            let now = begun + Duration::from_secs(seconds.parse().expect("seconds"));
            let wanted = wanted.parse().expect("replicas");
            let window = Duration::from_secs(300);
            let limited = limit(&spec, &mut memory, (current, wanted), window, now);
            if limited.replicas != current {
                memory.rescaled(current, limited.replicas, now);
            }
            current = limited.replicas;
            let mut why = Vec::new();
            if limited.able != READY {
                why.push(limited.able.0);
            }
            if limited.limited.0 {
                why.push(limited.limited.1);
            }
            shown.push(format!("{current} {}", why.join(" ")).trim_end().to_owned());
        }
        expect.assert_eq(&shown.join(", "));
    }

    fn defaults() -> (Value, Value) {
        (
            json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15}]}),
            json!({"selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}),
        )
    }

    fn up(rules: Value) -> Value {
        json!({"scaleUp": rules, "scaleDown": defaults().1})
    }

    fn down(rules: Value) -> Value {
        json!({"scaleUp": defaults().0, "scaleDown": rules})
    }

    #[test]
    fn without_rules_it_doubles_at_most_and_goes_down_after_five_minutes() {
        check(
            Value::Null,
            2,
            "0:3 15:50 30:50 45:200 60:200 75:200 90:200",
            expect![[
                r#"3, 6 ScaleUpLimit, 12 ScaleUpLimit, 24 ScaleUpLimit, 48 ScaleUpLimit, 96 ScaleUpLimit, 100 TooManyReplicas"#
            ]],
        );
        check(
            Value::Null,
            2,
            "0:6 15:1 200:3 314:1 330:1 600:1",
            expect![[
                "4 ScaleUpLimit, 6 ScaleDownStabilized, 6 ScaleDownStabilized, 3 ScaleDownStabilized, 3 ScaleDownStabilized, 2 TooFewReplicas"
            ]],
        );
    }

    #[test]
    fn the_default_rules_add_four_or_double_in_a_quarter_of_a_minute() {
        let (scale_up, scale_down) = defaults();
        check(
            json!({"scaleUp": scale_up, "scaleDown": scale_down}),
            2,
            "0:50 1:50 15:50 30:50 45:9 60:9 329:9 330:9",
            expect![[
                "6 ScaleUpLimit, 6 ScaleUpLimit, 12 ScaleUpLimit, 24 ScaleUpLimit, 24 ScaleDownStabilized, 24 ScaleDownStabilized, 24 ScaleDownStabilized, 9"
            ]],
        );
    }

    #[test]
    fn a_window_for_going_up_takes_the_lowest() {
        let rules = json!({"stabilizationWindowSeconds": 60, "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 1000, "periodSeconds": 15}]});
        check(
            up(rules),
            5,
            "0:9 30:7 59:8 60:8 90:8",
            expect![[
                "5 ScaleUpStabilized, 5 ScaleUpStabilized, 5 ScaleUpStabilized, 7 ScaleUpStabilized, 8"
            ]],
        );
    }

    #[test]
    fn policies_limit_what_is_added_in_their_periods() {
        let policies = json!([{"type": "Pods", "value": 3, "periodSeconds": 60},
            {"type": "Percent", "value": 10, "periodSeconds": 60}]);
        let rules = |select: &str| json!({"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": policies});
        let steps = "0:90 15:90 60:90 120:90";
        check(
            up(rules("Max")),
            10,
            steps,
            expect![["13 ScaleUpLimit, 13 ScaleUpLimit, 16 ScaleUpLimit, 19 ScaleUpLimit"]],
        );
        check(
            up(rules("Min")),
            10,
            steps,
            expect![["11 ScaleUpLimit, 11 ScaleUpLimit, 13 ScaleUpLimit, 15 ScaleUpLimit"]],
        );
        check(
            up(rules("Disabled")),
            10,
            steps,
            expect![["10 ScaleUpLimit, 10 ScaleUpLimit, 10 ScaleUpLimit, 10 ScaleUpLimit"]],
        );
    }

    #[test]
    fn policies_limit_what_is_removed_in_their_periods() {
        let rules = |select: &str| {
            json!({"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": [
                {"type": "Pods", "value": 5, "periodSeconds": 60},
                {"type": "Percent", "value": 30, "periodSeconds": 60}]})
        };
        let steps = "0:1 15:1 60:1 120:1";
        check(
            down(rules("Max")),
            10,
            steps,
            expect![["5 ScaleDownLimit, 5 ScaleDownLimit, 2 TooFewReplicas, 2 TooFewReplicas"]],
        );
        check(
            down(rules("Min")),
            10,
            steps,
            expect![["7 ScaleDownLimit, 7 ScaleDownLimit, 4 ScaleDownLimit, 2 TooFewReplicas"]],
        );
        check(
            down(rules("Disabled")),
            10,
            steps,
            expect![["10 ScaleDownLimit, 10 ScaleDownLimit, 10 ScaleDownLimit, 10 ScaleDownLimit"]],
        );
    }
}
