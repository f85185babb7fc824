//! The process's random generator: one CTR_DRBG ([`crate::ctr_drbg`]) per process, guarded, never
//! inherited through fork, wiped when the process ends.
//!
//! PolarSSL's rule for `ctr_drbg_context` was that `ctr_drbg_random()` is *not* guarded, so that
//! whoever shares one between threads has to put a mutex around it. Here the mutex is inside, and
//! there is no way to reach the state without it.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Once;

use zeroize::Zeroize;

use crate::ctr_drbg::{check_inputs, self_test, CtrDrbg, DrbgError, MAX_REQUEST, SEED_LEN};

/// Kernel randomness mixed into every request of the process's generator, so that two processes
/// resumed from one memory image do not repeat each other.
const FRESH_LEN: usize = 32;

/// What the process's generator has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    pub seeded: bool,
    pub failed: bool,
    pub requests: u64,
    pub reseeds: u64,
    pub requests_since_reseed: u64,
    pub forks: u64,
}

struct Shared {
    drbg: Option<CtrDrbg>,
    status: Status,
    /// Wiped for good: the process is ending.
    zeroized: bool,
    /// Whether kernel randomness goes into every request. Always, but for a test that knows the seed.
    fresh: bool,
}

/// A mutex that may be held over `fork()`: taken before it, given back in parent and child, so
/// that a child never inherits a generator locked by a thread that it does not have.
/// (`std::sync::Mutex` has no way to unlock in an atfork handler.)
struct ForkMutex {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    shared: UnsafeCell<Shared>,
}

// SAFETY: `shared` is reached only in `with`, under the mutex.
unsafe impl Sync for ForkMutex {}

static PROCESS: ForkMutex = ForkMutex {
    mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
    shared: UnsafeCell::new(Shared {
        drbg: None,
        status: Status {
            seeded: false,
            failed: false,
            requests: 0,
            reseeds: 0,
            requests_since_reseed: 0,
            forks: 0,
        },
        zeroized: false,
        fresh: true,
    }),
};
static FORKS: AtomicU64 = AtomicU64::new(0);
static REGISTERED: Once = Once::new();

impl ForkMutex {
    fn lock(&self) {
        // SAFETY: the mutex is initialised statically and never moved or destroyed.
        unsafe { libc::pthread_mutex_lock(self.mutex.get()) };
    }

    fn unlock(&self) {
        // SAFETY: called by the thread that locked it (in a fork's child: by its only thread,
        // which is the copy of the one that locked it).
        unsafe { libc::pthread_mutex_unlock(self.mutex.get()) };
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        struct Unlock<'a>(&'a ForkMutex);
        impl Drop for Unlock<'_> {
            fn drop(&mut self) {
                self.0.unlock();
            }
        }
        self.lock();
        let _unlock = Unlock(self);
        // SAFETY: the mutex is held, so this is the only reference.
        work(unsafe { &mut *self.shared.get() })
    }
}

extern "C" fn before_fork() {
    PROCESS.lock();
}

extern "C" fn after_fork_in_parent() {
    PROCESS.unlock();
}

extern "C" fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    PROCESS.unlock();
}

extern "C" fn at_exit() {
    process::zeroize();
}

/// The process's own generator. Any thread may call any of these.
pub mod process {
    use super::*;

    /// Instantiate it, after the self-test.
    pub fn seed(seed: &[u8], personalization: &[u8]) -> Result<(), DrbgError> {
        REGISTERED.call_once(|| {
            // SAFETY: the fork handlers are async-signal-safe in the child: an atomic and an
            // unlock. The exit handler takes the mutex, which every holder gives back.
            unsafe {
                libc::pthread_atfork(
                    Some(before_fork),
                    Some(after_fork_in_parent),
                    Some(after_fork_in_child),
                );
                libc::atexit(at_exit);
            }
        });
        PROCESS.with(|shared| {
            if shared.zeroized {
                return Err(DrbgError::Zeroized);
            }
            if shared.status.failed {
                return Err(DrbgError::Failed);
            }
            if shared.drbg.is_some() {
                return Err(DrbgError::Seeded);
            }
            let made = self_test().and_then(|()| CtrDrbg::new(seed, personalization));
            match made {
                Ok(drbg) => {
                    shared.drbg = Some(drbg);
                    shared.status.seeded = true;
                    shared.status.forks = FORKS.load(Ordering::Relaxed);
                    Ok(())
                }
                Err(DrbgError::Failed) => Err(latch(shared)),
                Err(error) => Err(error),
            }
        })
    }

    /// Instantiate it so that a test can predict every byte: no kernel randomness goes into its
    /// requests (until a fork).
    #[cfg(feature = "known-seed")]
    pub fn seed_known(seed: &[u8], personalization: &[u8]) -> Result<(), DrbgError> {
        self::seed(seed, personalization)?;
        PROCESS.with(|shared| shared.fresh = false);
        Ok(())
    }

    /// Wipe it for good; every later call gets [`DrbgError::Zeroized`]. Runs at the process's exit
    /// too. A request of another thread ends first.
    pub fn zeroize() {
        PROCESS.with(|shared| {
            shared.drbg = None;
            shared.zeroized = true;
            shared.status.seeded = false;
        });
    }

    /// Reseed it.
    pub fn reseed(seed: &[u8], additional: &[u8]) -> Result<(), DrbgError> {
        check_inputs(seed, additional)?;
        PROCESS.with(|shared| {
            let drbg = usable(shared)?;
            match drbg.reseed(seed, additional) {
                Ok(()) => {
                    shared.status.reseeds += 1;
                    shared.status.requests_since_reseed = 0;
                    Ok(())
                }
                Err(_) => Err(latch(shared)),
            }
        })
    }

    /// Fill `out`, of any length, in requests of at most [`MAX_REQUEST`] bytes.
    pub fn fill(out: &mut [u8]) -> Result<(), DrbgError> {
        PROCESS.with(|shared| {
            usable(shared)?;
            replace_after_fork(shared)?;
            for part in out.chunks_mut(MAX_REQUEST) {
                let mut fresh = [0u8; FRESH_LEN];
                let fresh = &mut fresh[..if shared.fresh { FRESH_LEN } else { 0 }];
                let result =
                    kernel_random(fresh).and_then(|()| usable(shared)?.generate(part, fresh));
                fresh.zeroize();
                if result.is_err() {
                    return Err(latch(shared));
                }
                shared.status.requests += 1;
                shared.status.requests_since_reseed += 1;
            }
            Ok(())
        })
    }

    /// What it has done so far.
    pub fn status() -> Status {
        PROCESS.with(|shared| Status {
            forks: FORKS.load(Ordering::Relaxed),
            ..shared.status
        })
    }

    fn usable(shared: &mut Shared) -> Result<&mut CtrDrbg, DrbgError> {
        if shared.zeroized {
            return Err(DrbgError::Zeroized);
        }
        if shared.status.failed {
            return Err(DrbgError::Failed);
        }
        shared.drbg.as_mut().ok_or(DrbgError::Unseeded)
    }

    fn latch(shared: &mut Shared) -> DrbgError {
        shared.status.failed = true;
        shared.drbg = None;
        DrbgError::Failed
    }

    fn replace_after_fork(shared: &mut Shared) -> Result<(), DrbgError> {
        let forks = FORKS.load(Ordering::Relaxed);
        if forks == shared.status.forks {
            return Ok(());
        }
        let mut seed = [0u8; SEED_LEN];
        let result = kernel_random(&mut seed).and_then(|()| usable(shared)?.reseed(&seed, b"fork"));
        seed.zeroize();
        if result.is_err() {
            return Err(latch(shared));
        }
        shared.status.forks = forks;
        shared.status.reseeds += 1;
        shared.status.requests_since_reseed = 0;
        Ok(())
    }
}

/// Bytes from `getrandom(2)`.
fn kernel_random(out: &mut [u8]) -> Result<(), DrbgError> {
    let mut filled = 0;
    while filled < out.len() {
        let rest = &mut out[filled..];
        // SAFETY: the pointer and length are of one valid slice.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if got > 0 {
            filled += usize::try_from(got).map_err(|_| DrbgError::Failed)?;
        } else if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return Err(DrbgError::Failed);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "drbg_tests.rs"]
mod tests;
