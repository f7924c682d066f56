//! The output of a run: one row per job, as Markdown for people and JSON for programs.

use crate::check::Faults;
use crate::measure::{Figures, Sample, Spread};
use std::fmt::Write as _;

/// The goal of a job.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At most this much of the floor.
    Ratio(f64),
    /// At most this many of the row's unit.
    AtMost(f64),
}

pub struct Row {
    pub job: String,
    pub unit: &'static str,
    pub goal: Option<Goal>,
    pub floor: Option<Spread>,
    pub subject: Option<Spread>,
    pub ratio: Option<Spread>,
    /// Share of the time the generator was busy, and the server, in the subject's rounds.
    pub busy: Option<(f64, f64)>,
    pub faults: Faults,
    /// Why there are no figures.
    pub error: Option<String>,
    /// Figures beside the main one, for the notes below the table.
    pub note: String,
}

impl Row {
    pub fn new(job: impl Into<String>, unit: &'static str, goal: Option<Goal>) -> Self {
        Self {
            job: job.into(),
            unit,
            goal,
            floor: None,
            subject: None,
            ratio: None,
            busy: None,
            faults: Faults::default(),
            error: None,
            note: String::new(),
        }
    }

    /// A row of processor time beside the floor's.
    pub fn of(job: impl Into<String>, goal: Option<Goal>, figures: &Figures) -> Self {
        let mut row = Self::new(job, "us", goal);
        let (floor, subject) = (&figures.floor, &figures.subject);
        row.floor = Some(Spread::of(floor.iter().map(|sample| sample.cpu_us)));
        row.subject = Some(Spread::of(subject.iter().map(|sample| sample.cpu_us)));
        row.ratio = Some(Spread::of(floor.iter().zip(subject).map(|(a, b)| b.cpu_us / a.cpu_us)));
        let middle = |of: fn(&Sample) -> f64| Spread::of(subject.iter().map(of)).median;
        row.busy = Some((middle(|sample| sample.busy), middle(|sample| sample.load)));
        row.note = format!(
            "wall per operation: floor {:.2} us, wsson {:.2} us",
            Spread::of(floor.iter().map(|sample| sample.wall_us)).median,
            middle(|sample| sample.wall_us)
        );
        row.faults = figures.faults;
        row
    }

    /// A row of one absolute figure.
    pub fn single(job: impl Into<String>, unit: &'static str, goal: Option<f64>, value: f64) -> Self {
        let mut row = Self::new(job, unit, goal.map(Goal::AtMost));
        row.subject = Some(Spread::of([value]));
        row
    }

    pub fn failed(job: impl Into<String>, error: &dyn std::fmt::Display) -> Self {
        let mut row = Self::new(job, "", None);
        row.error = Some(error.to_string());
        row
    }

    /// The figure the goal is about.
    fn judged(&self) -> Option<(Spread, f64)> {
        match self.goal? {
            Goal::Ratio(most) => Some((self.ratio?, most)),
            Goal::AtMost(most) => Some((self.subject?, most)),
        }
    }

    pub fn verdict(&self) -> &'static str {
        if self.error.is_some() {
            return "failed";
        }
        if self.faults.total() > 0 {
            return "wrong content";
        }
        match self.judged() {
            None => "",
            Some((figure, most)) if figure.median <= most => "reached",
            Some((figure, most)) if figure.min <= most => "not reached (goal within the range)",
            Some(_) => "**not reached**",
        }
    }

    /// The generator had no time left while the server had: the figure says more about the generator.
    fn generator_was_the_limit(&self) -> bool {
        self.busy.is_some_and(|(generator, server)| generator > 0.9 && server < generator)
    }

    fn markdown(&self) -> String {
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::Ratio(most)) => format!("≤ {most:.2} ×"),
            Some(Goal::AtMost(most)) => format!("≤ {} {}", number(most), self.unit),
        };
        let plain = |spread: Option<Spread>| {
            spread.map_or_else(|| "–".into(), |spread| format!("{} {}", number(spread.median), self.unit))
        };
        let ratio = self.ratio.map_or_else(
            || "–".into(),
            |ratio| format!("{:.3} [{:.3}..{:.3}]", ratio.median, ratio.min, ratio.max),
        );
        let busy = self.busy.map_or_else(|| "–".into(), |(busy, _)| format!("{:.0} %", busy * 100.0));
        format!(
            "| {} | {goal} | {} | {} | {ratio} | {busy} | {} |\n",
            self.job,
            plain(self.floor),
            plain(self.subject),
            self.verdict()
        )
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(error) = &self.error {
            notes.push(error.replace('\n', " / "));
        }
        if self.faults.total() > 0 {
            notes.push(format!("{:?}", self.faults));
        }
        if self.generator_was_the_limit() {
            notes.push("generator was the limit".into());
        }
        if !self.note.is_empty() {
            notes.push(self.note.clone());
        }
        notes
    }

    fn json(&self) -> String {
        let spread = |spread: Option<Spread>| match spread {
            Some(Spread { median, min, max }) if median.is_finite() => {
                format!("{{\"median\":{median},\"min\":{min},\"max\":{max}}}")
            }
            _ => "null".into(),
        };
        let (kind, most) = match self.goal {
            None => ("null", "null".into()),
            Some(Goal::Ratio(most)) => ("\"ratio\"", most.to_string()),
            Some(Goal::AtMost(most)) => ("\"at_most\"", most.to_string()),
        };
        let Faults { lost, duplicate, reordered, damaged } = self.faults;
        format!(
            "{{\"job\":{},\"unit\":\"{}\",\"goal\":{most},\"goal_kind\":{kind},\"floor\":{},\"wsson\":{},\
             \"ratio\":{},\"generator_busy\":{},\"server_load\":{},\"lost\":{lost},\"duplicate\":{duplicate},\
             \"reordered\":{reordered},\"damaged\":{damaged},\"verdict\":{},\"notes\":{}}}",
            quoted(&self.job),
            self.unit,
            spread(self.floor),
            spread(self.subject),
            spread(self.ratio),
            self.busy.map_or_else(|| "null".into(), |(busy, _)| format!("{busy:.3}")),
            self.busy.map_or_else(|| "null".into(), |(_, load)| format!("{load:.3}")),
            quoted(self.verdict()),
            quoted(&self.notes().join("; "))
        )
    }
}

/// Three significant places are what a noisy machine can give.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes every character"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// All rows of a run.
#[derive(Default)]
pub struct Report {
    pub title: String,
    pub rows: Vec<Row>,
}

impl Report {
    fn faults(&self) -> u64 {
        self.rows.iter().map(|row| row.faults.total()).sum()
    }

    /// Every job ran and every byte was right, whatever the figures are.
    pub fn is_sound(&self) -> bool {
        self.rows.iter().all(|row| row.error.is_none() && row.faults.total() == 0)
    }

    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n\n", self.title);
        out.push_str(
            "| job | goal | floor | wsson | ratio: median [min..max] | generator busy | verdict |\n",
        );
        out.push_str("|---|---|---|---|---|---|---|\n");
        self.rows.iter().for_each(|row| out.push_str(&row.markdown()));
        let reached = self.rows.iter().filter(|row| row.verdict() == "reached").count();
        let judged = self.rows.iter().filter(|row| !row.verdict().is_empty()).count();
        let faults = self.faults();
        write!(
            out,
            "\n{reached} of {judged} goals reached. Lost, duplicate, reordered or damaged frames: {faults}.\n"
        )
        .expect("a string takes every character");
        for row in &self.rows {
            for note in row.notes() {
                writeln!(out, "* {}: {note}", row.job).expect("a string takes every character");
            }
        }
        out
    }

    pub fn json(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(Row::json).collect();
        format!("{{\"title\":{},\"rows\":[\n{}\n]}}\n", quoted(&self.title), rows.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_median() {
        let mut row = Row::new("x", "us", Some(Goal::Ratio(1.03)));
        row.ratio = Some(Spread { median: 1.02, min: 1.0, max: 1.1 });
        assert_eq!(row.verdict(), "reached");
        row.ratio = Some(Spread { median: 1.05, min: 1.0, max: 1.1 });
        assert_eq!(row.verdict(), "not reached (goal within the range)");
        row.ratio = Some(Spread { median: 1.05, min: 1.04, max: 1.1 });
        assert_eq!(row.verdict(), "**not reached**");
        row.faults.lost = 1;
        assert_eq!(row.verdict(), "wrong content");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(quoted("a\"b\\\n"), "\"a\\\"b\\\\\\u000a\"");
    }
}
