//! What goes to a server and what must come back.

use crate::arguments::Arguments;

/// One request and how its reply is told from a wrong one.
pub struct Exchange {
    /// What is sent.
    pub request: Vec<u8>,
    reply: Reply,
}

enum Reply {
    /// The request itself.
    Echo,
    /// The same answer each time: a 200 of HTTP/1.x, of a length learned from the first.
    Http { length: Option<usize> },
}

const HTTP_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

impl Exchange {
    /// `--http 1`, or an echo of `--size` bytes (64).
    ///
    /// # Errors
    /// A size of nothing, or of more than a MiB.
    pub fn of(given: &Arguments) -> Result<Self, String> {
        if given.number("http", 0)? == 1 {
            let reply = Reply::Http { length: None };
            return Ok(Self { request: HTTP_REQUEST.to_vec(), reply });
        }
        let size: usize = given.number("size", 64)?;
        if size == 0 || size > 1 << 20 {
            return Err(format!("--size {size}: 1 byte to 1 MiB"));
        }
        let request = (b'a'..=b'z').cycle().take(size).collect();
        Ok(Self { request, reply: Reply::Echo })
    }

    /// Whether a reply of which `had` bytes came before is complete with `part`.
    ///
    /// # Errors
    /// It is not the reply that was asked for.
    pub fn is_complete(&mut self, had: usize, part: &[u8]) -> Result<bool, String> {
        let length = match &mut self.reply {
            Reply::Echo => {
                if self.request.get(had..had + part.len()) != Some(part) {
                    return Err("not an echo of what was sent".to_owned());
                }
                self.request.len()
            }
            Reply::Http { length } => {
                if had == 0 && !(part.starts_with(b"HTTP/1.") && part.get(8..13) == Some(b" 200 "))
                {
                    let shown = String::from_utf8_lossy(part.get(..60).unwrap_or(part));
                    return Err(format!("not a 200: {shown:?}"));
                }
                match length {
                    Some(length) => *length,
                    None => return Ok(false),
                }
            }
        };
        match had + part.len() {
            now if now > length => Err("more came than was asked for".to_owned()),
            now => Ok(now == length),
        }
    }

    /// Learns the length of the replies from the bytes of the first, as far as they came; whether it
    /// is complete. An echo's is known.
    ///
    /// # Errors
    /// No Content-Length.
    pub fn learn(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let Reply::Http { length } = &mut self.reply else {
            return Ok(bytes.len() == self.request.len());
        };
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(false) };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_lowercase();
        let body: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .ok_or("a reply without Content-Length")?;
        *length = Some(end + 4 + body);
        Ok(bytes.len() == end + 4 + body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(words: &str) -> Exchange {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Exchange::of(&Arguments::parse(&words).unwrap()).unwrap()
    }

    #[test]
    fn an_echo_is_compared_byte_by_byte() {
        let mut echo = exchange("--size 4");
        assert_eq!(echo.is_complete(0, b"ab"), Ok(false));
        assert_eq!(echo.is_complete(2, b"cd"), Ok(true));
        assert!(echo.is_complete(2, b"ce").is_err());
        assert!(echo.is_complete(2, b"cde").is_err());
    }

    #[test]
    fn the_length_of_http_replies_is_learned_from_the_first() {
        let mut http = exchange("--http 1");
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(http.learn(&reply[..20]), Ok(false));
        assert_eq!(http.learn(reply), Ok(true));
        assert_eq!(http.is_complete(0, &reply[..30]), Ok(false));
        assert_eq!(http.is_complete(30, &reply[30..]), Ok(true));
        assert!(http.is_complete(0, b"HTTP/1.1 500 No\r\n").is_err());
        assert!(http.is_complete(reply.len(), b"x").is_err());
        assert!(exchange("--http 1").learn(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
