//! Long polling as a browser writes and reads it: requests on a persistent connection, and
//! responses with a length or in chunks. No I/O, no state. A status other than 200 is an error.

use crate::Failure;

/// A request of client `index`: the handshake without a `sid`, a poll, or a POST if there is a
/// `body`.
pub(crate) fn request(host: &str, index: usize, sid: &str, body: Option<&[u8]>) -> Vec<u8> {
    let session = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let method = if body.is_some() { "POST" } else { "GET" };
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    let length = match body {
        Some(body) => format!("Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n", body.len()),
        None => String::new(),
    };
    let mut bytes = format!(
        "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\n\
         Host: {host}\r\n\
         Connection: keep-alive\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
         Accept: */*\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\
         Accept-Language: de-AT,de;q=0.9,en-GB;q=0.8,en;q=0.7\r\n\
         Cookie: session={session:016x}{index:016x}; theme=dark; consent=analytics%3Afalse%2Cads%3Afalse\r\n\
         {length}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// Body of the first response in `bytes` and its length on the wire; None while it is incomplete.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Failure> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("expected 200, got:\n{}", String::from_utf8_lossy(bytes)).into());
    }
    let header = |wanted: &str| {
        let of = |line: &'_ str| Some(line.split_once(':')?.1.trim().to_owned());
        head.lines().find(|line| line.to_ascii_lowercase().starts_with(wanted)).and_then(of)
    };
    let start = end + 4;
    if let Some(length) = header("content-length:") {
        let length: usize = length.parse()?;
        return Ok(bytes.get(start..start + length).map(|body| (body.to_vec(), start + length)));
    }
    match header("transfer-encoding:").as_deref() {
        Some("chunked") => chunks(bytes, start),
        _ => Err(format!("expected a length or chunks, got:\n{head}").into()),
    }
}

fn chunks(bytes: &[u8], mut at: usize) -> Result<Option<(Vec<u8>, usize)>, Failure> {
    let mut body = Vec::new();
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..at + line])?, 16)?;
        let start = at + line + 2;
        at = start + size + 2;
        let Some(chunk) = bytes.get(start..at) else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some((body, at)));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|place| place == wanted)
}
