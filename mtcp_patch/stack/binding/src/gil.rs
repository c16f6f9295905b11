//! Letting go of the GIL, in the one place of this crate that does it for the native types.

use mtcp_host::runtime::{Contending, Runtime};
use mtcp_host::turnstile;
use pyo3::ffi;

mod raw {
    use pyo3::ffi::PyThreadState;
    // pyo3-ffi declares it as extern "C". Before Python 3.14 a daemon thread that asks for the GIL
    // while the interpreter ends is killed by pthread_exit, which unwinds through the caller.
    extern "C-unwind" {
        pub fn PyEval_RestoreThread(state: *mut PyThreadState);
    }
}

/// Takes the GIL back when dropped.
struct Released(*mut ffi::PyThreadState);

fn ending() -> bool {
    Runtime::is_started() && Runtime::global().is_ending()
}

/// Stops an unwinding thread for ever, as Python 3.14 does in the same place: unwinding through
/// Rust frames would abort the process, and a server ends with daemon threads waiting in `recv()`.
struct HangThread;

impl Drop for HangThread {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        let contending = Contending::begin();
        // At the end of the process there may be nobody left to let us through.
        let pass = (!ending()).then(turnstile::enter);
        let guard = HangThread;
        // SAFETY: the state is the one that PyEval_SaveThread gave on this very thread.
        unsafe { raw::PyEval_RestoreThread(self.0) };
        drop(pass);
        drop(contending);
        std::mem::forget(guard);
    }
}

/// Runs `f` without the GIL and takes it back afterwards, also when `f` panics.
///
/// # Safety
/// The GIL is held. `f` touches no Python object (the memory of a held buffer is allowed).
pub unsafe fn released<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: the caller holds the GIL.
    let _back = Released(unsafe { ffi::PyEval_SaveThread() });
    f()
}
