//! One client connection: bytes come in, requests go out, answers go back.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
};

use crate::{
    http::{self, Body, Head},
    routes::Answer,
};

/// A request that was received in full.
#[derive(Debug)]
pub(crate) struct Request {
    /// The method, upper case.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Bytes of the body; the body itself is not kept.
    pub(crate) body_length: u64,
}

/// A client. Its socket does not block.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// The request whose body is still coming, and how much of that was received.
    coming: Option<(Head, u64)>,
    /// Whether the request that is being answered may be followed by another one; nothing while none is.
    answering: Option<Answering>,
}

#[derive(Debug)]
struct Answering {
    keep_alive: bool,
    without_body: bool,
}

impl Connection {
    /// Takes a client on.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: Vec::new(), coming: None, answering: None })
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads what is there. An error, also the client's leaving, ends the connection.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend(buffer.iter().take(count));
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next request, once it is complete and the one before it was answered.
    pub(crate) fn next_request(&mut self) -> io::Result<Option<Request>> {
        let malformed = |http::Malformed| io::Error::from(ErrorKind::InvalidData);
        if self.answering.is_some() {
            return Ok(None);
        }
        if self.coming.is_none() {
            let Some(head) = http::take_head(&mut self.input).map_err(malformed)? else { return Ok(None) };
            if head.expects_continue {
                self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            self.coming = Some((head, 0));
        }
        if let Some((head, received)) = &mut self.coming {
            *received += head.body.take(&mut self.input).map_err(malformed)?;
        }
        // Idle connections hold no memory.
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        let Some((head, body_length)) = self.coming.take_if(|(head, _)| head.body == Body::Done) else {
            return Ok(None);
        };
        self.answering = Some(Answering { keep_alive: head.keep_alive, without_body: head.method == "HEAD" });
        Ok(Some(Request { method: head.method, target: head.target, body_length }))
    }

    /// Answers the request. An error ends the connection, also where the client asked for that, or does not take the answer.
    pub(crate) fn answer(&mut self, answer: &Answer, hostname: &str) -> io::Result<()> {
        let Some(Answering { keep_alive, without_body }) = self.answering.take() else { return Ok(()) };
        let mut out = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\nCache-Control: no-store\r\nX-Served-By: {hostname}\r\n\r\n",
            answer.status,
            answer.media_type,
            answer.body.len(),
            if keep_alive { "keep-alive" } else { "close" },
        );
        if !without_body {
            out.push_str(&answer.body);
        }
        // Answers are smaller than any socket's buffer: one that does not fit has a client that reads nothing.
        self.stream.write_all(out.as_bytes())?;
        if keep_alive { Ok(()) } else { Err(ErrorKind::ConnectionAborted.into()) }
    }
}
