//! Every decoder against bytes near to those of `tests/corpus/`, one folder for each subject: cut, joined,
//! repeated, flipped. Whatever they answer, they answer soon, without a panic and within bounds.
//!
//! A bounded number of cases a run, by proptest; a case that failed goes into the corpus.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

use std::{
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use api::{
    auth::{SigningKey, certificate},
    encoding,
    quantity::Quantity,
    schema::{
        self,
        merge::{
            self,
            apply::{FieldSet, Managers},
        },
    },
    selector::{FieldSelector, LabelSelector},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

/// How long one input may take; generous, since debug builds share two cores.
const BUDGET: Duration = Duration::from_secs(5);

/// Bytes of an input: repeats of repeats would be megabytes, of which the sizes of bodies are the bound.
const MOST_BYTES: usize = 64 * 1024;

/// The files of a folder of the corpus.
fn corpus(subject: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(subject);
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index, prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<prop::sample::Index>;
        let tokens = prop::sample::select(vec![
            &b"{"[..],
            b"}",
            b"[",
            b"]",
            b"\"",
            b",",
            b":",
            b"null",
            b"$patch",
            b"- ",
            b"\n",
            b"*a",
            b"&a ",
            b"/",
            b"~",
            b"-",
            b"e9",
            b"\xff",
            b"\x00",
            b"(",
            b"in",
            b"!",
        ]);
        prop_oneof![
            (at(), any::<u8>()).prop_map(|(at, byte)| Self::Flip(at, byte)),
            (at(), at()).prop_map(|(from, to)| Self::Cut(from, to)),
            (at(), at(), 2_usize..40).prop_map(|(from, to, times)| Self::Repeat(from, to, times)),
            (at(), tokens).prop_map(|(at, token)| Self::Insert(at, token.to_vec())),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let range = |from: &prop::sample::Index, to: &prop::sample::Index| {
            let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Flip(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            Self::Flip(..) => {}
            Self::Cut(from, to) => {
                let range = range(from, to);
                bytes.drain(range);
            }
            Self::Repeat(from, to, times) => {
                let range = range(from, to);
                let part = bytes[range.clone()].repeat(*times);
                bytes.splice(range, part);
            }
            Self::Insert(at, token) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
}

/// An input, and since when it is decoded.
type Watched = (Instant, Vec<u8>);

/// Ends the process, with the input, when a decoder does not come back: nothing else can.
struct Watchdog {
    watched: Arc<Mutex<Option<Watched>>>,
    /// The watching thread ends when this is dropped.
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(subject: &str) -> Self {
        let watched = Arc::new(Mutex::new(None::<Watched>));
        let (alive, ended) = mpsc::channel::<()>();
        let (seen, subject) = (watched.clone(), subject.to_owned());
        std::thread::spawn(move || {
            while ended.recv_timeout(BUDGET / 10) == Err(mpsc::RecvTimeoutError::Timeout) {
                if let Some((since, bytes)) = &*seen.lock().unwrap()
                    && since.elapsed() > 2 * BUDGET
                {
                    eprintln!("{subject}: no end: {:?}", String::from_utf8_lossy(bytes));
                    std::process::abort();
                }
            }
        });
        Self {
            watched,
            _alive: alive,
        }
    }

    fn watch(&self, bytes: Option<&[u8]>) {
        *self.watched.lock().unwrap() = bytes.map(|bytes| (Instant::now(), bytes.to_vec()));
    }
}

/// Gives a decoder the corpus of its subject, and inputs near to it.
fn fuzz(subject: &str, decode: impl Fn(&[u8])) {
    let seeds = corpus(subject);
    assert!(!seeds.is_empty(), "{subject}");
    let input = (
        prop::sample::select(seeds.clone()),
        prop::collection::vec(Change::any(), 0..8),
    );
    let watchdog = Watchdog::start(subject);
    let timed = |bytes: &[u8]| {
        let start = Instant::now();
        watchdog.watch(Some(bytes));
        decode(bytes);
        watchdog.watch(None);
        start.elapsed()
    };
    for seed in &seeds {
        assert!(
            timed(seed) < BUDGET,
            "{subject}: {:?}",
            String::from_utf8_lossy(seed)
        );
    }
    let config = Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&input, |(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes.truncate(MOST_BYTES);
        prop_assert!(
            timed(&bytes) < BUDGET,
            "slow: {:?}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(())
    });
    if let Err(failure) = ran {
        panic!("{subject}: {failure}");
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "x", "finalizers": ["a", "b"] },
        "spec": { "containers": [{ "name": "a", "image": "i" }, { "name": "b" }], "x": {} },
    })
}

#[test]
fn json_and_protobuf_are_read_or_refused() {
    fuzz("json", |bytes| {
        let _ = encoding::json(bytes);
        let _ = encoding::protobuf(bytes, "v1", "Pod");
        let _ = encoding::protobuf(&[b"k8s\0", bytes].concat(), "v1", "Pod");
    });
}

#[test]
fn yaml_is_read_or_refused() {
    fuzz("yaml", |bytes| {
        let _ = encoding::yaml(bytes);
        let _ = encoding::yaml_documents(&String::from_utf8_lossy(bytes));
    });
}

#[test]
fn patches_are_applied_or_refused() {
    let schema = schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
    fuzz("patch", |bytes| {
        let Ok(patch) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        if let Ok(patched) = merge::json_patch(pod(), &patch) {
            assert!(
                patched.to_string().len() < 64 * 1024 * 1024,
                "it grew too large"
            );
        }
        let _ = merge::strategic(&schema, pod(), patch.clone());
        let _ = merge::merge_patch(pod(), patch);
    });
}

#[test]
fn selectors_are_read_or_refused() {
    fuzz("selector", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    });
}

#[test]
fn quantities_are_read_or_refused() {
    fuzz("quantity", |bytes| {
        if let Ok(quantity) = String::from_utf8_lossy(bytes).parse::<Quantity>() {
            let _ = (quantity.nanos(), quantity.millis(), quantity.value());
        }
    });
}

#[test]
fn tokens_are_refused() {
    let key = SigningKey::read(&SigningKey::generate().unwrap()).unwrap();
    fuzz("token", |bytes| {
        let token = String::from_utf8_lossy(bytes);
        key.verify::<Value>(&token).unwrap_err();
    });
}

#[test]
fn certificates_are_read_or_refused() {
    fuzz("certificate", |bytes| {
        let _ = certificate::user(bytes);
    });
}

#[test]
fn field_sets_are_read_or_refused() {
    fuzz("field_set", |bytes| {
        let Ok(fields) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        if let Ok(set) = FieldSet::parse(&fields) {
            // What was read is written in a form that reads back as the same.
            let written = set.clone().into_json();
            assert_eq!(FieldSet::parse(&written), Ok(set));
        }
        let entry = json!({ "manager": "m", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields });
        let _ = Managers::said(Some(&json!([entry.clone(), entry])));
    });
}
