//! CTR_DRBG on AES-256 without derivation function (NIST SP 800-90A Rev. 1 §10.2.1): AWS-LC's, with
//! its lengths checked, its self-test, and its memory cleared when it is dropped.

use std::fmt;
use std::ptr::NonNull;

use aws_lc_sys as sys;

/// Length of a seed, and the most that personalization or additional input may have:
/// key length + block length (SP 800-90A Rev. 1, table 3).
pub const SEED_LEN: usize = 48;
/// The most one request may ask for: 2^19 bits (SP 800-90A Rev. 1, table 3).
pub const MAX_REQUEST: usize = 65536;

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
    /// It was wiped, as the process is ending.
    Zeroized,
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
            Self::Zeroized => "the DRBG was zeroised: the process is ending",
        })
    }
}

impl std::error::Error for DrbgError {}

/// One CTR_DRBG. Not guarded: [`crate::drbg::process`] is what the engine shares.
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

/// The lengths of a seed and of what goes with it.
pub fn check_inputs(seed: &[u8], other: &[u8]) -> Result<(), DrbgError> {
    if seed.len() != SEED_LEN {
        return Err(DrbgError::SeedLength);
    }
    if other.len() > SEED_LEN {
        return Err(DrbgError::InputLength);
    }
    Ok(())
}

/// Known-answer test of instantiate, reseed and generate (SP 800-90A Rev. 1 §11.3), run before the
/// process's generator is instantiated. The expected output was computed from
/// the standard's text with another library's AES.
pub fn self_test() -> Result<(), DrbgError> {
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
#[path = "ctr_drbg_tests.rs"]
mod tests;
