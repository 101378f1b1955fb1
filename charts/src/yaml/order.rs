//! The order in which go-yaml writes keys: numbers within them count as numbers (`a2` before `a10`).

use std::cmp::Ordering;

use super::emitter::Dialect;

/// Sorts entries by key. The order is Go's, and not transitive for odd keys: so no sort of the standard library, which
/// may panic on such.
pub(super) fn sort<T: Clone>(mut entries: Vec<(String, T)>, dialect: Dialect) -> Vec<(String, T)> {
    if entries.len() < 2 {
        return entries;
    }
    let right = sort(entries.split_off(entries.len() / 2), dialect);
    let left = sort(entries, dialect);
    let mut sorted = Vec::with_capacity(left.len() + right.len());
    let mut left = left.into_iter().peekable();
    let mut right = right.into_iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = match less(&b.0, &a.0, dialect) {
            true => right.next(),
            false => left.next(),
        };
        sorted.extend(next);
    }
    sorted.extend(left);
    sorted.extend(right);
    sorted
}

/// Whether `a` comes before `b`.
fn less(a: &str, b: &str, dialect: Dialect) -> bool {
    let (left, right) = (a.as_bytes(), b.as_bytes());
    match left.iter().zip(right).find(|(left, right)| left != right) {
        None => return left.len() < right.len(),
        Some((left, right)) if left.is_ascii_alphabetic() && right.is_ascii_alphabetic() => {
            return left < right;
        }
        Some(_) => {}
    }
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut digits = false;
    for (index, (&left, &right)) in a.iter().zip(&b).enumerate() {
        if left == right {
            digits = left.is_numeric() && left.is_ascii_digit();
            continue;
        }
        match (left.is_alphabetic(), right.is_alphabetic()) {
            (true, true) => return left < right,
            (false, false) => {}
            // Behind a digit, v3 has letters before what is none; v2 never has.
            (letter, _) => return letter == (digits && dialect == Dialect::V3),
        }
        let zero = left == '0' || right == '0';
        let number_before = || {
            let before = a[..index].iter().rev();
            before
                .take_while(|digit| digit.is_ascii_digit())
                .any(|digit| *digit != '0')
        };
        let start = i64::from(zero && number_before());
        let (left_end, left_number) = number(&a, index, start);
        let (right_end, right_number) = number(&b, index, start);
        return match left_number
            .cmp(&right_number)
            .then(left_end.cmp(&right_end))
        {
            Ordering::Equal => left < right,
            order => order == Ordering::Less,
        };
    }
    a.len() < b.len()
}

/// The number from a place on, and where it ends.
fn number(text: &[char], from: usize, start: i64) -> (usize, i64) {
    let digits = text[from..].iter().map_while(|digit| digit.to_digit(10));
    digits.fold((from, start), |(end, number), digit| {
        let number = number.wrapping_mul(10).wrapping_add(i64::from(digit));
        (end + 1, number)
    })
}
