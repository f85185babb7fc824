//! The process's random generator: CTR_DRBG on AES-256 without derivation function
//! (NIST SP 800-90A Rev. 1 §10.2.1), one per process, guarded, never inherited through fork.
//!
//! PolarSSL's rule for `ctr_drbg_context` was that `ctr_drbg_random()` is *not* guarded, so that
//! whoever shares one between threads has to put a mutex around it. Here the mutex is inside, and
//! there is no way to reach the state without it.

use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Once;

use aws_lc_sys as sys;
use zeroize::Zeroize;

/// Length of a seed, and the most that personalization or additional input may have:
/// key length + block length (SP 800-90A Rev. 1, table 3).
pub const SEED_LEN: usize = 48;
/// The most one request may ask for: 2^19 bits (SP 800-90A Rev. 1, table 3).
pub const MAX_REQUEST: usize = 65536;
/// Kernel randomness mixed into every request of the process's generator, so that two processes
/// resumed from one memory image do not repeat each other.
const FRESH_LEN: usize = 32;

/// Why the generator gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrbgError {
    /// It was never instantiated.
    Unseeded,
    /// It is instantiated already.
    Seeded,
    /// A seed is not [`SEED_LEN`] bytes.
    SeedLength,
    /// Personalization or additional input is over [`SEED_LEN`] bytes.
    InputLength,
    /// A request is over [`MAX_REQUEST`] bytes.
    RequestLength,
    /// The self-test or an operation failed. It is latched: nothing comes out any more
    /// (SP 800-90A Rev. 1 §11.3.6).
    Failed,
}

impl fmt::Display for DrbgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unseeded => "the DRBG is not instantiated",
            Self::Seeded => "the DRBG is instantiated already",
            Self::SeedLength => "a seed is 48 bytes",
            Self::InputLength => "personalization and additional input are at most 48 bytes",
            Self::RequestLength => "a request is at most 65536 bytes",
            Self::Failed => "the DRBG has failed",
        })
    }
}

impl std::error::Error for DrbgError {}

/// One CTR_DRBG. Not guarded: [`process`] is what the engine shares.
pub struct CtrDrbg {
    state: NonNull<sys::CTR_DRBG_STATE>,
}

// SAFETY: the state is plain memory that AWS-LC reaches only through the pointer it is given.
unsafe impl Send for CtrDrbg {}

impl CtrDrbg {
    /// Instantiate (§10.2.1.3.1).
    pub fn new(seed: &[u8], personalization: &[u8]) -> Result<Self, DrbgError> {
        check_inputs(seed, personalization)?;
        // SAFETY: `seed` has the 48 bytes that are read; `personalization` is a valid slice.
        let state = unsafe {
            sys::CTR_DRBG_new(
                seed.as_ptr(),
                personalization.as_ptr(),
                personalization.len(),
            )
        };
        NonNull::new(state)
            .map(|state| Self { state })
            .ok_or(DrbgError::Failed)
    }

    /// Reseed (§10.2.1.4.1).
    pub fn reseed(&mut self, seed: &[u8], additional: &[u8]) -> Result<(), DrbgError> {
        check_inputs(seed, additional)?;
        // SAFETY: as in `new`, with the state owned by `self`.
        let done = unsafe {
            sys::CTR_DRBG_reseed(
                self.state.as_ptr(),
                seed.as_ptr(),
                additional.as_ptr(),
                additional.len(),
            )
        };
        (done == 1).then_some(()).ok_or(DrbgError::Failed)
    }

    /// Generate (§10.2.1.5.1): fills `out`, at most [`MAX_REQUEST`] bytes.
    pub fn generate(&mut self, out: &mut [u8], additional: &[u8]) -> Result<(), DrbgError> {
        if out.len() > MAX_REQUEST {
            return Err(DrbgError::RequestLength);
        }
        if additional.len() > SEED_LEN {
            return Err(DrbgError::InputLength);
        }
        // SAFETY: both slices are valid and do not alias, as one of them is borrowed mutably.
        let done = unsafe {
            sys::CTR_DRBG_generate(
                self.state.as_ptr(),
                out.as_mut_ptr(),
                out.len(),
                additional.as_ptr(),
                additional.len(),
            )
        };
        (done == 1).then_some(()).ok_or(DrbgError::Failed)
    }
}

impl Drop for CtrDrbg {
    fn drop(&mut self) {
        // SAFETY: the state came from CTR_DRBG_new and is freed once; cleared first, so that no
        // key is left behind in freed memory.
        unsafe {
            sys::CTR_DRBG_clear(self.state.as_ptr());
            sys::CTR_DRBG_free(self.state.as_ptr());
        }
    }
}

fn check_inputs(seed: &[u8], other: &[u8]) -> Result<(), DrbgError> {
    if seed.len() != SEED_LEN {
        return Err(DrbgError::SeedLength);
    }
    if other.len() > SEED_LEN {
        return Err(DrbgError::InputLength);
    }
    Ok(())
}

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

#[derive(Default)]
struct Shared {
    drbg: Option<CtrDrbg>,
    status: Status,
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
    }),
};
static FORKS: AtomicU64 = AtomicU64::new(0);
static AT_FORK: Once = Once::new();

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

/// The process's own generator. Any thread may call any of these.
pub mod process {
    use super::*;

    /// Instantiate it, after the self-test.
    pub fn seed(seed: &[u8], personalization: &[u8]) -> Result<(), DrbgError> {
        AT_FORK.call_once(|| {
            // SAFETY: the handlers are async-signal-safe in the child: an atomic and an unlock.
            unsafe {
                libc::pthread_atfork(
                    Some(before_fork),
                    Some(after_fork_in_parent),
                    Some(after_fork_in_child),
                );
            }
        });
        PROCESS.with(|shared| {
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
                let result = kernel_random(&mut fresh).and_then(|()| {
                    shared
                        .drbg
                        .as_mut()
                        .ok_or(DrbgError::Unseeded)?
                        .generate(part, &fresh)
                });
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

/// Known-answer test of instantiate, reseed and generate (SP 800-90A Rev. 1 §11.3), run before the
/// process's generator is instantiated. The expected output was computed from
/// the standard's text with another library's AES.
fn self_test() -> Result<(), DrbgError> {
    const EXPECTED: [u8; 32] = [
        0x95, 0xd4, 0xa3, 0x87, 0x7a, 0xcc, 0x31, 0x1c, 0x1a, 0xe2, 0x0d, 0x48, 0x7c, 0xa5, 0x10,
        0x8b, 0x9a, 0x1e, 0x23, 0x45, 0x00, 0x63, 0xae, 0xb3, 0xe7, 0xb4, 0xbb, 0xf7, 0x53, 0xd9,
        0x36, 0x2d,
    ];
    let mut drbg = CtrDrbg::new(&[0x11; SEED_LEN], b"shardtls self-test")?;
    drbg.reseed(&[0x22; SEED_LEN], b"reseed")?;
    let mut out = [0u8; 32];
    drbg.generate(&mut out, b"first")?;
    drbg.generate(&mut out, b"second")?;
    if out == EXPECTED {
        Ok(())
    } else {
        Err(DrbgError::Failed)
    }
}

#[cfg(test)]
#[path = "drbg_tests.rs"]
mod tests;
