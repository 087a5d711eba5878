package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sort"
	"strings"
)

// jsonReader makes a tree of JSON, token by token, because only tokens have positions.
type jsonReader struct {
	*source
	b   []byte
	d   *json.Decoder
	eol []int // offsets of line ends
}

func (s *source) json(b []byte) *node {
	r := &jsonReader{source: s, b: b, d: json.NewDecoder(bytes.NewReader(b))}
	r.d.UseNumber()
	for i, c := range b {
		if c == '\n' {
			r.eol = append(r.eol, i)
		}
	}
	n, err := r.value(0)
	end := int(r.d.InputOffset())
	if err == nil {
		rest := bytes.TrimLeft(b[end:], " \t\r\n")
		if len(rest) == 0 {
			return n
		}
		end = len(b) - len(rest)
		err = errors.New("something follows the closing brace")
	}
	if errors.Is(err, errReported) {
		return nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		end = int(syntax.Offset)
	}
	line, column := r.position(end)
	s.at(line, column, "this is not JSON: "+err.Error(), "mend the syntax; a file that begins with a brace is taken for JSON")
	return nil
}

// errReported: the problem has been reported already.
var errReported = errors.New("reported")

func (r *jsonReader) value(depth int) (*node, error) {
	n := &node{}
	n.line, n.column = r.position(r.start())
	if depth > maxDepth {
		r.problem(n, "values are nested too deep", "nothing in a policy file needs that")
		return nil, errReported
	}
	t, err := r.d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		return n, r.content(n, t == '{', depth)
	case string:
		n.kind, n.value = text, t
	case bool:
		n.kind, n.value = boolean, "false"
		if t {
			n.value = "true"
		}
	case json.Number:
		n.kind, n.value = integer, t.String()
		if strings.ContainsAny(n.value, ".eE") {
			n.kind = number
		}
	}
	return n, nil
}

// content reads what is in the braces or brackets that have been opened, and the closing one.
func (r *jsonReader) content(n *node, isObject bool, depth int) error {
	n.kind = list
	if isObject {
		n.kind = object
	}
	for r.d.More() {
		child, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if isObject {
			n.keys = append(n.keys, child)
			if child, err = r.value(depth + 1); err != nil {
				return err
			}
		}
		n.items = append(n.items, child)
	}
	_, err := r.d.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// start is the offset of the next token.
func (r *jsonReader) start() int {
	i := int(r.d.InputOffset())
	for i < len(r.b) && strings.IndexByte(" \t\r\n,:", r.b[i]) >= 0 {
		i++
	}
	return i
}

func (r *jsonReader) position(offset int) (line, column int) {
	offset = min(max(offset, 0), len(r.b))
	line = sort.SearchInts(r.eol, offset)
	column = offset + 1
	if line > 0 {
		column = offset - r.eol[line-1]
	}
	return line + 1, column
}
