//! Purging what is kept nowhere: tickets are refused by the time of their issue.

use crate::tickets::{Header, Mark, Scope};

/// Tickets issued before this moment are refused, if they fit all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watermark {
    pub before_ms: u64,
    pub scope: Option<Scope>,
    pub server_name: Option<String>,
    pub certificate: Option<Mark>,
    pub worker: Option<Mark>,
}

impl Watermark {
    pub fn refuses(&self, scope: &Scope, server_name: Option<&str>, header: &Header) -> bool {
        header.issued_ms < self.before_ms
            && self.scope.is_none_or(|wanted| wanted == *scope)
            && (self.server_name.is_none() || self.server_name.as_deref() == server_name)
            && self
                .certificate
                .is_none_or(|wanted| wanted == header.certificate)
            && self.worker.is_none_or(|wanted| wanted == header.worker)
    }
}
