//! The tour: each case once without and once with Aegis, side by side.

use super::cases::{CASES, Case, Direct, GUARDED_LIMIT, Guarded};
use super::client::{End, Received, post};
use super::table::{Cell, Palette, Style, WIDTH, row, rule, shorten, wrap};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Characters of an answer shown in a cell.
const SHOWN_CHARS: usize = 116;

const PATH: &str = "/v1/chat/completions";

/// One row of the tour as it came out.
#[derive(Debug)]
pub(crate) struct TourRow {
    /// The model asked for.
    pub(crate) model: &'static str,
    /// The code that the client behind Aegis got.
    pub(crate) code: Option<String>,
    /// What is not as expected, one sentence each; empty when all is.
    pub(crate) mismatches: Vec<String>,
}

/// The whole tour as it came out.
#[derive(Debug)]
pub(crate) struct TourReport {
    /// One for each case, in the order shown.
    pub(crate) rows: Vec<TourRow>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl TourReport {
    /// Whether every row is as expected.
    pub(crate) fn ok(&self) -> bool {
        self.rows.iter().all(|row| row.mismatches.is_empty())
    }
}

/// Sends each case straight to `primary` and through `aegis` at the same time, and writes a table to `out`, row by row.
/// Colours follow stdout.
///
/// # Errors
/// `out` cannot be written. Faulty answers are rows, not errors.
pub(crate) async fn tour(
    primary: SocketAddr,
    aegis: SocketAddr,
    out: &mut dyn Write,
) -> io::Result<TourReport> {
    run(CASES, GUARDED_LIMIT, primary, aegis, out, Palette::of_stdout()).await
}

pub(super) async fn run(
    cases: &[Case],
    guarded_limit: Duration,
    primary: SocketAddr,
    aegis: SocketAddr,
    out: &mut dyn Write,
    palette: Palette,
) -> io::Result<TourReport> {
    let started = Instant::now();
    let mut rows = Vec::with_capacity(cases.len());
    out.write_all(head(palette).as_bytes())?;
    for case in cases {
        out.flush()?;
        let request = case.request();
        let (direct, guarded) = tokio::join!(
            post(primary, PATH, &request, case.direct_limit),
            post(aegis, PATH, &request, guarded_limit),
        );
        let mismatches = case.mismatches(&direct, &guarded);
        out.write_all(show(case, &direct, &guarded, &mismatches, palette).as_bytes())?;
        let code = guarded.error.map(|e| e.code);
        rows.push(TourRow {
            model: case.model.name(),
            code,
            mismatches,
        });
    }
    let report = TourReport {
        rows,
        took: started.elapsed(),
    };
    out.write_all(summary(&report, palette).as_bytes())?;
    out.flush()?;
    Ok(report)
}

fn head(palette: Palette) -> String {
    let cell = |text: &str| vec![(Style::Bold, text.to_owned())];
    let cells = [
        cell("model and fault"),
        cell("the primary sent"),
        cell("your client got"),
        cell("code and time"),
    ];
    row(&cells, palette) + &rule()
}

fn show(
    case: &Case,
    direct: &Received,
    guarded: &Received,
    mismatches: &[String],
    palette: Palette,
) -> String {
    let what = vec![
        (Style::Bold, case.model.name().to_owned()),
        (Style::Dim, case.about.to_owned()),
    ];
    let code = match &guarded.error {
        Some(error) => (Style::Code, error.code.clone()),
        None if case.guarded == Guarded::Same && guarded.looks_complete() => {
            (Style::Good, "no fault, passed on".to_owned())
        }
        None => (Style::Bad, "no code".to_owned()),
    };
    let time = format!(
        "{:.2} s, direct {:.2} s",
        guarded.took.as_secs_f64(),
        direct.took.as_secs_f64()
    );
    let verdict = if mismatches.is_empty() {
        (Style::Good, "as expected")
    } else {
        (Style::Bad, "NOT AS EXPECTED")
    };
    let result = vec![code, (Style::Plain, time), (verdict.0, verdict.1.to_owned())];
    let mut text = row(
        &[what, direct_cell(case, direct), guarded_cell(guarded), result],
        palette,
    );
    for mismatch in mismatches {
        for line in wrap(&format!("! {mismatch}"), WIDTH) {
            text += &palette.paint(Style::Bad, &line);
            text.push('\n');
        }
    }
    text + "\n"
}

fn shown(received: &Received) -> (Style, String) {
    let reasoning =
        received.content.is_empty() && received.calls.is_empty() && !received.reasoning.is_empty();
    let mark = if reasoning { "(reasoning) " } else { "" };
    (
        Style::Plain,
        format!("{mark}{}", shorten(&received.text(), SHOWN_CHARS)),
    )
}

fn direct_cell(case: &Case, direct: &Received) -> Cell {
    let characters = direct.text().chars().count();
    let ending = match (&direct.end, case.direct) {
        (End::Left, Direct::Endless) => format!("still going after {characters} characters; left"),
        (End::Left, _) => format!("then silence; left after {:.1} s", direct.took.as_secs_f64()),
        (End::Broken(_), _) => "then the connection dropped, no finish".to_owned(),
        (End::Whole, _) => format!("{characters} characters, {}", direct.ending()),
    };
    // A fault that looks like a success is the worst kind, so it is said.
    let quiet = direct.looks_complete() && case.guarded != Guarded::Same;
    let mut cell = vec![shown(direct), (Style::Dim, ending)];
    if quiet {
        cell.push((Style::Bad, "looks like a success".to_owned()));
    }
    cell
}

fn guarded_cell(guarded: &Received) -> Cell {
    let characters = guarded.text().chars().count();
    let ending = match (&guarded.end, &guarded.error) {
        (End::Whole, Some(_)) if guarded.done => format!("{characters} characters, then error and [DONE]"),
        (End::Whole, Some(_)) => format!("{characters} characters, then error, HTTP {}", guarded.status),
        _ => format!("{characters} characters, {}", guarded.ending()),
    };
    vec![shown(guarded), (Style::Dim, ending)]
}

fn summary(report: &TourReport, palette: Palette) -> String {
    let wrong: Vec<&str> = report
        .rows
        .iter()
        .filter(|r| !r.mismatches.is_empty())
        .map(|r| r.model)
        .collect();
    let cut = report.rows.iter().filter(|row| row.code.is_some()).count();
    let all = report.rows.len();
    let (style, verdict) = if wrong.is_empty() {
        (
            Style::Good,
            format!(
                "All {all} as expected: {} passed on as they are, {cut} cut with their code",
                all - cut
            ),
        )
    } else {
        (
            Style::Bad,
            format!("{} of {all} not as expected: {}", wrong.len(), wrong.join(", ")),
        )
    };
    let lines = wrap(&format!("{verdict} ({:.1} s).", report.took.as_secs_f64()), WIDTH);
    lines
        .iter()
        .map(|line| palette.paint(style, line) + "\n")
        .collect()
}
