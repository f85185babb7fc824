//! Why a connection is over.

use rustls::{AlertDescription, Error};

/// The record of a fatal `internal_error` alert, not encrypted (RFC 8446 §6).
pub const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// In a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Done,
    Truncated,
    Reset,
    AlertReceived,
    AlertSent,
    Aborted,
    NoRandomness,
    /// What a trusted address sent first is no PROXY header.
    ProxyHeader,
    /// The backend of a relay reset its connection.
    BackendReset,
    Internal,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Truncated => "truncated",
            Self::Reset => "reset",
            Self::AlertReceived => "alert_received",
            Self::AlertSent => "alert_sent",
            Self::Aborted => "aborted",
            Self::NoRandomness => "no_randomness",
            Self::ProxyHeader => "proxy_header",
            Self::BackendReset => "backend_reset",
            Self::Internal => "internal",
        }
    }
}

/// With the alert, if one was sent or received, and a line for a log at DEBUG level.
#[derive(Debug)]
pub struct Closed {
    pub reason: Reason,
    pub alert: Option<AlertDescription>,
    pub detail: String,
}

impl Closed {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            alert: None,
            detail: detail.into(),
        }
    }
}

/// The name of an alert in RFC 8446 §6 spelling, such as `handshake_failure`.
pub fn alert_name(alert: AlertDescription) -> String {
    // rustls spells HandshakeFailure and UnknownCA.
    let camel = format!("{alert:?}")
        .replace("PSK", "Psk")
        .replace("CA", "Ca");
    let mut name = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// The alert that rustls sent: read from its last record while that is in the clear, else told by
/// the kind of error.
pub fn sent_alert(sent: &[u8], error: &Error) -> Option<AlertDescription> {
    const PLAIN_ALERT: [u8; 2] = [21, 3];
    const FATAL: u8 = 2;
    if let [.., kind, major, _, 0, 2, FATAL, alert] = sent {
        if [*kind, *major] == PLAIN_ALERT {
            return Some(AlertDescription::from(*alert));
        }
    }
    match error {
        Error::InvalidMessage(error) => Some((*error).into()),
        Error::InvalidCertificate(error) => Some(error.clone().into()),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            Some(AlertDescription::UnexpectedMessage)
        }
        Error::DecryptError => Some(AlertDescription::BadRecordMac),
        Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
        Error::NoApplicationProtocol => Some(AlertDescription::NoApplicationProtocol),
        _ if sent.is_empty() => None,
        _ => Some(AlertDescription::IllegalParameter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_rfc() {
        let name = |alert| alert_name(alert);
        assert_eq!(
            name(AlertDescription::HandshakeFailure),
            "handshake_failure"
        );
        assert_eq!(name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(
            name(AlertDescription::UnknownPSKIdentity),
            "unknown_psk_identity"
        );
        assert_eq!(name(AlertDescription::BadRecordMac), "bad_record_mac");
    }

    #[test]
    fn a_plain_alert_is_read_from_the_wire() {
        let alert = [22, 3, 3, 0, 1, 9, 21, 3, 3, 0, 2, 2, 47];
        assert_eq!(
            sent_alert(&alert, &Error::DecryptError),
            Some(AlertDescription::IllegalParameter)
        );
        assert_eq!(
            sent_alert(&[23, 3, 3, 0, 1, 9], &Error::DecryptError),
            Some(AlertDescription::BadRecordMac)
        );
    }
}
