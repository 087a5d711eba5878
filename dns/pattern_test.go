package dns

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func pattern(t testing.TB, s string) Pattern {
	t.Helper()
	p, err := NewPattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMatch(t *testing.T) {
	for _, c := range []struct{ pattern, in, out string }{
		{"example.com", "example.com EXAMPLE.com", "a.example.com example.co xample.com com"},
		{"*.example.com", "example.com a.example.com A.Example.COM", "a.b.example.com xexample.com com .example.com"},
		{"**.example.com", "example.com a.example.com a.b.example.com", "aexample.com example.org a..example.com .example.com"},
		{"?.example.com", "a.example.com é.example.com", "ab.example.com example.com a.b.example.com"},
		{"*ample.com", "example.com sample.com ample.com", "ex.ample.com a.example.com"},
		{"a*b*c.com", "abc.com axxbyyc.com abbc.com", "ab.com a.b.c.com abcd.com"},
		{"sub.*.example.com", "sub.a.example.com", "sub.example.com sub.a.b.example.com"},
		{"a.**.z", "a.z a.b.z a.b.c.z a.z.z", "b.a.z a z"},
		{"**", "a a.b.c", "a..b a. .a"},
		{"**.a.**.a.**", "a.a x.a.y.a.z a.b.a", "a b.a"},
		{"*", "com", "a.com"},
		{"*.*.com", "a.b.com", "a.com com"},
		{"Example.COM.", "example.com", "example.com."},
		{"_sip.*.example.com", "_sip.tcp.example.com", "sip.tcp.example.com"},
		{"*.??.x", "a.bc.x", "a.b.x bc.x a.bcd.x"},
		{"kelvin.com", "KELVIN.com", "\u212aelvin.com"},
	} {
		p := pattern(t, c.pattern)
		for _, name := range strings.Fields(c.in) {
			if !p.Match(name) {
				t.Errorf("%s does not match %s", c.pattern, name)
			}
		}
		for _, name := range strings.Fields(c.out) {
			if p.Match(name) {
				t.Errorf("%s matches %s", c.pattern, name)
			}
		}
	}
	if (Pattern{}).Match("a") || pattern(t, "**").Match("") || pattern(t, "**").Match(strings.Repeat("a.", 126)+"aa") {
		t.Error("matches nothing, or what is too long")
	}
}

func TestSpecificity(t *testing.T) {
	want := strings.Fields("corp.io a.corp.io *.a.corp.io b.corp.io ?.corp.io *.corp.io **.corp.io *orp.io *.io")
	var patterns []Pattern
	for _, s := range want {
		patterns = append(patterns, pattern(t, s))
	}
	for i, p := range patterns {
		for j, q := range patterns {
			if got := p.Compare(q); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s against %s: %d", p, q, got)
			}
		}
	}
	slices.Reverse(patterns)
	slices.SortFunc(patterns, Pattern.Compare)
	for i, p := range patterns {
		if p.String() != want[i] {
			t.Errorf("place %d: %s, want %s", i, p, want[i])
		}
	}
}

func TestInvalidPatternsAreRefused(t *testing.T) {
	for s, want := range map[string]string{
		"": "empty", ".": "empty", "a..b": "empty label", ".a": "empty label", "a**.b": "whole labels", "***.b": "whole labels",
		"[ab].c": "use letters", "a b": "use letters", "a/b": "use letters", "a\x00": "use letters", `a\.b`: "use letters",
		strings.Repeat("a", MaxName+1): "longer",
	} {
		if _, err := NewPattern(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

// expression spells a pattern as a regular expression over a name with a dot before it.
func expression(p string) *regexp.Regexp {
	var e strings.Builder
	for label := range strings.SplitSeq(p, ".") {
		if label == "**" {
			e.WriteString(`(\.[^.]+)*`)
			continue
		}
		label = regexp.QuoteMeta(label)
		label = strings.NewReplacer(`\*`, `[^.]*`, `\?`, `[^.]`).Replace(label)
		e.WriteString(`\.` + label)
	}
	parent := ""
	if rest, ok := strings.CutPrefix(p, "*."); ok {
		parent = `|\.` + regexp.QuoteMeta(rest)
	}
	return regexp.MustCompile("^(?:" + e.String() + parent + ")$")
}

func TestMatchAgreesWithARegularExpression(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		labels := rapid.SliceOfN(rapid.OneOf(rapid.Just("**"), rapid.StringMatching(`([ab?]|\*[ab?]){1,3}\*?`)), 1, 5).Draw(t, "labels")
		p, err := NewPattern(strings.Join(labels, "."))
		if err != nil {
			t.Fatal(err)
		}
		e := expression(p.String())
		for range 20 {
			name := strings.Join(rapid.SliceOfN(rapid.StringMatching(`[ab]{1,4}`), 1, 6).Draw(t, "name"), ".")
			if got, want := p.Match(name), e.MatchString("."+name); got != want {
				t.Fatalf("%s against %s: %v", p, name, got)
			}
		}
	})
}

func TestCompareIsAnOrder(t *testing.T) {
	some := rapid.StringMatching(`(\*\*\.)?(\*?[ab?]{1,2}\.)?\*?[ab]{1,2}`)
	rapid.Check(t, func(t *rapid.T) {
		var p [3]Pattern
		for i := range p {
			var err error
			if p[i], err = NewPattern(some.Draw(t, "pattern")); err != nil {
				t.Fatal(err)
			}
		}
		if a, b := p[0].Compare(p[1]), p[1].Compare(p[0]); (a < 0) != (b > 0) || (a == 0) != (p[0].String() == p[1].String()) {
			t.Fatalf("%s, %s: %d, %d", p[0], p[1], a, b)
		}
		if p[0].Compare(p[1]) <= 0 && p[1].Compare(p[2]) <= 0 && p[0].Compare(p[2]) > 0 {
			t.Fatalf("%s, %s, %s", p[0], p[1], p[2])
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	worst := pattern(b, strings.Repeat("*a", 60)+"b")
	usual := pattern(b, "**.example.com")
	name := strings.Repeat("a", 120)
	b.Run("usual", func(b *testing.B) {
		for b.Loop() {
			usual.Match("www.app.example.com")
		}
	})
	b.Run("worst", func(b *testing.B) {
		for b.Loop() {
			worst.Match(name)
		}
	})
}
