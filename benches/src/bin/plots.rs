//! Draws the plots of the README: `cargo run -p portlock-bench --bin plots`.
//!
//! A run with `PORTLOCK_BENCH_CSV=FILE` writes the figures.

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use portlock_bench::plots::Plot;
    for plot in Plot::ALL {
        let figures = plot.figures();
        let text = std::fs::read_to_string(&figures)
            .map_err(|why| format!("{}: {why}", figures.display()))?;
        std::fs::write(plot.picture(), plot.draw(&text)?)?;
        println!("{}", plot.picture().display());
    }
    Ok(())
}

#[cfg(not(unix))]
fn main() {}
