package dns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxName is the length of the longest domain name in text, without a final dot (RFC 1035,
// section 2.3.4: 255 octets with the lengths of labels and the root). Patterns keep to it, too.
const MaxName = 253

// Pattern matches the names of a DNS resource, letter case aside:
//
//	example.com      that name alone
//	*.example.com    one label below it, and example.com itself
//	*ample.com       one label that ends so: example.com, sample.com
//	**.example.com   any number of labels below it, none included
//	?.example.com    one label of one character below it
//
// A star stands for any characters of a label, at least one where it is a label of its own; a
// question mark for one; "**" is always a whole label. No wildcard stands for a dot but "**".
// The zero Pattern matches nothing.
type Pattern struct {
	text   string // in lower case
	labels []string
}

// errPattern is what is wrong with a pattern; NewPattern says with which.
var (
	errPatternEmpty  = errors.New("it is empty")
	errPatternLong   = fmt.Errorf("it is longer than %d bytes", MaxName)
	errPatternLabel  = errors.New("it has an empty label (two dots in a row, or a dot at the start)")
	errPatternDouble = errors.New(`"**" stands for whole labels and must have dots around it`)
	errPatternByte   = errors.New("use letters, digits, '-', '_', '.', and the wildcards '*', '**' and '?'")
)

// NewPattern reads a pattern. A final dot is dropped. It refuses what could never match a name,
// and characters that have a meaning in other glob languages, rather than guess.
func NewPattern(s string) (Pattern, error) {
	text := Canonical(s)
	if err := checkPattern(text); err != nil {
		return Pattern{}, fmt.Errorf("name pattern %q: %w", s, err)
	}
	return Pattern{text, strings.Split(text, ".")}, nil
}

func checkPattern(text string) error {
	switch {
	case text == "":
		return errPatternEmpty
	case len(text) > MaxName:
		return errPatternLong
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" {
			return errPatternLabel
		}
		if label != "**" && strings.Contains(label, "**") {
			return errPatternDouble
		}
	}
	for i := range len(text) {
		if c := text[i]; !nameByte(c) && c != '*' && c != '?' {
			return errPatternByte
		}
	}
	return nil
}

// Canonical returns a name as it is compared: ASCII letters in lower case, and no others (RFC 4343;
// there are characters beyond ASCII whose lower case is an ASCII letter), without a final dot.
func Canonical(name string) string {
	b := []byte(strings.TrimSuffix(name, "."))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// nameByte reports whether c may be part of a name in text: what host names hold, the underscore
// of service names, and UTF-8 as it is.
func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c >= 0x80
}

// String returns the pattern as it is matched: in lower case, without a final dot.
func (p Pattern) String() string { return p.text }

// Match reports whether the pattern matches a name, which has no final dot.
func (p Pattern) Match(name string) bool {
	if len(p.labels) == 0 || name == "" || len(name) > MaxName || strings.HasSuffix(name, ".") {
		return false
	}
	name = Canonical(name)
	if p.labels[0] == "*" && len(p.labels) > 1 && name == p.text[2:] {
		return true
	}
	labels := strings.Split(name, ".")
	return !slices.Contains(labels, "") && matchLabels(p.labels, labels)
}

// matchLabels matches labels, of which "**" stands for any number.
func matchLabels(pattern, name []string) bool {
	return glob(len(pattern), len(name),
		func(p int) bool { return pattern[p] == "**" },
		func(p, n int) int {
			if matchLabel(pattern[p], name[n]) {
				return 1
			}
			return 0
		})
}

// matchLabel matches one label, of which '*' stands for any number of bytes and '?' for one
// character. The label is not empty.
func matchLabel(pattern, label string) bool {
	return glob(len(pattern), len(label),
		func(p int) bool { return pattern[p] == '*' },
		func(p, n int) int {
			switch pattern[p] {
			case '?':
				return character(label[n:])
			case label[n]:
				return 1
			}
			return 0
		})
}

// glob matches a pattern of the given number of items with a name of so many. any says whether a
// pattern's item stands for any number of the name's, take how many of them, from the n-th on, it
// stands for otherwise; 0 for none. As any wildcard's first fit that lets the rest of the pattern go
// on is as good as a later one, it goes back to the last such item only.
func glob(pattern, name int, any func(p int) bool, take func(p, n int) int) bool {
	p, n, star, from := 0, 0, -1, 0
	for n < name {
		taken := 0
		if p < pattern {
			if any(p) {
				star, from = p, n
				p++
				continue
			}
			taken = take(p, n)
		}
		switch {
		case taken > 0:
			p++
			n += taken
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	for p < pattern && any(p) {
		p++
	}
	return p == pattern
}

// character returns the length of the first character of s: a byte, and what continues it in UTF-8.
func character(s string) int {
	n := 1
	for n < len(s) && s[n]&0xc0 == 0x80 {
		n++
	}
	return n
}

// Compare orders patterns by how specific they are: negative if p is the more specific. Characters
// are compared from the right: one that stands for itself before '?', '?' before '*', "*" before
// "**"; of two that agree as far as the shorter goes, the shorter is first. Patterns of equal
// rank are ordered by their text, and only equal patterns compare as 0.
func (p Pattern) Compare(o Pattern) int {
	a, b := p.text, o.text
	for i := 1; i <= len(a) && i <= len(b); i++ {
		x, y := a[len(a)-i], b[len(b)-i]
		if x == y {
			continue
		}
		if rx, ry := rank(x), rank(y); rx != ry {
			return rx - ry
		}
		return int(x) - int(y)
	}
	return len(a) - len(b)
}

func rank(c byte) int {
	switch c {
	case '*':
		return 2
	case '?':
		return 1
	}
	return 0
}
