//! Recovery data in a CONNECT: `pid` and `offset` of the client's previous session, and a flag with
//! which the client requests or declines recovery.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::well_formed;
use crate::ids::{Offset, PrivateId};

/// The recovery part of a CONNECT's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RecoveryRequest {
    /// The field `recovery`: true if the client wants a recoverable session, false if it declines.
    /// `None` if the field is absent or not a boolean.
    pub wants: Option<bool>,
    pub claim: ResumeRequest,
}

/// The session that a client asks to resume, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ResumeRequest {
    #[default]
    Nothing,
    Session(ResumeAttempt),
    /// The id or token is malformed.
    Malformed,
}

/// A well-formed request to resume a session, which may not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumeAttempt {
    pub pid: PrivateId,
    /// The last offset token that the client received. `None` if the client received no event.
    pub offset: Option<Offset>,
}

impl RecoveryRequest {
    /// Parses the credentials of a CONNECT, the text of a JSON object.
    pub(crate) fn read(auth: Option<&str>) -> Self {
        #[derive(Deserialize)]
        struct Auth<'a> {
            #[serde(borrow)]
            pid: Option<&'a RawValue>,
            #[serde(borrow)]
            offset: Option<&'a RawValue>,
            #[serde(borrow)]
            recovery: Option<&'a RawValue>,
        }
        // Credentials in another form are ignored here. They contain no recovery data, and the
        // application checks them.
        let auth = auth.map(well_formed);
        let Some(auth) = auth.as_ref().and_then(|auth| serde_json::from_str::<Auth<'_>>(auth).ok()) else {
            return Self::default();
        };
        let wants = auth.recovery.and_then(|wants| serde_json::from_str(wants.get()).ok());
        let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
        // `null` counts as absent: JavaScript omits `undefined`, but a client may write `null`
        // instead.
        let given = |value: Option<&'_ RawValue>| value.filter(|value| value.get() != "null").map(text);
        let claim = match (given(auth.pid), given(auth.offset)) {
            (None, _) => ResumeRequest::Nothing,
            (Some(pid), offset) => {
                let pid = pid.and_then(|pid| PrivateId::parse(&pid).ok());
                let offset = offset.map(|offset| offset.and_then(|offset| Offset::parse(&offset).ok()));
                match (pid, offset) {
                    (Some(pid), None) => ResumeRequest::Session(ResumeAttempt { pid, offset: None }),
                    (Some(pid), Some(offset @ Some(_))) => ResumeRequest::Session(ResumeAttempt { pid, offset }),
                    _ => ResumeRequest::Malformed,
                }
            }
        };
        Self { wants, claim }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Fingerprint, Lsn};

    #[test]
    fn recovery_data_is_parsed_and_other_fields_are_ignored() {
        let pid = PrivateId::from_random([7; 15]);
        let offset = Offset { epoch: Epoch::new(1, 2), lsn: Lsn(3), fingerprint: Fingerprint::new(4) };
        let session = |offset| ResumeRequest::Session(ResumeAttempt { pid, offset });
        let claim = |auth: &str| RecoveryRequest::read(Some(auth)).claim;
        for nothing in ["", "null", "[]", "7", "{}", r#"{"pid":null}"#, r#"{"offset":"x"}"#, r#"{"pid":"#] {
            assert_eq!(claim(nothing), ResumeRequest::Nothing, "{nothing}");
        }
        assert_eq!(RecoveryRequest::read(None), RecoveryRequest::default());
        assert_eq!(claim(&format!(r#"{{"token":{{"a":1}},"pid":"{pid}"}}"#)), session(None));
        let surrogate = format!(r#"{{"\ud800":"\udc00","pid":"{pid}"}}"#);
        assert_eq!(claim(&surrogate), session(None), "other fields are ignored");
        let both = format!(r#"{{"pid":"{pid}","offset":"{offset}"}}"#);
        assert_eq!(claim(&both), session(Some(offset)));
        let long = "x".repeat(100_000);
        for (pid, offset) in [
            ("7", "null"),
            ("\"short\"", "null"),
            ("{}", "null"),
            (&format!("\"{long}\""), "null"),
            (&format!("\"{pid}\""), "7"),
            (&format!("\"{pid}\""), "\"\""),
            (&format!("\"{pid}\""), &format!("\"{long}\"")),
            (&format!("\"{pid}\""), "[\"a\"]"),
        ] {
            assert_eq!(
                claim(&format!(r#"{{"pid":{pid},"offset":{offset}}}"#)),
                ResumeRequest::Malformed,
                "{pid:.30} {offset:.30}"
            );
        }
    }

    #[test]
    fn a_client_may_decline() {
        for (auth, wants) in [
            (r#"{"recovery":false}"#, Some(false)),
            (r#"{"recovery":true}"#, Some(true)),
            (r#"{"recovery":"no"}"#, None),
            (r#"{"recovery":0}"#, None),
            ("{}", None),
        ] {
            assert_eq!(RecoveryRequest::read(Some(auth)).wants, wants, "{auth}");
        }
    }
}
