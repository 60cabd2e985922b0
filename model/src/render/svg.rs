//! A small SVG writer for the pictures. Text is escaped, colours have names with one value for
//! light pages and one for dark pages, and the width of a text is estimated for the layout.

use std::fmt::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// For calls and states.
    Mono,
    /// For prose.
    Sans,
}

/// Which end of a text is at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    pub face: Face,
    pub size: i32,
    pub bold: bool,
    /// A name of [`PALETTE`].
    pub colour: &'static str,
    pub anchor: Anchor,
}

impl Style {
    pub const fn mono(size: i32, colour: &'static str) -> Self {
        Self { face: Face::Mono, size, bold: false, colour, anchor: Anchor::Start }
    }

    pub const fn sans(size: i32, colour: &'static str) -> Self {
        Self { face: Face::Sans, size, bold: false, colour, anchor: Anchor::Start }
    }

    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub const fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    /// The estimated width of a text, too wide rather than too narrow: by the widths of DejaVu,
    /// which is wider than most.
    pub fn width(self, text: &str) -> i32 {
        let em: f64 = match self.face {
            Face::Mono => text.chars().count() as f64 * 0.605,
            Face::Sans => text.chars().map(sans_width).sum(),
        };
        let bold = if self.bold && self.face == Face::Sans { 1.1 } else { 1.0 };
        (em * f64::from(self.size) * bold).ceil() as i32
    }
}

fn sans_width(one: char) -> f64 {
    match one {
        'i' | 'j' | 'l' => 0.28,
        'I' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' => 0.34,
        'f' | 'r' | 't' | '(' | ')' | '-' | '/' | '!' | '"' => 0.41,
        'c' | 's' | 'z' => 0.54,
        'a' | 'e' | 'k' | 'o' | 'v' | 'x' | 'y' => 0.61,
        'b' | 'd' | 'g' | 'h' | 'n' | 'p' | 'q' | 'u' | '0'..='9' => 0.64,
        'M' | 'W' => 1.0,
        'A'..='Z' => 0.79,
        '·' | '_' => 0.5,
        _ => 1.0,
    }
}

/// Every colour: its name, on light pages, on dark ones.
pub const PALETTE: &[(&str, &str, &str)] = &[
    ("page", "#ffffff", "#0d1117"),
    ("panel", "#f6f8fa", "#161b22"),
    ("frame", "#d0d7de", "#30363d"),
    ("ink", "#1f2328", "#e6edf3"),
    ("muted", "#59636e", "#9198a1"),
    ("green", "#1a7f37", "#3fb950"),
    ("green-pale", "#dafbe1", "#12311c"),
    ("amber", "#9a6700", "#d29922"),
    ("amber-pale", "#fff4c9", "#332a10"),
    ("blue", "#0969da", "#58a6ff"),
    ("blue-pale", "#ddf4ff", "#12294a"),
    ("violet", "#8250df", "#bc8cff"),
    ("violet-pale", "#f3e9ff", "#2a1f45"),
    ("red", "#cf222e", "#ff7b72"),
    ("red-pale", "#ffe5e2", "#421a1c"),
    ("grey", "#818b98", "#7d8590"),
    ("grey-pale", "#eaeef2", "#262c36"),
];

/// The pale shade of a colour.
pub fn pale(colour: &str) -> &'static str {
    let shade = format!("{colour}-pale");
    PALETTE.iter().find(|(name, ..)| *name == shade).map_or("grey-pale", |(name, ..)| name)
}

#[derive(Debug, Default)]
pub struct Svg {
    body: String,
}

impl Svg {
    /// A text on a line at this height; an empty one is left out.
    pub fn text(&mut self, x: i32, y: i32, words: &str, style: Style) {
        if words.is_empty() {
            return;
        }
        let face = if style.face == Face::Mono { "m" } else { "s" };
        let bold = if style.bold { " b" } else { "" };
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        self.line(format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\" class=\"{face}{bold} f-{}\"{anchor}>{}</text>",
            style.size,
            style.colour,
            escaped(words)
        ));
    }

    /// A filled rectangle: x, y, width, height.
    pub fn fill(&mut self, [x, y, width, height]: [i32; 4], radius: i32, colour: &str) {
        self.line(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\" \
             class=\"f-{colour}\"/>"
        ));
    }

    /// A rectangle with an outline.
    pub fn frame(&mut self, [x, y, width, height]: [i32; 4], radius: i32, fill: &str, edge: &str) {
        self.line(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\" \
             class=\"f-{fill} k-{edge}\"/>"
        ));
    }

    pub fn dot(&mut self, x: i32, y: i32, radius: i32, colour: &str) {
        self.line(format_args!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" class=\"f-{colour}\"/>"
        ));
    }

    /// Begins a group, which [`end`](Self::end) ends, with attributes that describe it.
    pub fn begin(&mut self, what: &[(&str, &str)]) {
        let said: String =
            what.iter().map(|(key, value)| format!(" data-{key}=\"{}\"", escaped(value))).collect();
        self.line(format_args!("<g{said}>"));
    }

    pub fn end(&mut self) {
        self.line(format_args!("</g>"));
    }

    /// A line through these points, with round corners.
    pub fn route(&mut self, points: &[(i32, i32)], colour: &str, dashed: bool) {
        let dash = if dashed { " d" } else { "" };
        self.line(format_args!("<path d=\"{}\" class=\"n{dash} k-{colour}\"/>", rounded(points)));
    }

    /// Same as [`route`](Self::route), with an arrow head.
    pub fn arrow(&mut self, points: &[(i32, i32)], colour: &str) {
        self.route(points, colour, false);
        if let [.., (from_x, from_y), (x, y)] = *points {
            let (dx, dy) = ((x - from_x).signum(), (y - from_y).signum());
            let corner = |side: i32| (x - 7 * dx + side * 4 * dy, y - 7 * dy + side * 4 * dx);
            let ((ax, ay), (bx, by)) = (corner(1), corner(-1));
            self.line(format_args!(
                "<path d=\"M{x} {y}L{ax} {ay}L{bx} {by}Z\" class=\"f-{colour}\"/>"
            ));
        }
    }

    fn line(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{element}");
    }

    /// The whole picture, with its own background: a page may be light while the reader's system is
    /// dark, and the text must be legible in either case.
    pub fn finish(self, width: i32, height: i32, title: &str, description: &str) -> String {
        let mut ground = Self::default();
        ground.frame([1, 1, width - 2, height - 2], 8, "page", "frame");
        let body = ground.body + &self.body;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
             <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n\
             <style>\n{}</style>\n{body}</svg>\n",
            escaped(title),
            escaped(description),
            rules(&body)
        )
    }
}

/// The rules of the classes that a body uses.
fn rules(body: &str) -> String {
    let mut rules = "\
text{white-space:pre}
.s{font-family:system-ui,-apple-system,\"Segoe UI\",\"Helvetica Neue\",Arial,sans-serif}
.m{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace}
.b{font-weight:600}
.n{fill:none;stroke-width:1.6;stroke-linejoin:round}
.d{stroke-dasharray:2 4}
"
    .to_owned();
    let scheme = |pick: fn(&(&str, &'static str, &'static str)) -> &'static str| {
        let mut text = String::new();
        for colour in PALETTE {
            for (class, property) in [("f", "fill"), ("k", "stroke")] {
                let class = format!("{class}-{}", colour.0);
                if body.contains(&format!("{class}\"")) || body.contains(&format!("{class} ")) {
                    let _ = writeln!(text, ".{class}{{{property}:{}}}", pick(colour));
                }
            }
        }
        text
    };
    let (light, dark) = (scheme(|colour| colour.1), scheme(|colour| colour.2));
    let _ = write!(rules, "{light}@media (prefers-color-scheme:dark){{\n{dark}}}\n");
    rules
}

const RADIUS: i32 = 7;

/// The path through `points`, its corners cut by a curve.
fn rounded(points: &[(i32, i32)]) -> String {
    let mut path = String::new();
    for (at, &(x, y)) in points.iter().enumerate() {
        let is_corner = at > 0 && at + 1 < points.len();
        if !is_corner {
            let _ = write!(path, "{}{x} {y}", if at == 0 { 'M' } else { 'L' });
            continue;
        }
        let towards = |(to_x, to_y): (i32, i32)| {
            let half = |distance: i32| distance.clamp(-2 * RADIUS, 2 * RADIUS) / 2;
            (x + half(to_x - x), y + half(to_y - y))
        };
        let ((ax, ay), (bx, by)) = (towards(points[at - 1]), towards(points[at + 1]));
        let _ = write!(path, "L{ax} {ay}Q{x} {y} {bx} {by}");
    }
    path
}

/// Text escaped for elements and attributes.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML cannot express the other control characters.
            one if one.is_control() && !matches!(one, '\n' | '\t') => safe.push('\u{fffd}'),
            one => safe.push(one),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escaped("a<b> & \"c\"\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}");
    }

    #[test]
    fn corners_are_cut_and_ends_are_kept() {
        assert_eq!(rounded(&[(0, 0), (20, 0), (20, 30)]), "M0 0L13 0Q20 0 20 7L20 30");
    }

    #[test]
    fn every_colour_is_neutral_or_has_a_shade() {
        for (name, ..) in PALETTE.iter().filter(|(name, ..)| !name.ends_with("-pale")) {
            let neutral = ["page", "panel", "frame", "ink", "muted"].contains(name);
            assert_eq!(pale(name) != "grey-pale" || *name == "grey", !neutral, "{name}");
        }
    }
}
