//! The figures of a run, for the plots and the tables.

use std::path::Path;

/// The file in which a bench saves its figures.
pub const CSV: &str = "PORTLOCK_BENCH_CSV";

/// Lines of figures below the names of their columns. Unquoted, because no field has a comma.
#[derive(Debug, Clone, PartialEq)]
pub struct Csv {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Csv {
    /// With these columns and no rows.
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Parses the text. A line that begins with `#` is a comment.
    ///
    /// # Errors
    ///
    /// The line with another number of fields than there are columns.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields = |line: &str| line.split(',').map(|field| field.trim().to_owned()).collect();
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let columns: Vec<String> = fields(lines.next().ok_or("there are no columns")?);
        let rows: Vec<Vec<String>> = lines.map(fields).collect();
        match rows.iter().find(|row| row.len() != columns.len()) {
            Some(row) => Err(format!("not {} fields: {row:?}", columns.len())),
            None => Ok(Self { columns, rows }),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If it has another number of fields than there are columns, or a comma in one.
    pub fn row(&mut self, fields: &[String]) {
        assert!(!fields.iter().any(|field| field.contains(',')), "{fields:?}");
        assert_eq!(fields.len(), self.columns.len(), "{fields:?}");
        self.rows.push(fields.to_vec());
    }

    /// The distinct values of a column, in order of appearance.
    ///
    /// # Errors
    ///
    /// If there is no such column.
    pub fn values(&self, name: &str) -> Result<Vec<&str>, String> {
        let column = self.column(name)?;
        let mut values: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !values.contains(&&*row[column]) {
                values.push(&row[column]);
            }
        }
        Ok(values)
    }

    fn column(&self, name: &str) -> Result<usize, String> {
        let at = self.columns.iter().position(|column| column == name);
        at.ok_or_else(|| format!("no column {name}"))
    }

    /// The points of a curve: `x` and `y` of the rows whose columns have these values, in order.
    /// Fields that are not numbers are skipped.
    ///
    /// # Errors
    ///
    /// The name of a missing column.
    pub fn points(
        &self,
        whose: &[(&str, &str)],
        (x, y): (&str, &str),
    ) -> Result<Vec<(f64, f64)>, String> {
        let whose: Vec<(usize, &str)> = whose
            .iter()
            .map(|&(name, value)| Ok((self.column(name)?, value)))
            .collect::<Result<_, String>>()?;
        let (x, y) = (self.column(x)?, self.column(y)?);
        Ok(self
            .rows
            .iter()
            .filter(|row| whose.iter().all(|&(at, value)| row[at] == value))
            .filter_map(|row| Some((row[x].parse().ok()?, row[y].parse().ok()?)))
            .collect())
    }

    /// Writes it to the file that the environment variable [`CSV`] names, if set, below `remark`.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn keep(&self, remark: &str) {
        let Some(file) = std::env::var_os(CSV) else { return };
        let lines = std::iter::once(&self.columns).chain(&self.rows).map(|row| row.join(","));
        let text: String =
            std::iter::once(format!("# {remark}")).chain(lines).map(|line| line + "\n").collect();
        std::fs::write(Path::new(&file), text).expect("the figures are written");
        println!("\nthe figures are in {}", Path::new(&file).display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_the_points_of_its_rows() {
        let csv =
            Csv::parse("# x\nway,count,time\na,1,2.5\nb,1,7\na,10,-\na,100,3\n").expect("csv");
        assert_eq!(
            csv.points(&[("way", "a")], ("count", "time")),
            Ok(vec![(1.0, 2.5), (100.0, 3.0)])
        );
        assert_eq!(csv.points(&[("why", "a")], ("count", "time")), Err("no column why".into()));
        assert!(Csv::parse("a,b\n1\n").is_err());
    }
}
