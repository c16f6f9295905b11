//! Which connection a segment belongs to: the 4-tuple, hashed.
//!
//! The shard asks once a received segment, and inserts and removes with the TCB. The hash is keyed
//! (SipHash-1-3, the key from the shard's seed), because peers choose three of the four numbers
//! and would else choose them to collide. Lookup is constant in the number of flows; an insertion
//! that grows the table moves one part of it, a 64th, so that none ever stalls a batch.
//!
//! Never here: a limit on the number of flows (the shard counts connections), a clean-up by age.

use core::net::{IpAddr, SocketAddr};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

/// Parts that grow one by one.
const PARTS: usize = 64;

/// A map from (local, remote) to the index of a TCB. Ports and addresses only: the flow label and
/// scope of an IPv6 `SocketAddr` do not count.
pub struct FlowTable {
    hasher: SipHasher13,
    v4: Parts<12>,
    v6: Parts<36>,
}

impl FlowTable {
    /// An empty table, which holds no memory but its parts' heads. `key` must be unpredictable.
    pub fn new(key: [u8; 16]) -> Self {
        Self { hasher: SipHasher13::new_with_key(&key), v4: Parts::new(), v6: Parts::new() }
    }

    /// The index of the flow, if it is here.
    #[inline]
    pub fn get(&self, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        match Key::new(local, remote) {
            Key::V4(key) => self.v4.get(&self.hasher, &key),
            Key::V6(key) => self.v6.get(&self.hasher, &key),
        }
    }

    /// Enters the flow; returns the index that it had before, if it was here.
    pub fn insert(&mut self, local: SocketAddr, remote: SocketAddr, index: u32) -> Option<u32> {
        match Key::new(local, remote) {
            Key::V4(key) => self.v4.insert(&self.hasher, Entry { key, index }),
            Key::V6(key) => self.v6.insert(&self.hasher, Entry { key, index }),
        }
    }

    /// Takes the flow out; returns its index, if it was here.
    pub fn remove(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        match Key::new(local, remote) {
            Key::V4(key) => self.v4.remove(&self.hasher, &key),
            Key::V6(key) => self.v6.remove(&self.hasher, &key),
        }
    }

    /// How many flows are here.
    pub fn len(&self) -> usize {
        self.v4.len + self.v6.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the entries take.
    pub fn memory_bytes(&self) -> usize {
        self.v4.memory_bytes() + self.v6.memory_bytes()
    }
}

/// A 4-tuple as bytes; IPv4 apart, because it is a third as long.
enum Key {
    V4([u8; 12]),
    V6([u8; 36]),
}

impl Key {
    #[inline]
    fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let [l0, l1] = local.port().to_be_bytes();
        let [r0, r1] = remote.port().to_be_bytes();
        match (local.ip(), remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let ([a, b, c, d], [e, f, g, h]) = (local.octets(), remote.octets());
                Self::V4([a, b, c, d, e, f, g, h, l0, l1, r0, r1])
            }
            (local, remote) => {
                let mut key = [0; 36];
                key[..16].copy_from_slice(&octets(local));
                key[16..32].copy_from_slice(&octets(remote));
                key[32..].copy_from_slice(&[l0, l1, r0, r1]);
                Self::V6(key)
            }
        }
    }
}

/// A mapped address cannot come off the wire, so an IPv4 one in its shape meets no other.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

struct Entry<const N: usize> {
    key: [u8; N],
    index: u32,
}

struct Parts<const N: usize> {
    parts: [HashTable<Entry<N>>; PARTS],
    len: usize,
}

impl<const N: usize> Parts<N> {
    fn new() -> Self {
        Self { parts: [const { HashTable::new() }; PARTS], len: 0 }
    }

    #[inline]
    fn get(&self, hasher: &SipHasher13, key: &[u8; N]) -> Option<u32> {
        let hash = hasher.hash(key);
        self.parts[part(hash)].find(hash, |entry| entry.key == *key).map(|entry| entry.index)
    }

    fn insert(&mut self, hasher: &SipHasher13, new: Entry<N>) -> Option<u32> {
        let hash = hasher.hash(&new.key);
        let part = &mut self.parts[part(hash)];
        if let Some(entry) = part.find_mut(hash, |entry| entry.key == new.key) {
            return Some(core::mem::replace(&mut entry.index, new.index));
        }
        part.insert_unique(hash, new, |entry| hasher.hash(&entry.key));
        self.len += 1;
        None
    }

    fn remove(&mut self, hasher: &SipHasher13, key: &[u8; N]) -> Option<u32> {
        let hash = hasher.hash(key);
        let found = self.parts[part(hash)].find_entry(hash, |entry| entry.key == *key).ok()?;
        self.len -= 1;
        let (entry, _) = found.remove();
        Some(entry.index)
    }

    fn memory_bytes(&self) -> usize {
        self.parts.iter().map(HashTable::allocation_size).sum()
    }
}

/// hashbrown takes its bucket from the low bits and its tag from the high ones: take others.
#[inline]
#[allow(clippy::cast_possible_truncation)] // below PARTS
fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

#[cfg(test)]
mod tests;
