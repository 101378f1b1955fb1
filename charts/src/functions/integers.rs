//! Integers: arithmetic that wraps around as Go's does, and ranges.

use super::{
    arguments::{bounded, bounded_items, int, ints},
    cast::to_int,
    fixed, variadic,
};
use crate::{
    Environment, Failure, Function,
    Param::{Any, Int},
    Value, format,
};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("int", &[Any], |_, args| Ok(Value::int(to_int(&args[0])))),
    fixed("int64", &[Any], |_, args| {
        Ok(Value::int64(to_int(&args[0])))
    }),
    fixed("toDecimal", &[Any], |_, args| {
        Ok(Value::int64(octal(&args[0])))
    }),
    fixed("add1", &[Any], |_, args| {
        Ok(Value::int64(to_int(&args[0]).wrapping_add(1)))
    }),
    variadic("add", &[], Any, |_, args| {
        Ok(Value::int64(
            args.iter().map(to_int).fold(0, i64::wrapping_add),
        ))
    }),
    fixed("sub", &[Any, Any], |_, args| {
        Ok(Value::int64(
            to_int(&args[0]).wrapping_sub(to_int(&args[1])),
        ))
    }),
    variadic("mul", &[Any], Any, |_, args| {
        Ok(Value::int64(
            args.iter().map(to_int).fold(1, i64::wrapping_mul),
        ))
    }),
    fixed("div", &[Any, Any], |_, args| {
        Ok(Value::int64(
            to_int(&args[0]).wrapping_div(divisor(&args[1])?),
        ))
    }),
    fixed("mod", &[Any, Any], |_, args| {
        Ok(Value::int64(
            to_int(&args[0]).wrapping_rem(divisor(&args[1])?),
        ))
    }),
    variadic("max", &[Any], Any, max),
    variadic("biggest", &[Any], Any, max),
    variadic("min", &[Any], Any, |_, args| {
        Ok(Value::int64(args.iter().map(to_int).min().unwrap_or(0)))
    }),
    fixed("until", &[Int], |environment, args| {
        let stop = int(args, 0);
        let step = if stop < 0 { -1 } else { 1 };
        Ok(ints(range(environment, "until", 0, stop, step)?))
    }),
    fixed("untilStep", &[Int, Int, Int], |environment, args| {
        let numbers = range(
            environment,
            "untilStep",
            int(args, 0),
            int(args, 1),
            int(args, 2),
        )?;
        Ok(ints(numbers))
    }),
    variadic("seq", &[], Int, sequence),
];

/// The digits of what it prints as, in base eight.
fn octal(value: &Value) -> i64 {
    let digits = format::sprint(value);
    let Ok(digits) = std::str::from_utf8(&digits) else {
        return 0;
    };
    i64::from_str_radix(digits, 8).unwrap_or(0)
}

fn divisor(value: &Value) -> Result<i64, Failure> {
    match to_int(value) {
        0 => Err(Failure::new("runtime error: integer divide by zero")),
        number => Ok(number),
    }
}

fn max(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    Ok(Value::int64(args.iter().map(to_int).max().unwrap_or(0)))
}

/// From `start` to before `stop`; none if the step leads away.
fn range(
    environment: &Environment,
    name: &str,
    start: i64,
    stop: i64,
    step: i64,
) -> Result<Vec<i64>, Failure> {
    let leads = if stop < start { step < 0 } else { step > 0 };
    if !leads || start == stop {
        return Ok(Vec::new());
    }
    let count = start.abs_diff(stop).div_ceil(step.unsigned_abs());
    bounded_items(environment, name, u128::from(count))?;
    let number = |index: u64| start.wrapping_add((index as i64).wrapping_mul(step));
    Ok((0..count).map(number).collect())
}

/// As the command of that name: one argument is the end, two are start and end, three have the step between them.
fn sequence(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let (start, step, end) = match args.len() {
        1 => (1, None, int(args, 0)),
        2 => (int(args, 0), None, int(args, 1)),
        3 => (int(args, 0), Some(int(args, 1)), int(args, 2)),
        _ => return Ok(Value::string("")),
    };
    let one = if end < start { -1 } else { 1 };
    if end < start && step.is_some_and(|step| step > 0) {
        return Ok(Value::string(""));
    }
    let numbers = range(
        environment,
        "seq",
        start,
        end.wrapping_add(one),
        step.unwrap_or(one),
    )?;
    bounded(environment, "seq", numbers.len() as u128 * 20)?;
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    Ok(Value::string(texts.join(" ")))
}
