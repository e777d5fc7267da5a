//! Patterns of paths and names.

/// The most that a pattern may stand for, `{a,b}{c,d}` being four.
const ALTERNATIVES_MAX: usize = 1024;

/// `*` any characters but a slash, `**` any, `?` one, `[0-9]` one of these, `{a,b}` either; the rest stands for itself.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    /// Without braces; one must fit.
    alternatives: Vec<Vec<Piece>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// This character.
    Letter(char),
    /// One from the first to the second.
    Range(char, char),
    /// Any one.
    One,
    /// Any number, without a slash.
    Some,
    /// Any number.
    Any,
}

impl Glob {
    /// Reads a pattern; where it `is_path`, a single `*` stops at a slash.
    ///
    /// # Errors
    /// In words, where a brace or bracket isn't closed.
    pub(super) fn parse(pattern: &str, is_path: bool) -> Result<Self, String> {
        let letters: Vec<char> = pattern.chars().collect();
        let mut texts = vec![String::new()];
        let mut at = 0;
        while let Some(letter) = letters.get(at) {
            let alternatives = match letter {
                '{' => {
                    let length = letters[at..].iter().position(|it| *it == '}');
                    let length = length.ok_or_else(|| format!("`{{` isn't closed in `{pattern}`"))?;
                    let inside: String = letters[at + 1..at + length].iter().collect();
                    if inside.contains('{') {
                        return Err(format!("braces stand in braces in `{pattern}`"));
                    }
                    at += length + 1;
                    inside.split(',').map(str::to_owned).collect()
                }
                _ => {
                    at += 1;
                    vec![letter.to_string()]
                }
            };
            if texts.len() * alternatives.len() > ALTERNATIVES_MAX {
                return Err(format!("`{pattern}` stands for more than {ALTERNATIVES_MAX} patterns"));
            }
            texts = texts.iter().flat_map(|text| alternatives.iter().map(move |end| format!("{text}{end}"))).collect();
        }
        let alternatives = texts.iter().map(|text| pieces(text, is_path)).collect();
        Ok(Glob { alternatives })
    }

    /// True where all of a text is as the pattern says.
    pub(super) fn fits(&self, text: &str) -> bool {
        self.alternatives.iter().any(|pieces| fits(pieces, text))
    }
}

fn pieces(text: &str, is_path: bool) -> Vec<Piece> {
    let letters: Vec<char> = text.chars().collect();
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        at += 1;
        let piece = match (letter, &letters[at..]) {
            ('?', _) => Piece::One,
            ('*', ['*', ..]) => {
                at += 1;
                Piece::Any
            }
            ('*', _) if is_path => Piece::Some,
            ('*', _) => Piece::Any,
            ('[', [from, '-', to, ']', ..]) => {
                at += 4;
                Piece::Range(*from, *to)
            }
            _ => Piece::Letter(*letter),
        };
        pieces.push(piece);
    }
    pieces
}

/// Walks along both. Where it fails it goes back to the last star and lets that take one more; a `*` that a slash has ended goes
/// back to the `**` before it.
fn fits(pieces: &[Piece], text: &str) -> bool {
    let mut rest = text;
    let mut at = 0;
    // Behind a star: where the pattern goes on, and what of the text is left to try.
    let mut some: Option<(usize, &str)> = None;
    let mut any: Option<(usize, &str)> = None;
    loop {
        let next = rest.chars().next();
        match (pieces.get(at), next) {
            (None, None) => return true,
            (Some(Piece::Any), _) => {
                at += 1;
                (some, any) = (None, Some((at, rest)));
                continue;
            }
            (Some(Piece::Some), _) => {
                at += 1;
                some = Some((at, rest));
                continue;
            }
            (Some(piece), Some(letter)) if piece.is(letter) => {
                at += 1;
                rest = &rest[letter.len_utf8()..];
                continue;
            }
            _ => {}
        }
        let more = |star: Option<(usize, &'_ str)>| star.and_then(|(_, left)| left.chars().next());
        if let (Some((behind, left)), Some(letter)) = (some, more(some).filter(|letter| *letter != '/')) {
            rest = &left[letter.len_utf8()..];
            at = behind;
            some = Some((behind, rest));
        } else if let (Some((behind, left)), Some(letter)) = (any, more(any)) {
            rest = &left[letter.len_utf8()..];
            at = behind;
            (some, any) = (None, Some((behind, rest)));
        } else {
            return false;
        }
    }
}

impl Piece {
    fn is(self, letter: char) -> bool {
        match self {
            Piece::Letter(own) => own == letter,
            Piece::Range(from, to) => (from..=to).contains(&letter),
            Piece::One => true,
            Piece::Some | Piece::Any => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path_fits(pattern: &str, path: &str) -> bool {
        Glob::parse(pattern, true).unwrap().fits(path)
    }

    #[test]
    fn one_star_stops_at_a_slash_and_two_do_not() {
        for (pattern, path, expected) in [
            ("/usr/lib/**", "/usr/lib/a/b.so", true),
            ("/usr/lib/*", "/usr/lib/a/b.so", false),
            ("**/lib*.so*", "/opt/x/libfoo.so.1", true),
            ("**/lib*.so*", "/opt/lib/x/foo.so.1", false),
            ("**/a/*/b", "/a/x/a/y/b", true),
            ("**/*.py", "app.py", false),
            ("**.py", "app.py", true),
            ("/{usr/,}bin/*", "/bin/sh", true),
            ("/{usr/,}bin/*", "/usr/bin/sh", true),
            ("**/py?hon[0-9].*", "/x/python3.11", true),
            ("[vdso]", "[vdso]", true),
            ("", "", true),
            ("*", "", true),
            ("a", "", false),
        ] {
            assert_eq!(path_fits(pattern, path), expected, "{pattern} {path}");
        }
        assert!(Glob::parse("std::*", false).unwrap().fits("std::a/b::c"));
        assert!(Glob::parse("{a,b", true).is_err());
        assert!(Glob::parse("{a{b,c}}", true).is_err());
        assert!(Glob::parse(&"{a,b,c,d}".repeat(9), true).is_err());
    }

    /// The same, said in the plainest way.
    fn plainly(pieces: &[Piece], text: &[char]) -> bool {
        match pieces.split_first() {
            None => text.is_empty(),
            Some((Piece::Any, rest)) => (0..=text.len()).any(|taken| plainly(rest, &text[taken..])),
            Some((Piece::Some, rest)) => (0..=text.len())
                .take_while(|taken| !text[..*taken].contains(&'/'))
                .any(|taken| plainly(rest, &text[taken..])),
            Some((piece, rest)) => {
                text.split_first().is_some_and(|(first, left)| piece.is(*first) && plainly(rest, left))
            }
        }
    }

    proptest! {
        #[test]
        fn going_back_to_the_last_star_is_enough(pattern in "[ab/*?]{0,8}", text in "[ab/]{0,10}") {
            let letters: Vec<char> = text.chars().collect();
            prop_assert_eq!(path_fits(&pattern, &text), plainly(&pieces(&pattern, true), &letters));
        }
    }
}
