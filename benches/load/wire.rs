//! Bytes of the websocket handshake and of websocket frames, as a client writes and reads them. No
//! I/O, no state.
//!
//! It reads the frames of a Socket.IO server without extensions: unfragmented text, ping and close
//! frames of up to 64 KiB. Other frames are errors.

use crate::Failure;

pub(crate) const FRAME_BYTES_MAX: usize = 65_535;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Key and accept value of RFC 6455 section 1.3, which let the generator check the handshake
/// without SHA-1.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// A close frame with its payload.
    Close(&'a [u8]),
}

/// The upgrade request of connection `index`, with the headers of a browser behind a login: the
/// server stores headers, so they are part of the cost of a connection. The cookies differ, so that
/// no server can share them.
pub(crate) fn upgrade_request(host: &str, index: usize) -> Vec<u8> {
    let session = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\
         Host: {host}\r\n\
         Connection: Upgrade\r\n\
         Pragma: no-cache\r\n\
         Cache-Control: no-cache\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
         Upgrade: websocket\r\n\
         Origin: http://{host}\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\
         Accept-Language: de-AT,de;q=0.9,en-GB;q=0.8,en;q=0.7\r\n\
         Cookie: session={session:016x}{index:016x}; _ga=GA1.1.{index:010}.1760000000; \
         csrftoken={session:016X}{session:016x}; theme=dark; consent=analytics%3Afalse%2Cads%3Afalse\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// Length of the response to the upgrade request, once it is complete.
pub(crate) fn upgrade_response(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let accepted = head.lines().any(|line| {
        line.split_once(':')
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT)
    });
    if !head.starts_with("HTTP/1.1 101 ") || !accepted {
        let answer = String::from_utf8_lossy(bytes);
        return Err(format!("expected 101 Switching Protocols with the right accept key, got:\n{answer}").into());
    }
    Ok(Some(end + 4))
}

/// The first frame in `bytes` and its length on the wire; None while it is incomplete.
pub(crate) fn next_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Failure> {
    let &[kind, length, ..] = bytes else {
        return Ok(None);
    };
    let (start, length) = match length {
        0..=125 => (2, usize::from(length)),
        126 => match bytes {
            [_, _, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            _ => return Ok(None),
        },
        127 => {
            return Err(format!("a frame exceeds the {FRAME_BYTES_MAX} bytes the generator reads").into());
        }
        _ => return Err("the server masked a frame, which RFC 6455 section 5.1 forbids".into()),
    };
    let Some(payload) = bytes.get(start..start + length) else {
        return Ok(None);
    };
    let frame = match kind {
        TEXT => Frame::Text(payload),
        PING => Frame::Ping(payload),
        PONG => Frame::Pong,
        CLOSE => Frame::Close(payload),
        other => {
            return Err(format!("expected an unfragmented text frame, got one that begins with {other:#04x}").into());
        }
    };
    Ok(Some((frame, start + length)))
}

/// An unsolicited close frame.
pub(crate) fn closed(payload: &[u8]) -> Failure {
    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
    format!("the server closed the websocket: code {code:?}, reason {reason:?}").into()
}

pub(crate) fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    push_frame(out, TEXT, text);
}

pub(crate) fn push_pong(out: &mut Vec<u8>, payload: &[u8]) {
    push_frame(out, PONG, payload);
}

/// Code 1000, a normal closure.
pub(crate) fn push_close(out: &mut Vec<u8>) {
    push_frame(out, CLOSE, &1000u16.to_be_bytes());
}

/// Masked, as required of clients, with the key 0: it leaves the payload unchanged, costs the
/// generator nothing, and the server unmasks it like any other.
fn push_frame(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    const MASKED: u8 = 0x80;
    debug_assert!(payload.len() <= FRAME_BYTES_MAX);
    out.push(kind);
    if payload.len() <= 125 {
        out.push(MASKED | payload.len() as u8);
    } else {
        out.push(MASKED | 126);
        out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}
