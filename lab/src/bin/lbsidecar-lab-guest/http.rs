//! As much of HTTP/1.1 as a test service needs: heads and bodies, taken from a buffer that fills as the client sends.

/// Longest head that is accepted.
const LONGEST_HEAD: usize = 16 * 1024;

/// A request's head, as far as it matters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The method, upper case.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for a word before it sends the body.
    pub(crate) expects_continue: bool,
    /// How the body comes.
    pub(crate) body: Body,
}

/// The rest of a body. It is counted and not kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Body {
    /// There is no more of it.
    #[default]
    Done,
    /// This many bytes.
    Bytes(u64),
    /// This many bytes to the end of the chunk's data and its line end, then another chunk.
    Chunk(u64),
    /// A line with the size of the next chunk.
    ChunkSize,
    /// Lines up to an empty one.
    Trailer,
}

/// What is not HTTP, or more of it than we take. The connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Takes the next request's head off the buffer; nothing when it is not complete yet.
pub(crate) fn take_head(input: &mut Vec<u8>) -> Result<Option<Head>, Malformed> {
    // Empty lines before a request are to be ignored (RFC 9112, section 2.2).
    while input.starts_with(b"\r\n") {
        input.drain(..2);
    }
    let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return if input.len() > LONGEST_HEAD { Err(Malformed) } else { Ok(None) };
    };
    let text: Vec<u8> = input.drain(..end + 4).collect();
    let text = std::str::from_utf8(&text).map_err(|_| Malformed)?;
    let mut lines = text.trim_end().split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(Malformed);
    };
    let mut head = Head {
        method: method.to_owned(),
        target: target.to_owned(),
        keep_alive: version == "HTTP/1.1",
        ..Head::default()
    };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.body = match value.parse().map_err(|_| Malformed)? {
                0 => Body::Done,
                length => Body::Bytes(length),
            };
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            head.body = Body::ChunkSize;
        } else if name.eq_ignore_ascii_case("connection") {
            head.keep_alive = !value.eq_ignore_ascii_case("close")
                && (head.keep_alive || value.eq_ignore_ascii_case("keep-alive"));
        } else if name.eq_ignore_ascii_case("expect") {
            head.expects_continue = value.eq_ignore_ascii_case("100-continue");
        }
    }
    Ok(Some(head))
}

impl Body {
    /// Takes what is there of the body off the buffer, and answers how many bytes of data that were.
    pub(crate) fn take(&mut self, input: &mut Vec<u8>) -> Result<u64, Malformed> {
        let mut received = 0;
        loop {
            match self {
                Self::Done => return Ok(received),
                Self::Bytes(left) => {
                    let taken = drain(input, *left);
                    received += taken;
                    *left -= taken;
                    if *left > 0 {
                        return Ok(received);
                    }
                    *self = Self::Done;
                }
                Self::Chunk(left) => {
                    let data = left.saturating_sub(2);
                    let taken = drain(input, *left);
                    received += taken.min(data);
                    *left -= taken;
                    if *left > 0 {
                        return Ok(received);
                    }
                    *self = Self::ChunkSize;
                }
                Self::ChunkSize => {
                    let Some(line) = take_line(input)? else { return Ok(received) };
                    let size = line.split(';').next().unwrap_or_default().trim();
                    *self = match u64::from_str_radix(size, 16).map_err(|_| Malformed)? {
                        0 => Self::Trailer,
                        size => Self::Chunk(size.checked_add(2).ok_or(Malformed)?),
                    };
                }
                Self::Trailer => {
                    let Some(line) = take_line(input)? else { return Ok(received) };
                    if line.is_empty() {
                        *self = Self::Done;
                    }
                }
            }
        }
    }
}

/// Drops up to `wanted` bytes; answers how many.
fn drain(input: &mut Vec<u8>, wanted: u64) -> u64 {
    let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(input.len());
    input.drain(..count);
    count as u64
}

fn take_line(input: &mut Vec<u8>) -> Result<Option<String>, Malformed> {
    let Some(end) = input.windows(2).position(|bytes| bytes == b"\r\n") else {
        return if input.len() > LONGEST_HEAD { Err(Malformed) } else { Ok(None) };
    };
    let line: Vec<u8> = input.drain(..end + 2).take(end).collect();
    String::from_utf8(line).map(Some).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Option<Head> {
        take_head(&mut text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn heads_say_how_the_body_comes_and_whether_the_connection_stays() {
        let text = "\r\nPOST /echo HTTP/1.1\r\nHost: x\r\ncontent-length: 12\r\nExpect: 100-continue\r\n\r\n";
        let expected = Head {
            method: "POST".into(),
            target: "/echo".into(),
            keep_alive: true,
            expects_continue: true,
            body: Body::Bytes(12),
        };
        assert_eq!(head(text), Some(expected));
        assert!(!head("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap().keep_alive);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
        assert!(head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap().keep_alive);
        assert_eq!(head("GET / HTTP/1.1\r\nHost"), None);
        for bad in [
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            assert_eq!(take_head(&mut bad.as_bytes().to_vec()), Err(Malformed), "{bad}");
        }
        assert_eq!(take_head(&mut vec![b'x'; LONGEST_HEAD + 1]), Err(Malformed));
    }

    #[test]
    fn bodies_are_counted_however_they_are_cut_up() {
        let chunked = b"4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\nTrailer: 1\r\n\r\nGET";
        for (start, text) in [(Body::ChunkSize, &chunked[..]), (Body::Bytes(9), b"WikipediaGET")] {
            for step in 1..=text.len() {
                let (mut body, mut input, mut received) = (Body::ChunkSize, Vec::new(), 0);
                if let Body::Bytes(length) = start {
                    body = Body::Bytes(length);
                }
                for part in text.chunks(step) {
                    input.extend(part);
                    received += body.take(&mut input).unwrap();
                }
                assert_eq!((body, received, &input[..]), (Body::Done, 9, &b"GET"[..]), "in steps of {step}");
            }
        }
        assert_eq!(Body::ChunkSize.take(&mut b"x\r\n".to_vec()), Err(Malformed));
    }
}
