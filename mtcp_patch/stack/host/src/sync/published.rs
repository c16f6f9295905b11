//! A value of the process that readers find without a lock. It is built at the first need, and
//! replaced in a forked child. A value that was published once is never freed: a reader may have it.

use std::sync::PoisonError;

use super::{AtomicPtr, Mutex, Ordering};

/// A pointer to a leaked value; null before there is one.
pub(crate) struct Published<T: 'static>(AtomicPtr<T>);

impl<T: Send + Sync> Published<T> {
    /// Nothing yet.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Nothing yet.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The value, if there is one.
    #[inline]
    pub(crate) fn get(&self) -> Option<&'static T> {
        let value = self.0.load(Ordering::Acquire);
        // SAFETY: only `set` stores here, besides null: pointers to leaked boxes, which live for ever,
        // of a type that threads may share. Acquire: what is behind the pointer is seen with it.
        unsafe { value.as_ref() }
    }

    /// Publishes a value in the place of the former one, which is leaked.
    pub(crate) fn set(&self, value: T) -> &'static T {
        let value: &'static T = Box::leak(Box::new(value));
        self.0.store(std::ptr::from_ref(value).cast_mut(), Ordering::Release);
        value
    }

    /// There is none any more.
    pub(crate) fn clear(&self) {
        self.0.store(std::ptr::null_mut(), Ordering::Release);
    }

    /// The value, built by the first who needs it, under the lock on what it is built from.
    ///
    /// # Errors
    /// Those of `build`; the next one who needs it tries again.
    pub(crate) fn get_or_build<P, E>(
        &self,
        parts: &Mutex<P>,
        build: impl FnOnce(&mut P) -> Result<T, E>,
    ) -> Result<&'static T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first.
        match self.get() {
            Some(value) => Ok(value),
            None => Ok(self.set(build(&mut parts)?)),
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::atomic::AtomicU32;
    use loom::sync::Arc;
    use loom::thread;
    use std::convert::Infallible;

    #[test]
    fn whoever_finds_the_value_finds_it_whole() {
        loom::model(|| {
            let published = Arc::new(Published::new());
            let reader = {
                let published = Arc::clone(&published);
                thread::spawn(move || {
                    published.get().map(|value: &AtomicU32| value.load(Ordering::Relaxed))
                })
            };
            let value = AtomicU32::new(0);
            value.store(7, Ordering::Relaxed);
            published.set(value);
            assert!(matches!(reader.join().unwrap(), None | Some(7)));
        });
    }

    #[test]
    fn it_is_built_once_however_many_need_it() {
        loom::model(|| {
            let shared = Arc::new((Published::new(), Mutex::new(0)));
            let need = |shared: &(Published<u32>, Mutex<u32>)| {
                let (published, built) = shared;
                let value = published.get_or_build(built, |built| {
                    *built += 1;
                    Ok::<u32, Infallible>(*built)
                });
                value.map_or(0, |value| *value)
            };
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || need(&other));
            assert_eq!(need(&shared), 1);
            assert_eq!(thread.join().unwrap(), 1);
        });
    }
}
