//! Figures, their goals, and the data file they are kept in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Name of the data file.
const FILE: &str = "results.json";

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
    /// Only reported.
    None,
}

/// One measured figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// Its id, such as `push.postgres`.
    pub id: String,
    /// What was measured.
    pub what: String,
    /// The measured value.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// What it should be.
    pub goal: Goal,
    /// What it rests on: absolute numbers, percentiles, who used the processors.
    pub details: String,
    /// Load average of the last minute at its end; the machine has two cores' worth of room.
    pub load_average: f64,
}

impl Figure {
    /// A figure without details.
    pub(super) fn new(id: impl Into<String>, what: impl Into<String>, value: f64, unit: &str, goal: Goal) -> Self {
        let (id, what, unit, details) = (id.into(), what.into(), unit.into(), String::new());
        Self { id, what, value, unit, goal, details, load_average: 0.0 }
    }

    /// With what it rests on.
    pub(super) fn with(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// Whether the goal is met; `None` without one.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtLeast(goal) => Some(self.value >= goal),
            Goal::AtMost(goal) => Some(self.value <= goal),
            Goal::None => None,
        }
    }

    fn shown_goal(&self) -> String {
        match self.goal {
            Goal::AtLeast(goal) => format!("≥ {}", number(goal)),
            Goal::AtMost(goal) => format!("≤ {}", number(goal)),
            Goal::None => "–".into(),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, value, unit, details, load_average, .. } = self;
        let met = self.is_met().map_or("", |met| if met { "  met" } else { "  MISSED" });
        let (value, goal) = (number(*value), self.shown_goal());
        write!(f, "{id:28} {value:>10} {unit:12} {goal:>10}{met}\n    {details} (load average {load_average:.1})")
    }
}

/// A point of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Clients, or bytes.
    pub x: f64,
    /// Acknowledged entries a second.
    pub y: f64,
}

/// Everything that was measured, by id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// Machine, versions, settings; by store.
    pub conditions: BTreeMap<String, serde_json::Value>,
    /// In the order in which they were first measured.
    pub figures: Vec<Figure>,
    /// Points by plot, then by store.
    pub plots: BTreeMap<String, BTreeMap<String, Vec<Point>>>,
}

impl Results {
    /// What a directory holds; empty if it holds nothing yet.
    ///
    /// # Errors
    /// When the data file is not one.
    pub fn read(directory: &Path) -> Result<Self> {
        match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{FILE} is not a data file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the data file.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join(FILE), serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    /// Adds a figure, or replaces the one of its id.
    pub(super) fn put(&mut self, figure: Figure) {
        match self.figures.iter_mut().find(|known| known.id == figure.id) {
            Some(known) => *known = figure,
            None => self.figures.push(figure),
        }
    }

    /// The figure of an id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.id == id)
    }

    /// A table in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = String::from("| | measured | goal | | |\n|---|---:|---:|---|---|\n");
        for figure in &self.figures {
            let Figure { what, unit, details, load_average, .. } = figure;
            let met = figure.is_met().map_or("", |met| if met { "met" } else { "**missed**" });
            let (value, goal) = (number(figure.value), figure.shown_goal());
            table +=
                &format!("| {what} | {value} {unit} | {goal} | {met} | {details}; load average {load_average:.1} |\n");
        }
        table
    }
}

/// With as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        let digits = format!("{value:.0}");
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
        let head = digits.len() % 3;
        let groups = digits.as_bytes()[head..].chunks(3).map(String::from_utf8_lossy);
        let first = (head > 0).then(|| digits[..head].into());
        sign.to_owned() + &first.into_iter().chain(groups).collect::<Vec<_>>().join(",")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_on_its_own_side() {
        let met = |value, goal| Figure::new("f", "f", value, "", goal).is_met();
        assert_eq!(met(2.0, Goal::AtLeast(1.5)), Some(true));
        assert_eq!(met(1.0, Goal::AtLeast(1.5)), Some(false));
        assert_eq!(met(1.0, Goal::AtMost(1.5)), Some(true));
        assert_eq!(met(2.0, Goal::AtMost(1.5)), Some(false));
        assert_eq!(met(2.0, Goal::None), None);
    }

    #[test]
    fn numbers_are_grouped_in_thousands() {
        assert_eq!([0.5, 99.123, 100.0, 1234.5, 1e6].map(number), ["0.50", "99.12", "100", "1,234", "1,000,000"]);
    }

    #[test]
    fn a_figure_measured_again_replaces_the_old_one() {
        let mut results = Results::default();
        results.put(Figure::new("a", "", 1.0, "", Goal::None));
        results.put(Figure::new("b", "", 1.0, "", Goal::None));
        results.put(Figure::new("a", "", 2.0, "", Goal::None));
        assert_eq!(results.figures.len(), 2);
        assert_eq!(results.get("a").map(|figure| figure.value), Some(2.0));
    }
}
