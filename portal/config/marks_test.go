package config

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// allocated is how much f allocates, in bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// What has too many values is refused before they take memory.
func TestManyValuesTakeNoMemory(t *testing.T) {
	const head = "version: 1\naccounts: [{slug: acme, groups: [{name: g, members: ["
	for name, text := range map[string]string{
		"list":        head + strings.Repeat("a,", (MaxSize-len(head))/2),
		"pairs":       head + strings.Repeat("?,", (MaxSize-len(head))/2),
		"block":       strings.Repeat("-\n", MaxSize/2),
		"nested":      strings.Repeat("- ", MaxSize/2),
		"keys":        strings.Repeat("a:\n", MaxSize/3),
		"json":        `{"a": [` + strings.Repeat("1,", MaxSize/2-10),
		"json, empty": `{"a": [` + strings.Repeat("{},", MaxSize/3-10),
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if n := allocated(func() { _, err = Parse("p", []byte(text)) }); n > 3*MaxSize {
				t.Errorf("%d MiB for %d MiB", n>>20, len(text)>>20)
			}
			if err == nil || !strings.Contains(err.Error(), "too many values") {
				t.Errorf("%v", err)
			}
		})
	}
}

// A mark costs what the documentation says.
func TestMarksBoundMemory(t *testing.T) {
	const n = 1 << 16
	for name, one := range map[string]string{"list": "a,", "keys": "{a},", "pairs": "a: b,", "bare keys": "a,"} {
		open, end := "[", "]"
		if name == "bare keys" {
			open, end = "{", "}"
		}
		text := []byte("a: " + open + strings.Repeat(one, n) + end)
		var kept any
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s := &source{}
		kept = s.fromYAML(doc.Content[0], 0)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if each := (after.HeapAlloc - before.HeapAlloc) / uint64(marks(text)); each > 600 {
			t.Errorf("%s: %d bytes for each mark", name, each)
		} else {
			t.Logf("%s: %d bytes for each mark", name, each)
		}
		runtime.KeepAlive(kept)
		runtime.KeepAlive(&doc)
	}
}

// No text has more than three values for a mark, and two beside them.
func TestMarksBoundValues(t *testing.T) {
	alphabet := []string{"a", "b", " ", "\n", "\n  ", "\n- ", "-", "- ", ":", ": ", "?", "? ", ",", "[", "]", "{", "}", `"`, "'", "|", "#", "!t ", "&x ", "*x ", "\t", "\u0085", "\u2028"}
	var count func(*yaml.Node) int
	count = func(y *yaml.Node) int {
		n := 1
		for _, c := range y.Content {
			n += count(c)
		}
		return n
	}
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 30).Draw(t, "text"), ""))
		for _, around := range [][2]string{{"", ""}, {"[", "]"}, {"{", "}"}, {"a:\n- ", ""}} {
			whole := []byte(around[0] + string(text) + around[1])
			var doc yaml.Node
			if yaml.NewDecoder(bytes.NewReader(whole)).Decode(&doc) != nil {
				continue
			}
			if n, m := count(&doc), marks(whole); n > 3*m+2 {
				t.Fatalf("%q: %d values, %d marks", whole, n, m)
			}
		}
	})
}

// ParseWithin takes what has as many marks as it may, and no more.
func TestMarksAreCounted(t *testing.T) {
	text := []byte("version: 1\naccounts: [{slug: acme, name: a-b}]\n")
	const has = 7 // four colons, a bracket, a brace and a comma
	if _, err := ParseWithin("p", text, has); err != nil {
		t.Error(err)
	}
	if _, err := ParseWithin("p", text, has-1); err == nil {
		t.Error("a mark too many is accepted")
	}
	if n := marks(large(50_000, everyone)); n > MaxMarks {
		t.Errorf("fifty thousand policies have %d marks", n)
	}
}
