//! The tour: each case once without and once with Aegis, side by side.

use super::cases::{CASES, Case, Direct, GUARDED_LIMIT, Guarded};
use super::client::{End, Received, post};
use super::records::{self, Record};
use super::table::{Cell, Palette, Style, WIDTH, row, rule, shorten, wrap};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Characters of an answer shown in a cell.
const SHOWN_CHARS: usize = 116;

const PATH: &str = "/v1/chat/completions";

/// What became of an answer through Aegis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It came as the primary sent it.
    Passed,
    /// It was mended.
    Mended,
    /// The primary was asked again.
    Corrected,
    /// It ended with an error.
    Cut,
}

impl Fate {
    fn of(guarded: &Received, records: &[Record]) -> Self {
        let any = |decision: &str| records.iter().any(|record| record.decision == decision);
        match guarded.error {
            Some(_) => Self::Cut,
            None if any("correct") => Self::Corrected,
            None if any("repair") => Self::Mended,
            None => Self::Passed,
        }
    }
}

/// One row of the tour as it came out.
#[derive(Debug)]
pub(crate) struct TourRow {
    /// The model asked for.
    pub(crate) model: &'static str,
    /// What became of the answer.
    pub(crate) fate: Fate,
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

/// Who takes part in a tour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage<'a> {
    /// The primary.
    pub(crate) primary: SocketAddr,
    /// Aegis in front of it.
    pub(crate) aegis: SocketAddr,
    /// Its incident log.
    pub(crate) incidents: &'a Path,
}

/// Sends each case straight to the primary and through Aegis at the same time, and writes a table to `out`, row by row.
/// Colours follow stdout.
///
/// # Errors
/// `out` cannot be written, or the incident log cannot be read. Faulty answers are rows, not errors.
pub(crate) async fn tour(stage: Stage<'_>, out: &mut dyn Write) -> io::Result<TourReport> {
    run(CASES, GUARDED_LIMIT, stage, out, Palette::of_stdout()).await
}

pub(super) async fn run(
    cases: &[Case],
    guarded_limit: Duration,
    stage: Stage<'_>,
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
            post(stage.primary, PATH, &request, case.direct_limit),
            post(stage.aegis, PATH, &request, guarded_limit),
        );
        let records = match &guarded.request_id {
            Some(id) => records::of_request(stage.incidents, id)?,
            None => Vec::new(),
        };
        let row = TourRow {
            model: case.model.name(),
            fate: Fate::of(&guarded, &records),
            mismatches: case.mismatches(&direct, &guarded, &records),
        };
        let cells = [
            named(case),
            direct_cell(case, &direct),
            guarded_cell(&guarded),
            done_cell(&row, &direct, &guarded, &records),
        ];
        out.write_all(show(&cells, &row, palette).as_bytes())?;
        rows.push(row);
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
        cell("what Aegis did"),
    ];
    row(&cells, palette) + &rule()
}

fn show(cells: &[Cell; 4], tour_row: &TourRow, palette: Palette) -> String {
    let mut text = row(cells, palette);
    for mismatch in &tour_row.mismatches {
        for line in wrap(&format!("! {mismatch}"), WIDTH) {
            text += &palette.paint(Style::Bad, &line);
            text.push('\n');
        }
    }
    text + "\n"
}

fn named(case: &Case) -> Cell {
    vec![
        (Style::Bold, case.model.name().to_owned()),
        (Style::Dim, case.about.to_owned()),
    ]
}

/// What Aegis did, by its own record: each code once, with what was done about it.
fn done_cell(row: &TourRow, direct: &Received, guarded: &Received, records: &[Record]) -> Cell {
    let mut cell = Vec::new();
    for about in records.chunk_by(|a, b| a.code == b.code) {
        let deeds: Vec<String> = about.iter().map(Record::deed).collect();
        let good = about.iter().all(|record| record.decision != "cut");
        cell.push((Style::Code, about[0].code.clone()));
        cell.push((
            if good { Style::Good } else { Style::Plain },
            deeds.join(", then "),
        ));
    }
    if row.fate == Fate::Passed && guarded.looks_complete() {
        cell.push((Style::Good, "no fault, passed on".to_owned()));
    } else if records.is_empty() {
        cell.push((Style::Bad, "no record".to_owned()));
    }
    cell.push((
        Style::Plain,
        format!(
            "{:.2} s, direct {:.2} s",
            guarded.took.as_secs_f64(),
            direct.took.as_secs_f64()
        ),
    ));
    cell.push(if row.mismatches.is_empty() {
        (Style::Good, "as expected".to_owned())
    } else {
        (Style::Bad, "NOT AS EXPECTED".to_owned())
    });
    cell
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
    let quiet = direct.looks_complete() && !matches!(case.guarded, Guarded::Same);
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
    let mut cell = vec![shown(guarded)];
    if !guarded.content.is_empty() && !guarded.reasoning.is_empty() {
        let thought = guarded.reasoning.chars().count();
        cell.push((Style::Dim, format!("after {thought} characters of reasoning")));
    }
    cell.push((Style::Dim, ending));
    cell
}

fn summary(report: &TourReport, palette: Palette) -> String {
    let wrong: Vec<&str> = report
        .rows
        .iter()
        .filter(|r| !r.mismatches.is_empty())
        .map(|r| r.model)
        .collect();
    let count = |fate: Fate| report.rows.iter().filter(|row| row.fate == fate).count();
    let all = report.rows.len();
    let (style, verdict) = if wrong.is_empty() {
        (
            Style::Good,
            format!(
                "All {all} as expected: {} byte for byte, {} mended, {} corrected, {} cut with their code",
                count(Fate::Passed),
                count(Fate::Mended),
                count(Fate::Corrected),
                count(Fate::Cut),
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
