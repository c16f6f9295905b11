//! One way back to the caller's lock, first come first served.
//!
//! Python's GIL is not fair: a thread that finds it free takes it, though another was woken for it
//! and is still on its way. A server of many threads whose data is always there already never
//! leaves it free for long, and the unlucky, the accepting thread among them, starve. So threads
//! that come back from a wait queue here, and only the first of them asks for the GIL.
//!
//! Nobody may enter while holding the GIL, and nobody waits for anything but the GIL inside.

use parking_lot::{Mutex, MutexGuard};

use crate::sync::published::Published;

static FIRST: Mutex<()> = Mutex::new(());
/// The turnstile of a forked child; none: `FIRST`.
static CURRENT: Published<Mutex<()>> = Published::new();

/// Held from the head of the queue until the GIL was had.
pub struct Pass(Option<MutexGuard<'static, ()>>);

/// Waits for the head of the queue.
#[inline]
pub fn enter() -> Pass {
    Pass(Some(CURRENT.get().unwrap_or(&FIRST).lock()))
}

/// In a forked child: whoever stood in the turnstile does not exist here.
pub fn replace() {
    CURRENT.set(Mutex::new(()));
}

impl Drop for Pass {
    #[inline]
    fn drop(&mut self) {
        if let Some(guard) = self.0.take() {
            MutexGuard::unlock_fair(guard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn threads_pass_in_the_order_in_which_they_came() {
        let (tell, order) = mpsc::channel();
        let pass = enter();
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let tell = tell.clone();
                let thread = std::thread::spawn(move || {
                    let _pass = enter();
                    tell.send(i).unwrap();
                });
                // Long enough to be in the queue before the next one starts.
                std::thread::sleep(Duration::from_millis(30));
                thread
            })
            .collect();
        drop(pass);
        for thread in threads {
            thread.join().unwrap();
        }
        drop(tell);
        assert_eq!(order.iter().collect::<Vec<i32>>(), (0..8).collect::<Vec<i32>>());
    }
}
