//! Figures as they come, a JSON line each, and one table at the end.
//!
//! Every ratio is of two values of the same round: a noisy minute on a shared machine then touches both.

use crate::system::Kind;
use crate::wire::Veth;

/// A figure: what, in which unit.
pub(crate) type Figure = (&'static str, &'static str);

struct Row {
    figure: Figure,
    /// In the order in which the systems were measured.
    columns: Vec<(Kind, Vec<f64>)>,
}

/// What was measured under one setting of the veth pair.
pub(crate) struct Report {
    veth: Veth,
    rows: Vec<Row>,
}

/// Median, smallest and largest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` of nothing. NaN counts as nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

/// Figures of ours that nobody else has: a JSON line each as they come, and a table at the end.
#[derive(Default)]
pub(crate) struct Alone(Vec<(String, &'static str, Summary)>);

impl Alone {
    /// One figure with the values of all its rounds.
    pub(crate) fn note(&mut self, what: &str, unit: &'static str, values: &[f64]) {
        let Some(summary) = Summary::of(values.iter().copied()) else { return };
        let Summary { median, min, max } = summary;
        println!(
            "{}",
            serde_json::json!({
                "figure": what, "unit": unit, "system": Kind::Bulkhead.name(),
                "median": rounded(median), "min": rounded(min), "max": rounded(max), "rounds": values.len(),
            })
        );
        self.0.push((what.to_owned(), unit, summary));
    }

    pub(crate) fn table(&self) {
        if !self.0.is_empty() {
            println!("\nbulkhead alone: median, smallest, largest");
        }
        for (what, unit, Summary { median, min, max }) in &self.0 {
            let figure = format!("{what}, {unit}");
            println!("{figure:80}{:>10}{:>10}{:>10}", shown(*median), shown(*min), shown(*max));
        }
    }
}

impl Report {
    pub(crate) fn new(veth: Veth) -> Self {
        Self { veth, rows: Vec::new() }
    }

    /// One value of one round.
    pub(crate) fn add(&mut self, figure: Figure, kind: Kind, value: f64) {
        let at = self.rows.iter().position(|row| row.figure == figure).unwrap_or_else(|| {
            self.rows.push(Row { figure, columns: Vec::new() });
            self.rows.len() - 1
        });
        let columns = &mut self.rows[at].columns;
        match columns.iter_mut().find(|(measured, _)| *measured == kind) {
            Some((_, values)) => values.push(value),
            None => columns.push((kind, vec![value])),
        }
    }

    /// A JSON line per figure and system, then the table.
    pub(crate) fn print(&self) {
        for row in &self.rows {
            for (kind, values) in &row.columns {
                let Some(Summary { median, min, max }) = Summary::of(values.iter().copied()) else {
                    continue;
                };
                let ratio = row.ratio(*kind).map(|r| {
                    serde_json::json!({ "median": rounded(r.median), "min": rounded(r.min), "max": rounded(r.max) })
                });
                println!(
                    "{}",
                    serde_json::json!({
                        "figure": row.figure.0, "unit": row.figure.1, "system": kind.name(), "veth": self.veth.as_str(),
                        "median": rounded(median), "min": rounded(min), "max": rounded(max),
                        "rounds": values.iter().map(|v| rounded(*v)).collect::<Vec<_>>(), "bulkhead_ratio": ratio,
                    })
                );
            }
        }
        self.table();
    }

    fn table(&self) {
        let Some(widest) = self.rows.iter().max_by_key(|row| row.columns.len()) else { return };
        let kinds: Vec<Kind> = widest.columns.iter().map(|(kind, _)| *kind).collect();
        println!(
            "\nveth offloads {}: median, and in parentheses bulkhead divided by it, pair by pair",
            self.veth.as_str()
        );
        print!("{:42}", "");
        kinds.iter().for_each(|kind| print!("{:>18}", kind.name()));
        println!();
        for row in &self.rows {
            print!("{:42}", format!("{}, {}", row.figure.0, row.figure.1));
            for kind in &kinds {
                let median = row.values(*kind).and_then(|v| Summary::of(v.iter().copied())).map(|s| s.median);
                let cell = match (median, row.ratio(*kind)) {
                    (Some(median), Some(ratio)) => format!("{} ({:.2})", rounded(median), ratio.median),
                    (Some(median), None) => rounded(median).to_string(),
                    (None, _) => "-".to_owned(),
                };
                print!("{cell:>18}");
            }
            println!();
        }
        println!();
    }
}

impl Row {
    fn values(&self, kind: Kind) -> Option<&[f64]> {
        self.columns.iter().find(|(measured, _)| *measured == kind).map(|(_, values)| &**values)
    }

    /// Ours divided by theirs, round by round.
    fn ratio(&self, kind: Kind) -> Option<Summary> {
        if kind == Kind::Bulkhead {
            return None;
        }
        let pairs = self.values(Kind::Bulkhead)?.iter().zip(self.values(kind)?);
        Summary::of(pairs.map(|(ours, theirs)| ours / theirs))
    }
}

/// Three significant digits are more than two runs agree on.
pub(crate) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(2 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// For the eye.
fn shown(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.001 { format!("{value:.1e}") } else { rounded(value).to_string() }
}
