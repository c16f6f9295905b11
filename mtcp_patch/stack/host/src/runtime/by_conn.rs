//! Which description a connection belongs to: a table by the place that the engine gave it, because
//! a keyed hash of two numbers of our own costs as much as everything else that is done for an event.

use mtcp_engine::ConnId;

/// As large as the most connections that there were at once.
#[derive(Debug, Default)]
pub(super) struct ByConn {
    places: Vec<Option<(ConnId, usize)>>,
    len: usize,
}

fn place(id: ConnId) -> usize {
    // The lower half: the index that the engine reuses. The upper half tells one use from the next.
    id.as_u64() as u32 as usize
}

impl ByConn {
    /// Enters the description of a connection.
    pub fn insert(&mut self, id: ConnId, desc: usize) {
        let place = place(id);
        if self.places.len() <= place {
            self.places.resize(place + 1, None);
        }
        if let Some(slot) = self.places.get_mut(place) {
            // An earlier connection at this place is gone.
            self.len += usize::from(slot.replace((id, desc)).is_none());
        }
    }

    /// The description of a connection.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<usize> {
        let (known, desc) = (*self.places.get(place(id))?)?;
        (known == id).then_some(desc)
    }

    /// Forgets a connection.
    pub fn remove(&mut self, id: ConnId) {
        if self.get(id).is_none() {
            return;
        }
        if let Some(slot) = self.places.get_mut(place(id)) {
            *slot = None;
            self.len -= 1;
        }
    }

    /// Whether no connection is known.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtcp_engine::device::memory::Memory;
    use mtcp_engine::device::{Device, DeviceId};
    use mtcp_engine::time::Instant;
    use mtcp_engine::wire::Link;
    use mtcp_engine::{Config, ConnectOptions, Path, Shard};

    /// Ids as the engine gives them: `abort` in SYN-SENT frees the place for the next.
    fn open(shard: &mut Shard, port: u16) -> ConnId {
        let caps = Memory::default().caps();
        let path = Path { device: DeviceId(0), caps, link: Link::default() };
        let (local, remote) = (([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into());
        let to = ConnectOptions { local, remote, path, options: Default::default() };
        shard.connect(Instant::from_micros(0), to).unwrap()
    }

    #[test]
    fn an_id_that_outlived_its_connection_finds_nothing() {
        let mut shard = Shard::new(Config::default(), [7; 32]);
        let (a, b) = (open(&mut shard, 1), open(&mut shard, 2));
        let mut table = ByConn::default();
        table.insert(a, 10);
        table.insert(b, 20);
        assert_eq!((table.get(a), table.get(b)), (Some(10), Some(20)));
        shard.abort(Instant::from_micros(1), a);
        let next = open(&mut shard, 3);
        assert_eq!((place(next), next == a), (place(a), false));
        assert_eq!(table.get(next), None);
        table.remove(next);
        assert_eq!(table.get(a), Some(10), "the id of another use takes nothing away");
        table.insert(next, 30);
        assert_eq!((table.get(a), table.get(next)), (None, Some(30)));
        table.remove(a);
        table.remove(b);
        assert!(!table.is_empty());
        table.remove(next);
        assert!(table.is_empty());
    }
}
