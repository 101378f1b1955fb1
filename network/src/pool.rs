//! The addresses of one node's range: which pod has which. Pure.
//!
//! Addresses are given in order and wrap around, so a freed one is the last to be given again: a
//! client that still remembers it meets nobody rather than somebody else.

use std::{collections::HashMap, net::Ipv4Addr};

use crate::Range;

/// The first addresses of a range are the network's own, the host's end of the link, the
/// namespace's end of the link, and one to spare.
const RESERVED: u32 = 4;

/// The host's end of the link: what a pod sees as its node.
pub(crate) fn host_address(range: Range) -> Ipv4Addr {
    range.nth(1).expect("a pod range is checked to have room")
}

/// The namespace's end of the link: the next hop to every Wasm pod.
pub(crate) fn namespace_address(range: Range) -> Ipv4Addr {
    range.nth(2).expect("a pod range is checked to have room")
}

/// Which pod (by uid) has which address.
pub(crate) struct Pool {
    range: Range,
    next: u32,
    owners: HashMap<u32, String>,
    offsets: HashMap<String, u32>,
}

impl Pool {
    /// All addresses free. The range has at least eight addresses.
    pub(crate) fn new(range: Range) -> Self {
        Self {
            range,
            next: RESERVED,
            owners: HashMap::new(),
            offsets: HashMap::new(),
        }
    }

    pub(crate) fn range(&self) -> Range {
        self.range
    }

    /// The pod's own address.
    pub(crate) fn find(&self, uid: &str) -> Option<Ipv4Addr> {
        self.range.nth(*self.offsets.get(uid)?)
    }

    /// The pods that have an address.
    pub(crate) fn uids(&self) -> impl Iterator<Item = &String> {
        self.offsets.keys()
    }

    /// Gives an address: the pod's own if it has one, else `wanted` if that is free, else the next
    /// free one. `None` when all are taken.
    pub(crate) fn add(&mut self, uid: &str, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        if let Some(own) = self.find(uid) {
            return Some(own);
        }
        let wanted = wanted
            .and_then(|address| self.range.offset(address))
            .filter(|offset| *offset >= RESERVED && *offset < self.end() && self.free(*offset));
        let offset = match wanted {
            Some(offset) => offset,
            None => self.take_next()?,
        };
        self.owners.insert(offset, uid.to_owned());
        self.offsets.insert(uid.to_owned(), offset);
        self.range.nth(offset)
    }

    /// Frees the pod's address, if it has one.
    pub(crate) fn remove(&mut self, uid: &str) {
        if let Some(offset) = self.offsets.remove(uid) {
            self.owners.remove(&offset);
        }
    }

    fn take_next(&mut self) -> Option<u32> {
        let end = self.end();
        let offset = (self.next..end)
            .chain(RESERVED..self.next)
            .find(|offset| self.free(*offset))?;
        self.next = if offset + 1 < end {
            offset + 1
        } else {
            RESERVED
        };
        Some(offset)
    }

    fn free(&self, offset: u32) -> bool {
        !self.owners.contains_key(&offset)
    }

    /// One past the last address given: the very last of the range is its broadcast address.
    fn end(&self) -> u32 {
        u32::try_from(self.range.size() - 1).expect("a range of IPv4 has at most 2^31 addresses")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Each word of the script is `+uid` (add), `+uid=address` (add with a wish) or `-uid` (remove).
    #[track_caller]
    fn check(range: &str, script: &str, expected: Expect) {
        let mut pool = Pool::new(range.parse().unwrap());
        let mut seen = String::new();
        for word in script.split_whitespace() {
            if let Some(uid) = word.strip_prefix('-') {
                pool.remove(uid);
                continue;
            }
            let word = &word[1..];
            let (uid, wanted) = match word.split_once('=') {
                Some((uid, wanted)) => (uid, Some(wanted.parse().unwrap())),
                None => (word, None),
            };
            let address = pool.add(uid, wanted);
            seen += &address.map_or(format!("{uid} none\n"), |ip| format!("{uid} {ip}\n"));
        }
        expected.assert_eq(&seen);
    }

    #[test]
    fn addresses_are_given_in_order_and_once() {
        check(
            "10.0.0.0/24",
            "+a +b +a +c",
            expect![[r#"
            a 10.0.0.4
            b 10.0.0.5
            a 10.0.0.4
            c 10.0.0.6
        "#]],
        );
    }

    #[test]
    fn a_freed_address_is_the_last_to_be_given_again() {
        check(
            "10.0.0.0/29",
            "+a -a +b -b +c -c +d",
            expect![[r#"
            a 10.0.0.4
            b 10.0.0.5
            c 10.0.0.6
            d 10.0.0.4
        "#]],
        );
    }

    #[test]
    fn a_full_range_gives_none_until_one_is_freed() {
        check(
            "10.0.0.0/29",
            "+a +b +c +d -b +d",
            expect![[r#"
            a 10.0.0.4
            b 10.0.0.5
            c 10.0.0.6
            d none
            d 10.0.0.5
        "#]],
        );
    }

    #[test]
    fn a_wanted_address_is_kept_if_it_is_free_and_a_pods() {
        check(
            "10.0.0.0/24",
            "+a=10.0.0.9 +b=10.0.0.9 +c=10.0.0.1 +d=10.9.9.9 +e=10.0.0.255",
            expect![[r#"
                a 10.0.0.9
                b 10.0.0.4
                c 10.0.0.5
                d 10.0.0.6
                e 10.0.0.7
            "#]],
        );
    }
}
