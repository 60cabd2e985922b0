//! The pictures of model/README.md, in `model/pictures`: they are up to date, complete, and
//! legible.
//!
//! After a change of the machine or of the drawing:
//!
//! ```text
//! PORTLOCK_BLESS=1 cargo test --test pictures
//! ```
//!
//! writes them and then fails, so that a run without a comparison never passes. Check them, and run
//! the tests again without the variable.

use std::collections::BTreeSet;
use std::path::PathBuf;

use portlock::protocol::{Acquire, Release};
use portlock_model::properties::property::Property;
use portlock_model::render::pictures::{Picture, double_reclaim};
use portlock_model::render::report::{Origin, lines};
use portlock_model::render::sequence;
use portlock_model::render::svg::{Anchor, Face, Style};
use portlock_model::render::table::name;
use portlock_model::scenario::catalogue::Scenario;
use portlock_model::scenario::machines::{Machine, graph};
use portlock_model::scenario::schedule::{Schedule, run};
use portlock_model::variants::{SHIPPED, named};
use roxmltree::{Document, Node};

fn file_of(picture: Picture) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/model/pictures");
    PathBuf::from(format!("{folder}/{picture}.svg"))
}

fn committed(picture: Picture) -> String {
    let file = file_of(picture);
    std::fs::read_to_string(&file).unwrap_or_else(|reason| panic!("{}: {reason}", file.display()))
}

fn drawn(picture: Picture) -> String {
    picture.draw().unwrap_or_else(|reason| panic!("{reason}"))
}

#[test]
fn the_pictures_are_those_that_are_committed() {
    if std::env::var_os("PORTLOCK_BLESS").is_some() {
        for picture in Picture::ALL {
            std::fs::write(file_of(picture), drawn(picture)).expect("the picture is written");
        }
        panic!("model/pictures is written: check it, and run again without PORTLOCK_BLESS");
    }
    for picture in Picture::ALL {
        assert!(
            drawn(picture) == committed(picture),
            "{} is not what is drawn.\n\
             If the change is intended: PORTLOCK_BLESS=1 cargo test --test pictures\n\
             One alone: cargo run -p portlock-model -- picture {picture} --svg FILE",
            file_of(picture).display()
        );
    }
}

#[test]
fn model_readme_shows_pictures_and_replay() {
    let readme = include_str!("../model/README.md");
    for picture in Picture::ALL {
        let shown = format!("src=\"pictures/{picture}.svg\"");
        assert!(readme.contains(&shown), "no {shown} in model/README.md");
    }
    let (schedule, _) = double_reclaim().expect("the story is possible");
    let replay = format!("replay --variant naive --scenario base {schedule} --svg");
    assert!(readme.contains(&replay), "no {replay:?} in model/README.md");
}

/// The schedule and the picture must show the double reclaim.
#[test]
fn double_reclaim_story_breaks_p1_as_drawn() {
    let (_, run) = double_reclaim().expect("the story is possible");
    assert_eq!(run.broken, Some(Property::P1));
    let moves: Vec<String> = lines(&run)
        .iter()
        .filter(|line| line["move"] != "begins" && line["move"].is_string())
        .map(|line| format!("{} {}", line["participant"], line["move"]).replace('"', ""))
        .collect();
    assert_eq!(
        moves,
        [
            "A wx: exists",
            "B wx: exists",
            "A read, kill(pid, 0)",
            "B read, kill(pid, 0)",
            "A unlink",
            "A wx: created",
            "A write, close HOLDS",
            "B unlink",
            "B wx: created",
            "B write, close HOLDS",
        ]
    );
    let removals: Vec<bool> = run
        .made
        .iter()
        .filter_map(|made| made.outcome.removal)
        .map(|removal| removal.creator_lives)
        .collect();
    assert_eq!(
        removals,
        [false, true],
        "first the dead holder's file, then that of A, which lives"
    );

    let picture = committed(Picture::DoubleReclaim);
    for words in
        ["no such process: stale", "removes A's file 2 while A holds", "P1 mutual exclusion"]
    {
        assert!(picture.contains(words), "no {words:?} in the picture");
    }
}

#[test]
fn pictures_are_self_contained_and_legible_everywhere() {
    for picture in Picture::ALL {
        let text = committed(picture);
        is_self_contained(&text).unwrap_or_else(|reason| panic!("{picture}: {reason}"));
        // The width of the README's page, at which text keeps its size.
        let document = Document::parse(&text).expect("XML");
        let width = document.root_element().attribute("width");
        let width: u32 = width.and_then(|width| width.parse().ok()).expect("a width");
        assert!((600..=830).contains(&width), "{picture} is {width} wide");
    }
}

#[test]
fn picture_with_external_parts_is_detected() {
    let good = committed(Picture::DoubleReclaim);
    let broken = [
        (good.replace("</svg>", ""), "not XML"),
        (good.replace("<text ", "<text x=\"0\" "), "not XML"),
        (good.replace("<desc", "<!-- ").replace("</desc>", " -->"), "no desc"),
        (good.replace("</svg>", "<script/></svg>"), "a script"),
        (good.replace("</svg>", "<image href=\"x.png\"/></svg>"), "a reference"),
        (good.replace("stroke-width:1.6", "fill:url(x.svg#a)"), "a reference"),
        (good.replace("prefers-color-scheme:dark", "print"), "nothing for dark pages"),
        (good.replace("title>", "text>").replace("<title ", "<text "), "no title"),
    ];
    for (text, reason) in broken {
        let found = is_self_contained(&text).expect_err(reason);
        assert!(found.starts_with(reason), "{found} is not {reason}");
    }
}

fn is_self_contained(text: &str) -> Result<(), String> {
    let document = Document::parse(text).map_err(|reason| format!("not XML: {reason}"))?;
    for node in document.descendants().filter(Node::is_element) {
        if node.tag_name().name() == "script" {
            return Err("a script".into());
        }
        let refers = |value: &str| value.contains("url(") || value.contains("://");
        let style = if node.tag_name().name() == "style" { node.text() } else { None };
        let values = node.attributes().map(|attribute| attribute.value()).chain(style);
        let linked = node.attributes().any(|attribute| attribute.name() == "href");
        if linked || values.into_iter().any(refers) {
            return Err(format!("a reference in {}", node.tag_name().name()));
        }
    }
    if !text.contains("@media (prefers-color-scheme:dark)") {
        return Err("nothing for dark pages".into());
    }
    for tag in ["title", "desc"] {
        let found = document.root_element().children().find(|node| node.tag_name().name() == tag);
        if found.and_then(|node| node.text()).is_none_or(|words| words.trim().is_empty()) {
            return Err(format!("no {tag}"));
        }
    }
    Ok(())
}

#[test]
fn diagram_shows_every_state_and_reply() {
    let text = committed(Picture::Machine);
    let document = Document::parse(&text).expect("XML");
    let missing = [missing::<Acquire>(&document), missing::<Release>(&document)].concat();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn missing_or_extra_diagram_elements_are_detected() {
    let text = committed(Picture::Machine);
    let broken = [
        ("data-states=\"Judging\"", "data-states=\"Guessing\"", "Judging(Ours) has no card"),
        ("data-to=\"Held\"", "data-to=\"Refused\"", "no edge from ConfirmingCreated(KernelLock)"),
        (
            "data-from=\"CheckingAge\"",
            "data-from=\"Opening\"",
            "nothing leads from Opening to ReadingUnlocked",
        ),
        (">unlinked</text>", "></text>", "unlinked is not shown"),
    ];
    for (from, to, reason) in broken {
        assert!(text.contains(from), "{from} is not in the picture");
        let text = text.replace(from, to);
        let document = Document::parse(&text).expect("XML");
        let missing = [missing::<Acquire>(&document), missing::<Release>(&document)].concat();
        assert!(missing.iter().any(|found| found.contains(reason)), "{reason}: {missing:?}");
    }
}

/// What the diagram lacks of the machine, and the reverse.
fn missing<M: Machine>(document: &Document<'_>) -> Vec<String> {
    let mut missing = Vec::new();
    let of_machine = |node: &Node<'_, '_>| node.attribute("data-machine") == Some(M::NAME);
    let groups: Vec<Node<'_, '_>> = document.descendants().filter(of_machine).collect();
    let cards: Vec<&str> = groups.iter().filter_map(|node| node.attribute("data-states")).collect();
    // The card with the longest prefix of the state's name.
    let card_of = |state: &M| {
        let fits = cards.iter().filter(|card| name(state).starts_with(**card));
        fits.max_by_key(|card| card.len()).copied()
    };
    let edges: BTreeSet<(&str, &str)> = groups
        .iter()
        .filter_map(|node| Some((node.attribute("data-from")?, node.attribute("data-to")?)))
        .flat_map(|(from, to)| to.split(' ').map(move |to| (from, to)))
        .collect();
    let mut made = BTreeSet::new();
    for (state, follows) in graph::<M>() {
        let Some(from) = card_of(&state) else {
            missing.push(format!("{} has no card", name(&state)));
            continue;
        };
        for next in follows.replies.values().chain(follows.driver.values()) {
            let Some(to) = card_of(next) else { continue };
            made.insert((from, to));
            if !edges.contains(&(from, to)) {
                missing.push(format!("no edge from {} to {}", name(&state), name(next)));
            }
        }
    }
    missing.extend(
        edges.difference(&made).map(|(from, to)| format!("nothing leads from {from} to {to}")),
    );

    // The replies of an edge must be in its card or next to its line.
    for edge in groups.iter().filter(|node| node.attribute("data-from").is_some()) {
        let card =
            groups.iter().find(|node| node.attribute("data-states") == edge.attribute("data-from"));
        let texts = edge.descendants().chain(card.into_iter().flat_map(Node::descendants));
        let read: Vec<&str> = texts.filter_map(|node| node.text()).collect();
        let read = read.join(" ");
        let replies = edge.attribute("data-replies").unwrap_or_default().split(", ");
        for reply in replies.filter(|reply| !read.contains(reply)) {
            missing.push(format!("{reply} is not shown"));
        }
    }
    missing
}

#[test]
fn pictures_have_no_covered_or_clipped_text() {
    for picture in Picture::ALL {
        let troubles = troubles(&committed(picture));
        assert!(troubles.is_empty(), "{picture}:\n{}", troubles.join("\n"));
    }
}

#[test]
fn covered_or_clipped_text_is_detected() {
    let good = committed(Picture::Machine);
    let text = "<text x=\"300\" y=\"300\" font-size=\"11\" class=\"s f-ink\">over</text>";
    let with = |more: &str| good.replace("</svg>", &format!("{more}</svg>"));
    let broken = [
        (with(&text.repeat(2)), "over and over overlap"),
        (with(&text.replace("300", "820")), "over is cut off"),
        (with(&text.replace("300\" y", "-3\" y")), "over is cut off"),
        (good.replace(">failed</text>", ">failed for once and for all</text>"), "and sticks out"),
        (
            with(&format!("{text}<path d=\"M290 296L400 296\" class=\"n\"/>")),
            "a line runs through over",
        ),
        (
            with(&format!("{text}<path d=\"M310 0L310 400\" class=\"n\"/>")),
            "a line runs through over",
        ),
    ];
    for (text, reason) in broken {
        let troubles = troubles(&text);
        assert!(troubles.iter().any(|found| found.contains(reason)), "{reason}: {troubles:?}");
    }
}

/// Any numbers are a schedule, so any numbers can be drawn.
#[test]
fn any_schedule_can_be_drawn_and_read() {
    let seed = 0x1dea_u32;
    println!("seed {seed:#x}");
    let mut last = seed;
    // Numerical Recipes' generator; its high bits are the better ones.
    let mut number = move || {
        last = last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (last >> 24) as u8
    };
    let (mut drawings, mut broken) = (0, 0);
    for participants in 2..=3 {
        for scenario in Scenario::all(participants) {
            let naive = named("naive").expect("it is listed").protocol;
            for protocol in [SHIPPED, naive].into_iter().cycle().take(10) {
                let bytes: Vec<u8> = (0..40).map(|_| number()).collect();
                let schedule = Schedule::from_bytes(&bytes);
                let run = run(&scenario, &protocol, &schedule, true);
                let heading = Origin { variant: None, participants }.heading(&scenario);
                let text = sequence::draw(scenario.kinds.len(), &run, &heading);
                is_self_contained(&text)
                    .unwrap_or_else(|reason| panic!("{}: {reason}", scenario.name));
                let troubles = troubles(&text);
                assert!(
                    troubles.is_empty(),
                    "{}, {participants} participants, {schedule}:\n{}",
                    scenario.name,
                    troubles.join("\n")
                );
                drawings += 1;
                broken += usize::from(run.broken.is_some());
            }
        }
    }
    println!("{drawings} drawings, {broken} with a broken property");
    assert!(drawings >= 250 && broken >= 50);
}

/// A rectangle: left, top, right, bottom.
type Rect = [f64; 4];

fn overlap(one: Rect, other: Rect) -> bool {
    one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3]
}

fn within(inner: Rect, outer: Rect) -> bool {
    outer[0] <= inner[0] && outer[1] <= inner[1] && inner[2] <= outer[2] && inner[3] <= outer[3]
}

/// Texts that overlap, are cut off, leave the frame in which they begin, or are crossed by a line.
fn troubles(text: &str) -> Vec<String> {
    let document = Document::parse(text).expect("XML");
    let all: Vec<Node<'_, '_>> = document.descendants().collect();
    let texts: Vec<(&str, Rect)> =
        all.iter().filter_map(|node| Some((node.text()?, ground(node)?))).collect();
    let frames: Vec<Rect> = all.iter().filter_map(frame).collect();
    let lines: Vec<Rect> = all.iter().flat_map(segments).collect();
    let page = frames.first().expect("the ground is a frame");
    let mut troubles = Vec::new();
    for (at, (words, ground)) in texts.iter().enumerate() {
        if !within(*ground, *page) {
            troubles.push(format!("{words} is cut off"));
        }
        for (other, _) in texts[at + 1..].iter().filter(|(_, other)| overlap(*ground, *other)) {
            troubles.push(format!("{words} and {other} overlap"));
        }
        for frame in frames.iter().filter(|frame| overlap(*ground, **frame)) {
            if !within(*ground, *frame) {
                troubles.push(format!("{words} begins in a frame and sticks out"));
            }
        }
        if lines.iter().any(|line| overlap(*ground, *line)) {
            troubles.push(format!("a line runs through {words}"));
        }
    }
    troubles
}

/// The area of a text, by its estimated width.
fn ground(node: &Node<'_, '_>) -> Option<Rect> {
    if node.tag_name().name() != "text" {
        return None;
    }
    let class = node.attribute("class")?;
    let style = Style {
        face: if class.starts_with('m') { Face::Mono } else { Face::Sans },
        size: node.attribute("font-size")?.parse().ok()?,
        bold: class.contains(" b "),
        colour: "ink",
        anchor: Anchor::Start,
    };
    let width = f64::from(style.width(node.text()?));
    let (x, y) = (number(node, "x")?, number(node, "y")?);
    let left = match node.attribute("text-anchor") {
        Some("middle") => x - width / 2.0,
        Some("end") => x - width,
        _ => x,
    };
    // From the top of the capitals to the end of what hangs below the line.
    let size = f64::from(style.size);
    Some([left, y - 0.74 * size, left + width, y + 0.22 * size])
}

/// A rectangle with an outline.
fn frame(node: &Node<'_, '_>) -> Option<Rect> {
    let outlined = node.attribute("class").is_some_and(|class| class.contains("k-"));
    if !outlined || node.tag_name().name() != "rect" {
        return None;
    }
    let (x, y) = (number(node, "x")?, number(node, "y")?);
    Some([x, y, x + number(node, "width")?, y + number(node, "height")?])
}

fn number(node: &Node<'_, '_>, name: &str) -> Option<f64> {
    node.attribute(name)?.parse().ok()
}

/// The straight segments of a line, as rectangles.
fn segments(node: &Node<'_, '_>) -> Vec<Rect> {
    let is_line =
        node.attribute("class").is_some_and(|class| class.split(' ').any(|one| one == "n"));
    let (true, Some(path)) = (is_line, node.attribute("d")) else { return Vec::new() };
    // A curve at a corner is taken for the corner: M x y, L x y, Q corner end.
    let numbers: Vec<f64> = path
        .split(|one: char| !(one.is_ascii_digit() || one == '-' || one == '.'))
        .filter_map(|number| number.parse().ok())
        .collect();
    let points: Vec<(f64, f64)> = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    points
        .windows(2)
        .map(|ends| {
            let ((ax, ay), (bx, by)) = (ends[0], ends[1]);
            [ax.min(bx) - 0.8, ay.min(by) - 0.8, ax.max(bx) + 0.8, ay.max(by) + 0.8]
        })
        .collect()
}
