//! What a step brings, as Python objects.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::closing::alert_name;
use crate::context::SCOPE_LEN;
use crate::exchange::ID_LEN;
use crate::step::{Effect, Step};

#[pyclass(frozen, module = "shard._engine")]
pub struct SessionWanted {
    #[pyo3(get)]
    single_use: bool,
    scope: [u8; SCOPE_LEN],
    ids: Vec<[u8; ID_LEN]>,
    #[pyo3(get)]
    server_name: Option<String>,
}

#[pymethods]
impl SessionWanted {
    #[getter]
    fn scope<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.scope)
    }

    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.ids.iter().map(|id| PyBytes::new(py, id)).collect()
    }
}

#[pyclass(frozen, module = "shard._engine")]
pub struct SessionRefused {
    scope: [u8; SCOPE_LEN],
    #[pyo3(get)]
    reason: &'static str,
}

#[pymethods]
impl SessionRefused {
    #[getter]
    fn scope<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.scope)
    }
}

#[pyclass(frozen, module = "shard._engine")]
pub struct TicketOffered {
    scope: [u8; SCOPE_LEN],
    id: [u8; ID_LEN],
    #[pyo3(get)]
    issued_ms: u64,
    #[pyo3(get)]
    expires_ms: u64,
}

#[pymethods]
impl TicketOffered {
    #[getter]
    fn scope<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.scope)
    }

    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.id)
    }
}

#[pyclass(frozen, module = "shard._engine")]
pub struct SessionsIssued {
    scope: [u8; SCOPE_LEN],
    #[pyo3(get)]
    server_name: Option<String>,
    #[pyo3(get)]
    entries: Py<PyList>,
}

#[pymethods]
impl SessionsIssued {
    #[getter]
    fn scope<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.scope)
    }
}

#[pyclass(frozen, get_all, module = "shard._engine")]
pub struct Established {
    version: &'static str,
    cipher: String,
    group: Option<&'static str>,
    resumed: bool,
    hello_retry: bool,
    server_name: Option<String>,
    alpn: Option<String>,
    peer_certificates: Vec<Py<PyBytes>>,
}

#[pyclass(frozen, module = "shard._engine")]
pub struct PeerClosed;

#[pyclass(frozen, module = "shard._engine")]
pub struct BackendConnected;

#[pyclass(frozen, get_all, module = "shard._engine")]
pub struct BackendFailed {
    detail: String,
}

#[pyclass(frozen, module = "shard._engine")]
pub struct BackendClosed;

#[pyclass(frozen, get_all, module = "shard._engine")]
pub struct Closed {
    reason: &'static str,
    alert: Option<String>,
    detail: String,
}

#[pyclass(frozen, get_all, module = "shard._engine")]
pub struct Progress {
    data: Py<PyBytes>,
    effects: Py<PyTuple>,
    backlog: usize,
    more: bool,
    lingering: bool,
    held: bool,
}

/// What most steps of a handshake bring; made once.
static NOTHING: PyOnceLock<Py<Progress>> = PyOnceLock::new();

impl Progress {
    pub fn of(py: Python<'_>, step: Step) -> PyResult<Py<Self>> {
        if step.is_nothing() {
            return Self::nothing(py);
        }
        Py::new(py, Self::made(py, step)?)
    }

    /// The one that brought nothing.
    pub fn nothing(py: Python<'_>) -> PyResult<Py<Self>> {
        NOTHING
            .get_or_try_init(py, || Py::new(py, Self::made(py, Step::default())?))
            .map(|nothing| nothing.clone_ref(py))
    }

    fn made(py: Python<'_>, step: Step) -> PyResult<Self> {
        let effects = step
            .effects
            .into_iter()
            .map(|effect| effect_object(py, effect))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(Self {
            data: PyBytes::new(py, &step.data).unbind(),
            effects: PyTuple::new(py, effects)?.unbind(),
            backlog: step.backlog,
            more: step.more,
            lingering: step.lingering,
            held: step.held,
        })
    }
}

fn effect_object(py: Python<'_>, effect: Effect) -> PyResult<Py<PyAny>> {
    Ok(match effect {
        Effect::SessionWanted {
            single_use,
            scope,
            ids,
            server_name,
        } => Py::new(
            py,
            SessionWanted {
                single_use,
                scope,
                ids,
                server_name,
            },
        )?
        .into_any(),
        Effect::TicketOffered {
            scope,
            id,
            issued_ms,
            expires_ms,
        } => Py::new(
            py,
            TicketOffered {
                scope,
                id,
                issued_ms,
                expires_ms,
            },
        )?
        .into_any(),
        Effect::SessionRefused { scope, reason } => {
            Py::new(py, SessionRefused { scope, reason })?.into_any()
        }
        Effect::SessionsIssued {
            scope,
            server_name,
            entries,
        } => {
            let pairs = entries
                .iter()
                .map(|(id, value)| (PyBytes::new(py, id), PyBytes::new(py, value)));
            let entries = PyList::new(py, pairs.collect::<Vec<_>>())?.unbind();
            Py::new(
                py,
                SessionsIssued {
                    scope,
                    server_name,
                    entries,
                },
            )?
            .into_any()
        }
        Effect::Established(facts) => Py::new(
            py,
            Established {
                version: facts.version,
                cipher: facts.cipher,
                group: facts.group,
                resumed: facts.resumed,
                hello_retry: facts.hello_retry,
                server_name: facts.server_name,
                alpn: facts.alpn,
                peer_certificates: facts
                    .peer_certificates
                    .iter()
                    .map(|certificate| PyBytes::new(py, certificate).unbind())
                    .collect(),
            },
        )?
        .into_any(),
        Effect::PeerClosed => Py::new(py, PeerClosed)?.into_any(),
        Effect::BackendConnected => Py::new(py, BackendConnected)?.into_any(),
        Effect::BackendFailed(detail) => Py::new(py, BackendFailed { detail })?.into_any(),
        Effect::BackendClosed => Py::new(py, BackendClosed)?.into_any(),
        Effect::Closed(closed) => Py::new(
            py,
            Closed {
                reason: closed.reason.name(),
                alert: closed.alert.map(alert_name),
                detail: closed.detail,
            },
        )?
        .into_any(),
    })
}
