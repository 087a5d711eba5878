package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// kind is the kind of a node, and the kind that a shape wants.
type kind uint8

const (
	null kind = iota
	object
	list
	text
	integer
	number
	boolean
	// port is text or an integer: in shapes only.
	port
)

var kindNames = [...]string{"nothing", "keys with values", "a list", "text", "a whole number", "a number", "true or false", "a port"}

func (k kind) String() string { return kindNames[k] }

// node is a value in a file, whether that was YAML or JSON.
type node struct {
	kind         kind
	line, column int
	// value is that of a scalar, as it stands in the file but for quoting.
	value string
	// keys belong to the items of an object, one each; a list has items only.
	keys  []*node
	items []*node
	// bad is set on an object that does not have the shape it should have.
	bad bool
}

const (
	// MaxSize bounds a file, in bytes: fifty thousand policies with conditions.
	MaxSize = 16 << 20
	// MaxMarks bounds the marks of a file, see marks: fifty thousand policies with conditions have that
	// many. A mark stands for up to 600 bytes of memory while a file is parsed.
	MaxMarks = 1 << 20
	// maxDepth bounds how deep values are nested; the language needs 8.
	maxDepth = 16
)

// source makes the tree of a file and gathers problems.
type source struct {
	file     string
	problems Problems
}

// gathered bounds the problems that are kept until they are sorted: those of the first lines should
// be among them, although lines are not visited quite in order.
const gathered = 10 * maxProblems

func (s *source) problem(n *node, what, fix string) {
	if len(s.problems) == gathered {
		return
	}
	s.problems = append(s.problems, Problem{s.file, n.line, n.column, what, fix})
}

func (s *source) at(line, column int, what, fix string) {
	s.problem(&node{line: max(line, 1), column: max(column, 1)}, what, fix)
}

// marks counts what can begin a value in YAML or JSON: the characters , : ? [ and {, and a dash before
// white space. For each of them a parser makes three values at most: "[? , ?" has a pair without key and
// value at each question mark. Those in texts and comments count, too: it is a bound, known before
// anything is allocated.
func marks(b []byte) int {
	n := 0
	for i, c := range b {
		switch c {
		case ',', ':', '?', '[', '{':
			n++
		case '-':
			if i+1 == len(b) || b[i+1] <= ' ' || b[i+1] >= utf8.RuneSelf { // white space beyond ASCII, or none
				n++
			}
		}
	}
	return n
}

// tree returns the file's value, or nil after reporting why there is none.
func (s *source) tree(b []byte, most int) *node {
	if len(b) > MaxSize {
		s.at(1, 1, "the file has "+strconv.Itoa(len(b))+" bytes", "shorten it: at most "+strconv.Itoa(MaxSize)+" are allowed")
		return nil
	}
	if n := marks(b); n > most {
		s.at(1, 1, "the file has too many values: "+strconv.Itoa(n)+" of the characters , : ? [ { and -",
			"shorten it: at most "+strconv.Itoa(most)+" are allowed")
		return nil
	}
	if i := firstInvalid(b); i >= 0 {
		line, column := position(b, i)
		s.at(line, column, "the text is not UTF-8", "save the file with the encoding UTF-8")
		return nil
	}
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		return s.json(b)
	}
	return s.yaml(b)
}

var yamlLine = regexp.MustCompile(`line (\d+): *`)

func (s *source) yaml(b []byte) *node {
	d := yaml.NewDecoder(bytes.NewReader(b))
	var doc, more yaml.Node
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		s.at(1, 1, "the file is empty", `begin it with "version: 1"`)
		return nil
	}
	if err == nil {
		if err = d.Decode(&more); err == nil {
			s.at(more.Line, more.Column, "a second document begins", `remove the line "---"`)
			return nil
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		what, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
		if m := yamlLine.FindStringSubmatch(what); m != nil {
			line, _ = strconv.Atoi(m[1])
			what = strings.Replace(what, m[0], "", 1)
		}
		s.at(line, 1, "this is not YAML: "+strings.Join(strings.Fields(what), " "), "mend the syntax here or just above, indentation first")
		return nil
	}
	return s.fromYAML(doc.Content[0], 0)
}

var yamlKinds = map[string]kind{
	"!!null": null, "!!bool": boolean, "!!int": integer, "!!float": number, "!!str": text, "!!timestamp": text, "!!merge": text,
	"!!map": object, "!!seq": list,
}

func (s *source) fromYAML(y *yaml.Node, depth int) *node {
	n := &node{line: y.Line, column: y.Column, value: y.Value}
	k, known := yamlKinds[y.ShortTag()]
	switch {
	case y.Kind == yaml.AliasNode || y.Anchor != "":
		s.problem(n, "anchors and aliases are not allowed", "write the value out in each place")
		return n
	case !known || y.Style&yaml.TaggedStyle != 0:
		s.problem(n, "tags such as "+strconv.Quote(y.Tag)+" are not allowed", "remove the tag")
		return n
	case depth > maxDepth:
		s.problem(n, "values are nested too deep", "nothing in a policy file needs that")
		return n
	}
	if n.kind = k; k == boolean {
		n.value = strings.ToLower(n.value) // YAML knows True and TRUE, too
	}
	for i, c := range y.Content {
		child := s.fromYAML(c, depth+1)
		if k == object && i%2 == 0 {
			n.keys = append(n.keys, child)
		} else {
			n.items = append(n.items, child)
		}
	}
	return n
}

// firstInvalid returns the offset of the first byte that is not part of UTF-8 text, or -1.
func firstInvalid(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; ; {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
}

// position turns an offset into line and column.
func position(b []byte, offset int) (line, column int) {
	before := b[:min(max(offset, 0), len(b))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}
