//! Dates: formatting, reading and moving, with Go's layouts.

use super::{
    arguments::{lossy, text},
    fixed, layout,
    time::{SECOND, Time, parse_duration},
};
use crate::{
    Environment, Failure, Function,
    Param::{Any, Named, String as Text},
    Value,
    value::IntKind,
};

const TIME: crate::Param = Named("time.Time");
const DAY: &[u8] = b"2006-01-02";

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("now", &[], |environment, _| {
        Ok(Time::of(environment.now).into_value())
    }),
    fixed("date", &[Text, Any], |environment, args| {
        Ok(in_zone(environment, text(args, 0), &args[1], "Local"))
    }),
    fixed("dateInZone", &[Text, Any, Text], date_in_zone),
    fixed("date_in_zone", &[Text, Any, Text], date_in_zone),
    fixed("htmlDate", &[Any], |environment, args| {
        Ok(in_zone(environment, DAY, &args[0], "Local"))
    }),
    fixed("htmlDateInZone", &[Any, Text], |environment, args| {
        Ok(in_zone(environment, DAY, &args[0], &lossy(args, 1)))
    }),
    fixed("dateModify", &[Text, TIME], modify),
    fixed("date_modify", &[Text, TIME], modify),
    fixed("mustDateModify", &[Text, TIME], must_modify),
    fixed("must_date_modify", &[Text, TIME], must_modify),
    fixed("toDate", &[Text, Text], |_, args| {
        let read = layout::parse(text(args, 0), text(args, 1));
        Ok(read.unwrap_or_else(|_| Time::zero()).into_value())
    }),
    fixed("mustToDate", &[Text, Text], |_, args| {
        let read = layout::parse(text(args, 0), text(args, 1));
        Ok(read.map_err(Failure::new)?.into_value())
    }),
    fixed("unixEpoch", &[TIME], |_, args| {
        Ok(Value::string(moment(&args[0]).seconds.to_string()))
    }),
    fixed("ago", &[Any], |environment, args| {
        let now = Time::of(environment.now);
        let then = match &args[0] {
            Value::Int(_, IntKind::Int32) => None,
            other => seconds_or_time(other),
        };
        let span = now.since(&then.unwrap_or_else(|| now.clone()));
        Ok(Value::string(
            super::time::Duration(span).round(SECOND).to_string(),
        ))
    }),
];

fn date_in_zone(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    Ok(in_zone(
        environment,
        text(args, 0),
        &args[1],
        &lossy(args, 2),
    ))
}

/// In that zone, or in universal time if there is none of that name.
fn in_zone(environment: &Environment, layout: &[u8], date: &Value, zone: &str) -> Value {
    let time = seconds_or_time(date).unwrap_or_else(|| Time::of(environment.now));
    let local = time.in_zone(zone).or_else(|| time.in_zone("UTC"));
    Value::string(local.unwrap_or(time).format(layout))
}

/// A moment, or an integer of seconds since 1970; anything else is none: then now counts.
fn seconds_or_time(date: &Value) -> Option<Time> {
    match date {
        Value::Int(seconds, _) => Some(Time::at(*seconds, 0)),
        other => Time::from_value(other),
    }
}

fn moment(value: &Value) -> Time {
    Time::from_value(value).unwrap_or_else(Time::zero)
}

fn modify(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let time = moment(&args[1]);
    Ok(match parse_duration(text(args, 0)) {
        Ok(span) => time.add(i128::from(span.0)).into_value(),
        Err(_) => time.into_value(),
    })
}

fn must_modify(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let span = parse_duration(text(args, 0)).map_err(Failure::new)?;
    Ok(moment(&args[1]).add(i128::from(span.0)).into_value())
}
