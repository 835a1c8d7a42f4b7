//! A chart as SVG: horizontal bars from 1 on a logarithmic axis, each with its number.
//!
//! The colours follow the reader's light or dark setting; the background is the picture's own, so that
//! it can be read in a page of the other kind, and by programs that know no such setting.

use svg::Document;
use svg::node::element::{Group, Line, Rectangle, Style, Text, Title};

use super::{Chart, Row};

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 16.0;
/// Room for a number right of the longest bar.
const NUMBER: f64 = 52.0;
const BAR: f64 = 11.0;
const BETWEEN_ROWS: f64 = 9.0;
/// From the top to the first row: title, legend, the axis' numbers.
const HEAD: f64 = 84.0;
/// Below the last row.
const FOOT: f64 = 34.0;
/// A letter of the labels is about so wide; nothing can measure the reader's font.
const LETTER: f64 = 6.5;

const STYLE: &str = "
text { font-family: system-ui, 'DejaVu Sans', sans-serif; font-size: 12px; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.weak { fill: #59636e }
.small { font-size: 10.5px }
.back { fill: #ffffff }
.grid { stroke: #d1d9e0 }
.one { stroke: #59636e }
.s0 { fill: #8c959f }
.s1 { fill: #0969da }
.s2 { fill: #bf5700 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.weak { fill: #9198a1 }
.back { fill: #0d1117 }
.grid { stroke: #3d444d }
.one { stroke: #9198a1 }
.s0 { fill: #7d8590 }
.s1 { fill: #4493f8 }
.s2 { fill: #e8853a }
}
";

/// The picture, with `below` at its foot.
pub(super) fn draw(chart: &Chart, below: &str) -> String {
    let bars = count(chart.series.len());
    let row_height = bars * BAR + BETWEEN_ROWS;
    let height = HEAD + count(chart.rows.len()) * row_height + FOOT;
    let longest = chart.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let left = (MARGIN + count(longest) * LETTER + 8.0).min(WIDTH / 2.0);
    let axis = Axis::over(&chart.rows, left, WIDTH - MARGIN - NUMBER);
    let bottom = height - FOOT;

    let mut document = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("role", "img")
        .add(Title::new(chart.title.as_str()))
        .add(Style::new(STYLE))
        .add(rectangle(0.0, 0.0, WIDTH, height).set("class", "back"))
        .add(text(MARGIN, 26.0, &chart.title, "title"))
        .add(legend(&chart.series));
    for tick in axis.ticks() {
        let x = axis.at(tick);
        let class = if (tick - 1.0).abs() < f64::EPSILON { "one" } else { "grid" };
        let line = Line::new().set("x1", round(x)).set("x2", round(x));
        document = document
            .add(line.set("y1", HEAD - 6.0).set("y2", round(bottom)).set("class", class))
            .add(text(x, HEAD - 12.0, &number(tick), "weak small").set("text-anchor", "middle"));
    }
    let mut y = HEAD + BETWEEN_ROWS / 2.0;
    for row in &chart.rows {
        document = document.add(bars_of(row, &axis, left, y));
        y += row_height;
    }
    document = document.add(text(MARGIN, height - 12.0, below, "weak small"));
    let mut svg = document.to_string();
    svg.push('\n');
    svg
}

fn legend(series: &[&str]) -> Group {
    let mut group = Group::new();
    let mut x = MARGIN;
    for (index, name) in series.iter().enumerate() {
        group = group
            .add(
                rectangle(x, 41.0, 10.0, 10.0)
                    .set("class", format!("s{}", colour(index, series.len()))),
            )
            .add(text(x + 15.0, 50.0, name, ""));
        x += 15.0 + count(name.chars().count()) * LETTER + 20.0;
    }
    group
}

/// Grey is the floor's, which stands first; a bar that stands alone isn't grey.
fn colour(index: usize, series: usize) -> usize {
    if series == 1 { 1 } else { index }
}

fn bars_of(row: &Row, axis: &Axis, left: f64, top: f64) -> Group {
    let height = count(row.ratios.len()) * BAR;
    let label = text(left - 8.0, top + height / 2.0 + 4.0, &row.label, "");
    let mut group = Group::new().add(label.set("text-anchor", "end"));
    let one = axis.at(1.0);
    for (index, ratio) in row.ratios.iter().enumerate() {
        let y = top + count(index) * BAR;
        let Some(ratio) = *ratio else { continue };
        let end = axis.at(ratio);
        let (from, to) = if end < one { (end, one) } else { (one, end) };
        // A ratio of 1 is to be seen, too.
        let bar = rectangle(from, y + 1.0, (to - from).max(1.0), BAR - 2.0);
        let class = format!("s{}", colour(index, row.ratios.len()));
        // Right of a bar in any case: left of a short one the labels begin.
        group = group.add(bar.set("class", class)).add(text(
            to + 5.0,
            y + BAR - 2.0,
            &number(ratio),
            "small",
        ));
    }
    group
}

/// Where a ratio stands.
struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// From left to right, such that each ratio and 1 have a place.
    fn over(rows: &[Row], from: f64, to: f64) -> Self {
        let ratios = || {
            rows.iter().flat_map(|row| row.ratios.iter().flatten().copied()).filter(|r| *r > 0.0)
        };
        let least = ratios().fold(1.0, f64::min);
        let most = ratios().fold(1.0, f64::max);
        let (least, most) = (step_below(least), step_above(most));
        // With nothing but 1 there is an axis all the same.
        Self { least, most: if most > least { most } else { least * 2.0 }, from, to }
    }

    fn at(&self, ratio: f64) -> f64 {
        let share = (ratio.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        self.from + share * (self.to - self.from)
    }

    /// 1, 2 and 5 of each decade; more of them on a short axis, and only 1 on a very long one.
    fn ticks(&self) -> Vec<f64> {
        let steps: &[f64] = match self.most / self.least {
            span if span < 4.0 => {
                &[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0]
            }
            span if span < 2000.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        (-9..9)
            .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
            .filter(|tick| *tick >= self.least * 0.999 && *tick <= self.most * 1.001)
            .collect()
    }
}

/// The steps that an axis may end at: about a tenth of a decade each, so that no bar is much shorter
/// than the room for it.
const ENDS: [f64; 9] = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0];

fn step_above(ratio: f64) -> f64 {
    let decade = 10_f64.powf(ratio.log10().floor());
    let step = ENDS.into_iter().find(|step| step * decade >= ratio * 0.999).unwrap_or(10.0);
    step * decade
}

fn step_below(ratio: f64) -> f64 {
    1.0 / step_above(1.0 / ratio)
}

fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    let rectangle = Rectangle::new().set("x", round(x)).set("y", round(y));
    rectangle.set("width", round(width)).set("height", round(height))
}

fn text(x: f64, y: f64, content: &str, class: &str) -> Text {
    let text = Text::new(content).set("x", round(x)).set("y", round(y));
    if class.is_empty() { text } else { text.set("class", class) }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// As short as it says enough: 0.04, 0.53, 1.19, 2, 12.3, 175.
fn number(ratio: f64) -> String {
    let text = match ratio {
        ratio if ratio >= 100.0 => format!("{ratio:.0}"),
        ratio if ratio >= 10.0 => format!("{ratio:.1}"),
        ratio if ratio >= 0.1 => format!("{ratio:.2}"),
        ratio => format!("{ratio:.3}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(ratios: &[Option<f64>]) -> Chart {
        let rows = ratios
            .iter()
            .map(|ratio| Row { label: "a <b> & c".into(), ratios: vec![*ratio, Some(1.0)] })
            .collect();
        Chart { name: "x", title: "Title".into(), series: vec!["one", "other"], rows }
    }

    #[test]
    fn a_bar_stands_where_its_logarithm_is_and_the_axis_holds_all() {
        let chart = chart(&[Some(0.4), Some(100.0)]);
        let axis = Axis::over(&chart.rows, 100.0, 700.0);
        assert!(axis.at(0.4) >= 100.0 && (axis.at(100.0) - 700.0).abs() < 0.1, "{}", axis.least);
        let middle = f64::midpoint(axis.at(1.0), axis.at(100.0));
        assert!((axis.at(10.0) - middle).abs() < 0.001);
        assert!(axis.ticks().contains(&1.0) && axis.ticks().contains(&0.5));
    }

    #[test]
    fn an_axis_with_nothing_but_ones_has_a_length() {
        let axis = Axis::over(&chart(&[Some(1.0)]).rows, 0.0, 10.0);
        assert!(axis.at(1.0).abs() < 0.001 && axis.most > 1.0);
    }

    #[test]
    fn a_label_is_text_and_what_was_not_measured_has_no_bar() {
        let svg = draw(&chart(&[None, Some(2.0)]), "below");
        assert!(svg.contains("a &lt;b&gt; &amp; c") && !svg.contains("a <b>"), "{svg}");
        // The legend's, and a bar of the one row and of both.
        assert_eq!(svg.matches("class=\"s0\"").count(), 2);
        assert_eq!(svg.matches("class=\"s1\"").count(), 3);
        assert!(svg.contains("below"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0412, 0.5, 1.194, 2.0, 12.34, 100.0, 175.2].map(number);
        assert_eq!(texts, ["0.041", "0.5", "1.19", "2", "12.3", "100", "175"]);
    }
}
