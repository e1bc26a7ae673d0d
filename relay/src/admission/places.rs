//! So many at a time, in total and for each address. A place is given back by dropping it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::origin::Origin;
use crate::limits::RelayLimits;

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Nobody can come in.
    Total,
    /// This address cannot.
    Address,
}

/// A number of places. Clones share them.
#[derive(Debug, Clone)]
pub struct Places {
    total: Arc<Semaphore>,
    total_max: u32,
    shares: Arc<Shares>,
}

#[derive(Debug)]
struct Shares {
    max: u64,
    /// Never more entries than places that are taken.
    taken: Mutex<HashMap<Origin, u64>>,
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// One address's part in a place.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    origin: Origin,
}

impl Places {
    /// All free.
    #[must_use]
    pub fn new(total_max: u64, per_address_max: u64) -> Self {
        let permits = RelayLimits::permits(total_max);
        Self {
            total: Arc::new(Semaphore::new(permits)),
            total_max: u32::try_from(permits).unwrap_or(u32::MAX),
            shares: Arc::new(Shares { max: per_address_max, taken: Mutex::default() }),
        }
    }

    /// Takes a place. Where the address is not known yet (a proxy's connection), [`Self::share`]
    /// follows.
    ///
    /// # Errors
    /// Which bound was reached.
    pub fn enter(&self, origin: Option<Origin>) -> Result<Place, Full> {
        let share = origin.map(|origin| self.share(origin)).transpose()?;
        let permit = self.total.clone().try_acquire_owned().map_err(|_| Full::Total)?;
        Ok(Place { _permit: permit, _share: share })
    }

    /// Counts a place that was taken before for the address it turned out to be for.
    ///
    /// # Errors
    /// [`Full::Address`].
    pub fn share(&self, origin: Origin) -> Result<Share, Full> {
        let mut taken = self.shares.lock();
        let count = taken.get(&origin).copied().unwrap_or(0);
        if count >= self.shares.max {
            return Err(Full::Address);
        }
        taken.insert(origin, count + 1);
        Ok(Share { shares: self.shares.clone(), origin })
    }

    /// Whether half of all places or half of the address's are taken.
    #[must_use]
    pub fn are_scarce_for(&self, origin: Origin) -> bool {
        let share = self.shares.lock().get(&origin).copied().unwrap_or(0);
        self.total.available_permits() <= self.total_max as usize / 2 || share >= self.shares.max.div_ceil(2)
    }

    /// Waits until every place is free.
    pub async fn emptied(&self) {
        // An error means that the semaphore was closed, which nobody does.
        let _ = self.total.acquire_many(self.total_max).await;
    }
}

impl Shares {
    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, u64>> {
        // No code panics while it holds the lock; if it ever does, the map is still a map.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        match taken.get_mut(&self.origin) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::origin::Origins;
    use super::*;

    fn two_origins() -> (Origin, Origin) {
        let origins = Origins::default();
        (origins.of(IpAddr::from([192, 0, 2, 1])), origins.of(IpAddr::from([192, 0, 2, 2])))
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let (one, other) = two_origins();
        let places = Places::new(3, 2);
        let _held: Vec<Place> = (0..2).map(|_| places.enter(Some(one)).expect("free")).collect();
        assert_eq!(places.enter(Some(one)).err(), Some(Full::Address));
        let _third = places.enter(Some(other)).expect("a place for somebody else");
        assert_eq!(places.enter(Some(other)).err(), Some(Full::Total));
    }

    #[test]
    fn a_dropped_place_is_free_again_and_forgotten() {
        let (one, _) = two_origins();
        let places = Places::new(2, 2);
        for _ in 0..10 {
            let first = places.enter(Some(one)).expect("free");
            let second = places.enter(Some(one)).expect("free");
            drop((first, second));
        }
        assert!(places.shares.lock().is_empty());
    }

    #[test]
    fn a_refused_entry_leaves_nothing_behind() {
        let (one, other) = two_origins();
        let places = Places::new(1, 5);
        let _held = places.enter(Some(one)).expect("free");
        for _ in 0..10 {
            assert_eq!(places.enter(Some(other)).err(), Some(Full::Total));
        }
        assert_eq!(places.shares.lock().len(), 1);
    }

    #[test]
    fn a_proxys_clients_count_each_for_themselves() {
        let (one, other) = two_origins();
        let places = Places::new(10, 1);
        let _connections: Vec<Place> = (0..3).map(|_| places.enter(None).expect("free")).collect();
        let _share = places.share(one).expect("the first of this client");
        assert_eq!(places.share(one).err(), Some(Full::Address));
        assert!(places.share(other).is_ok());
    }
}
