package fuzz

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/config"
)

// policySeeds are the shapes of policy files that the parser tells apart.
var policySeeds = []string{
	"", "#", "version: 1", "{", "{}", "[]", "---\n---\n", "version: 1\naccounts: [{slug: acme}]",
	"a: &a [*a]", "? {a: b}\n: c", "<<: {version: 1}", "version: !!binary AAAA", "version: 0x1", "\xff",
	`{"version":1,"accounts":[{"slug":"acme","sites":[{"name":"s"}],"resources":[{"name":"r","type":"cidr","address":"10.0.0.0/8","site":"s",
	  "filters":[{"protocol":"tcp","ports":[80,"90-99"]}]}],"policies":[{"group":"Everyone","resource":"r","conditions":{"time":[{"days":["mon"],
	  "ranges":["22:00-24:00"],"zone":"Europe/Berlin"}],"remote_ip":{"not_in":["10.0.0.1"]}}}]}]}`,
	`{"version":1e0,"accounts":[{"slug":"a\u0000b","id":null}]}`,
}

// FuzzPolicyFile: whatever the bytes, a problem has a place inside the file and says what to do; a
// file that is accepted differs in nothing from itself, in everything from an empty one, has each id
// once, and gives nobody more than its policies say.
func FuzzPolicyFile(f *testing.F) {
	example, err := os.ReadFile("../portal/config/testdata/example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, s := range policySeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := config.Parse("f", b)
		if err != nil {
			placed(t, b, err)
			return
		}
		again, err := config.Parse("f", b)
		if err != nil {
			t.Fatalf("refused the second time: %v", err)
		}
		if d := config.Diff(file, again); len(d) > 0 {
			t.Fatalf("differs from itself: %v", d)
		}
		ids := map[string]bool{}
		for _, c := range config.Diff(nil, file) {
			if ids[c.Kind.String()+c.ID] || c.ID == "" || c.After == nil || c.Action != config.Added {
				t.Fatalf("id is empty or twice there: %v", c)
			}
			ids[c.Kind.String()+c.ID] = true
		}
		for i := range file.Accounts {
			decide(t, &file.Accounts[i])
		}
	})
}

// placed checks problems.
func placed(t *testing.T, b []byte, err error) {
	t.Helper()
	var all config.Problems
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("an error that is no problem: %v", err)
	}
	lines := 1 + strings.Count(string(b), "\n") + strings.Count(string(b), "\r") +
		strings.Count(string(b), "\u0085") + strings.Count(string(b), "\u2028") + strings.Count(string(b), "\u2029")
	for i, p := range all {
		// A YAML parser counts the end of the file as a line.
		if p.Line < 1 || p.Line > lines+1 || p.Column < 1 || p.Column > len(b)+2 || p.What == "" || p.Fix == "" {
			t.Fatalf("problem %v in a file of %d lines", p, lines)
		}
		if i > 0 && all[i-1].Line > p.Line {
			t.Fatalf("out of order: %v", err)
		}
	}
}

// decide checks that the two ways to ask for access agree.
func decide(t *testing.T, a *config.Account) {
	t.Helper()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	actor := config.Actor{Email: "alice@example.com"}
	c := config.Context{RemoteIP: netip.MustParseAddr("192.0.2.1"), Region: "DE"}
	granted := map[string]config.Grant{}
	for _, g := range a.Grants(actor, c, now) {
		granted[g.Resource.ID] = g
		if ok, until, _ := g.Policy.Allowed(c, now); !ok || !until.Equal(g.Until) || !until.IsZero() && !until.After(now) {
			t.Fatalf("granted by a policy that does not allow it: %+v", g)
		}
	}
	for i := range a.Resources {
		id := a.Resources[i].ID
		g, violated, ok := a.Authorize(id, actor, c, now)
		if want, is := granted[id]; ok != is || g != want || ok && len(violated) > 0 {
			t.Fatalf("resource %s: %+v (%v), granted %+v (%v)", id, g, ok, want, is)
		}
	}
}
