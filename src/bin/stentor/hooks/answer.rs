//! Answers of the back end, one form for each hook.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stentor::{Args, RoomPattern};

/// Maximum number of bytes of a refusal's code.
const CODE_BYTES_MAX: usize = 64;

/// An answer of the back end.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    Accepted(T),
    Refused(Refusal),
    /// The socket is to be disconnected.
    Disconnect,
}

/// A refusal that the client receives.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    /// The code, if the back end has sent no message.
    #[serde(default)]
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Box<RawValue>>,
}

/// Body of an answer to one hook.
pub(crate) trait Body: DeserializeOwned {
    /// Names of the fields, and their forms, for errors.
    const EXPECTED: &'static str;

    /// Removes the fields that the answers to all hooks may have.
    fn take_verdict(&mut self) -> (Option<Refusal>, Option<bool>);

    /// Checks values whose form the type does not enforce.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Reads an answer. An error names the wrong part and the expected fields.
pub(crate) fn read<T: Body>(text: &[u8]) -> Result<Answer<T>, String> {
    let wrong = |error: &str| format!("{error}; expected {}, or {VERDICTS}", T::EXPECTED);
    let mut body: T = serde_json::from_slice(text).map_err(|error| wrong(&error.to_string()))?;
    // Serde reads an array as the fields in order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("not an object"));
    }
    match body.take_verdict() {
        (Some(refusal), _) => Ok(Answer::Refused(checked(refusal).map_err(|error| wrong(&error))?)),
        (None, Some(true)) => Ok(Answer::Disconnect),
        (None, _) => {
            body.check().map_err(|error| wrong(&error))?;
            Ok(Answer::Accepted(body))
        }
    }
}

const VERDICTS: &str = r#"{"error": {"code": "forbidden", "message": "…"}}, or {"disconnect": true}"#;

fn checked(mut refusal: Refusal) -> Result<Refusal, String> {
    let bytes = refusal.code.len();
    if bytes == 0 || bytes > CODE_BYTES_MAX {
        return Err(format!("error.code of {bytes} bytes: expected 1 to {CODE_BYTES_MAX}"));
    }
    if refusal.message.is_empty() {
        refusal.message.clone_from(&refusal.code);
    }
    Ok(refusal)
}

/// Implements [`Body`] for a type with the fields `error` and `disconnect`.
macro_rules! body {
    ($type:ident, $expected:literal $(, $check:expr)?) => {
        impl Body for $type {
            const EXPECTED: &'static str = $expected;

            fn take_verdict(&mut self) -> (Option<Refusal>, Option<bool>) {
                (self.error.take(), self.disconnect)
            }

            $(fn check(&self) -> Result<(), String> {
                let check: fn(&Self) -> Result<(), String> = $check;
                check(self)
            })?
        }
    };
}

/// The identity of a client. A field that is missing or null keeps the value of the client's token.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectBody {
    pub(crate) user: Option<String>,
    pub(crate) info: Option<Box<RawValue>>,
    pub(crate) data: Option<Box<RawValue>>,
    pub(crate) rooms: Option<Vec<String>>,
    pub(crate) join: Option<Vec<RoomPattern>>,
    pub(crate) publish: Option<Vec<RoomPattern>>,
    pub(crate) members: Option<Vec<RoomPattern>>,
    pub(crate) expires_at: Option<u64>,
    error: Option<Refusal>,
    disconnect: Option<bool>,
}

body!(
    ConnectBody,
    r#"an object of user (string), info and data (any JSON), rooms (array of names), join, publish and members (arrays of patterns), expires_at (seconds since 1970)"#
);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinBody {
    /// Any JSON, for the ack.
    pub(crate) data: Option<Box<RawValue>>,
    error: Option<Refusal>,
    disconnect: Option<bool>,
}

body!(JoinBody, r#"{} or {"data": …}"#);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishBody {
    args: Option<Box<RawValue>>,
    #[serde(default)]
    skip: Option<bool>,
    error: Option<Refusal>,
    disconnect: Option<bool>,
}

body!(PublishBody, r#"{}, {"args": […]} or {"skip": true}"#, |body| {
    body.args().map(drop)?;
    match (&body.args, body.skip) {
        (Some(_), Some(true)) => Err("args, skip: expected one of them, got both".to_owned()),
        _ => Ok(()),
    }
});

impl PublishBody {
    /// Arguments that replace those of the event.
    pub(crate) fn args(&self) -> Result<Option<Args>, String> {
        self.args.as_deref().map(|args| read_args("args", args)).transpose()
    }

    pub(crate) fn is_skipped(&self) -> bool {
        self.skip == Some(true)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventBody {
    ack: Option<Box<RawValue>>,
    emit: Option<Vec<EmitBody>>,
    join: Option<Vec<String>>,
    leave: Option<Vec<String>>,
    error: Option<Refusal>,
    disconnect: Option<bool>,
}

/// An event to a room.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmitBody {
    room: String,
    event: String,
    args: Option<Box<RawValue>>,
    /// Rooms whose members do not receive the event.
    except: Option<Vec<String>>,
}

body!(
    EventBody,
    r#"an object of ack (array of arguments), emit (array of {"room": "…", "event": "…", "args": […], "except": ["…"]}), join and leave (arrays of names)"#,
    |body| body.actions().map(drop)
);

/// The actions that the answer to an event asks for, in this order.
#[derive(Debug)]
pub(crate) struct Actions {
    pub(crate) join: Vec<String>,
    pub(crate) emit: Vec<Emission>,
    pub(crate) leave: Vec<String>,
    pub(crate) ack: Args,
}

#[derive(Debug)]
pub(crate) struct Emission {
    pub(crate) room: String,
    pub(crate) except: Vec<String>,
    pub(crate) event: String,
    pub(crate) args: Args,
}

impl EventBody {
    pub(crate) fn actions(&self) -> Result<Actions, String> {
        let args = |name: &str, args: &Option<Box<RawValue>>| {
            args.as_deref().map_or_else(|| Ok(Args::default()), |args| read_args(name, args))
        };
        let emissions = self.emit.iter().flatten().map(|emit| {
            Ok(Emission {
                room: emit.room.clone(),
                except: emit.except.clone().unwrap_or_default(),
                event: emit.event.clone(),
                args: args("emit.args", &emit.args)?,
            })
        });
        Ok(Actions {
            join: self.join.clone().unwrap_or_default(),
            emit: emissions.collect::<Result<_, String>>()?,
            leave: self.leave.clone().unwrap_or_default(),
            ack: args("ack", &self.ack)?,
        })
    }
}

fn read_args(name: &str, text: &RawValue) -> Result<Args, String> {
    if !text.get().starts_with('[') {
        let start: String = text.get().chars().take(40).collect();
        return Err(format!("{name}: expected an array, got {start}"));
    }
    Args::parse(text.get()).map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted<T: Body>(text: &str) -> T {
        match read::<T>(text.as_bytes()) {
            Ok(Answer::Accepted(body)) => body,
            Ok(_) => panic!("{text}: refused"),
            Err(error) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn answers_are_read_and_null_counts_as_missing() {
        let connect: ConnectBody = accepted(
            r#"{"user":"42","info":{"name":"Ada"},"data":1.50,"rooms":["lobby"],"join":["chat:*"],"publish":null,"expires_at":7}"#,
        );
        assert_eq!((connect.user.as_deref(), connect.expires_at), (Some("42"), Some(7)));
        assert_eq!(connect.data.as_deref().map(RawValue::get), Some("1.50"));
        assert!(connect.join.is_some_and(|join| join[0].matches("chat:7")) && connect.publish.is_none());
        assert_eq!(accepted::<JoinBody>("{}").data.map(|data| data.to_string()), None);
        let publish: PublishBody = accepted(r#"{"args":[1.50,"a"],"skip":false}"#);
        assert_eq!(publish.args().unwrap().map(|args| args.json().to_owned()), Some(r#"1.50,"a""#.to_owned()));
        let event: EventBody =
            accepted(r#"{"ack":[1],"emit":[{"room":"a","event":"e"}],"join":["b"],"leave":["c"],"error":null}"#);
        let actions = event.actions().unwrap();
        assert_eq!((actions.ack.json(), actions.join, actions.leave), ("1", vec!["b".into()], vec!["c".into()]));
        assert_eq!((actions.emit[0].room.as_str(), actions.emit[0].args.len()), ("a", 0));
    }

    #[test]
    fn a_refusal_or_a_disconnect_overrides_the_rest() {
        let answer = read::<JoinBody>(br#"{"data":1,"disconnect":true,"error":{"code":"forbidden","data":{"a":1}}}"#);
        let Ok(Answer::Refused(refusal)) = answer else { panic!("{answer:?}") };
        assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("forbidden", "forbidden"));
        assert_eq!(
            serde_json::to_string(&refusal).unwrap(),
            r#"{"code":"forbidden","message":"forbidden","data":{"a":1}}"#
        );
        assert!(matches!(read::<EventBody>(br#"{"disconnect":true}"#), Ok(Answer::Disconnect)));
    }

    #[test]
    fn errors_name_the_wrong_part_and_the_expected_fields() {
        fn error<T: Body + std::fmt::Debug>(text: &str) -> String {
            read::<T>(text.as_bytes()).err().unwrap_or_else(|| panic!("{text} is accepted"))
        }
        for (error, expected) in [
            (error::<ConnectBody>(r#"{"user":42}"#), "invalid type: integer `42`, expected a string"),
            (error::<ConnectBody>(r#"{"users":"42"}"#), "unknown field `users`"),
            (error::<ConnectBody>(r#"{"join":[""]}"#), "pattern is empty"),
            (error::<ConnectBody>("<html>"), "expected value at line 1 column 1; expected an object of user"),
            (error::<ConnectBody>(""), "EOF while parsing"),
            (error::<JoinBody>("{}{}"), "trailing characters"),
            (error::<JoinBody>("[1,null,null]"), "not an object; expected {}"),
            (error::<JoinBody>(r#"{"error":"no"}"#), r#"or {"error": {"code": "forbidden", "message": "…"}}"#),
            (error::<JoinBody>(r#"{"error":{"code":""}}"#), "error.code of 0 bytes: expected 1 to 64"),
            (error::<PublishBody>(r#"{"args":{"a":1}}"#), "args: expected an array, got {\"a\":1}"),
            (error::<PublishBody>(r#"{"args":[],"skip":true}"#), "args, skip: expected one of them, got both"),
            (error::<PublishBody>(r#"{"skip":1}"#), "expected a boolean"),
            (error::<EventBody>(r#"{"ack":1}"#), "ack: expected an array, got 1"),
            (error::<EventBody>(r#"{"emit":[{"room":"a"}]}"#), "missing field `event`"),
            (
                error::<EventBody>(r#"{"emit":[{"room":"a","event":"e","args":7}]}"#),
                "emit.args: expected an array, got 7",
            ),
        ] {
            assert!(error.contains(expected), "{error:?} has no {expected:?}");
            assert!(error.contains("{\"disconnect\": true}"), "{error}");
        }
    }
}
