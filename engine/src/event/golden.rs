//! What stands in databases is read, and written the same, by every version.

use std::collections::BTreeSet;

use entities::TenantId;
use events::record::VERSION;
use uuid::Uuid;

use super::*;

/// A line for each kind: its number, and its payload as it is stored.
const GOLDEN: &str = include_str!("golden/v1.txt");

fn record(kind: i16, payload: &[u8]) -> Record {
    Record {
        tenant: TenantId(Uuid::nil()),
        stream: Uuid::nil(),
        seq: 1,
        run: None,
        attempt: 0,
        n: 0,
        v: VERSION,
        at: DateTime::UNIX_EPOCH,
        kind: Kind(kind),
        payload: Payload::Whole(Bytes::copy_from_slice(payload)),
    }
}

#[test]
fn what_was_written_is_read_and_written_again() {
    for line in GOLDEN.lines() {
        let (kind, payload) = line.split_once(' ').unwrap();
        let kind = kind.parse().unwrap();
        let body = Body::decode(&record(kind, payload.as_bytes()));
        let draft = body
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .draft();
        let Payload::Whole(bytes) = draft.payload else {
            panic!("{line} is no delta")
        };
        assert_eq!(draft.kind, Kind(kind));
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), payload);
    }
}

#[test]
fn every_kind_has_its_line() {
    let written: BTreeSet<i16> = GOLDEN
        .lines()
        .map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
        .collect();
    // An unknown kind is told apart from a payload that can't be read.
    let known: BTreeSet<i16> = (Kind::ARGUMENTS.0 + 1..200)
        .filter(|&kind| !matches!(Body::decode(&record(kind, b"null")), Err(DbErr::Type(_))))
        .collect();
    assert_eq!(known, written);
}
