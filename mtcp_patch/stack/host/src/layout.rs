//! Who runs the stack, and on which core: DESIGN section 4, mTCP section 3.2.

use std::mem;

use crate::errno::Errno;

/// The threads that drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Whoever waits drives; the TCP thread steps in while nobody does.
    #[default]
    Unified,
    /// The TCP thread alone drives, on the core of the thread that starts it: mTCP's two threads on one
    /// core.
    Merged,
    /// The TCP thread alone drives, on another core than the thread that starts it.
    Split,
}

impl Layout {
    /// By its name in the settings; `None` for an unknown one.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "unified" => Some(Self::Unified),
            "merged" => Some(Self::Merged),
            "split" => Some(Self::Split),
            _ => None,
        }
    }

    /// Whether application threads drive.
    #[inline]
    pub fn application_drives(self) -> bool {
        self == Self::Unified
    }

    /// Where the TCP thread is to run when the thread that starts it runs on `here` and may run on
    /// `allowed`; `None` leaves it to the scheduler, as where a split is asked for on a single core.
    fn cores(self, here: usize, allowed: &[usize]) -> Option<Vec<usize>> {
        let cores: Vec<usize> = match self {
            Self::Unified => return None,
            Self::Merged => vec![here],
            Self::Split => allowed.iter().copied().filter(|&core| core != here).collect(),
        };
        (!cores.is_empty()).then_some(cores)
    }

    /// The cores for a TCP thread that the calling thread is about to start.
    pub(crate) fn cores_beside_caller(self) -> Option<Vec<usize>> {
        if self.application_drives() {
            return None;
        }
        let here = usize::try_from(current_core()).ok()?;
        self.cores(here, &allowed_cores().ok()?)
    }
}

fn current_core() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::sched_getcpu() }
}

fn allowed_cores() -> Result<Vec<usize>, Errno> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a live set of the stated size; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) } != 0 {
        return Err(Errno::last());
    }
    let most = libc::CPU_SETSIZE as usize;
    // SAFETY: every index is below CPU_SETSIZE.
    Ok((0..most).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Binds the calling thread to `cores`.
///
/// # Errors
/// Those of sched_setaffinity(2): EINVAL when none of them may be used.
pub(crate) fn run_on(cores: &[usize]) -> Result<(), Errno> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    let most = libc::CPU_SETSIZE as usize;
    for &core in cores.iter().filter(|&&core| core < most) {
        // SAFETY: the index is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: `set` is a live set of the stated size; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) } == 0 {
        Ok(())
    } else {
        Err(Errno::last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_tcp_thread_shares_the_core_and_a_split_one_avoids_it() {
        assert_eq!(Layout::Merged.cores(1, &[0, 1, 2]), Some(vec![1]));
        assert_eq!(Layout::Split.cores(1, &[0, 1, 2]), Some(vec![0, 2]));
        assert_eq!(Layout::Unified.cores(1, &[0, 1, 2]), None);
    }

    #[test]
    fn a_split_on_one_core_is_left_to_the_scheduler() {
        assert_eq!(Layout::Split.cores(3, &[3]), None);
    }

    #[test]
    fn a_thread_runs_where_it_was_bound() {
        let allowed = allowed_cores().unwrap();
        let last = *allowed.last().unwrap();
        let bound = std::thread::spawn(move || {
            run_on(&[last]).unwrap();
            (current_core(), allowed_cores().unwrap())
        });
        assert_eq!(bound.join().unwrap(), (last as i32, vec![last]));
        assert_eq!(run_on(&[]), Err(Errno(libc::EINVAL)));
        assert_eq!(allowed_cores().unwrap(), allowed, "this thread was left alone");
    }
}
