package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxDepth bounds how deep a policy file nests; its format needs six levels.
const maxDepth = 16

// tree is a JSON value that remembers where it stands, so that an error about it can say so.
type tree struct {
	doc  *document
	path string // as in $.clients[0].ipv4
	line int
	// value is a string, json.Number, bool or nil; []*tree for an array, *object for an object.
	value any
}

// document is what the trees of one file have in common.
type document struct {
	name string
	data []byte
	// counted and line are how far lines were counted.
	counted, line int
}

// object is a JSON object without the members that were taken.
type object struct {
	members map[string]*tree
	order   []string
}

// parseTree reads the one JSON value in data. Errors name the file called name and the line.
func parseTree(name string, data []byte) (*tree, error) {
	d := &document{name: name, data: data, line: 1}
	in := json.NewDecoder(bytes.NewReader(data))
	in.UseNumber()
	root, err := d.parse(in, "$", 0)
	if err != nil {
		return nil, err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, d.fail(in, "$", "there is more behind the end of the policy; remove it")
	}
	return root, nil
}

func (d *document) parse(in *json.Decoder, path string, depth int) (*tree, error) {
	if depth > maxDepth {
		return nil, d.fail(in, path, "nested too deep; no policy needs that")
	}
	token, err := in.Token()
	if errors.Is(err, io.EOF) {
		return nil, d.fail(in, path, "the file ends in the middle of the policy")
	} else if err != nil {
		return nil, d.fail(in, path, fmt.Sprintf("not valid JSON: %v", err))
	}
	t := &tree{doc: d, path: path, line: d.lineAt(in.InputOffset()), value: token}
	switch token {
	case json.Delim('{'):
		t.value, err = d.parseObject(in, path, depth)
	case json.Delim('['):
		t.value, err = d.parseArray(in, path, depth)
	}
	return t, err
}

func (d *document) parseObject(in *json.Decoder, path string, depth int) (*object, error) {
	o := &object{members: make(map[string]*tree)}
	for in.More() {
		token, err := in.Token()
		if err != nil {
			return nil, d.fail(in, path, fmt.Sprintf("not valid JSON: %v", err))
		}
		key, ok := token.(string)
		if !ok {
			return nil, d.fail(in, path, "not valid JSON: a member needs a name")
		}
		at := path + "." + clip(key)
		if o.members[key] != nil {
			return nil, d.fail(in, at, "it appears twice; remove one")
		}
		if o.members[key], err = d.parse(in, at, depth+1); err != nil {
			return nil, err
		}
		o.order = append(o.order, key)
	}
	return o, d.close(in, path)
}

func (d *document) parseArray(in *json.Decoder, path string, depth int) ([]*tree, error) {
	all := []*tree{}
	for in.More() {
		t, err := d.parse(in, path+"["+strconv.Itoa(len(all))+"]", depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, d.close(in, path)
}

// close reads the end of an object or array.
func (d *document) close(in *json.Decoder, path string) error {
	if _, err := in.Token(); err != nil {
		return d.fail(in, path, fmt.Sprintf("not valid JSON: %v", err))
	}
	return nil
}

// lineAt returns the line of an offset, which does not go back between calls.
func (d *document) lineAt(offset int64) int {
	at := min(int(offset), len(d.data))
	if at > d.counted {
		d.line += bytes.Count(d.data[d.counted:at], []byte("\n"))
		d.counted = at
	}
	return d.line
}

func (d *document) fail(in *json.Decoder, path, what string) error {
	return fmt.Errorf("policy file %s:%d: %s: %s", d.name, d.lineAt(in.InputOffset()), path, what)
}

// errorf returns an error about the value, which names file, line and path.
func (t *tree) errorf(format string, args ...any) error {
	return fmt.Errorf("policy file %s:%d: %s: %w", t.doc.name, t.line, t.path, fmt.Errorf(format, args...))
}

// object returns the value as an object.
func (t *tree) object() (*object, error) {
	if o, ok := t.value.(*object); ok {
		return o, nil
	}
	return nil, t.errorf("want an object in {…}")
}

// array returns the value as an array of most elements at most.
func (t *tree) array(most int) ([]*tree, error) {
	all, ok := t.value.([]*tree)
	switch {
	case !ok:
		return nil, t.errorf("want a list in […]")
	case len(all) > most:
		return nil, t.errorf("%d elements, the most is %d", len(all), most)
	}
	return all, nil
}

// text returns the value as a string that is not empty.
func (t *tree) text() (string, error) {
	if s, ok := t.value.(string); ok && s != "" {
		return s, nil
	}
	return "", t.errorf(`want text in "…"`)
}

// boolean returns the value as true or false.
func (t *tree) boolean() (bool, error) {
	if b, ok := t.value.(bool); ok {
		return b, nil
	}
	return false, t.errorf("want true or false")
}

// integer returns the value as a whole number between low and high.
func (t *tree) integer(low, high int64) (int64, error) {
	if n, ok := t.value.(json.Number); ok {
		if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil && low <= i && i <= high {
			return i, nil
		}
	}
	return 0, t.errorf("want a whole number from %d to %d", low, high)
}

// take removes a member and returns it; nil if there is none.
func (o *object) take(key string) *tree {
	t := o.members[key]
	delete(o.members, key)
	return t
}

// rest returns an error about the first member that nobody took.
func (o *object) rest(known string) error {
	for _, key := range o.order {
		if t := o.members[key]; t != nil {
			return t.errorf("unknown field; known are %s", known)
		}
	}
	return nil
}

// clip shortens what a message quotes from the file.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
