//! Semantic versions, read as loosely as the library behind Sprig reads them: `v1.2` is one.

use std::{any::Any, cmp::Ordering, rc::Rc};

use super::{arguments::lossy, constraints::Constraints, fixed};
use crate::{Failure, Function, Object, Param::String as Text, Value, value::UintKind};

/// Longer texts are no versions.
pub(super) const LENGTH: usize = 256;

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("semver", &[Text], |_, args| {
        Ok(Version::parse(&lossy(args, 0))?.into_value())
    }),
    fixed("semverCompare", &[Text, Text], |_, args| {
        let constraints = Constraints::parse(&lossy(args, 0))?;
        let version = Version::parse(&lossy(args, 1))?;
        Ok(Value::Bool(constraints.allow(&version)))
    }),
];

/// `semver.Version`; equal in order are also those that differ in metadata.
#[derive(Clone, Debug)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pub prerelease: String,
    metadata: String,
    original: String,
    /// Whether Go holds it by reference: only what was parsed.
    pointer: bool,
}

impl Version {
    pub(super) fn new(major: u64, minor: u64, patch: u64, prerelease: &str) -> Version {
        Version {
            major,
            minor,
            patch,
            prerelease: prerelease.to_owned(),
            metadata: String::new(),
            original: String::new(),
            pointer: true,
        }
    }

    /// Reads a version, short ones and those with a `v` too.
    pub fn parse(text: &str) -> Result<Version, Failure> {
        if text.len() > LENGTH {
            let message = format!("version string is too long (max {LENGTH} bytes)");
            return Err(Failure::new(message));
        }
        let invalid = || Failure::new("invalid semantic version");
        let (numbers, rest) = numbers(text.strip_prefix('v').unwrap_or(text));
        if numbers.is_empty() {
            return Err(invalid());
        }
        let (prerelease, rest) = identifiers(rest, '-');
        let (metadata, rest) = identifiers(rest, '+');
        if !rest.is_empty() {
            return Err(invalid());
        }
        let number = |index: usize| {
            match numbers.get(index) {
            None => Ok(0),
            Some(digits) => digits.parse().map_err(|_| {
                Failure::new(format!(
                    "error parsing version segment: strconv.ParseUint: parsing \"{digits}\": value out of range"
                ))
            }),
        }
        };
        if !is_prerelease(prerelease) {
            number(0)?;
            number(1)?;
            number(2)?;
            return Err(Failure::new("version segment starts with 0"));
        }
        Ok(Version {
            metadata: metadata.to_owned(),
            original: text.to_owned(),
            ..Version::new(number(0)?, number(1)?, number(2)?, prerelease)
        })
    }

    fn into_value(self) -> Value {
        Value::Object(Rc::new(self))
    }

    /// The next version, of that many numbers kept.
    fn next(&self, kept: usize) -> Version {
        let mut next = Version::new(self.major, self.minor, self.patch, "");
        match kept {
            0 => {
                next.major = next.major.wrapping_add(1);
                (next.minor, next.patch) = (0, 0);
            }
            1 => {
                next.minor = next.minor.wrapping_add(1);
                next.patch = 0;
            }
            // Of a prerelease the release is next.
            _ if !self.prerelease.is_empty() => {}
            _ => next.patch = next.patch.wrapping_add(1),
        }
        next.renamed(self)
    }

    /// With the original's `v` before its text.
    fn renamed(mut self, from: &Version) -> Version {
        let prefix = if from.original.starts_with('v') {
            "v"
        } else {
            ""
        };
        self.original = format!("{prefix}{self}");
        self.pointer = false;
        self
    }

    /// By precedence.
    pub fn compare(&self, other: &Version) -> Ordering {
        let numbers = |version: &Version| (version.major, version.minor, version.patch);
        numbers(self)
            .cmp(&numbers(other))
            .then_with(|| compare_prereleases(&self.prerelease, &other.prerelease))
    }
}

/// None comes after any; else identifier by identifier, numbers before words.
pub(super) fn compare_prereleases(one: &str, other: &str) -> Ordering {
    match (one.is_empty(), other.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        let order = match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// One to three numbers with dots between them, and the rest.
fn numbers(mut text: &str) -> (Vec<&str>, &str) {
    let mut numbers = Vec::new();
    while numbers.len() < 3 {
        let digits = match (numbers.len(), text.strip_prefix('.')) {
            (0, _) => text,
            (_, Some(digits)) => digits,
            (_, None) => break,
        };
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        if end == 0 {
            break;
        }
        numbers.push(&digits[..end]);
        text = &digits[end..];
    }
    (numbers, text)
}

/// After that sign, words of letters, digits and hyphens with dots between them; and the rest.
pub(super) fn identifiers(text: &str, sign: char) -> (&str, &str) {
    let Some(words) = text.strip_prefix(sign) else {
        return ("", text);
    };
    let mut end = 0;
    loop {
        let word = &words[end..];
        let size = word
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .unwrap_or(word.len());
        if size == 0 {
            // A dot with nothing after it is not part of it.
            end = end.saturating_sub(1);
            break;
        }
        end += size;
        if !words[end..].starts_with('.') {
            break;
        }
        end += 1;
    }
    match end {
        0 => ("", text),
        _ => words.split_at(end),
    }
}

/// Whether no number in it starts with 0.
pub(super) fn is_prerelease(text: &str) -> bool {
    !text.split('.').any(|word| {
        word.len() > 1 && word.starts_with('0') && word.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.prerelease.is_empty() {
            write!(f, "-{}", self.prerelease)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl Object for Version {
    fn type_name(&self) -> &'static str {
        if self.pointer {
            "*semver.Version"
        } else {
            "semver.Version"
        }
    }

    fn kind(&self) -> &'static str {
        if self.pointer { "ptr" } else { "struct" }
    }

    fn field(&self, _: &str) -> Option<Value> {
        None
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, Failure>> {
        let uint = |number| Ok(Value::Uint(number, UintKind::Uint64));
        let other = || match args.first() {
            Some(Value::Object(object)) => object.as_any().downcast_ref::<Version>(),
            _ => None,
        };
        let text = || match args.first() {
            Some(Value::String(text)) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        };
        Some(match name {
            "Major" => uint(self.major),
            "Minor" => uint(self.minor),
            "Patch" => uint(self.patch),
            "Prerelease" => Ok(Value::string(self.prerelease.clone())),
            "Metadata" => Ok(Value::string(self.metadata.clone())),
            "Original" => Ok(Value::string(self.original.clone())),
            "String" => Ok(Value::string(self.to_string())),
            "IncMajor" => Ok(self.next(0).into_value()),
            "IncMinor" => Ok(self.next(1).into_value()),
            "IncPatch" => Ok(self.next(2).into_value()),
            "SetPrerelease" => self.with_prerelease(&text()),
            "SetMetadata" => self.with_metadata(&text()),
            "LessThan" | "LessThanEqual" | "GreaterThan" | "GreaterThanEqual" | "Equal"
            | "Compare" => match other() {
                Some(other) => Ok(compared(name, self.compare(other))),
                None => Err(Failure::new(format!("{name} takes a version"))),
            },
            _ => return None,
        })
    }

    fn print(&self) -> String {
        self.to_string()
    }

    fn plain(&self) -> Value {
        Value::string(self.to_string())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn compared(method: &str, order: Ordering) -> Value {
    Value::Bool(match method {
        "LessThan" => order.is_lt(),
        "LessThanEqual" => order.is_le(),
        "GreaterThan" => order.is_gt(),
        "GreaterThanEqual" => order.is_ge(),
        "Equal" => order.is_eq(),
        _ => return Value::int(order as i64),
    })
}

impl Version {
    fn with_prerelease(&self, prerelease: &str) -> Result<Value, Failure> {
        let signed = format!("-{prerelease}");
        if !prerelease.is_empty() && identifiers(&signed, '-') != (prerelease, "") {
            return Err(Failure::new("invalid prerelease string"));
        }
        if !is_prerelease(prerelease) {
            return Err(Failure::new("version segment starts with 0"));
        }
        let changed = Version {
            prerelease: prerelease.to_owned(),
            ..self.clone()
        };
        Ok(changed.renamed(self).into_value())
    }

    fn with_metadata(&self, metadata: &str) -> Result<Value, Failure> {
        let signed = format!("+{metadata}");
        if !metadata.is_empty() && identifiers(&signed, '+') != (metadata, "") {
            return Err(Failure::new("invalid metadata string"));
        }
        let changed = Version {
            metadata: metadata.to_owned(),
            ..self.clone()
        };
        Ok(changed.renamed(self).into_value())
    }
}
