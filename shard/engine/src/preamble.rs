//! What comes before a ClientHello: the PROXY header of a trusted balancer.

use crate::closing::Reason;
use crate::proxy_header::{self, Parsed};
use crate::state::State;
use crate::step::Step;

impl State {
    /// Go on with a header of which `header` came before; what follows it is the client's.
    pub fn read_header(&mut self, mut header: Vec<u8>, bytes: &[u8], step: &mut Step) {
        header.extend_from_slice(bytes);
        match proxy_header::parse(&header) {
            Parsed::Incomplete => self.header = Some(header),
            Parsed::Invalid => self.end(Reason::ProxyHeader, "no PROXY header"),
            Parsed::Complete(length, announced) => {
                self.announced = announced;
                if header.len() > length {
                    self.process(&header[length..], step);
                }
            }
        }
    }
}
