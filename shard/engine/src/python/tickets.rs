//! The ring of ticket keys, as a Python object.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::context::SCOPE_LEN;
use crate::tickets::{self, mark, Epoch, Moment, Name, KEY_LEN, MARK_LEN, NAME_LEN};
use crate::watermark::Watermark;

#[pyclass(frozen, module = "shard._engine")]
pub struct TicketKeys(pub Arc<tickets::TicketKeys>);

#[pyclass(frozen, module = "shard._engine")]
pub struct TicketKeysStatus(tickets::Status);

type Limits = (
    u64,
    Option<Vec<u8>>,
    Option<String>,
    Option<Vec<u8>>,
    Option<String>,
);

fn name(bytes: &[u8]) -> PyResult<Name> {
    bytes
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("a key's name: {NAME_LEN} bytes")))
}

#[pymethods]
impl TicketKeys {
    #[new]
    #[pyo3(signature = (worker, ttl))]
    fn new(worker: &str, ttl: u32) -> Self {
        Self(Arc::new(tickets::TicketKeys::new(worker, ttl)))
    }

    #[pyo3(signature = (*, kept, added, active))]
    fn replace(
        &self,
        kept: Vec<Bound<'_, PyBytes>>,
        added: Vec<(Bound<'_, PyBytes>, Bound<'_, PyBytes>, f64)>,
        active: Option<Bound<'_, PyBytes>>,
    ) -> PyResult<()> {
        let now = Moment::now();
        let kept: Vec<Name> = kept
            .iter()
            .map(|held| name(held.as_bytes()))
            .collect::<PyResult<_>>()?;
        let added = added
            .iter()
            .map(|(named, key, seconds)| {
                // Borrowed, so that there is no copy of ours to clear.
                let key: &[u8; KEY_LEN] = key
                    .as_bytes()
                    .try_into()
                    .map_err(|_| PyValueError::new_err(format!("a key: {KEY_LEN} bytes")))?;
                let life = Duration::try_from_secs_f64(*seconds)
                    .map_err(|_| PyValueError::new_err("a key's life: seconds, 0 or more"))?;
                let until = now.steady.checked_add(life);
                let until = until.ok_or_else(|| PyValueError::new_err("a key's life: too long"))?;
                Epoch::new(name(named.as_bytes())?, key, until).map_err(PyValueError::new_err)
            })
            .collect::<PyResult<Vec<_>>>()?;
        let active = active.map(|named| name(named.as_bytes())).transpose()?;
        self.0.replace(&kept, added, active, now);
        Ok(())
    }

    fn set_watermarks(&self, watermarks: Vec<Limits>) -> PyResult<()> {
        let read = |(before_ms, scope, server_name, certificate, worker): Limits| {
            let scope: Option<[u8; SCOPE_LEN]> = scope
                .map(TryInto::try_into)
                .transpose()
                .map_err(|_| PyValueError::new_err(format!("a scope: {SCOPE_LEN} bytes")))?;
            // The fingerprint of a certificate begins with its mark.
            let certificate = certificate
                .map(|fingerprint| fingerprint.first_chunk::<MARK_LEN>().copied())
                .map(|found| found.ok_or_else(|| PyValueError::new_err("a fingerprint: SHA-256")))
                .transpose()?;
            Ok(Watermark {
                before_ms,
                scope,
                server_name,
                certificate,
                worker: worker.map(|id| mark(id.as_bytes())),
            })
        };
        let watermarks = watermarks.into_iter().map(read).collect::<PyResult<_>>()?;
        self.0.set_watermarks(watermarks);
        Ok(())
    }

    fn sweep(&self) {
        self.0.sweep(Moment::now());
    }

    fn status(&self) -> TicketKeysStatus {
        TicketKeysStatus(self.0.status())
    }
}

#[pymethods]
impl TicketKeysStatus {
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let names = self.0.names.iter();
        names.map(|held| PyBytes::new(py, held)).collect()
    }

    #[getter]
    fn active<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.active.map(|held| PyBytes::new(py, &held))
    }

    #[getter]
    fn sealed(&self) -> u64 {
        self.0.sealed
    }

    #[getter]
    fn opened(&self) -> u64 {
        self.0.opened
    }

    #[getter]
    fn missed(&self) -> Vec<(&'static str, u64)> {
        self.0.missed.clone()
    }
}
