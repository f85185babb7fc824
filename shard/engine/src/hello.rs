//! What a connection does when it has the whole ClientHello: hand it to rustls, or first have the
//! session found that it offers.

use std::sync::Arc;

use crate::client_hello::ClientHello;
use crate::context::{Host, Resumption};
use crate::exchange::Value;
use crate::state::{Stage, State};
use crate::step::{Effect, Step};
use crate::tickets::{Moment, TicketKeys};

impl State {
    pub fn hello(&mut self, raw: Vec<u8>, hello: ClientHello, step: &mut Step) {
        let context = Arc::clone(&self.context);
        let host = context.host(hello.server_name.as_deref());
        self.scope = host.scope;
        self.server_name.clone_from(&hello.server_name);
        let tls13 = hello.offers_tls13;
        let ids = match &context.resumption {
            Resumption::Off => {
                self.begin(host.configuration(&hello, false), &raw, step);
                return;
            }
            Resumption::Cache => hello.offered_ids(tls13),
            Resumption::Tickets { keys, single_use } => {
                self.hello_with_tickets(raw, hello, host, keys, *single_use, step);
                return;
            }
        };
        if ids.is_empty() && !hello.offers_foreign(tls13) {
            self.begin(host.configuration(&hello, false), &raw, step);
            return;
        }
        step.effects.push(Effect::SessionWanted {
            single_use: tls13,
            scope: self.scope,
            ids,
            server_name: hello.server_name.clone(),
        });
        self.stage = Stage::Parked(raw, hello);
    }

    /// Open the ticket that a client offers, before rustls asks for it.
    fn hello_with_tickets(
        &mut self,
        raw: Vec<u8>,
        hello: ClientHello,
        host: &Host,
        keys: &TicketKeys,
        single_use: bool,
        step: &mut Step,
    ) {
        let now = Moment::now();
        let tls13 = hello.offers_tls13;
        let server_name = hello.server_name.as_deref();
        self.exchange.stamp_ms = keys.stamp(now);
        let mut offered = hello.offered_tickets(tls13).iter();
        let opened = offered.find_map(|ticket| {
            let opened = keys.open(&self.scope, server_name, ticket, now).ok()?;
            Some((ticket.clone(), opened))
        });
        let Some((ticket, opened)) = opened else {
            self.begin(host.configuration(&hello, false), &raw, step);
            return;
        };
        let found = self.admitted(host, &hello, Some((ticket, opened.session)), step);
        if found.is_none() {
            self.begin(host.configuration(&hello, false), &raw, step);
            return;
        }
        self.exchange.found = found;
        if tls13 && single_use {
            step.effects.push(Effect::TicketOffered {
                scope: self.scope,
                id: opened.id,
                issued_ms: opened.issued_ms,
                expires_ms: opened.expires_ms,
            });
            self.stage = Stage::Parked(raw, hello);
            return;
        }
        if !tls13 {
            // The next ticket holds the same master secret, whose age counts.
            self.exchange.stamp_ms = opened.issued_ms;
        }
        self.begin(host.configuration(&hello, true), &raw, step);
    }

    /// A session that was found, if it may still be used.
    pub fn admitted(
        &mut self,
        host: &Host,
        hello: &ClientHello,
        found: Option<(Vec<u8>, Value)>,
        step: &mut Step,
    ) -> Option<(Vec<u8>, Value)> {
        let (id, value) = found?;
        match host.admits(&value, hello) {
            Ok(()) => Some((id, value)),
            Err(reason) => {
                step.effects.push(Effect::SessionRefused {
                    scope: self.scope,
                    reason,
                });
                None
            }
        }
    }

    /// The bytes held back and what they offer, if it is parked; a stage has to follow.
    pub fn unpark(&mut self) -> Option<(Vec<u8>, ClientHello)> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Parked(raw, hello) => Some((raw, hello)),
            other => {
                self.stage = other;
                None
            }
        }
    }
}
