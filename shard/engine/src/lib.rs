//! The TLS engine of shardtls: rustls on AWS-LC, driven by readiness events.
//!
//! It exists because Python's `ssl` has no hook for a session cache, ticket keys or the random
//! source, and spends twice the CPU. It holds no loop, no policy and calls no Python; all but
//! [`python`] is plain Rust.

/// A handshake is some hundred short-lived allocations, which glibc's allocator makes 3 % of its cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod backend;
pub mod certificates;
pub mod client_auth;
pub mod client_hello;
pub mod closing;
pub mod connection;
pub mod context;
pub mod ctr_drbg;
pub mod drbg;
pub mod ecdh;
pub mod established;
pub mod exchange;
pub mod hello;
pub mod kx;
pub mod outgoing;
pub mod preamble;
pub mod provider;
pub mod proxy_header;
#[cfg(feature = "python")]
mod python;
pub mod relay;
pub mod relay_state;
pub mod sealed_tickets;
pub mod session_value;
pub mod socket;
pub mod state;
pub mod step;
pub mod tickets;
pub mod watermark;
