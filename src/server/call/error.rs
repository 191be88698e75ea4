//! Why a call is refused, in the words the client reads.

/// A refusal. Whatever the variant, the call has changed nothing, replicated
/// nothing and notified nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key holds a value of another type. Redis's own text.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// Too few arguments. Answered by the server, in its own words, which name
    /// the command.
    #[error("ERR wrong number of arguments")]
    WrongArity,
    /// A panic was caught, or the server broke a promise of its module API.
    /// The log says which.
    #[error("ERR internal error")]
    Internal,
    /// More memory is in use than `maxmemory` allows. Redis's own text.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// The client's user may not do that, or may no longer. The text is the
    /// server's own.
    #[error("NOPERM {0}")]
    NoPermission(String),
    /// The server would not take the call now. The text is the server's own.
    #[error("{0}")]
    Server(String),
    /// An argument is not what the command takes: the text names the argument
    /// and its allowed range.
    #[error("ERR {0}")]
    Refused(String),
}

/// A refusal with a text of its own; `ERR ` is put in front.
pub fn refuse(reason: impl Into<String>) -> Error {
    Error::Refused(reason.into())
}

/// Bytes of a client as they may stand in an error: printable ASCII, cut short,
/// so that no argument can break the protocol's line or flood the log.
pub fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 64;
    let shown: String = bytes
        .iter()
        .take(LONGEST)
        .map(|byte| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '?',
        })
        .collect();
    let rest = if bytes.len() > LONGEST { "..." } else { "" };
    format!("'{shown}{rest}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_argument_stays_on_one_line() {
        assert_eq!(quoted(b"FOO"), "'FOO'");
        assert_eq!(quoted(b"a\r\n\0\xff"), "'a????'");
        assert_eq!(quoted(&[b'x'; 65]), format!("'{}...'", "x".repeat(64)));
    }
}
