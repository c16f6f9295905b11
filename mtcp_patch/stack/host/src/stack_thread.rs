//! The stack's own threads.

use std::io;
use std::thread::Builder;

use crate::sys;

/// Starts a thread that no signal ever reaches: the kernel gives them to the program's own, and one
/// that took a SIGINT would delay Ctrl-C until the main thread woke.
///
/// # Errors
/// Those of thread creation.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = Builder::new().name(name.to_owned());
    sys::with_signals_blocked(|| builder.spawn(run)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use super::*;

    fn blocked() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    #[test]
    fn a_stack_thread_blocks_signals_and_whoever_starts_it_does_not() {
        let before = blocked();
        let (tell, told) = mpsc::channel();
        spawn("mtcp-test", move || tell.send(blocked()).unwrap()).unwrap();
        let wanted = 1 << (libc::SIGINT - 1) | 1 << (libc::SIGTERM - 1);
        assert_eq!(told.recv().unwrap() & wanted, wanted);
        assert_eq!(blocked(), before);
    }
}
