package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// shape says what a value must look like, as far as that can be said without looking elsewhere.
type shape struct {
	kind kind
	// about is a sentence for the schema.
	about string
	// fields are those of an object.
	fields []field
	// item is the shape of a list's items; max bounds their number, or the bytes of text. least is
	// the smallest number of items.
	item       *shape
	max, least int
	// enum lists all texts there are, if that is possible.
	enum []string
	// check says what is wrong with a text and what to do, or nothing; pattern is what the schema
	// can say about it.
	check   func(string) (what, fix string)
	pattern string
	// never is a text that fits pattern, but not check.
	never string
	// low and high bound numbers.
	low, high float64
}

type field struct {
	name     string
	required bool
	shape    *shape
}

// fit checks n against s and reports what does not fit. It returns whether n itself fits: with
// objects in lists each answers for itself.
func (s *source) fit(n *node, want *shape, name string) bool {
	if n.kind == null {
		s.problem(n, name+" has no value", "give it "+want.kind.String()+", or remove the key")
		return false
	}
	if !n.is(want.kind) {
		fix := "write " + want.kind.String()
		if want.kind == text && n.kind != object && n.kind != list {
			fix = "put it in quotes"
		}
		s.problem(n, fmt.Sprintf("%s is %v, not %v", name, n.kind, want.kind), fix)
		return false
	}
	switch want.kind {
	case object:
		return s.fitObject(n, want, name)
	case list:
		return s.fitList(n, want, name)
	case text, port:
		return s.fitText(n, want, name)
	case integer, number:
		v, err := strconv.ParseFloat(n.value, 64)
		if err != nil || !(v >= want.low && v <= want.high) {
			s.problem(n, fmt.Sprintf("%s is %s", name, n.value), fmt.Sprintf("choose a number from %v to %v", want.low, want.high))
			return false
		}
	}
	return true
}

// is says whether a node is of a kind that a shape wants.
func (n *node) is(want kind) bool {
	switch want {
	case number:
		return n.kind == number || n.kind == integer
	case port:
		return n.kind == text || n.kind == integer
	}
	return n.kind == want
}

func (s *source) fitObject(n *node, want *shape, name string) bool {
	good := true
	seen := map[string]*node{}
	for i, key := range n.keys {
		if key.kind == object || key.kind == list {
			s.problem(key, "a key is "+key.kind.String(), "write a word")
			good = false
			continue
		}
		f := want.field(key.value)
		switch first := seen[key.value]; {
		case first != nil:
			s.problem(key, fmt.Sprintf("key %q is here for the second time", key.value), fmt.Sprintf("remove it, or the one in line %d", first.line))
			good = false
		case f == nil:
			s.problem(key, fmt.Sprintf("%s cannot have a key %q", name, key.value), "use "+suggestion(key.value, want.names()))
			good = false
		default:
			good = s.fit(n.items[i], f.shape, key.value) && good
		}
		seen[key.value] = key
	}
	for _, f := range want.fields {
		if f.required && seen[f.name] == nil {
			s.problem(n, fmt.Sprintf("%s has no %q", name, f.name), "add the key "+f.name)
			good = false
		}
	}
	n.bad = !good
	return good
}

func (s *source) fitList(n *node, want *shape, name string) bool {
	if len(n.items) > want.max || len(n.items) < want.least {
		s.problem(n, fmt.Sprintf("%s has %d items", name, len(n.items)), fmt.Sprintf("from %d to %d are allowed", want.least, want.max))
		return false
	}
	good := true
	for i, item := range n.items {
		fits := s.fit(item, want.item, fmt.Sprintf("item %d of %s", i+1, name))
		good = good && (fits || want.item.kind == object && want.item.named())
	}
	return good
}

func (s *source) fitText(n *node, want *shape, name string) bool {
	what, fix := "", ""
	switch limit := want.max; {
	case want.enum != nil && !slices.Contains(want.enum, n.value):
		what, fix = fmt.Sprintf("%s cannot be %q", name, abbreviate(n.value)), "use "+suggestion(n.value, want.enum)
	case n.value == "" && want.check == nil && want.enum == nil:
		what, fix = name+" is empty", "write something, or remove the key"
	case len(n.value) > limit && limit > 0:
		what, fix = fmt.Sprintf("%s has %d bytes", name, len(n.value)), fmt.Sprintf("use at most %d", limit)
	case strings.ContainsFunc(n.value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		what, fix = name+" has control characters", "use one line of printable text"
	case want.check != nil:
		what, fix = want.check(n.value)
	}
	if what != "" {
		s.problem(n, what, fix)
	}
	return what == ""
}

// named says whether objects of this shape stand for themselves: a bad one spoils nothing around it.
func (s *shape) named() bool {
	return s.field("name") != nil || s.field("group") != nil || s.field("slug") != nil
}

func (s *shape) field(name string) *field {
	i := slices.IndexFunc(s.fields, func(f field) bool { return f.name == name })
	if i < 0 {
		return nil
	}
	return &s.fields[i]
}

func (s *shape) names() []string {
	all := make([]string, len(s.fields))
	for i := range s.fields {
		all[i] = s.fields[i].name
	}
	return all
}

// suggestion names the choice that is nearest to a misspelt one, or all of them.
func suggestion(wrong string, choices []string) string {
	const near = 2
	best, at := near+1, ""
	for _, c := range choices {
		if d := distance(strings.ToLower(wrong), c); d < best {
			best, at = d, c
		}
	}
	if at != "" {
		return strconv.Quote(at)
	}
	const shown = 24
	more := ""
	if len(choices) > shown {
		choices, more = choices[:shown], ", …"
	}
	return "one of " + strings.Join(choices, ", ") + more
}

// distance is the number of letters to insert, delete or change between two words (Levenshtein); at
// most 32 letters are looked at.
func distance(a, b string) int {
	a, b = a[:min(len(a), 32)], b[:min(len(b), 32)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// abbreviate keeps what is quoted in a problem short.
func abbreviate(s string) string {
	const shown = 60
	if len(s) <= shown {
		return s
	}
	return strings.ToValidUTF8(s[:shown], "") + "…"
}

// get returns the value of a key, or nil.
func (n *node) get(name string) *node {
	for i, k := range n.keys {
		if k.value == name {
			return n.items[i]
		}
	}
	return nil
}

// text returns the text of a key; empty if it is not there.
func (n *node) text(name string) string {
	if v := n.get(name); v != nil {
		return v.value
	}
	return ""
}

// flag returns whether a key is there and true.
func (n *node) flag(name string) bool { return n.text(name) == "true" }

// list returns the items of a key.
func (n *node) list(name string) []*node {
	if v := n.get(name); v != nil && v.kind == list {
		return v.items
	}
	return nil
}

// texts returns the texts of a list.
func (n *node) texts(name string) []string {
	var all []string
	for _, item := range n.list(name) {
		all = append(all, item.value)
	}
	return all
}

// number returns the number of a key; 0 if it is not there.
func (n *node) number(name string) float64 {
	v, err := strconv.ParseFloat(n.text(name), 64)
	if err != nil {
		return 0
	}
	return v
}
