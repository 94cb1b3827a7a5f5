//! How many sockets there are, by address while it isn't known whose they are, by user from then on.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Sockets of one address that have not yet sent `connection_init`.
const MAX_UNKNOWN: usize = 20;

/// Counts sockets of this process.
#[derive(Debug)]
pub(in crate::edge) struct Census {
    max_per_user: usize,
    unknown: Counts<IpAddr>,
    users: Counts<String>,
}

impl Census {
    pub(in crate::edge) fn new(max_per_user: usize) -> Self {
        Self {
            max_per_user,
            unknown: Counts::default(),
            users: Counts::default(),
        }
    }

    /// A seat for a socket of which nothing is known yet; `None`: too many of that address.
    pub(super) fn unknown(&self, address: IpAddr) -> Option<Seat<IpAddr>> {
        self.unknown.take(address, MAX_UNKNOWN)
    }

    /// A seat for a user's socket; `None`: too many of that user.
    pub(super) fn user(&self, key: String) -> Option<Seat<String>> {
        self.users.take(key, self.max_per_user)
    }

    /// A seat for a stream over HTTP, which is a connection as a socket is: of its user, or of its address where there is none.
    pub(in crate::edge) fn stream(
        &self,
        user: Option<String>,
        address: IpAddr,
    ) -> Option<StreamSeat> {
        match user {
            Some(user) => self.user(user).map(StreamSeat::User),
            None => self.unknown(address).map(StreamSeat::Address),
        }
    }
}

#[derive(Debug, Clone)]
struct Counts<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq + Clone> Counts<K> {
    fn take(&self, key: K, limit: usize) -> Option<Seat<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Seat {
            counts: self.clone(),
            key,
        })
    }
}

/// The seat of a stream over HTTP.
#[derive(Debug)]
#[expect(dead_code, reason = "they are held, not read")]
pub(in crate::edge) enum StreamSeat {
    /// Of a user.
    User(Seat<String>),
    /// Of an address.
    Address(Seat<IpAddr>),
}

/// Counts until it is dropped.
#[derive(Debug)]
pub(in crate::edge) struct Seat<K: Hash + Eq + Clone> {
    counts: Counts<K>,
    key: K,
}

impl<K: Hash + Eq + Clone> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_come_back_and_nothing_is_left_behind() {
        let census = Census::new(2);
        let seats = [
            census.user("a".to_owned()),
            census.user("a".to_owned()),
            census.user("b".to_owned()),
        ];
        assert!(seats.iter().all(Option::is_some) && census.user("a".to_owned()).is_none());
        drop(seats);
        assert!(census.user("a".to_owned()).is_some());
        assert!(census.users.0.lock().unwrap().is_empty());
    }
}
