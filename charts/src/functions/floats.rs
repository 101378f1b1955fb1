//! Floats: rounding, and arithmetic in decimal digits.

use super::{
    arguments::{float, int},
    cast::to_float,
    decimals::Decimal,
    fixed, variadic,
};
use crate::{
    Environment, Failure, Function,
    Param::{Any, Float64, Int},
    Value,
};

/// Arguments of one decimal computation: more, and the digits of a product could grow without end.
const OPERANDS: usize = 1000;

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("float64", &[Any], |_, args| {
        Ok(Value::Float(to_float(&args[0])))
    }),
    fixed("add1f", &[Any], |_, args| {
        let one = Value::Float(1.0);
        compute(&args[0], std::slice::from_ref(&one), |a, b| Ok(a.add(b)))
    }),
    variadic("addf", &[], Any, |_, args| {
        compute(&Value::Float(0.0), args, |a, b| Ok(a.add(b)))
    }),
    variadic("subf", &[Any], Any, |_, args| {
        compute(&args[0], &args[1..], |a, b| Ok(a.sub(b)))
    }),
    variadic("mulf", &[Any], Any, |_, args| {
        compute(&args[0], &args[1..], |a, b| Ok(a.mul(b)))
    }),
    variadic("divf", &[Any], Any, |_, args| {
        compute(&args[0], &args[1..], Decimal::div)
    }),
    variadic("maxf", &[Any], Any, |_, args| Ok(extreme(args, 1.0))),
    variadic("minf", &[Any], Any, |_, args| Ok(extreme(args, -1.0))),
    fixed("ceil", &[Any], |_, args| {
        Ok(Value::Float(to_float(&args[0]).ceil()))
    }),
    fixed("floor", &[Any], |_, args| {
        Ok(Value::Float(to_float(&args[0]).floor()))
    }),
    variadic("round", &[Any, Int], Float64, round),
];

fn compute(
    first: &Value,
    others: &[Value],
    operation: fn(&Decimal, &Decimal) -> Result<Decimal, Failure>,
) -> Result<Value, Failure> {
    if others.len() > OPERANDS {
        return Err(Failure::new(format!(
            "more than {OPERANDS} numbers in one computation"
        )));
    }
    let mut result = Decimal::from_float(to_float(first))?;
    for other in others {
        result = operation(&result, &Decimal::from_float(to_float(other))?)?;
    }
    Ok(Value::Float(result.to_float()))
}

/// The greatest number: infinity beats not-a-number, which beats all others.
fn greatest(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        // Either may be a negative zero.
        a + b
    } else {
        a.max(b)
    }
}

fn extreme(args: &[Value], sign: f64) -> Value {
    let numbers = args.iter().map(|value| sign * to_float(value));
    Value::Float(sign * numbers.reduce(greatest).unwrap_or(0.0))
}

/// Up from the given part of a digit on (a half unless said), else down: also of negative numbers.
fn round(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let from = if args.len() > 2 { float(args, 2) } else { 0.5 };
    let scale = power_of_ten(int(args, 1));
    let scaled = scale * to_float(&args[0]);
    let fraction = scaled.fract();
    let rounded = if fraction >= from {
        scaled.ceil()
    } else {
        scaled.floor()
    };
    Ok(Value::Float(rounded / scale))
}

fn power_of_ten(places: i64) -> f64 {
    // By way of text: exact, where repeated multiplication is not.
    format!("1e{places}").parse().unwrap_or(f64::INFINITY)
}
