//! A blocking HTTP/1.1 connection, kept alive between requests. Supports `Content-Length` and
//! chunks only.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::DEADLINE;

#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// The bytes as received.
    pub(crate) raw: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: String,
}

impl Response {
    /// Status and body, which most tests compare.
    pub(crate) fn status_and_body(&self) -> (u16, &str) {
        (self.head.status, &self.body)
    }
}

#[derive(Debug)]
pub(crate) struct Http {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::from_stream(TcpStream::connect_timeout(&address, DEADLINE).expect("the hub listens"))
    }

    pub(crate) fn from_stream(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { address: stream.peer_addr().expect("connected"), stream, buffer: Vec::new() }
    }

    pub(crate) fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.write_head(method, target, headers, Some(body.len()));
        self.write(body);
        self.response()
    }

    /// Reconnects if the server has closed the connection since the last response; idle connections
    /// are closed after seconds.
    pub(crate) fn reconnect_if_closed(&mut self) {
        if self.has_response() {
            *self = Self::connect(self.address);
        }
    }

    /// True if the server has responded or closed the connection by now.
    pub(crate) fn has_response(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[], b"")
    }

    pub(crate) fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Response {
        self.request("POST", target, &[("Content-Type", "text/plain;charset=UTF-8")], body.as_ref())
    }

    /// Sends the headers of a request. Without a length the caller names the transfer encoding, or
    /// there is no body.
    pub(crate) fn write_head(&mut self, method: &str, target: &str, headers: &[(&str, &str)], length: Option<usize>) {
        // The headers of the stock client in Node, which is recoverable by default.
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
            head += "User-Agent: node-XMLHttpRequest\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(length) = length.filter(|length| *length > 0 || method == "POST") {
            head += &format!("Content-Length: {length}\r\n");
        }
        self.write(format!("{head}\r\n").as_bytes());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the hub reads");
    }

    /// Writes to a connection that the server may have closed.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A second handle of the same connection, for writing from another thread.
    pub(crate) fn writer(&self) -> Self {
        Self { address: self.address, stream: self.stream.try_clone().unwrap(), buffer: Vec::new() }
    }

    /// Sends a GET that waits; returns when the server has it, so requests on other connections
    /// come later.
    #[track_caller]
    pub(crate) fn start_poll(&mut self, target: &str) {
        self.write_head("GET", target, &[], None);
        self.wait_until_polling();
    }

    /// Waits until the server has a waiting GET that was written.
    #[track_caller]
    pub(crate) fn wait_until_polling(&mut self) {
        // Several for each worker: one that is served may still precede the poll on a busy machine.
        for _ in 0..8 {
            Self::connect(self.address).get("/");
        }
        assert!(!self.has_response(), "the poll was answered immediately");
    }

    pub(crate) fn response(&mut self) -> Response {
        let head = self.head();
        let body = self.body(&head);
        Response { head, body }
    }

    pub(crate) fn head(&mut self) -> Head {
        let text = self.until(b"\r\n\r\n");
        let text = String::from_utf8(text).expect("headers are text");
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers = text.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Head { status: status.unwrap_or_else(|| panic!("no status line: {text:?}")), headers, raw: text }
    }

    /// Reads the body that belongs to these headers.
    pub(crate) fn body(&mut self, head: &Head) -> String {
        let body = match (head.header("transfer-encoding"), head.header("content-length")) {
            (Some("chunked"), _) => self.chunks(),
            (_, Some(length)) => self.exactly(length.parse().expect("a length is a number")),
            _ => Vec::new(),
        };
        String::from_utf8(body).expect("bodies are text")
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = String::from_utf8(self.until(b"\r\n")).expect("a chunk's size is text");
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size is a number");
            body.extend(self.exactly(size));
            assert_eq!(self.exactly(2), b"\r\n");
            if size == 0 {
                return body;
            }
        }
    }

    fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return self.buffer.drain(..at + mark.len()).collect();
            }
            self.fill();
        }
    }

    fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            self.fill();
        }
        self.buffer.drain(..count).collect()
    }

    fn fill(&mut self) {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => panic!("the connection ended after {:?}", String::from_utf8_lossy(&self.buffer)),
            Ok(count) => self.buffer.extend(&chunk[..count]),
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Reads until the server has closed the connection.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        match self.stream.read_to_end(&mut self.buffer) {
            Ok(_) => self.buffer,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.buffer,
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    pub(crate) fn send_fin(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer)
    }
}
