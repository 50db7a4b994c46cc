//! Figures of a run: each is printed when it is known, and all again at the end.

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(String, String)>,
}

impl Table {
    /// A figure with its unit.
    pub(crate) fn add(&mut self, name: impl Into<String>, figure: impl Into<String>) {
        let (name, figure) = (name.into(), figure.into());
        println!("{name}: {figure}");
        self.rows.push((name, figure));
    }

    pub(crate) fn print(&self) {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        println!();
        for (name, figure) in &self.rows {
            println!("{name:<width$}  {figure}");
        }
    }
}
