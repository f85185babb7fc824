//! The PyO3 layer, and nothing else: `shard/_engine.pyi` documents it for Python.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::client_auth::{ClientAuth, MAX_DEPTH};
use crate::connection;
use crate::context::{self, Policy, Resumption, SCOPE_LEN};
use crate::ctr_drbg::{DrbgError, MAX_REQUEST};
use crate::drbg::process;
use crate::provider::{group_names, suite_names};
use crate::proxy_header::Network;
use crate::socket;

#[cfg(feature = "known-seed")]
mod known_seed;
mod progress;
mod relay;
mod tickets;

use progress::{
    BackendClosed, BackendConnected, BackendFailed, Closed, Established, PeerClosed, Progress,
    SessionRefused, SessionWanted, SessionsIssued, TicketOffered,
};
use relay::Relay;
use tickets::{TicketKeys, TicketKeysStatus};

#[pymodule]
mod _engine {
    use pyo3::prelude::*;

    #[cfg(feature = "known-seed")]
    #[pymodule_export]
    use super::known_seed::{drbg_seed_known, CtrDrbg};
    #[pymodule_export]
    use super::{
        drbg_generate, drbg_reseed, drbg_seed, drbg_status, drbg_zeroize, BackendClosed,
        BackendConnected, BackendFailed, Closed, Connection, DrbgStatus, Established, Listener,
        PeerClosed, Progress, Relay, SessionRefused, SessionWanted, SessionsIssued, TicketKeys,
        TicketKeysStatus, TicketOffered, TlsContext, VirtualHost,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("NOTHING", super::Progress::nothing(module.py())?)
    }
}

#[pyclass(frozen, module = "shard._engine")]
struct VirtualHost(context::VirtualHost);

#[pymethods]
impl VirtualHost {
    #[new]
    #[pyo3(signature = (*, names, chain, key, scope, ocsp = None))]
    fn new(
        names: Vec<String>,
        chain: Vec<Vec<u8>>,
        key: Vec<u8>,
        scope: Vec<u8>,
        ocsp: Option<Vec<u8>>,
    ) -> PyResult<Self> {
        let key = PrivateKeyDer::try_from(key)
            .map_err(|error| PyValueError::new_err(format!("key: {error}")))?;
        let scope = scope
            .try_into()
            .map_err(|_| PyValueError::new_err(format!("scope: {SCOPE_LEN} bytes")))?;
        if chain.is_empty() {
            return Err(PyValueError::new_err("chain: at least one certificate"));
        }
        Ok(Self(context::VirtualHost {
            names,
            chain: chain.into_iter().map(CertificateDer::from).collect(),
            key,
            ocsp,
            scope,
        }))
    }
}

fn client_auth_of(
    mode: &str,
    authorities: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
    depth: usize,
) -> PyResult<Option<ClientAuth>> {
    let required = match mode {
        "off" => return Ok(None),
        "optional" => false,
        "required" => true,
        _ => {
            let message = "client_auth: off, optional or required";
            return Err(PyValueError::new_err(message));
        }
    };
    Ok(Some(ClientAuth {
        required,
        authorities: authorities.into_iter().map(CertificateDer::from).collect(),
        crls: crls
            .into_iter()
            .map(CertificateRevocationListDer::from)
            .collect(),
        depth,
    }))
}

#[pyclass(frozen, module = "shard._engine")]
struct TlsContext(Arc<context::Context>);

#[pymethods]
impl TlsContext {
    #[new]
    #[pyo3(signature = (hosts, *, min_version = "TLSv1.2", cipher_suites = None, groups = None,
        alpn = Vec::new(), resumption = true, tickets_per_connection = 2, ticket_lifetime = 86400,
        ticket_keys = None, single_use = false, client_auth = "off", client_ca = Vec::new(),
        crl = Vec::new(), client_depth = MAX_DEPTH))]
    // One keyword of Python's signature each.
    #[allow(clippy::too_many_arguments)]
    fn new(
        hosts: Vec<Bound<'_, VirtualHost>>,
        min_version: &str,
        cipher_suites: Option<Vec<String>>,
        groups: Option<Vec<String>>,
        alpn: Vec<String>,
        resumption: bool,
        tickets_per_connection: usize,
        ticket_lifetime: u32,
        ticket_keys: Option<Bound<'_, TicketKeys>>,
        single_use: bool,
        client_auth: &str,
        client_ca: Vec<Vec<u8>>,
        crl: Vec<Vec<u8>>,
        client_depth: usize,
    ) -> PyResult<Self> {
        let tls12 = match min_version {
            "TLSv1.2" => true,
            "TLSv1.3" => false,
            _ => return Err(PyValueError::new_err("min_version: TLSv1.2 or TLSv1.3")),
        };
        let hosts: Vec<_> = hosts.iter().map(|host| &host.get().0).collect();
        let resumption = match (resumption, ticket_keys) {
            (false, _) => Resumption::Off,
            (true, None) => Resumption::Cache,
            (true, Some(keys)) => Resumption::Tickets {
                keys: Arc::clone(&keys.get().0),
                single_use,
            },
        };
        let policy = Policy {
            tls12,
            cipher_suites,
            groups,
            alpn,
            resumption,
            tickets_per_connection,
            ticket_lifetime,
            client_auth: client_auth_of(client_auth, client_ca, crl, client_depth)?,
        };
        context::Context::new(&hosts, &policy)
            .map(|context| Self(Arc::new(context)))
            .map_err(PyValueError::new_err)
    }

    #[classattr]
    #[pyo3(name = "CIPHER_SUITES")]
    fn cipher_suites() -> Vec<String> {
        suite_names()
    }

    #[classattr]
    #[pyo3(name = "GROUPS")]
    fn groups() -> Vec<&'static str> {
        group_names()
    }
}

#[pyclass(frozen, module = "shard._engine")]
struct Listener {
    socket: Mutex<Option<OwnedFd>>,
    /// Who sends a PROXY header.
    balancers: Vec<Network>,
    tolerant: bool,
}

impl Listener {
    fn with<T>(&self, work: impl FnOnce(&OwnedFd) -> T) -> Option<T> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.as_ref().map(work)
    }
}

#[pymethods]
impl Listener {
    #[new]
    #[pyo3(signature = (fd, *, proxy_protocol_from = Vec::new(), tolerate_truncation = false))]
    fn new(fd: i32, proxy_protocol_from: Vec<String>, tolerate_truncation: bool) -> PyResult<Self> {
        let balancers = proxy_protocol_from.iter().map(|text| {
            Network::parse(text)
                .ok_or_else(|| PyValueError::new_err(format!("proxy_protocol_from: {text}")))
        });
        let balancers = balancers.collect::<PyResult<Vec<_>>>()?;
        if fd < 0 {
            return Err(PyValueError::new_err("fd: an open descriptor"));
        }
        // SAFETY: the caller hands the descriptor over; from here on it is closed only by us.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        socket::set_nonblocking(socket.as_fd())?;
        Ok(Self {
            socket: Mutex::new(Some(socket)),
            balancers,
            tolerant: tolerate_truncation,
        })
    }

    fn fileno(&self) -> i32 {
        self.with(AsRawFd::as_raw_fd).unwrap_or(-1)
    }

    fn accept(
        &self,
        py: Python<'_>,
        context: &TlsContext,
        limit: usize,
    ) -> PyResult<Vec<(Connection, Py<Progress>)>> {
        let accepted = py.detach(|| {
            self.with(|listener| {
                let mut accepted = Vec::with_capacity(limit.min(64));
                while accepted.len() < limit {
                    match socket::accept(listener.as_fd()) {
                        Ok(Some((socket, peer))) => {
                            let context = Arc::clone(&context.0);
                            let made = connection::Connection::new(socket, peer, context);
                            if self.balancers.iter().any(|net| net.contains(peer.ip())) {
                                made.expect_header();
                            }
                            if self.tolerant {
                                made.tolerate_truncation();
                            }
                            let step = made.advance(false);
                            accepted.push((made, step));
                        }
                        Ok(None) => break,
                        // Those accepted before the trouble are served; it comes again.
                        Err(_) if !accepted.is_empty() => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(accepted)
            })
        });
        let accepted = accepted.transpose()?.unwrap_or_default();
        accepted
            .into_iter()
            .map(|(made, step)| Ok((Connection(Arc::new(made)), Progress::of(py, step)?)))
            .collect()
    }

    fn close(&self) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[pyclass(frozen, module = "shard._engine")]
struct Connection(Arc<connection::Connection>);

fn host_and_port(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

#[pymethods]
impl Connection {
    #[getter]
    fn peername(&self) -> (String, u16) {
        host_and_port(self.0.peer())
    }

    #[getter]
    fn sockname(&self) -> PyResult<(String, u16)> {
        Ok(host_and_port(self.0.local()?))
    }

    fn fileno(&self) -> i32 {
        self.0.fd()
    }

    fn advance(&self, py: Python<'_>, hangup: bool) -> PyResult<Py<Progress>> {
        let step = py.detach(|| self.0.advance(hangup));
        Progress::of(py, step)
    }

    fn resume(&self, py: Python<'_>, found: Option<(Vec<u8>, Vec<u8>)>) -> PyResult<Py<Progress>> {
        let step = py.detach(|| self.0.resume(found));
        Progress::of(py, step)
    }

    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let bytes = bytes.as_bytes();
            return Ok(py.detach(|| self.0.write(bytes)));
        }
        // Other threads may change a mutable buffer while the GIL is released: copy it.
        let copy = PyBuffer::<u8>::get(data)?.to_vec(py)?;
        Ok(py.detach(|| self.0.write(&copy)))
    }

    fn flush(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.flush())
    }

    fn backlog(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.backlog())
    }

    fn write_eof(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.write_eof())
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

#[pyclass(frozen, get_all, module = "shard._engine")]
struct DrbgStatus {
    seeded: bool,
    failed: bool,
    requests: u64,
    reseeds: u64,
    requests_since_reseed: u64,
    forks: u64,
}

fn drbg_error(error: DrbgError) -> PyErr {
    match error {
        DrbgError::SeedLength | DrbgError::InputLength | DrbgError::RequestLength => {
            PyValueError::new_err(error.to_string())
        }
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}

#[pyfunction]
#[pyo3(signature = (seed, personalization = b"".as_slice()))]
fn drbg_seed(seed: &[u8], personalization: &[u8]) -> PyResult<()> {
    process::seed(seed, personalization).map_err(drbg_error)
}

#[pyfunction]
#[pyo3(signature = (seed, additional = b"".as_slice()))]
fn drbg_reseed(seed: &[u8], additional: &[u8]) -> PyResult<()> {
    process::reseed(seed, additional).map_err(drbg_error)
}

#[pyfunction]
fn drbg_generate(py: Python<'_>, length: usize) -> PyResult<Bound<'_, PyBytes>> {
    if length > MAX_REQUEST {
        return Err(drbg_error(DrbgError::RequestLength));
    }
    PyBytes::new_with(py, length, |out| {
        py.detach(|| process::fill(out)).map_err(drbg_error)
    })
}

#[pyfunction]
fn drbg_zeroize(py: Python<'_>) {
    py.detach(process::zeroize);
}

#[pyfunction]
fn drbg_status() -> DrbgStatus {
    let status = process::status();
    DrbgStatus {
        seeded: status.seeded,
        failed: status.failed,
        requests: status.requests,
        reseeds: status.reseeds,
        requests_since_reseed: status.requests_since_reseed,
        forks: status.forks,
    }
}
