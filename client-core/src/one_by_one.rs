//! Maps and sets from iterators, filled one by one.
//!
//! `collect` sorts first and builds from the sorted list: faster for many, but its code is made anew
//! for each type of key and value, and for the two dozen small maps of an engine that was a tenth of
//! what a page loads.

use std::collections::{BTreeMap, BTreeSet};

use litemap::LiteMap;

/// The last of equal keys counts, as with `collect`.
pub(crate) fn map_of<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        map.insert(key, value);
    }
    map
}

/// The same, for a map of the group's devices or of other things that there are few of: a sorted
/// vector, whose code is a fraction of a B-tree's.
pub(crate) fn few_of<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> LiteMap<K, V> {
    let mut map = LiteMap::new();
    for (key, value) in pairs {
        map.insert(key, value);
    }
    map
}

/// Each once.
pub(crate) fn set_of<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeSet<K> {
    let mut set = BTreeSet::new();
    for key in keys {
        set.insert(key);
    }
    set
}
