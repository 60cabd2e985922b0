//! The figures of a run, one a line: what the plots are drawn from, and the tables read.

use std::path::Path;

/// Where a bench writes its figures, beside the table that it prints.
pub const CSV: &str = "PORTLOCK_BENCH_CSV";

/// Lines of figures under the names of their columns. Nothing is quoted: there are no commas.
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

    /// Reads it. A line that begins with `#` is a remark.
    ///
    /// # Errors
    ///
    /// The line that has not as many fields as there are columns.
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

    /// What stands in a column, each once, in the order in which it came.
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

    /// The points of a curve: `x` and `y` of the rows whose columns have these values, in their
    /// order. A field that is no number is no point.
    ///
    /// # Errors
    ///
    /// The name of a column that is not there.
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

    /// Writes it to the file that the environment variable [`CSV`] names, if it does, under `remark`.
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
