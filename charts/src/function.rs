//! What a function of templates is, and what it may ask for.
//!
//! The executor checks the number and the types of arguments by [`Function::params`], as Go's reflection does, before it
//! calls; a function's own failures carry no place: the executor adds template, line and the value's path.

use std::{cell::RefCell, time::Instant};

use jiff::Timestamp;
use rand::rngs::StdRng;

use crate::Value;

/// A function that templates call by name.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub name: &'static str,
    /// The types of its first arguments, all of them required.
    pub params: &'static [Param],
    /// The type of any number of further arguments (Go's `...T`).
    pub rest: Option<Param>,
    pub call: fn(&Environment, &[Value]) -> Result<Value, Failure>,
}

/// The Go type of a parameter: which arguments a call accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Param {
    /// `interface{}`: anything, nil too.
    Any,
    String,
    Bool,
    /// `int`, and what Go's templates convert to it: integers of other widths are refused, as Go does.
    Int,
    Int64,
    Float64,
    /// `map[string]interface{}`.
    Map,
    /// `[]interface{}`.
    List,
    /// `[]string`.
    Strings,
    /// Another type, by its Go name; the argument is an [`Object`](crate::Object) of that `type_name`.
    Named(&'static str),
}

/// Why a function has no result. The text is as Helm's own function would word it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub message: String,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
        }
    }
}

/// What functions may ask for beyond their arguments.
pub struct Environment {
    /// The moment of the rendering: `now` and certificates' dates.
    pub now: Timestamp,
    /// `randAlphaNum` and the like; seeded in tests.
    pub random: RefCell<StdRng>,
    /// The live cluster; `None`: `lookup` answers an empty map.
    pub lookup: Option<Box<dyn Lookup>>,
    /// Whether `getHostByName` asks the network; otherwise it answers "".
    pub dns: bool,
    pub limits: Limits,
}

/// Asks the live cluster.
pub trait Lookup {
    /// One object, or with an empty name a list; what isn't there is an empty map.
    fn lookup(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Failure>;
}

/// What one rendering of a chart may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Actions executed and functions called.
    pub steps: u64,
    /// Bytes of all output, and of any one string.
    pub output: usize,
    /// Templates within templates.
    pub depth: usize,
    /// When it is to have ended.
    pub deadline: Option<Instant>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            steps: 200_000_000,
            output: 256 << 20,
            depth: 1000,
            deadline: None,
        }
    }
}
