//! Resumes in the model: the expected outcome, and the events that a client receives afterwards.

use std::collections::BTreeSet;

use super::steps::Token;
use super::*;

impl World {
    /// Resumes a client's session with the given kind of token, and checks the outcome.
    pub(super) fn resume(&mut self, who: usize, token: Token) {
        let client = &self.clients[who];
        let last = client.tokens.last().copied();
        let mut query = ResumeQuery { pid: client.pid, namespace: &client.namespace.clone(), offset: last };
        let any = last.unwrap_or_else(|| self.newest());
        let other = namespace(who != CHATS);
        let expected = match token {
            Token::Honest => None,
            Token::Earlier(at) => {
                query.offset = (!client.tokens.is_empty()).then(|| *at.get(&client.tokens));
                None
            }
            Token::Forged => {
                let fingerprint = Fingerprint::new(any.fingerprint.to_bits() ^ 1);
                query.offset = Some(Offset { fingerprint, ..any });
                // If the record was dropped, the journal cannot check the fingerprint.
                (any.lsn > self.journal.trimmed_to()).then_some(NotRecovered::UnknownOffset)
            }
            Token::Future => {
                query.offset = Some(Offset { lsn: self.journal.head().next(), ..any });
                Some(NotRecovered::FutureOffset)
            }
            Token::Foreign => {
                query.offset = Some(Offset { epoch: Epoch::new(1, 2), ..any });
                // A foreign token is refused if the client has resumed this session from a token.
                // Otherwise, the token is ignored as one of a previous session.
                (client.start != client.began).then_some(NotRecovered::ForeignEpoch)
            }
            Token::OtherNamespace => {
                query.namespace = &other;
                Some(NotRecovered::OtherNamespace)
            }
            Token::OtherPid => {
                query.pid = PrivateId::from_random([0xff; 15]);
                Some(NotRecovered::UnknownPid)
            }
        };
        let journal_state = JournalState::of(&self.journal, query.offset.as_ref());
        let outcome = self.recovery.check_resume(&query, &journal_state, self.now);
        let outcome = outcome.map(Resumed::from);
        let gone = client.forever || client.away.is_some_and(|since| self.now - since > WINDOW_MS);
        if let Some(expected) = expected {
            let refused = outcome.unwrap_err();
            let given_up = self.is_scarce && matches!(refused, NotRecovered::GivenUp | NotRecovered::TooManyIntervals);
            let gone = gone || given_up || (self.is_scarce && refused == NotRecovered::UnknownPid);
            assert!(refused == expected || gone, "{refused:?} instead of {expected:?}");
            return;
        }
        let from = query.offset.filter(|offset| offset.epoch == EPOCH).map_or(client.start, |offset| offset.lsn);
        let trimmed_to = journal_state.trimmed_to;
        let behind = || client.events.iter().filter(|(lsn, _)| *lsn > from);
        let lost = behind().any(|(lsn, ack_events)| *ack_events || *lsn <= trimmed_to);
        let must_refuse = gone || lost || from < client.start;
        let nothing_named_it = client.named <= from;
        let nothing_gone = from >= trimmed_to && behind().all(|(_, ack_events)| !ack_events);
        // True if the client has no token of the session, and is in no room except its own.
        let has_nothing = from == client.start && client.start == client.began && client.rooms.len() == 1;
        let has_nothing = has_nothing && query.offset.is_none_or(|offset| offset.epoch != EPOCH || offset.lsn < from);
        match outcome {
            Ok(resumed) => {
                assert!(!has_nothing, "a session without rooms and events cannot be resumed");
                assert!(!must_refuse, "a silent gap behind {from:?}: {:?}, trimmed to {trimmed_to:?}", client.events);
                self.complete_resume(who, from, resumed);
            }
            // After a restart, the index does not know the position of the connect, so it may
            // refuse a token from before the session.
            Err(NotRecovered::ForeignEpoch) => {}
            Err(NotRecovered::NothingToRecover) => {
                assert!(has_nothing, "{:?} from {:?}", client.rooms, query.offset);
                self.disconnect(who, true);
                self.connect(who);
            }
            Err(why) => {
                // A resume may be refused because of an event that requested an ack, although the
                // client was excepted from the event, since the index does not store exceptions.
                let for_others = why == NotRecovered::AckMissed && client.named > from;
                let given_up =
                    matches!(why, NotRecovered::GivenUp | NotRecovered::TooManyIntervals | NotRecovered::UnknownPid);
                let may_refuse = must_refuse || (self.is_scarce && given_up);
                let must_resume = !may_refuse && (nothing_named_it || (nothing_gone && !for_others));
                assert!(!must_resume, "refused without need behind {from:?}: {why:?}, {:?}", client.events);
                // The client is notified and connects again.
                self.disconnect(who, true);
                self.connect(who);
            }
        }
    }

    /// Completes a resume, and checks that the client receives the missed events once and in order.
    fn complete_resume(&mut self, who: usize, from: Lsn, resumed: Resumed) {
        let client = &self.clients[who];
        let Resumed { socket, position, data, mut rooms } = resumed;
        assert_eq!((socket, position, &data), (client.socket, from, &client.data));
        rooms.insert(client.socket.into());
        assert_eq!(rooms, client.rooms);
        self.append(RecordBody::Resumed { socket, position, at_unix_ms: self.now });
        self.clients[who].away = None;
        let trimmed_to = self.journal.trimmed_to();
        if !self.recovery.is_whole(&socket, from, trimmed_to) {
            // Because of the record of the resume, the journal has dropped a missed event, or the
            // session was given up. The client is notified and connects again.
            assert!(self.is_scarce || self.clients[who].named > from, "closed without need");
            self.disconnect(who, true);
            return self.connect(who);
        }
        let (client, mut cursor, mut received) = (&mut self.clients[who], from, Vec::new());
        loop {
            let chunk = self.journal.read(cursor, 3, usize::MAX).unwrap();
            for Record { lsn, fingerprint, body: entry } in chunk.records {
                cursor = lsn;
                if let RecordBody::Event(event) = entry
                    && self
                        .recovery
                        .missed_events(&client.socket)
                        .is_some_and(|for_socket| for_socket.includes(lsn, &event))
                {
                    received.push(lsn);
                    client.tokens.push(Offset { epoch: EPOCH, lsn, fingerprint });
                }
            }
            if !chunk.more {
                break;
            }
        }
        let missed: Vec<_> = client.events.iter().map(|(lsn, _)| *lsn).filter(|lsn| *lsn > from).collect();
        assert_eq!(received, missed, "behind {from:?}");
        (client.start, client.receives) = (from, true);
    }
}

/// State of a session at its resume.
#[derive(Debug)]
struct Resumed {
    socket: SocketId,
    position: Lsn,
    data: Option<Box<str>>,
    rooms: BTreeSet<RoomName>,
}

impl From<Resumable<'_>> for Resumed {
    fn from(session: Resumable<'_>) -> Self {
        Self {
            socket: session.socket(),
            position: session.position,
            data: session.data().map(Box::from),
            rooms: session.rooms_now().cloned().collect(),
        }
    }
}
