//! Decimal numbers of any size: what Sprig computes `addf`, `subf`, `mulf` and `divf` with.

use num_bigint::BigInt;

use crate::Failure;

/// Digits after the point that a division keeps.
const DIVISION_DIGITS: i32 = 16;

/// `coefficient * 10^exponent`.
#[derive(Clone, Debug)]
pub(super) struct Decimal {
    coefficient: BigInt,
    exponent: i32,
}

impl Decimal {
    /// The fewest digits that mean that float.
    pub(super) fn from_float(number: f64) -> Result<Decimal, Failure> {
        if !number.is_finite() {
            let name = match number {
                n if n.is_nan() => "NaN",
                n if n > 0.0 => "+Inf",
                _ => "-Inf",
            };
            return Err(Failure::new(format!("Cannot create a Decimal from {name}")));
        }
        let shortest = format!("{number:e}");
        let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
        let fraction = digits
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.len());
        let coefficient = digits.replace('.', "").parse().unwrap_or_default();
        let exponent = exponent.parse::<i32>().unwrap_or(0) - fraction as i32;
        Ok(Decimal {
            coefficient,
            exponent,
        })
    }

    /// The nearest float.
    pub(super) fn to_float(&self) -> f64 {
        let text = format!("{}e{}", self.coefficient, self.exponent);
        text.parse().unwrap_or(0.0)
    }

    pub(super) fn add(&self, other: &Decimal) -> Decimal {
        let exponent = self.exponent.min(other.exponent);
        Decimal {
            coefficient: self.scaled(exponent) + other.scaled(exponent),
            exponent,
        }
    }

    pub(super) fn sub(&self, other: &Decimal) -> Decimal {
        let exponent = self.exponent.min(other.exponent);
        Decimal {
            coefficient: self.scaled(exponent) - other.scaled(exponent),
            exponent,
        }
    }

    pub(super) fn mul(&self, other: &Decimal) -> Decimal {
        Decimal {
            coefficient: &self.coefficient * &other.coefficient,
            exponent: self.exponent.saturating_add(other.exponent),
        }
    }

    /// Rounded to the sixteenth digit after the point, half away from zero.
    pub(super) fn div(&self, other: &Decimal) -> Result<Decimal, Failure> {
        let zero = BigInt::ZERO;
        if other.coefficient == zero {
            return Err(Failure::new("decimal division by 0"));
        }
        let shift = self.exponent - other.exponent + DIVISION_DIGITS;
        let (mut dividend, mut divisor) = (self.coefficient.clone(), other.coefficient.clone());
        match u32::try_from(shift) {
            Ok(shift) => dividend *= BigInt::from(10).pow(shift),
            Err(_) => divisor *= BigInt::from(10).pow(shift.unsigned_abs()),
        }
        let mut quotient = &dividend / &divisor;
        let remainder = &dividend % &divisor;
        let twice: BigInt = remainder * 2;
        if twice.magnitude() >= divisor.magnitude() {
            let away = if (dividend < zero) == (divisor < zero) {
                1
            } else {
                -1
            };
            quotient += away;
        }
        Ok(Decimal {
            coefficient: quotient,
            exponent: -DIVISION_DIGITS,
        })
    }

    fn scaled(&self, exponent: i32) -> BigInt {
        let shift = u32::try_from(self.exponent - exponent).unwrap_or(0);
        &self.coefficient * BigInt::from(10).pow(shift)
    }
}
