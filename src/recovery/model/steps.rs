//! Random steps of the model.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{CLIENTS, WINDOW_MS};

/// Random choice of a room: one of two named rooms or, less often, a client's own room.
pub(super) type Name = prop::sample::Index;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Join(usize, Name),
    Leave(usize, Name),
    Data(usize, u8),
    Emit {
        chat: bool,
        rooms: Vec<Name>,
        except: Vec<Name>,
        exclude: Option<usize>,
        kind: Kind,
    },
    /// Emits this number of events to a room without clients.
    Noise(usize),
    /// The connection of the client breaks, and the server does not notice.
    Cut(usize),
    /// The client is disconnected. If the flag is true, the session cannot be resumed.
    Disconnect(usize, bool),
    Resume(usize, Token),
    Wait(u64),
    Expire,
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Plain,
    Volatile,
    Asking,
}

/// The token that a client sends when it reconnects.
#[derive(Debug, Clone, Copy)]
pub(super) enum Token {
    Honest,
    Earlier(Name),
    Forged,
    Future,
    Foreign,
    OtherNamespace,
    OtherPid,
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let who = || 0..CLIENTS;
    let name = any::<Name>;
    let kind = prop_oneof![6 => Just(Kind::Plain), 1 => Just(Kind::Volatile), 1 => Just(Kind::Asking)];
    let emit = (
        proptest::bool::weighted(0.2),
        vec(name(), 0..3),
        vec(name(), 0..2),
        proptest::option::weighted(0.2, who()),
        kind,
    );
    let token = prop_oneof![
        12 => Just(Token::Honest),
        3 => name().prop_map(Token::Earlier),
        1 => Just(Token::Forged),
        1 => Just(Token::Future),
        1 => Just(Token::Foreign),
        1 => Just(Token::OtherNamespace),
        1 => Just(Token::OtherPid),
    ];
    prop_oneof![
        6 => (who(), name()).prop_map(|(who, name)| Step::Join(who, name)),
        4 => (who(), name()).prop_map(|(who, name)| Step::Leave(who, name)),
        1 => (who(), any::<u8>()).prop_map(|(who, data)| Step::Data(who, data)),
        12 => emit.prop_map(|(chat, rooms, except, exclude, kind)| Step::Emit { chat, rooms, except, exclude, kind }),
        2 => (1usize..24).prop_map(Step::Noise),
        3 => who().prop_map(Step::Cut),
        3 => (who(), proptest::bool::weighted(0.1)).prop_map(|(who, forever)| Step::Disconnect(who, forever)),
        8 => (who(), token).prop_map(|(who, token)| Step::Resume(who, token)),
        1 => (1..WINDOW_MS).prop_map(Step::Wait),
        1 => Just(Step::Expire),
        1 => Just(Step::Restart),
    ]
}
