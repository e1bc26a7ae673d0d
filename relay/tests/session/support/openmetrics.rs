//! Reads an exposition as strictly as the OpenMetrics text format is written down.

use std::collections::{BTreeMap, BTreeSet};

/// A family: its samples by name and labels as written.
#[derive(Debug)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub samples: BTreeMap<String, f64>,
}

/// Families by name.
#[derive(Debug)]
pub struct Exposition(pub BTreeMap<String, Family>);

impl Exposition {
    /// The value of a sample, by its name and labels as written.
    pub fn value(&self, sample: &str) -> f64 {
        let found = self.0.values().find_map(|family| family.samples.get(sample));
        *found.unwrap_or_else(|| panic!("there is no {sample}"))
    }

    /// Parses; the message says which rule was broken where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = None;
        let mut units = BTreeMap::new();
        for line in body.lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                    let family = Family { kind: String::new(), help: help.into(), samples: BTreeMap::new() };
                    if families.insert(name.to_owned(), family).is_some() {
                        return Err(format!("{name} is there twice"));
                    }
                    current = Some(name.to_owned());
                }
                (Some("#"), Some("TYPE"), Some(name), Some(kind)) if current.as_deref() == Some(name) => {
                    families.get_mut(name).expect("the current one").kind = kind.into();
                }
                (Some("#"), Some("UNIT"), Some(name), Some(unit)) if current.as_deref() == Some(name) => {
                    units.insert(name.to_owned(), unit.to_owned());
                }
                _ if line.starts_with('#') => return Err(format!("out of place: {line}")),
                _ => {
                    let name = current.as_deref().ok_or("a sample before any family")?;
                    let family = families.get_mut(name).expect("the current one");
                    let (sample, value) = line.rsplit_once(' ').ok_or_else(|| format!("no value: {line}"))?;
                    let value = value.parse().map_err(|_| format!("not a number: {line}"))?;
                    if family.samples.insert(sample.to_owned(), value).is_some() {
                        return Err(format!("{sample} is there twice"));
                    }
                }
            }
        }
        for (name, family) in &families {
            check(name, family)?;
        }
        match units.iter().find(|(name, unit)| !name.ends_with(&format!("_{unit}"))) {
            Some((name, unit)) => Err(format!("{name} does not end with its unit {unit}")),
            None => Ok(Self(families)),
        }
    }
}

fn check(name: &str, family: &Family) -> Result<(), String> {
    let suffixes: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_sum", "_count", "_bucket"],
        kind => return Err(format!("{name} is a {kind:?}")),
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !plain || family.help.is_empty() {
        return Err(format!("{name} has no proper name or no help"));
    }
    let mut seen = BTreeSet::new();
    for (sample, value) in &family.samples {
        let behind = sample.strip_prefix(name).ok_or_else(|| format!("{sample} stands under {name}"))?;
        let (suffix, labels) = behind.split_at(behind.find('{').unwrap_or(behind.len()));
        if !suffixes.contains(&suffix) || !are_labels(labels) {
            return Err(format!("{sample} is not a sample of a {}", family.kind));
        }
        if family.kind != "gauge" && *value < 0.0 {
            return Err(format!("{sample} is negative"));
        }
        seen.insert(suffix);
    }
    if family.samples.is_empty() || seen.len() != suffixes.len() {
        return Err(format!("{name} is not whole"));
    }
    if family.kind == "histogram" { check_histogram(name, family) } else { Ok(()) }
}

/// `{a="b",c="d"}` with values that need no escape, or nothing.
fn are_labels(text: &str) -> bool {
    let Some(inside) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else { return text.is_empty() };
    inside.split(',').all(|label| {
        let value = label.split_once("=\"").and_then(|(_, value)| value.strip_suffix('"'));
        value.is_some_and(|value| !value.contains(['"', '\\']))
    })
}

fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    let bound = |sample: &str| -> Option<f64> {
        sample.strip_prefix(&format!("{name}_bucket{{le=\""))?.strip_suffix("\"}")?.replace("+Inf", "inf").parse().ok()
    };
    let mut buckets: Vec<(f64, f64)> =
        family.samples.iter().filter_map(|(sample, count)| Some((bound(sample)?, *count))).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = family.samples[&format!("{name}_count")];
    if buckets.last() != Some(&(f64::INFINITY, count)) || !buckets.is_sorted_by(|a, b| a.1 <= b.1) {
        return Err(format!("the buckets of {name} do not add up: {buckets:?}"));
    }
    Ok(())
}

#[test]
fn a_broken_exposition_is_noticed() {
    let good = "# HELP a Help.\n# TYPE a counter\na_total{x=\"y\"} 1\n# EOF\n";
    Exposition::parse(good).unwrap();
    for (from, to) in [
        ("# EOF\n", ""),
        ("_total", ""),
        ("{x=\"y\"}", "{x=y}"),
        (" 1\n", " one\n"),
        (" 1\n", " -1\n"),
        ("a_total{x=\"y\"} 1\n", "a_total 1\na_total 1\n"),
        ("a_total{x=\"y\"} 1\n", ""),
        ("counter", "thing"),
        ("# TYPE a", "# TYPE b"),
        ("# TYPE a counter\n", "# TYPE a counter\n# UNIT a seconds\n"),
    ] {
        let bad = good.replace(from, to);
        assert!(Exposition::parse(&bad).is_err(), "{bad}");
    }
    let histogram = "# HELP h H.\n# TYPE h histogram\nh_sum 3\nh_count 2\nh_bucket{le=\"1.0\"} 1\n\
                     h_bucket{le=\"+Inf\"} 2\n# EOF\n";
    Exposition::parse(histogram).unwrap();
    assert!(Exposition::parse(&histogram.replace("h_count 2", "h_count 3")).is_err());
    assert!(Exposition::parse(&histogram.replace("le=\"1.0\"} 1", "le=\"1.0\"} 3")).is_err());
}
