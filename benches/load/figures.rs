//! Formatting of numbers.

/// Three significant digits, which is the precision of a run; thousands are grouped.
pub(crate) fn rounded(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => grouped(value),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Milliseconds, or a dash for None.
pub(crate) fn shown(millis: Option<f64>) -> String {
    millis.map_or_else(|| "–".to_owned(), rounded)
}
