//! Relays, for Python.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{host_and_port, Connection, Progress};
use crate::backend::Address;
use crate::relay;

#[pyclass(frozen, module = "shard._engine")]
pub struct Relay(relay::Relay);

#[derive(FromPyObject)]
enum Target {
    Tcp((String, u16)),
    Unix(PathBuf),
}

impl Target {
    fn address(self) -> PyResult<Address> {
        match self {
            Self::Unix(path) => Ok(Address::Unix(path)),
            Self::Tcp((host, port)) => host
                .parse::<IpAddr>()
                .map(|ip| Address::Tcp(SocketAddr::new(ip, port)))
                .map_err(|_| PyValueError::new_err("address: an IP address and a port, or a path")),
        }
    }
}

#[pymethods]
impl Relay {
    #[new]
    fn new(connection: &Connection) -> Self {
        Self(relay::Relay::new(Arc::clone(&connection.0)))
    }

    #[getter]
    fn peername(&self) -> (String, u16) {
        host_and_port(self.0.client().peer())
    }

    #[getter]
    fn sockname(&self) -> PyResult<(String, u16)> {
        Ok(host_and_port(self.0.client().local()?))
    }

    fn fileno(&self) -> i32 {
        self.0.client().fd()
    }

    #[pyo3(signature = (address, preface = b"".as_slice()))]
    fn connect(&self, py: Python<'_>, address: Target, preface: &[u8]) -> PyResult<i32> {
        let address = address.address()?;
        Ok(py.detach(|| self.0.connect(&address, preface.to_vec()))?)
    }

    fn give_up(&self) {
        self.0.give_up();
    }

    fn push(&self, py: Python<'_>, data: &[u8]) -> PyResult<Py<Progress>> {
        let step = py.detach(|| self.0.push(data));
        Progress::of(py, step)
    }

    fn advance(&self, py: Python<'_>, hangup: bool) -> PyResult<Py<Progress>> {
        let step = py.detach(|| self.0.advance(hangup));
        Progress::of(py, step)
    }

    fn backend_ready(&self, py: Python<'_>, events: i32) -> PyResult<Py<Progress>> {
        let step = py.detach(|| self.0.backend_ready(events));
        Progress::of(py, step)
    }

    #[allow(clippy::unused_self)] // As a connection's, for its reader.
    fn flush(&self) -> usize {
        0
    }

    #[allow(clippy::unused_self)]
    fn backlog(&self) -> usize {
        0
    }

    fn shutdown(&self, py: Python<'_>) -> PyResult<Py<Progress>> {
        let step = py.detach(|| self.0.shutdown());
        Progress::of(py, step)
    }

    fn abort(&self, py: Python<'_>) {
        py.detach(|| self.0.abort());
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}
