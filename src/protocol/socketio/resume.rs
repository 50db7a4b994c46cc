//! What a CONNECT says about recovery: `pid` and `offset` of the session its client had, and whether it wants any of this.
//!
//! Refuses to judge whether there is such a session.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::well_formed;
use crate::ids::{Offset, PrivateId};

/// The part of a CONNECT's credentials that is about recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RecoveryRequest {
    /// `recovery`: the client wants to be recoverable, or not.
    pub wants: Option<bool>,
    /// The session it had.
    pub claim: ResumeRequest,
}

/// The session that a client asks to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ResumeRequest {
    #[default]
    Nothing,
    Session(ResumeAttempt),
    /// An id or a token that no server of this version issues.
    Malformed,
}

/// A well-formed request to resume a session, which may not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumeAttempt {
    pub pid: PrivateId,
    /// The last offset token that the client received; `None` if it received no event.
    pub offset: Option<Offset>,
}

impl RecoveryRequest {
    /// Reads a CONNECT's credentials, a JSON object's text.
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
        // What is no such object says nothing about recovery, and is the application's to judge.
        let auth = auth.map(well_formed);
        let Some(auth) = auth.as_ref().and_then(|auth| serde_json::from_str::<Auth<'_>>(auth).ok()) else {
            return Self::default();
        };
        let wants = auth.recovery.and_then(|wants| serde_json::from_str(wants.get()).ok());
        let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
        // JavaScript's `undefined` is left out, but `null` may well be written for it.
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
    fn what_a_client_claims_is_read_and_all_else_is_not_minded() {
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
        assert_eq!(claim(&surrogate), session(None), "what else it says is not minded");
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
