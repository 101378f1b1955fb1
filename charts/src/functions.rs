//! The functions that templates call by name: all of Sprig's and Helm's that the executor does not own.
//!
//! One file per family; each has a table of [`Function`]s whose parameters are typed as Go's signatures are, so that
//! the executor refuses what Go refuses, in its words. What Go answers with a panic is a [`Failure`] with the panic's
//! text, as `text/template` words it.
//!
//! Reads its arguments and the [`Environment`]; changes only maps that it is given, as `set` and `merge` must; never
//! asks the clock, the network (`getHostByName` aside, where it is allowed) or the file system. What a function would
//! build is measured first: beyond [`Limits::output`](crate::Limits) it is refused.

mod arguments;
mod case;
mod cast;
mod certificates;
pub(crate) mod constraints;
mod cryptography;
mod dates;
mod decimals;
mod defaults;
mod der;
mod dicts;
mod documents;
mod durations;
mod encoding;
mod equality;
mod floats;
mod integers;
mod keys;
mod layout;
mod lists;
mod merge;
mod network;
mod passwords;
mod paths;
mod pem;
mod random;
mod re2;
mod regexes;
mod runes;
mod strings;
mod time;
mod toml;
mod types;
mod urls;
pub(crate) mod versions;
mod words;

use std::{collections::HashMap, sync::LazyLock};

use crate::{Environment, Failure, Function, Param, Value};

const FAMILIES: &[&[Function]] = &[
    strings::FUNCTIONS,
    words::FUNCTIONS,
    integers::FUNCTIONS,
    floats::FUNCTIONS,
    lists::FUNCTIONS,
    dicts::FUNCTIONS,
    defaults::FUNCTIONS,
    types::FUNCTIONS,
    encoding::FUNCTIONS,
    paths::FUNCTIONS,
    dates::FUNCTIONS,
    durations::FUNCTIONS,
    versions::FUNCTIONS,
    regexes::FUNCTIONS,
    urls::FUNCTIONS,
    network::FUNCTIONS,
    random::FUNCTIONS,
    passwords::FUNCTIONS,
    cryptography::FUNCTIONS,
    keys::FUNCTIONS,
    certificates::FUNCTIONS,
    documents::FUNCTIONS,
];

/// The function of that name, if it is one of these.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    static INDEX: LazyLock<HashMap<&'static str, &'static Function>> = LazyLock::new(|| {
        let all = FAMILIES.iter().flat_map(|family| family.iter());
        all.map(|function| (function.name, function)).collect()
    });
    INDEX.get(name).copied()
}

type Call = fn(&Environment, &[Value]) -> Result<Value, Failure>;

/// A function with so many arguments.
const fn fixed(name: &'static str, params: &'static [Param], call: Call) -> Function {
    Function {
        name,
        params,
        rest: None,
        call,
    }
}

/// A function with any number of further arguments.
const fn variadic(
    name: &'static str,
    params: &'static [Param],
    rest: Param,
    call: Call,
) -> Function {
    Function {
        name,
        params,
        rest: Some(rest),
        call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that real Helm's function map has, without those of `text/template` itself.
    const NAMES: &str = include_str!("functions/names.txt");

    #[test]
    fn every_function_of_helm_is_in_the_table() {
        let missing: Vec<&str> = NAMES
            .lines()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))
            .filter(|name| find(name).is_none())
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn no_name_is_in_the_table_twice() {
        let count = FAMILIES.iter().map(|family| family.len()).sum::<usize>();
        let mut names: Vec<&str> = FAMILIES
            .iter()
            .flat_map(|f| f.iter())
            .map(|f| f.name)
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn what_reads_the_machine_is_not_there() {
        assert!(find("env").is_none());
        assert!(find("expandenv").is_none());
    }
}
