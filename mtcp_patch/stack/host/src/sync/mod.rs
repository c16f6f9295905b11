//! What threads share without the runtime's lock, or in order to come by it.
//!
//! Everything here, and the rings in `xdp::ring` and `peers::ring`, is built on the types below: the standard library's,
//! or under `--cfg loom` those of loom, with which `make loom` tries every order in which threads can
//! meet and everything that the memory model lets a load see. What runs is what is tried. Not here,
//! because there is nothing to try: numbers that are only counted or only guide a heuristic
//! (`spin`, the binding's `pace`), and words that change under Python's GIL alone (`interrupt`).

pub(crate) mod bell;
pub(crate) mod gate;
pub(crate) mod published;
pub(crate) mod table;

#[cfg(loom)]
pub(crate) use loom::{
    sync::atomic::{fence, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    sync::{Mutex, MutexGuard},
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{fence, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    sync::{Mutex, MutexGuard},
};
