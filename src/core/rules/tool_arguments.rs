//! A104 and A105: a tool call whose arguments are not JSON, or not what the tool takes, or that names a tool which the
//! request does not offer.
//!
//! A call is atomic: half of one is worth nothing, so no text of a faulty call is sound.

use crate::error::Code;
use crate::event::FinishReason;
use crate::json::mend::{Fault, Mender, Patch, mended};
use crate::limits::{
    TOOL_ARGUMENTS_BYTES_MAX, TOOL_DETAIL_CHARS_MAX, TOOL_NAMES_SHOWN_MAX, TOOL_VALUE_CHARS_MAX,
};
use crate::request::tools::{Offer, Tools, capped};
use crate::rule::{LaneContext, LaneEnd, Mend, Raised, Rule};
use std::ops::Range;
use std::sync::Arc;

/// Settings of the rule, of its sibling [`TextCall`](super::text_call::TextCall), and of the healing of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Check arguments against the tool's `parameters`, not only to be a JSON object.
    pub schema: bool,
    /// Check calls that are written as text: `<tool_call>{…}</tool_call>`.
    pub text_form: bool,
    /// Mend broken `arguments` in the history of a request.
    pub heal_history: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            schema: true,
            text_form: false,
            heal_history: true,
        }
    }
}

/// The rule on the arguments of one call.
#[derive(Debug)]
pub struct ToolArguments {
    tools: Arc<Tools>,
    schema: bool,
    depth_max: usize,
    mender: Mender,
    /// The arguments as they were written; `None` beyond [`TOOL_ARGUMENTS_BYTES_MAX`].
    text: Option<String>,
    /// First byte that is no white space.
    first: Option<u8>,
    name: Option<String>,
    offer: Offer,
    /// The first of the slips that are mended together once the call is whole.
    slip: Option<Slip>,
    /// A fault was raised that no mend makes good: nothing new can be said of this call.
    over: bool,
}

/// What a certain mend makes good. There may be hundreds in one call (each line end of a file that is written into a
/// string), so they are one finding and one mend.
#[derive(Debug)]
struct Slip {
    /// Byte from which on the text differs once it is mended.
    from: u64,
    what: String,
    /// How many there are.
    count: u32,
}

impl ToolArguments {
    /// The rule for a lane of tool arguments. `depth_max` is the number of brackets that may be open at once.
    #[must_use]
    pub fn new(settings: &Settings, depth_max: usize, context: &LaneContext<'_>) -> Self {
        Self {
            tools: Arc::clone(&context.request.offered),
            schema: settings.schema,
            depth_max,
            mender: Mender::new(depth_max),
            text: Some(String::new()),
            first: None,
            name: None,
            offer: Offer::Unknown,
            slip: None,
            over: false,
        }
    }

    fn keep(&mut self, text: &str) {
        let room = self
            .text
            .take()
            .filter(|kept| kept.len() + text.len() <= TOOL_ARGUMENTS_BYTES_MAX);
        self.text = room.map(|mut kept| {
            kept.push_str(text);
            kept
        });
        self.first = self
            .first
            .or_else(|| text.bytes().find(|b| !b.is_ascii_whitespace()));
    }

    /// A fault that ends the call, or one that a mend makes good.
    fn raise(&mut self, offset: u64, span: Range<u64>, what: &str, patch: Option<Patch>) -> Raised {
        self.over |= patch.is_none();
        let whose = match &self.name {
            Some(name) => format!("the arguments of {:?}", capped(name, TOOL_VALUE_CHARS_MAX)),
            None => "the arguments".to_owned(),
        };
        Raised {
            sound_to: 0,
            mend: patch.map(|patch| Mend::Replace {
                span: patch.span,
                text: patch.text,
            }),
            ..Raised::new(
                Code::ToolArguments,
                offset,
                span,
                capped(&format!("{whose}: {what}"), TOOL_DETAIL_CHARS_MAX),
            )
        }
    }

    /// A fault at an impossible byte of `text`: raised at once, or remembered where a mend makes it good.
    fn impossible(&mut self, at: u64, text: &str, fault: &Fault) -> Option<Raised> {
        // Bytes above 0x7f are only possible inside strings, so a fault is always the first byte of its scalar.
        let scalar = text
            .get((fault.at - at) as usize..)
            .and_then(|rest| rest.chars().next())
            .unwrap_or('\u{fffd}');
        let until = fault.at + scalar.len_utf8() as u64;
        if let (Some(slip), Some(_)) = (&mut self.slip, &fault.patch) {
            slip.count = slip.count.saturating_add(1);
            return None;
        }
        let what = format!(
            "{}: found {scalar:?} at byte {}, {}",
            fault.reason, fault.at, fault.standing
        );
        let Some(patch) = &fault.patch else {
            return Some(self.raise(until, fault.at..until, &what, None));
        };
        let from = patch.span.start;
        self.slip = Some(Slip { from, what, count: 1 });
        None
    }

    /// The call is whole, as `mended`. Says what is wrong with it.
    fn judge(&self, mended: Option<&str>) -> Result<(), String> {
        if self.first != Some(b'{') {
            return Err("they are no object".to_owned());
        }
        match (&self.offer, mended) {
            (Offer::Tool(tool), Some(whole)) if self.schema => tool.check(whole),
            _ => Ok(()),
        }
    }

    /// The call ended at byte `at`, and its text is JSON with all mends made; the closers among them begin at `closed`.
    fn whole(&mut self, at: u64, reason: FinishReason, closed: Option<(u64, String)>) -> Option<Raised> {
        let text = self.text.take();
        let mended = text
            .as_deref()
            .and_then(|text| mended(text, self.depth_max, reason));
        if let Err(what) = self.judge(mended.as_deref()) {
            return Some(self.raise(at, 0..at, &what, None));
        }
        let (from, what) = match (self.slip.take(), closed) {
            (Some(slip), _) if slip.count > 1 => {
                (slip.from, format!("{}; {} slips in all", slip.what, slip.count))
            }
            (Some(slip), _) => (slip.from, slip.what),
            (None, Some(closed)) => closed,
            (None, None) => {
                self.text = text;
                return None;
            }
        };
        // What stands before the first mend is not changed by the others.
        let patch = mended.and_then(|whole| {
            Some(Patch {
                span: from..at,
                text: whole.get(from as usize..)?.to_owned(),
            })
        });
        Some(self.raise(at, from..at, &what, patch))
    }

    /// No arguments at all: a tool that takes none is called like this by some servers.
    fn empty(&mut self, at: u64, reason: FinishReason) -> Option<Raised> {
        let fits = match &self.offer {
            Offer::Tool(tool) if self.schema => tool.check("{}"),
            // Without a function there is nothing to look at: a call of another type has its own members.
            _ if self.name.is_none() => return None,
            _ => Ok(()),
        };
        // A call that was cut right behind its name may have been about to say anything.
        let patch = (fits.is_ok() && !reason.is_cut()).then(|| Patch {
            span: 0..at,
            text: "{}".to_owned(),
        });
        let what = match fits {
            Ok(()) => "there are none".to_owned(),
            Err(why) => format!("there are none, and {why}"),
        };
        Some(self.raise(at, 0..at, &what, patch))
    }
}

impl Rule for ToolArguments {
    fn named(&mut self, name: &str, raised: &mut Vec<Raised>) {
        if self.name.as_deref() == Some(name) {
            return;
        }
        self.offer = self.tools.find(name);
        self.name = Some(name.to_owned());
        if matches!(self.offer, Offer::Missing) {
            let detail = unknown_tool(&self.tools, name);
            raised.push(Raised::new(Code::UnknownTool, 0, 0..0, detail));
        }
    }

    fn feed(&mut self, at: u64, text: &str, raised: &mut Vec<Raised>) {
        if self.over {
            return;
        }
        self.keep(text);
        let mut next = 0;
        while let Err(fault) = self.mender.feed(at + next as u64, &text.as_bytes()[next..]) {
            next = (fault.at - at) as usize + 1;
            raised.extend(self.impossible(at, text, &fault));
            if self.over {
                return;
            }
        }
    }

    fn end(&mut self, at: u64, end: LaneEnd, raised: &mut Vec<Raised>) {
        let LaneEnd::Finished(reason) = end else { return };
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        if self.mender.automaton().is_empty() {
            raised.extend(self.empty(at, reason));
            return;
        }
        let what = format!("they end {}", self.mender.automaton().standing());
        // A call is carried out: of one that was cut, nobody knows which arguments were still to come.
        let closers = if reason.is_cut() {
            None
        } else {
            self.mender.end(at, reason)
        };
        if !self.mender.automaton().is_complete() {
            raised.push(self.raise(at, 0..at, &what, None));
            return;
        }
        let found = self.whole(at, reason, closers.map(|patch| (patch.span.start, what)));
        // Text that still comes after a good end is one fault more.
        self.over = found.is_some();
        raised.extend(found);
    }

    /// What is mended at the end, and a comma that may have to go away, wait for it.
    fn held_from(&self) -> Option<u64> {
        let slip = self.slip.as_ref().map(|slip| slip.from);
        slip.or_else(|| self.mender.held_from()).filter(|_| !self.over)
    }
}

/// What is wrong with a call of a tool that is not offered.
pub(super) fn unknown_tool(tools: &Tools, name: &str) -> String {
    let name = capped(name, TOOL_VALUE_CHARS_MAX);
    if tools.forbidden() {
        return format!("the answer calls {name:?}, but the request has tool_choice none");
    }
    let names = tools.names();
    let more = names.len().saturating_sub(TOOL_NAMES_SHOWN_MAX);
    let shown: Vec<String> = names
        .take(TOOL_NAMES_SHOWN_MAX)
        .map(|name| format!("{:?}", capped(name, TOOL_VALUE_CHARS_MAX)))
        .collect();
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(
        "the answer calls {name:?}, which is not offered; there are {}{rest}",
        shown.join(", ")
    )
}

#[cfg(test)]
mod tests;
