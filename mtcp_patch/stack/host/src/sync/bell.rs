//! The wake-up of an interest set: who sleeps on it, and when its eventfd is readable.
//!
//! The bell is part of the state, under its lock; the sleep is outside. A thread that finds nothing says
//! [`Bell::asleep`] before it lets go of the lock, and sleeps on the event. Whoever brings news afterwards
//! sees that and rings. It is one system call for any number of news, and none while nobody sleeps.

/// What is slept on: an eventfd. Level-triggered: a look does not take it back.
pub(crate) trait Wake {
    /// Makes it readable.
    fn raise(&self);
    /// Takes that back.
    fn lower(&self);
}

/// See the module's text.
pub(crate) struct Bell<W> {
    pub(crate) event: W,
    /// Threads that sleep on the event now. As with epoll_wait(2), more than one may wait on a set.
    sleepers: usize,
    /// A foreign event loop sleeps on it now.
    foreign_sleeps: bool,
    /// Somebody else polls it (a nested epoll, a foreign loop): it is readable exactly while there is
    /// something to collect.
    exported: bool,
    /// The set has ended; the event stays readable until the last sleeper has seen it.
    closed: bool,
    raised: bool,
}

impl<W: Wake> Bell<W> {
    pub(crate) fn new(event: W) -> Self {
        Self {
            event,
            sleepers: 0,
            foreign_sleeps: false,
            exported: false,
            closed: false,
            raised: false,
        }
    }

    /// Whether somebody sleeps on it.
    #[inline]
    pub(crate) fn is_slept_on(&self) -> bool {
        self.sleepers > 0 || self.foreign_sleeps
    }

    /// Whether the set has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Makes the event readable, unless it is. True: it was not.
    pub(crate) fn ring(&mut self) -> bool {
        let first = !self.raised;
        if first {
            self.raised = true;
            self.event.raise();
        }
        first
    }

    /// There is something to collect: rings if anybody would miss it otherwise. True: it rang.
    #[inline]
    pub(crate) fn news(&mut self) -> bool {
        (self.is_slept_on() || self.exported) && self.ring()
    }

    /// Somebody polls the event from now on. False when somebody did.
    pub(crate) fn export(&mut self) -> bool {
        !std::mem::replace(&mut self.exported, true)
    }

    /// A thread is about to sleep.
    pub(crate) fn asleep(&mut self) {
        self.sleepers += 1;
    }

    /// A thread has left its sleep. To be followed by [`Bell::settle`].
    pub(crate) fn awake(&mut self) {
        self.sleepers = self.sleepers.saturating_sub(1);
    }

    /// Whether the set has ended and nobody sleeps on it.
    pub(crate) fn is_over(&self) -> bool {
        self.closed && self.sleepers == 0
    }

    /// A foreign event loop is about to sleep, or has woken. To be followed by [`Bell::settle`].
    pub(crate) fn foreign_sleep(&mut self, begin: bool) {
        self.foreign_sleeps = begin;
    }

    /// The set ends, and whoever sleeps is to wake: to be followed by [`Bell::ring`].
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Brings the event into line after a collection or a sleep; `more`: there is something left.
    /// True: it rang.
    pub(crate) fn settle(&mut self, more: bool) -> bool {
        if self.closed {
            return false;
        }
        if more && (self.exported || self.is_slept_on()) {
            return self.ring();
        }
        if self.raised {
            self.raised = false;
            self.event.lower();
        }
        false
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// An eventfd.
    #[derive(Clone)]
    struct Event(Arc<(Mutex<bool>, Condvar)>);

    impl Event {
        fn new() -> Self {
            Self(Arc::new((Mutex::new(false), Condvar::new())))
        }

        fn set(&self, readable: bool) {
            *self.0 .0.lock().unwrap() = readable;
            self.0 .1.notify_all();
        }

        /// poll(2) without end.
        fn sleep(&self) {
            let mut readable = self.0 .0.lock().unwrap();
            while !*readable {
                readable = self.0 .1.wait(readable).unwrap();
            }
        }
    }

    impl Wake for Event {
        fn raise(&self) {
            self.set(true);
        }

        fn lower(&self) {
            self.set(false);
        }
    }

    /// A set with so many candidates.
    type Set = Mutex<(Bell<Event>, usize)>;

    fn set() -> (Arc<Set>, Event) {
        let event = Event::new();
        (Arc::new(Mutex::new((Bell::new(event.clone()), 0))), event)
    }

    /// Waits for one candidate, as `wait` does it. False: the set has ended.
    fn collect(set: &Set, event: &Event) -> bool {
        loop {
            let mut state = set.lock().unwrap();
            let (bell, candidates) = &mut *state;
            if bell.is_closed() {
                return false;
            }
            if *candidates > 0 {
                *candidates -= 1;
                bell.settle(*candidates > 0);
                return true;
            }
            bell.asleep();
            drop(state);
            event.sleep();
            let mut state = set.lock().unwrap();
            let (bell, candidates) = &mut *state;
            bell.awake();
            bell.settle(*candidates > 0);
        }
    }

    fn news(set: &Set) {
        let mut state = set.lock().unwrap();
        state.1 += 1;
        state.0.news();
    }

    /// Loom reports the deadlock that a lost wake-up would be.
    #[test]
    fn two_who_wait_on_one_set_both_get_what_comes() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let (set, event) = set();
            let other = (Arc::clone(&set), event.clone());
            let waiter = thread::spawn(move || assert!(collect(&other.0, &other.1)));
            let brings = Arc::clone(&set);
            let driver = thread::spawn(move || {
                news(&brings);
                news(&brings);
            });
            assert!(collect(&set, &event));
            waiter.join().unwrap();
            driver.join().unwrap();
            assert_eq!(set.lock().unwrap().1, 0);
        });
    }

    #[test]
    fn the_end_of_a_set_wakes_its_sleeper() {
        loom::model(|| {
            let (set, event) = set();
            let closes = Arc::clone(&set);
            let closer = thread::spawn(move || {
                let bell = &mut closes.lock().unwrap().0;
                bell.close();
                bell.ring();
            });
            assert!(!collect(&set, &event));
            closer.join().unwrap();
        });
    }
}
