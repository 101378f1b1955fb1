//! The events at the end of a description. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::text;
use crate::duration;

pub(super) fn describe(events: &[Value], now: Timestamp, into: &mut String) {
    if events.is_empty() {
        into.push_str("Events:\t<none>\n");
        return;
    }
    let mut events: Vec<&Value> = events.iter().collect();
    // Times are whole seconds; within one, the order of writing is the best guess.
    events.sort_by_key(|event| (last(event), revision(event)));
    into.push_str(
        "Events:\n  Type\tReason\tAge\tFrom\tMessage\n  ----\t------\t----\t----\t-------\n",
    );
    for event in events {
        into.push_str(&format!(
            "  {}\t{}\t{}\t{}\t{}\n",
            text(&event["type"]),
            text(&event["reason"]),
            age(event, now),
            source(event),
            text(&event["message"]).trim().replace('\n', " "),
        ));
    }
}

/// When it happened last.
fn last(event: &Value) -> String {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["firstTimestamp"],
    ];
    times
        .into_iter()
        .map(text)
        .find(|time| !time.is_empty())
        .unwrap_or_default()
}

fn revision(event: &Value) -> u64 {
    text(&event["metadata"]["resourceVersion"])
        .parse()
        .unwrap_or_default()
}

/// `5s`, or `5s (x3 over 2m)`.
fn age(event: &Value, now: Timestamp) -> String {
    let age = duration::age(&last(event), now);
    let count = event["series"]["count"]
        .as_i64()
        .or(event["count"].as_i64())
        .unwrap_or(1);
    let firsts = [&event["firstTimestamp"], &event["eventTime"]];
    let first = firsts
        .into_iter()
        .map(text)
        .find(|time| !time.is_empty())
        .unwrap_or_default();
    if count > 1 {
        format!("{age} (x{count} over {})", duration::age(&first, now))
    } else {
        age
    }
}

fn source(event: &Value) -> String {
    let names = [&event["source"]["component"], &event["reportingComponent"]];
    names
        .into_iter()
        .map(text)
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}
