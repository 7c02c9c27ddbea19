//! One client connection: HTTP/1.1 with keep-alive, as much of it as a test service needs.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use crate::routes::{Guest, answer};

/// A request that was read in full.
#[derive(Debug)]
pub(crate) struct Request {
    /// The method, upper case.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Bytes of the body; the body itself is not kept.
    pub(crate) body_length: u64,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code and reason.
    pub(crate) status: &'static str,
    /// Media type.
    pub(crate) media_type: &'static str,
    /// The body.
    pub(crate) body: String,
}

/// What the head of a request says about the rest of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    method: String,
    target: String,
    content_length: u64,
    chunked: bool,
    keep_alive: bool,
    expects_continue: bool,
}

/// Serves one connection until either side ends it.
pub(crate) fn serve(stream: TcpStream, guest: &Guest) {
    // An error here is the client's leaving: nobody is there to be told.
    let _ = serve_requests(stream, guest);
}

fn serve_requests(mut stream: TcpStream, guest: &Guest) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(8 * 1024, stream.try_clone()?);
    while let Some(head) = read_head(&mut reader)? {
        if head.expects_continue {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body_length = if head.chunked {
            skip_chunks(&mut reader)?
        } else {
            io::copy(&mut (&mut reader).take(head.content_length), &mut io::sink())?
        };
        if !head.chunked && body_length != head.content_length {
            return Ok(());
        }
        let request = Request { method: head.method, target: head.target, body_length };
        let answer = answer(guest, &request);
        let connection = if head.keep_alive { "keep-alive" } else { "close" };
        let mut out = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\nCache-Control: no-store\r\nX-Served-By: {}\r\n\r\n",
            answer.status,
            answer.media_type,
            answer.body.len(),
            guest.hostname,
        );
        if request.method != "HEAD" {
            out.push_str(&answer.body);
        }
        stream.write_all(out.as_bytes())?;
        if !head.keep_alive {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the head of the next request; `None` when the client has left between requests.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    // Empty lines before a request are to be ignored (RFC 9112, section 2.2).
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if !line.trim_end().is_empty() {
            break;
        }
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut head = Head {
        method: method.to_owned(),
        target: target.to_owned(),
        keep_alive: version == "HTTP/1.1",
        ..Head::default()
    };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let field = line.trim_end();
        if field.is_empty() {
            return Ok(Some(head));
        }
        let Some((name, value)) = field.split_once(':') else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.content_length = value.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            if value.eq_ignore_ascii_case("close") {
                head.keep_alive = false;
            } else if value.eq_ignore_ascii_case("keep-alive") {
                head.keep_alive = true;
            }
        } else if name.eq_ignore_ascii_case("expect") {
            head.expects_continue = value.eq_ignore_ascii_case("100-continue");
        }
    }
}

/// Reads a chunked body to its end and says how long it was.
fn skip_chunks(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut total = 0;
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            // Trailers, up to an empty line.
            loop {
                line.clear();
                if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
                    return Ok(total);
                }
            }
        }
        if io::copy(&mut reader.take(size), &mut io::sink())? != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        total += size;
        line.clear();
        reader.read_line(&mut line)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_how_the_body_comes_and_whether_the_connection_stays() {
        let text = "\r\nPOST /echo HTTP/1.1\r\nHost: x\r\ncontent-length: 12\r\nExpect: 100-continue\r\n\r\n";
        let head = read_head(&mut text.as_bytes()).unwrap().unwrap();
        assert_eq!(
            head,
            Head {
                method: "POST".into(),
                target: "/echo".into(),
                content_length: 12,
                chunked: false,
                keep_alive: true,
                expects_continue: true
            }
        );
        let head = read_head(&mut "GET / HTTP/1.1\r\nConnection: close\r\n\r\n".as_bytes()).unwrap().unwrap();
        assert!(!head.keep_alive);
        assert!(!read_head(&mut "GET / HTTP/1.0\r\n\r\n".as_bytes()).unwrap().unwrap().keep_alive);
        assert_eq!(read_head(&mut "".as_bytes()).unwrap(), None);
        assert!(read_head(&mut "GET / HTTP/1.1\r\nHost".as_bytes()).is_err());
    }

    #[test]
    fn chunked_bodies_are_read_to_their_end() {
        let mut text = "4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\nTrailer: 1\r\n\r\nGET".as_bytes();
        assert_eq!(skip_chunks(&mut text).unwrap(), 9);
        assert_eq!(text, b"GET");
        assert!(skip_chunks(&mut "4\r\nWi".as_bytes()).is_err());
    }
}
