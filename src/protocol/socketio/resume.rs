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

/// What a client says that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ResumeRequest {
    /// It asks for nothing.
    #[default]
    Nothing,
    /// A session, and the last token that it saw there, if it saw one.
    Session(PrivateId, Option<Offset>),
    /// What cannot be: this server gave away no such id, or no such token.
    Malformed,
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
                    (Some(pid), None) => ResumeRequest::Session(pid, None),
                    (Some(pid), Some(Some(offset))) => ResumeRequest::Session(pid, Some(offset)),
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
        let claim = |auth: &str| RecoveryRequest::read(Some(auth)).claim;
        for nothing in ["", "null", "[]", "7", "{}", r#"{"pid":null}"#, r#"{"offset":"x"}"#, r#"{"pid":"#] {
            assert_eq!(claim(nothing), ResumeRequest::Nothing, "{nothing}");
        }
        assert_eq!(RecoveryRequest::read(None), RecoveryRequest::default());
        assert_eq!(claim(&format!(r#"{{"token":{{"a":1}},"pid":"{pid}"}}"#)), ResumeRequest::Session(pid, None));
        let surrogate = format!(r#"{{"\ud800":"\udc00","pid":"{pid}"}}"#);
        assert_eq!(claim(&surrogate), ResumeRequest::Session(pid, None), "what else it says is not minded");
        let both = format!(r#"{{"pid":"{pid}","offset":"{offset}"}}"#);
        assert_eq!(claim(&both), ResumeRequest::Session(pid, Some(offset)));
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
