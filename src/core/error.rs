//! The codes of Aegis, and what is true of each: who is at fault and whether a retry can help.
//!
//! A number never changes its meaning. `ERRORS.md` lists every code with cause, effect and remedy.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Who has to act when a code shows up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request itself is wrong; sending it again changes nothing.
    Client,
    /// The primary produced a faulty answer, or none.
    Upstream,
    /// The sentinel could not judge.
    Judge,
    /// Aegis is at a limit of its own, or has a defect.
    Proxy,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Judge => "judge",
            Self::Proxy => "proxy",
        })
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $fault:ident, retry $retry:literal, $status:literal;)*) => {
        /// One code of the table in `ERRORS.md`. Displays as its wire form, e.g. `A201_token_loop`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable wire form: number, underscore, name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => concat!($id, "_", $name),)* }
            }

            /// The name without the number: the rule's id in `[rules.<id>]`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The side that has to act.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// Whether sending the same request again may succeed.
            #[must_use]
            pub const fn retry_helps(self) -> bool {
                match self { $(Self::$variant => $retry,)* }
            }

            /// The HTTP status when the answer has not started yet.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

codes! {
    /// The text cannot become a JSON value any more.
    BrokenJson = "A101", "broken_json", Upstream, retry true, 502;
    /// The answer ended inside a JSON value.
    TruncatedJson = "A103", "truncated_json", Upstream, retry true, 502;
    /// The arguments of a tool call are not JSON, or not what the tool takes.
    ToolArguments = "A104", "tool_arguments", Upstream, retry true, 502;
    /// A tool call names a tool that the request does not offer.
    UnknownTool = "A105", "unknown_tool", Upstream, retry true, 502;
    /// The model repeats itself without end.
    TokenLoop = "A201", "token_loop", Upstream, retry true, 502;
    /// No first token came, and the upstream does not look alive.
    FirstTokenStall = "A202", "first_token_stall", Upstream, retry true, 504;
    /// Tokens stopped, and the upstream does not look alive.
    Stall = "A203", "stall", Upstream, retry true, 504;
    /// The stream broke off before its end.
    UpstreamLost = "A204", "upstream_lost", Upstream, retry true, 502;
    /// A phrase that the config forbids.
    ForbiddenPhrase = "A403", "forbidden_phrase", Upstream, retry false, 502;
    /// More had to be held back than the ring can hold.
    HoldExhausted = "A503", "hold_exhausted", Proxy, retry false, 502;
    /// The answer was still faulty after as many corrections as are allowed.
    CorrectionsExhausted = "A504", "corrections_exhausted", Upstream, retry true, 502;
    /// The answer cannot be corrected: the request, the upstream or what is out already stands against it.
    NotInjectable = "A505", "not_injectable", Upstream, retry true, 502;
    /// A frame of the upstream could not be read, so its text could not be checked.
    UndecodableFrame = "A506", "undecodable_frame", Upstream, retry true, 502;
    /// A rule failed inside; the text it should have seen is unchecked.
    RuleFailed = "A507", "rule_failed", Proxy, retry false, 502;
    /// No connection to the upstream.
    UpstreamConnect = "A601", "upstream_connect", Upstream, retry true, 502;
    /// The upstream took longer than a limit allows.
    UpstreamTimeout = "A602", "upstream_timeout", Upstream, retry true, 504;
    /// One SSE event is larger than the limit.
    FrameTooLarge = "A603", "frame_too_large", Upstream, retry false, 502;
    /// The request cannot be read, so its answer could not be guarded.
    BadRequest = "A604", "bad_request", Client, retry false, 400;
    /// A key is missing or wrong.
    Unauthorized = "A605", "unauthorized", Client, retry false, 401;
    /// All places for streams or connections are taken.
    Overloaded = "A606", "overloaded", Proxy, retry true, 503;
    /// The upstream answered a guarded call with something that is neither SSE nor JSON.
    UnexpectedAnswer = "A607", "unexpected_answer", Upstream, retry false, 502;
    /// The request body is larger than the limit.
    BodyTooLarge = "A608", "body_too_large", Client, retry false, 413;
    /// Aegis is shutting down and the time to drain is over.
    ShuttingDown = "A609", "shutting_down", Proxy, retry true, 503;
    /// A protocol upgrade would leave the checks.
    UpgradeRefused = "A610", "upgrade_refused", Client, retry false, 426;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// The text is not the wire form of a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a code of Aegis")]
pub struct UnknownCode(pub String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|c| c.as_str() == s)
            .ok_or_else(|| UnknownCode(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ordered_and_parse_back() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].as_str() < pair[1].as_str(), "{} is out of order", pair[1]);
        }
        for &code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            assert!(code.as_str().ends_with(code.name()));
        }
        assert!("A999_nothing".parse::<Code>().is_err());
    }
}
