//! `memory` between processes: patched processes of one user and one network namespace exchange frames
//! over rings in shared memory, so that no packet meets the kernel.
//!
//! Theory of operation. A process that listens binds a socket in a directory that only its user may enter
//! (`registry`), and puts the addresses that it serves beside it. A process that connects to one of these
//! dials that socket once (`rendezvous`) and sends the memory of two rings (`shared`, `ring`); the answer
//! opens the *link* (`link`), which is a device like any other. The socket stays: by it either side wakes
//! the other when that sleeps, and when a process dies the kernel closes it, which is how the other learns
//! of the death. `runtime::peers` owns the links and decides when they are driven.
//!
//! The process at the other end is a stranger, though of the same user: it may write anything into the
//! rings and the socket at any time. What it says is checked before it is used, and frames are copied
//! before they are parsed. A system call that it could keep from returning is never made: that is why
//! the wake-up is a datagram, sent without waiting, and no eventfd, whose counter and whose flags the
//! other side could change.

pub(crate) mod link;
pub(crate) mod registry;
pub(crate) mod rendezvous;
pub(crate) mod ring;
pub(crate) mod shared;
