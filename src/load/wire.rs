//! Reading one HTTP/1 answer off a byte stream, in bounded memory, and saying exactly how it broke when it broke.
//!
//! Framing follows RFC 9112 section 6.3: no body for 1xx, 204 and 304; else `Transfer-Encoding: chunked`; else
//! `Content-Length`; else up to the end of the connection. Nothing here knows of requests, time or counting.

use std::{io, ops::ControlFlow};

use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest head, chunk-size line or trailer that is read before the peer is taken for broken.
const LINE_LIMIT: usize = 64 * 1024;
/// How much of a body is kept for looking at.
const BODY_KEPT: usize = 4 * 1024;

/// One whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Whether the connection may carry another request.
    pub(super) reusable: bool,
    /// The value of the header that was asked for.
    pub(super) member: Option<String>,
    /// The request id that the server repeated, if it did.
    pub(super) request_id: Option<String>,
    /// The first [`BODY_KEPT`] bytes of the body.
    pub(super) body: Vec<u8>,
}

/// How an answer broke.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection ended after so many bytes of it.
    Eof(usize),
    /// Reading failed after so many bytes of it.
    Io(usize, io::Error),
    /// It is not HTTP/1.
    Malformed(String),
}

/// Reads one final answer; interim ones (1xx) are skipped. `buf` is scratch space that the caller may keep between answers;
/// what was in it is dropped. `member_header` is compared without regard to case.
pub(super) async fn read_answer<R: AsyncRead + Unpin>(
    from: &mut R,
    buf: &mut Vec<u8>,
    member_header: Option<&str>,
) -> Result<Answer, Broken> {
    buf.clear();
    let mut input = Input { from, buf, pos: 0, received: 0 };
    loop {
        let head = input.parse(|bytes| parse_head(bytes, member_header)).await?;
        let mut answer = head.answer;
        match head.body {
            _ if answer.status < 200 => continue,
            Body::None => {}
            Body::Length(length) => input.take(length, &mut answer.body).await?,
            Body::Chunked => input.take_chunks(&mut answer.body).await?,
            Body::UntilEof => {
                input.take_all(&mut answer.body).await?;
                answer.reusable = false;
            }
        }
        // Bytes beyond the answer belong to no request of ours: whatever they are, the next answer must not start with them.
        answer.reusable &= input.rest().is_empty();
        return Ok(answer);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Length(u64),
    Chunked,
    UntilEof,
}

struct Head {
    answer: Answer,
    body: Body,
}

/// `Continue` when more bytes are needed, else the head and its length.
fn parse_head(bytes: &[u8], member_header: Option<&str>) -> Result<ControlFlow<(usize, Head)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 96];
    let mut parsed = httparse::Response::new(&mut headers);
    let Status::Complete(used) = parsed.parse(bytes).map_err(|e| e.to_string())? else {
        return Ok(ControlFlow::Continue(()));
    };
    let status = parsed.code.unwrap_or_default();
    let mut answer = Answer {
        status,
        reusable: parsed.version == Some(1),
        member: None,
        request_id: None,
        body: Vec::new(),
    };
    let mut body = Body::UntilEof;
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let has = |token: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token));
        if is("connection") {
            answer.reusable = !has("close") && (answer.reusable || has("keep-alive"));
        } else if is("transfer-encoding") {
            if !has("chunked") {
                return Err(format!("transfer encoding {value:?} is not known"));
            }
            body = Body::Chunked;
        } else if is("content-length") && body != Body::Chunked {
            let length =
                value.trim().parse().map_err(|_| format!("content length {value:?} is not a number"))?;
            if matches!(body, Body::Length(other) if other != length) {
                return Err("two content lengths that differ".to_owned());
            }
            body = Body::Length(length);
        } else if is("x-request-id") {
            answer.request_id = Some(value.trim().to_owned());
        }
        if member_header.is_some_and(is) {
            answer.member = Some(value.trim().to_owned());
        }
    }
    if status < 200 || status == 204 || status == 304 {
        body = Body::None;
    }
    Ok(ControlFlow::Break((used, Head { answer, body })))
}

/// The bytes that have come, and where the next ones come from.
struct Input<'a, R> {
    from: &'a mut R,
    buf: &'a mut Vec<u8>,
    pos: usize,
    received: usize,
}

impl<R: AsyncRead + Unpin> Input<'_, R> {
    fn rest(&self) -> &[u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// Waits for at least one more byte; `false` at the end of the connection.
    async fn more(&mut self) -> Result<bool, Broken> {
        if self.pos == self.buf.len() {
            self.buf.clear();
            self.pos = 0;
        }
        self.buf.reserve(8 * 1024);
        let n = self.from.read_buf(self.buf).await.map_err(|e| Broken::Io(self.received, e))?;
        self.received += n;
        Ok(n > 0)
    }

    async fn must_have_more(&mut self) -> Result<(), Broken> {
        if self.more().await? { Ok(()) } else { Err(Broken::Eof(self.received)) }
    }

    /// Tries `parse` on the bytes at hand, with more and more of them, until it breaks with the number of bytes it took.
    async fn parse<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<ControlFlow<(usize, T)>, String>,
    ) -> Result<T, Broken> {
        loop {
            if !self.rest().is_empty() {
                if let ControlFlow::Break((used, value)) = parse(self.rest()).map_err(Broken::Malformed)? {
                    self.pos += used;
                    return Ok(value);
                }
                if self.rest().len() > LINE_LIMIT {
                    return Err(Broken::Malformed(format!(
                        "no end of the head or line within {LINE_LIMIT} bytes"
                    )));
                }
            }
            self.must_have_more().await?;
        }
    }

    /// Takes exactly `left` bytes of body.
    async fn take(&mut self, mut left: u64, body: &mut Vec<u8>) -> Result<(), Broken> {
        loop {
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.rest().len());
            keep(body, self.rest().get(..here).unwrap_or_default());
            self.pos += here;
            left -= here as u64;
            if left == 0 {
                return Ok(());
            }
            self.must_have_more().await?;
        }
    }

    async fn take_all(&mut self, body: &mut Vec<u8>) -> Result<(), Broken> {
        loop {
            keep(body, self.rest());
            self.pos = self.buf.len();
            if !self.more().await? {
                return Ok(());
            }
        }
    }

    async fn take_chunks(&mut self, body: &mut Vec<u8>) -> Result<(), Broken> {
        loop {
            let size = self.parse(parse_chunk_size).await?;
            if size == 0 {
                // The trailer: lines up to an empty one.
                while self.parse(parse_line).await? > 2 {}
                return Ok(());
            }
            self.take(size, body).await?;
            if self.parse(parse_line).await? > 2 {
                return Err(Broken::Malformed("a chunk is longer than its size".to_owned()));
            }
        }
    }
}

fn parse_chunk_size(bytes: &[u8]) -> Result<ControlFlow<(usize, u64)>, String> {
    match httparse::parse_chunk_size(bytes) {
        Ok(Status::Complete(found)) => Ok(ControlFlow::Break(found)),
        Ok(Status::Partial) => Ok(ControlFlow::Continue(())),
        Err(_) => Err("a chunk's size is not a number".to_owned()),
    }
}

/// The length of the line, its end included.
fn parse_line(bytes: &[u8]) -> Result<ControlFlow<(usize, usize)>, String> {
    Ok(match bytes.iter().position(|b| *b == b'\n') {
        Some(at) => ControlFlow::Break((at + 1, at + 1)),
        None => ControlFlow::Continue(()),
    })
}

fn keep(body: &mut Vec<u8>, bytes: &[u8]) {
    let room = BODY_KEPT.saturating_sub(body.len()).min(bytes.len());
    body.extend_from_slice(bytes.get(..room).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` in pieces of one byte and of any size; both must give the same.
    async fn read(bytes: &[u8]) -> Result<Answer, Broken> {
        let mut whole = bytes;
        let result = read_answer(&mut whole, &mut b"rubbish of before".to_vec(), Some("X-Served-By")).await;
        let (mut far, mut near) = tokio::io::duplex(1);
        let owned = bytes.to_vec();
        let writer = tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut far, &owned).await;
        });
        let slow = read_answer(&mut near, &mut Vec::new(), Some("X-Served-By")).await;
        drop(near);
        writer.await.unwrap();
        match (&result, &slow) {
            (Ok(a), Ok(b)) => assert_eq!((a.status, &a.body), (b.status, &b.body)),
            (Err(a), Err(b)) => assert_eq!(format!("{a:?}"), format!("{b:?}")),
            (a, b) => panic!("{a:?} at once, {b:?} byte by byte"),
        }
        result
    }

    #[tokio::test]
    async fn framings() {
        let a = read(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-SERVED-BY: vm-1 \r\nX-Request-Id: r-7\r\n\r\nhello",
        )
        .await
        .unwrap();
        assert_eq!((a.status, a.reusable, a.body.as_slice()), (200, true, b"hello".as_slice()));
        assert_eq!((a.member.as_deref(), a.request_id.as_deref()), (Some("vm-1"), Some("r-7")));

        let a = read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n")
            .await
            .unwrap();
        assert_eq!((a.reusable, a.body.as_slice()), (true, b"abcde".as_slice()));

        let a = read(b"HTTP/1.0 200 OK\r\n\r\nto the end").await.unwrap();
        assert_eq!((a.reusable, a.body.as_slice()), (false, b"to the end".as_slice()));

        let a =
            read(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert!(a.reusable);
        let a = read(b"HTTP/1.1 503 No\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert_eq!((a.status, a.reusable), (503, false));
        let a = read(b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n").await.unwrap();
        assert!(a.reusable && a.body.is_empty());
    }

    #[tokio::test]
    async fn excess_bytes_end_the_connection() {
        let mut bytes: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 500 Stray\r\n\r\n";
        let a = read_answer(&mut bytes, &mut Vec::new(), None).await.unwrap();
        assert!(!a.reusable);
    }

    #[tokio::test]
    async fn a_large_body_is_read_in_full_and_kept_in_part() {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec();
        bytes.extend(vec![b'x'; 100_000]);
        let mut input = bytes.as_slice();
        let mut buf = Vec::new();
        let a = read_answer(&mut input, &mut buf, None).await.unwrap();
        assert!(a.reusable && a.body.len() == BODY_KEPT && input.is_empty());
        assert!(buf.capacity() < 64 * 1024, "memory is bounded, not {}", buf.capacity());
    }

    #[tokio::test]
    async fn breakage_says_where() {
        assert!(matches!(read(b"").await, Err(Broken::Eof(0))));
        assert!(matches!(read(b"HTTP/1.1 200 OK\r\nContent-").await, Err(Broken::Eof(25))));
        assert!(matches!(
            read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe").await,
            Err(Broken::Eof(40))
        ));
        assert!(matches!(
            read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await,
            Err(Broken::Eof(_))
        ));
        for bad in [
            b"SSH-2.0-dropbear\r\n".as_slice(),
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert!(
                matches!(read(bad).await, Err(Broken::Malformed(_))),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }
}
