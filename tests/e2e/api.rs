//! The admin API over the coordinator's socket, for a test that asks faster than programs can be started.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bulkhead_tests::Coordinator;
use serde_json::Value;

/// One connection, kept open from one request to the next.
pub(crate) struct Api {
    stream: BufReader<UnixStream>,
}

impl Api {
    pub(crate) fn connect(coordinator: &Coordinator) -> Self {
        let stream = UnixStream::connect(coordinator.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// `GET path`: status and body.
    pub(crate) fn get(&mut self, path: &str) -> (u16, Value) {
        self.exchange("GET", path, "")
    }

    /// `POST path`: status and body.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        self.exchange("POST", path, &body.to_string())
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all((head + body).as_bytes()).unwrap();
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut length = 0;
        loop {
            let header = self.line().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}
