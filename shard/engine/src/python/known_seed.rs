//! What only tests have (feature `known-seed`): a generator whose output they can predict.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::drbg_error;
use crate::ctr_drbg;
use crate::drbg::process;

/// Instantiate the process's generator; no kernel randomness will go into its requests.
#[pyfunction]
pub fn drbg_seed_known(seed: &[u8], personalization: &[u8]) -> PyResult<()> {
    process::seed_known(seed, personalization).map_err(drbg_error)
}

/// A generator apart from the process's, for known-answer tests.
#[pyclass(frozen, module = "shard._engine")]
pub struct CtrDrbg(Mutex<ctr_drbg::CtrDrbg>);

#[pymethods]
impl CtrDrbg {
    #[new]
    fn new(seed: &[u8], personalization: &[u8]) -> PyResult<Self> {
        ctr_drbg::CtrDrbg::new(seed, personalization)
            .map(|drbg| Self(Mutex::new(drbg)))
            .map_err(drbg_error)
    }

    fn reseed(&self, seed: &[u8], additional: &[u8]) -> PyResult<()> {
        let mut drbg = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drbg.reseed(seed, additional).map_err(drbg_error)
    }

    fn generate<'py>(
        &self,
        py: Python<'py>,
        length: usize,
        additional: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut drbg = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        PyBytes::new_with(py, length, |out| {
            drbg.generate(out, additional).map_err(drbg_error)
        })
    }
}
