//! A ring in memory that is mapped from the kernel: where its words and descriptors are.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU32;

use super::ring::Memory;
use super::umem::Mapping;

/// Where the parts of a ring stand in its mapping, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    /// The producer's index.
    pub producer: u64,
    /// The consumer's index.
    pub consumer: u64,
    /// The flags word.
    pub flags: u64,
    /// The first descriptor.
    pub descriptors: u64,
}

/// The mapped ring, with bounds proven once at construction.
pub struct Mapped<T> {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    descriptors: usize,
    size: u32,
    _descriptor: PhantomData<T>,
}

impl<T: Copy> Mapped<T> {
    /// A ring of `size` descriptors in `mapping`.
    ///
    /// # Errors
    /// EINVAL when a part of it is not inside the mapping, or the size is no power of two.
    pub fn new(mapping: Mapping, at: Offsets, size: u32) -> io::Result<Self> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let place = |offset: u64, bytes: usize, align: usize| {
            let offset = usize::try_from(offset).map_err(|_| invalid())?;
            let end = offset.checked_add(bytes).ok_or_else(invalid)?;
            let fits = end <= mapping.bytes() && offset % align == 0;
            fits.then_some(offset).ok_or_else(invalid)
        };
        if !size.is_power_of_two() {
            return Err(invalid());
        }
        let table = size_of::<T>() * size as usize;
        Ok(Self {
            producer: place(at.producer, 4, 4)?,
            consumer: place(at.consumer, 4, 4)?,
            flags: place(at.flags, 4, 4)?,
            descriptors: place(at.descriptors, table, align_of::<T>())?,
            mapping,
            size,
            _descriptor: PhantomData,
        })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `new` proved that four aligned bytes at `offset` are inside the mapping, which
        // lives as long as `self`; an atomic tolerates that the kernel writes them too.
        unsafe { AtomicU32::from_ptr(self.mapping.base().as_ptr().add(offset).cast()) }
    }

    fn slot(&self, index: u32) -> *mut T {
        let slot = (index & (self.size - 1)) as usize;
        // SAFETY: `slot` < size, and `new` proved that `size` descriptors are inside the mapping.
        unsafe { self.mapping.base().as_ptr().add(self.descriptors + slot * size_of::<T>()).cast() }
    }
}

impl<T: Copy> Memory for Mapped<T> {
    type Descriptor = T;

    fn producer(&self) -> &AtomicU32 {
        self.word(self.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.consumer)
    }

    fn flags(&self) -> &AtomicU32 {
        self.word(self.flags)
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn read(&self, index: u32) -> T {
        // SAFETY: `slot` is inside the mapping, and descriptors are plain numbers. Volatile: the
        // kernel may write it, though by the protocol it does not now.
        unsafe { self.slot(index).read_volatile() }
    }

    fn write(&self, index: u32, descriptor: T) {
        // SAFETY: as in `read`.
        unsafe { self.slot(index).write_volatile(descriptor) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Offsets = Offsets { producer: 0, consumer: 64, flags: 128, descriptors: 192 };

    #[test]
    fn a_layout_outside_the_mapping_is_refused() {
        for at in [
            Offsets { descriptors: 4096 - 24, ..AT },
            Offsets { producer: u64::MAX, ..AT },
            Offsets { flags: 4094, ..AT },
            Offsets { descriptors: 196, ..AT },
        ] {
            let mapping = Mapping::anonymous(4096).unwrap();
            assert!(Mapped::<u64>::new(mapping, at, 4).is_err(), "{at:?}");
        }
        assert!(Mapped::<u64>::new(Mapping::anonymous(4096).unwrap(), AT, 3).is_err());
        assert!(Mapped::<u64>::new(Mapping::anonymous(4096).unwrap(), AT, 4).is_ok());
    }
}
