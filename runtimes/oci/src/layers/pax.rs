//! PAX records: what an archive says of the next entry beyond what a header has room for.
//!
//! A record is `<length> <key>=<value>\n`; the last of a key counts, and an empty value is as if there were none.

use std::collections::BTreeMap;

use rustix::fs::Timespec;

use super::{
    header::{owner, size},
    sparse::{self, Extent, decimal},
};

/// The records that count for an unpacked entry.
#[derive(Default, Debug)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) modified: Option<Timespec>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: sparse::Records,
}

impl Pax {
    pub(super) fn parse(mut records: &[u8]) -> Result<Pax, String> {
        let mut pax = Pax::default();
        // Padding of NULs ends the records.
        while records.first().is_some_and(|byte| *byte != 0) {
            let (key, value, rest) =
                record(records).ok_or_else(|| "a PAX record is malformed".to_owned())?;
            pax.set(key, value).ok_or_else(|| {
                format!(
                    "PAX record {:?} has no fit value",
                    String::from_utf8_lossy(key)
                )
            })??;
            records = rest;
        }
        Ok(pax)
    }

    /// `None`: the value is malformed.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<Result<(), String>> {
        let text = (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text,
            b"linkpath" => self.link = text,
            b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
            b"size" => match size(integer(value)?) {
                Ok(size) => self.size = Some(size),
                Err(message) => return Some(Err(message)),
            },
            b"uid" => match owner("uid", integer(value)?) {
                Ok(uid) => self.uid = Some(uid),
                Err(message) => return Some(Err(message)),
            },
            b"gid" => match owner("gid", integer(value)?) {
                Ok(gid) => self.gid = Some(gid),
                Err(message) => return Some(Err(message)),
            },
            b"mtime" => self.modified = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(decimal(value)?),
            b"GNU.sparse.name" => self.sparse.name = text,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(decimal(value)?),
            b"GNU.sparse.map" => self.sparse.set_map(value)?,
            b"GNU.sparse.offset" => self.sparse.offset = Some(decimal(value)?),
            b"GNU.sparse.numbytes" => self.sparse.extents.push(Extent {
                offset: self.sparse.offset.take()?,
                length: decimal(value)?,
            }),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
        Some(Ok(()))
    }
}

/// The first record's key and value, and what follows it.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&records[..space])?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn integer(text: &[u8]) -> Option<i128> {
    match text.strip_prefix(b"-") {
        Some(digits) => Some(-i128::from(decimal(digits)?)),
        None => Some(i128::from(decimal(text)?)),
    }
}

/// Seconds since 1970, negative before, and a fraction of any length.
fn time(text: &[u8]) -> Option<Timespec> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let nanoseconds = digits
        .take(9)
        .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => timespec(seconds, nanoseconds),
        (true, 0) => timespec(-seconds, 0),
        (true, nanoseconds) => timespec(-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

fn timespec(tv_sec: i64, tv_nsec: i64) -> Timespec {
    Timespec { tv_sec, tv_nsec }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(records: &[(&str, &str)], expected: Expect) {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            bytes.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
        check_bytes(&bytes, expected);
    }

    #[track_caller]
    fn check_bytes(bytes: &[u8], expected: Expect) {
        let text = match Pax::parse(bytes) {
            Ok(pax) => format!(
                "path={} size={:?} uid={:?} mtime={:?} xattrs={} extents={:?}",
                String::from_utf8_lossy(&pax.path.unwrap_or_default()),
                pax.size,
                pax.uid,
                pax.modified.map(|time| (time.tv_sec, time.tv_nsec)),
                pax.xattrs.len(),
                pax.sparse
                    .extents
                    .iter()
                    .map(|extent| (extent.offset, extent.length))
                    .collect::<Vec<_>>(),
            ),
            Err(message) => format!("error: {message}"),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_an_empty_one_takes_it_back() {
        check(
            &[
                ("path", "a"),
                ("path", "b=c\nd"),
                ("uid", "7"),
                ("SCHILY.xattr.user.x", "1"),
            ],
            expect![[r#"
                path=b=c
                d size=None uid=Some(7) mtime=None xattrs=1 extents=[]"#]],
        );
        check(
            &[("path", "a"), ("path", "")],
            expect!["path= size=None uid=None mtime=None xattrs=0 extents=[]"],
        );
    }

    #[test]
    fn times_have_fractions_and_may_be_before_1970() {
        check(
            &[("mtime", "12.5")],
            expect!["path= size=None uid=None mtime=Some((12, 500000000)) xattrs=0 extents=[]"],
        );
        check(
            &[("mtime", "-1.25")],
            expect!["path= size=None uid=None mtime=Some((-2, 750000000)) xattrs=0 extents=[]"],
        );
        check(
            &[("mtime", "1.0000000019")],
            expect!["path= size=None uid=None mtime=Some((1, 1)) xattrs=0 extents=[]"],
        );
        check(
            &[("mtime", "soon")],
            expect![[r#"error: PAX record "mtime" has no fit value"#]],
        );
    }

    #[test]
    fn numbers_that_are_no_sizes_or_owners_are_refused() {
        check(&[("size", "-1")], expect!["error: -1 is no size"]);
        check(
            &[("size", "9223372036854775808")],
            expect!["error: 9223372036854775808 is no size"],
        );
        check(
            &[("uid", "4294967295")],
            expect!["error: 4294967295 is no uid"],
        );
        check(
            &[("uid", "0x10")],
            expect![[r#"error: PAX record "uid" has no fit value"#]],
        );
    }

    #[test]
    fn extents_are_pairs() {
        check(
            &[("GNU.sparse.map", "0,512,4096,1")],
            expect!["path= size=None uid=None mtime=None xattrs=0 extents=[(0, 512), (4096, 1)]"],
        );
        check(
            &[("GNU.sparse.map", "0,512,4096")],
            expect![[r#"error: PAX record "GNU.sparse.map" has no fit value"#]],
        );
        check(
            &[("GNU.sparse.offset", "8"), ("GNU.sparse.numbytes", "9")],
            expect!["path= size=None uid=None mtime=None xattrs=0 extents=[(8, 9)]"],
        );
        check(
            &[("GNU.sparse.numbytes", "9")],
            expect![[r#"error: PAX record "GNU.sparse.numbytes" has no fit value"#]],
        );
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        check_bytes(b"100 path=a\n", expect!["error: a PAX record is malformed"]);
        check_bytes(b"3 a\n", expect!["error: a PAX record is malformed"]);
        check_bytes(b"1 path=a\n", expect!["error: a PAX record is malformed"]);
        check_bytes(
            b"99999999999999999999999 path=a\n",
            expect!["error: a PAX record is malformed"],
        );
        check_bytes(
            b"\0\0\0",
            expect!["path= size=None uid=None mtime=None xattrs=0 extents=[]"],
        );
    }
}
