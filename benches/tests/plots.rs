//! The plots of the README follow from the figures that are committed next to them.
//! `cargo run -p portlock-bench --bin plots` draws them.

#![cfg(unix)]

use std::fs::read_to_string;

use portlock_bench::plots::Plot;

fn figures(plot: Plot) -> String {
    read_to_string(plot.figures()).expect("the figures are committed")
}

#[test]
fn plots_follow_from_committed_figures() {
    for plot in Plot::ALL {
        let committed = read_to_string(plot.picture()).expect("the plot is committed");
        let drawn = plot.draw(&figures(plot)).expect("it can be drawn");
        assert!(
            drawn == committed,
            "{plot} is not what its figures give: cargo run -p portlock-bench --bin plots"
        );
    }
}

/// The control: a plot that did not show a figure would be the same without it.
#[test]
fn each_figure_changes_the_plot() {
    for (plot, figure) in [(Plot::Handover, "handover_us_median"), (Plot::Scale, "milliseconds")] {
        let text = figures(plot);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let names = lines.iter().position(|line| !line.starts_with('#')).expect("the columns");
        let column = lines[names].split(',').position(|name| name == figure).expect("the column");
        let shown = match plot {
            Plot::Handover => lines.iter().position(|line| line.contains(",200,")),
            Plot::Scale => lines.iter().position(|line| line.starts_with("list stale,")),
        };
        let shown = shown.expect("a row that is shown");
        let mut fields: Vec<&str> = lines[shown].split(',').collect();
        fields[column] = "123.4";
        lines[shown] = fields.join(",");
        let drawn = plot.draw(&text).expect("it can be drawn");
        assert_ne!(plot.draw(&lines.join("\n")).expect("it can be drawn"), drawn, "{plot}");
        assert!(plot.draw(&lines[names]).is_err(), "{plot} without figures");
        assert!(plot.draw("a,b\n1,2\n").is_err(), "{plot} of other figures");
    }
}
