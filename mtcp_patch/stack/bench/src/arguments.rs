//! `--name value` words. The harness writes them, so an unknown name is an error of ours, not a user's.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// What was given, in order.
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// # Errors
    /// A word without `--`, or a name without a value.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        words
            .chunks(2)
            .map(|pair| match pair {
                [name, value] if name.starts_with("--") => {
                    Ok((name.trim_start_matches('-').to_owned(), value.clone()))
                }
                _ => Err(format!("not --name value: {pair:?}")),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Every value of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The last value of a name.
    pub fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).last()
    }

    /// The last value of a name as a number, or `default`.
    ///
    /// # Errors
    /// It is none.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} {text}: not a number")),
        }
    }

    /// The same in milliseconds.
    ///
    /// # Errors
    /// It is no number.
    pub fn millis(&self, name: &str, default: u64) -> Result<Duration, String> {
        self.number(name, default).map(Duration::from_millis)
    }

    /// `--address IP:PORT`, which must be given.
    ///
    /// # Errors
    /// It is not, or is no address.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let text = self.text("address").ok_or("--address IP:PORT is missing")?;
        text.parse().map_err(|_| format!("--address {text}: not IP:PORT"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Arguments, String> {
        Arguments::parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_a_name_counts_and_all_can_be_had() {
        let given = parsed("--size 1 --device a --device b --size 64").unwrap();
        assert_eq!(given.number("size", 0), Ok(64));
        assert_eq!(given.number("other", 7), Ok(7));
        assert_eq!(given.all("device").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_argument_is_refused() {
        assert!(parsed("--size").is_err());
        assert!(parsed("size 1").is_err());
        assert!(parsed("--size one").unwrap().number("size", 0).is_err());
        assert!(parsed("--address 127.0.0.1").unwrap().address().is_err());
        assert!(parsed("").unwrap().address().is_err());
    }
}
