//! A client of the HTTP API, with a connection for each request: HTTP/1.1 without TLS.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use super::super::secret::Secret;
use super::{QueueToolError, Result};

/// Time limit of connecting, and of each read and write.
const TIMEOUT: Duration = Duration::from_secs(60);

const RESPONSE_BYTES_MAX: u64 = 64 << 20;

/// A server with an HTTP API.
pub(super) struct Client {
    /// Host and port, as in the URL.
    authority: String,
    /// Path before `/api/v1`, without a slash at its end.
    base: String,
    key: String,
}

impl Client {
    pub(super) fn new(url: &str, key: Option<&Secret>) -> Result<Self> {
        let wrong =
            |reason: &str| QueueToolError::Wrong(format!("--url {url:?}: {reason}, such as http://127.0.0.1:3000"));
        let Some(rest) = url.strip_prefix("http://") else {
            let is_https = url.starts_with("https://");
            let reason = "https is not supported; expected the address of the server itself, on its machine or network";
            return Err(wrong(if is_https { reason } else { "expected an address that begins with http://" }));
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_foreign = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#');
        if authority.is_empty() || rest.contains(is_foreign) {
            return Err(wrong("expected a host, a port and maybe a path"));
        }
        let key = key.map(|key| String::from_utf8_lossy(key.as_ref()).into_owned()).ok_or(QueueToolError::NoApiKey)?;
        Ok(Self { authority: authority.into(), base: path.trim_end_matches('/').into(), key })
    }

    /// Sends a request to a path below `/api/v1/`, and returns the body of a successful response.
    pub(super) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let failed = |error: io::Error| QueueToolError::Unreachable { address: self.authority.clone(), error };
        let (status, text) = self.exchange(method, path, body).map_err(failed)?;
        let unexpected = || QueueToolError::Unexpected { address: self.authority.clone(), status };
        let reply: Value = serde_json::from_slice(&text).map_err(|_| unexpected())?;
        match (status, reply["error"]["message"].as_str()) {
            (200, _) => Ok(reply),
            (_, Some(message)) => Err(QueueToolError::Refused { status, message: message.to_owned() }),
            _ => Err(unexpected()),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, Vec<u8>)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {}/api/v1/{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.base,
            self.authority,
            self.key,
            body.len()
        );
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(request.as_bytes())?;
        let mut response = Vec::new();
        stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response)?;
        read_response(&response)
            .ok_or_else(|| io::Error::other("response is incomplete, or not that of an HTTP server"))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let has_port = self.authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
        let address = if has_port { self.authority.clone() } else { format!("{}:80", self.authority) };
        let mut last = io::Error::other("address has no IP address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Status and body of a whole response.
fn read_response(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |name: &str| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim());
    let body = match (header("transfer-encoding"), header("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => read_chunks(body)?,
        (None, Some(length)) => body.get(..length.parse().ok()?)?.to_vec(),
        _ => body.to_vec(),
    };
    Some((status, body))
}

fn read_chunks(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size.checked_add(2)?..)?;
    }
}

/// A name as part of a path.
pub(super) fn encode(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_whole_or_not_at_all() {
        let read = |text: &str| {
            read_response(text.as_bytes()).map(|(status, body)| (status, String::from_utf8(body).unwrap()))
        };
        assert_eq!(read("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), Some((200, "{}".into())));
        assert_eq!(
            read(
                "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
            ),
            Some((404, "abc0123456789".into()))
        );
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\nabc"), Some((200, "abc".into())));
        for broken in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n",
        ] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
        assert_eq!(encode("a/b ü%.."), "a%2Fb%20%C3%BC%25%2E%2E");
    }
}
