//! [`Places`]: how many connections there may be, altogether and of one client.

use crate::RemoteAddress;
use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections by the network of their clients.
type Taken = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Places for connections; clones are the same ones.
#[derive(Clone, Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    count: usize,
    of_each: Option<usize>,
    taken: Taken,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_client: Option<OfClient>,
}

/// A place among those of a client.
#[derive(Debug)]
struct OfClient {
    network: IpAddr,
    taken: Taken,
}

impl Places {
    /// So many, and so many for one client. If that is not said, half of all, and all of them for this machine: a proxy on it brings everybody.
    pub(super) fn new(all: usize, of_each: Option<usize>) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), count: all, of_each, taken: Taken::default() }
    }

    /// How many there are.
    pub(super) fn all(&self) -> usize {
        self.count
    }

    /// One of all; waits until there is one.
    pub(super) async fn next(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.all).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Takes it for a client; `None`: he has as many as he may have.
    pub(super) fn take(&self, of_all: OwnedSemaphorePermit, client: Option<RemoteAddress>) -> Option<Place> {
        // Who is gone already has no address, and goes at once.
        let Some(client) = client else { return Some(Place { _of_all: of_all, _of_client: None }) };
        let is_local = client.0.to_canonical().is_loopback();
        let most = self.of_each.unwrap_or_else(|| if is_local { self.count } else { self.count.div_ceil(2) });
        let network = client.network();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(network).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { _of_all: of_all, _of_client: Some(OfClient { network, taken: Arc::clone(&self.taken) }) })
    }
}

impl Drop for OfClient {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get(&self.network).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.network);
        } else {
            taken.insert(self.network, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Option<RemoteAddress> {
        Some(RemoteAddress(address.parse().expect("an address")))
    }

    #[tokio::test]
    async fn a_client_has_so_many_and_others_have_theirs_and_what_ends_is_free_again() {
        let places = Places::new(8, Some(2));
        let take = async |address: &str| places.take(places.next().await, at(address));
        let (first, second) = (take("10.0.0.1").await, take("10.0.0.1").await);
        assert!(first.is_some() && second.is_some() && take("10.0.0.1").await.is_none() && take("::ffff:10.0.0.1").await.is_none());
        let (other, one, two) = (take("10.0.0.2").await, take("2001:db8::1").await, take("2001:db8::2").await);
        assert!(other.is_some() && one.is_some() && two.is_some());
        assert!(take("2001:db8::3").await.is_none(), "whoever has a network has all of its addresses");
        assert!(take("2001:db8:0:1::3").await.is_some(), "another network");
        drop(first);
        assert!(take("10.0.0.1").await.is_some());
        drop((second, other, one, two));
        assert!(places.taken.lock().expect("no panic").is_empty(), "nothing is kept of those who are gone");
        assert_eq!(places.all.available_permits(), 8);
    }

    #[tokio::test]
    async fn unless_it_is_said_half_of_all_is_for_one_client_and_all_for_this_machine() {
        let places = Places::new(4, None);
        let take = async |address: &str| places.take(places.next().await, at(address));
        let held = (take("10.0.0.1").await, take("10.0.0.1").await);
        assert!(held.0.is_some() && held.1.is_some() && take("10.0.0.1").await.is_none());
        drop(held);
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let held = [take(local).await, take(local).await, take(local).await, take(local).await];
            assert!(held.iter().all(Option::is_some), "{local}");
        }
    }
}
