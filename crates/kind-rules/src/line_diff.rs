//! The unified difference of two texts, by the matching blocks of Ratcliff and Obershelp as Python's `difflib` refines
//! them: upstream's messages are made by a port of it, so the same lines must match the same lines.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Lines around a change.
const CONTEXT: usize = 3;
/// From so many lines on, lines that make up more than a hundredth of the new text are no anchors for a match.
const POPULAR_FROM: usize = 200;
/// Texts with more lines are compared by what they begin and end with alike: matching them would take quadratic time,
/// and the largest pod that is not made to hurt has a few thousand.
const MAX_LINES: usize = 6000;

/// `length` lines from `old` and from `new` on are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    old: usize,
    new: usize,
    length: usize,
}

/// The hunks, each with its head; empty for the same text.
#[must_use]
pub(crate) fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    if old == new {
        return String::new();
    }
    let blocks = if old.len().max(new.len()) > MAX_LINES { ends(&old, &new) } else { blocks(&old, &new) };
    let mut out = String::new();
    for group in grouped(&changes(&blocks, old.len(), new.len())) {
        hunk(&group, &old, &new, &mut out);
    }
    out
}

/// The common beginning and end.
fn ends(old: &[&str], new: &[&str]) -> Vec<Block> {
    let start = old.iter().zip(new).take_while(|(left, right)| left == right).count();
    let rest = old.len().min(new.len()) - start;
    let end =
        old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(left, right)| left == right).count();
    let both = [
        Block { old: 0, new: 0, length: start },
        Block { old: old.len() - end, new: new.len() - end, length: end },
    ];
    both.into_iter().filter(|block| block.length > 0).collect()
}

/// All matching blocks, in order, neighbours joined. The work is kept in a list: no recursion on what users write.
fn blocks(old: &[&str], new: &[&str]) -> Vec<Block> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if new.len() >= POPULAR_FROM {
        places.retain(|_, at| at.len() <= new.len() / 100 + 1);
    }
    let mut found = Vec::new();
    let mut waiting = vec![(0..old.len(), 0..new.len())];
    while let Some((in_old, in_new)) = waiting.pop() {
        let block = longest(old, new, &places, in_old.clone(), in_new.clone());
        if block.length == 0 {
            continue;
        }
        found.push(block);
        if in_old.start < block.old && in_new.start < block.new {
            waiting.push((in_old.start..block.old, in_new.start..block.new));
        }
        let (old_end, new_end) = (block.old + block.length, block.new + block.length);
        if old_end < in_old.end && new_end < in_new.end {
            waiting.push((old_end..in_old.end, new_end..in_new.end));
        }
    }
    found.sort_by_key(|block| block.old);
    let mut joined: Vec<Block> = Vec::new();
    for block in found {
        match joined.last_mut() {
            Some(last) if last.old + last.length == block.old && last.new + last.length == block.new => {
                last.length += block.length;
            }
            _ => joined.push(block),
        }
    }
    joined
}

/// The longest block within two ranges; of several the first in the old text, then in the new.
fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    in_old: std::ops::Range<usize>,
    in_new: std::ops::Range<usize>,
) -> Block {
    let mut best = Block { old: in_old.start, new: in_new.start, length: 0 };
    // How long the match is that ends with the line before and a line of the new text.
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for at in in_old.clone() {
        let mut next = HashMap::new();
        for place in places.get(old[at]).into_iter().flatten().copied().filter(|place| in_new.contains(place))
        {
            let before =
                place.checked_sub(1).and_then(|before| lengths.get(&before)).copied().unwrap_or_default();
            let length = before + 1;
            next.insert(place, length);
            if length > best.length {
                best = Block { old: at + 1 - length, new: place + 1 - length, length };
            }
        }
        lengths = next;
    }
    // Popular lines are no anchors, but belong to a match beside them.
    while best.old > in_old.start && best.new > in_new.start && old[best.old - 1] == new[best.new - 1] {
        best = Block { old: best.old - 1, new: best.new - 1, length: best.length + 1 };
    }
    while best.old + best.length < in_old.end
        && best.new + best.length < in_new.end
        && old[best.old + best.length] == new[best.new + best.length]
    {
        best.length += 1;
    }
    best
}

/// A stretch of both texts.
#[derive(Clone, Debug)]
struct Stretch {
    same: bool,
    old: std::ops::Range<usize>,
    new: std::ops::Range<usize>,
}

fn changes(blocks: &[Block], old_lines: usize, new_lines: usize) -> Vec<Stretch> {
    let mut all = Vec::new();
    let (mut old, mut new) = (0, 0);
    let end = Block { old: old_lines, new: new_lines, length: 0 };
    for block in blocks.iter().chain([&end]) {
        if old < block.old || new < block.new {
            all.push(Stretch { same: false, old: old..block.old, new: new..block.new });
        }
        (old, new) = (block.old + block.length, block.new + block.length);
        if block.length > 0 {
            all.push(Stretch { same: true, old: block.old..old, new: block.new..new });
        }
    }
    all
}

/// Changes with their context; those far from one another stand apart.
fn grouped(changes: &[Stretch]) -> Vec<Vec<Stretch>> {
    let mut groups = vec![Vec::new()];
    for (index, stretch) in changes.iter().enumerate() {
        let (first, last) = (index == 0, index + 1 == changes.len());
        let mut stretch = stretch.clone();
        if stretch.same {
            let begin = |stretch: &mut Stretch| {
                stretch.old.start = stretch.old.start.max(stretch.old.end.saturating_sub(CONTEXT));
                stretch.new.start = stretch.new.start.max(stretch.new.end.saturating_sub(CONTEXT));
            };
            let end = |stretch: &mut Stretch| {
                stretch.old.end = stretch.old.end.min(stretch.old.start + CONTEXT);
                stretch.new.end = stretch.new.end.min(stretch.new.start + CONTEXT);
            };
            if first {
                begin(&mut stretch);
            } else if last {
                end(&mut stretch);
            } else if stretch.old.len() > 2 * CONTEXT {
                let mut tail = stretch.clone();
                end(&mut tail);
                groups.last_mut().into_iter().for_each(|group| group.push(tail.clone()));
                groups.push(Vec::new());
                begin(&mut stretch);
            }
        }
        groups.last_mut().into_iter().for_each(|group| group.push(stretch.clone()));
    }
    groups.retain(|group| group.iter().any(|stretch| !stretch.same));
    groups
}

fn hunk(group: &[Stretch], old: &[&str], new: &[&str], out: &mut String) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
    let range = |range: std::ops::Range<usize>| match range.len() {
        1 => (range.start + 1).to_string(),
        0 => format!("{},0", range.start),
        length => format!("{},{length}", range.start + 1),
    };
    let (old_range, new_range) = (range(first.old.start..last.old.end), range(first.new.start..last.new.end));
    let _ = writeln!(out, "@@ -{old_range} +{new_range} @@");
    let mut lines = |mark: char, lines: &[&str]| {
        for line in lines {
            out.push(mark);
            out.push_str(line);
            out.push('\n');
        }
    };
    for stretch in group {
        if stretch.same {
            lines(' ', &old[stretch.old.clone()]);
        } else {
            lines('-', &old[stretch.old.clone()]);
            lines('+', &new[stretch.new.clone()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_far_apart_are_hunks_of_their_own() {
        let old: Vec<String> = (0..20).map(|line| line.to_string()).collect();
        let mut new = old.clone();
        new[2] = "two".to_owned();
        new.remove(17);
        assert_eq!(
            unified(&old.join("\n"), &new.join("\n")),
            "@@ -1,6 +1,6 @@\n 0\n 1\n-2\n+two\n 3\n 4\n 5\n@@ -15,6 +15,5 @@\n 14\n 15\n 16\n-17\n 18\n 19\n"
        );
        assert_eq!(unified("a\nb", "a\nb"), "");
    }

    #[test]
    fn the_longest_common_stretch_is_kept() {
        assert_eq!(unified("a\nb", "a\nc\na\nb"), "@@ -1,2 +1,4 @@\n+a\n+c\n a\n b\n");
    }

    #[test]
    fn long_texts_end_soon() {
        let old = "x\n".repeat(50_000);
        let new = format!("{old}y");
        assert!(unified(&old, &new).ends_with("+y\n"));
    }
}
