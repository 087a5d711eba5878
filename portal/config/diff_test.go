package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPlan(t *testing.T) {
	before := parse(t, `{"version":1,"accounts":[{"slug":"acme","sites":[{"name":"here","id":"99999999-9999-4999-8999-999999999999"}],
		"groups":[{"name":"ops"},{"name":"dev","members":["a@b"]}],
		"resources":[{"name":"lab","type":"cidr","address":"10.2.0.0/16","site":"here"},{"name":"old","type":"ip","address":"10.9.0.1","site":"here"}],
		"policies":[{"group":"ops","resource":"lab"},{"group":"dev","resource":"lab","disabled":true},{"group":"dev","resource":"old"}]}]}`)
	after := parse(t, `{"version":1,"relays":[{"name":"r","latitude":1,"longitude":2}],"accounts":[{"slug":"acme","session_lifetime":"1h",
		"sites":[{"name":"there","id":"99999999-9999-4999-8999-999999999999"}],
		"groups":[{"name":"dev","members":["c@d","a@b"]},{"name":"ops"}],
		"resources":[{"name":"lab","type":"cidr","address":"10.3.0.0/16","site":"there","filters":[{"protocol":"tcp","ports":["80-90"]}]}],
		"policies":[{"group":"dev","resource":"lab"},{"group":"ops","resource":"lab","conditions":{"region":{"not_in":["FR"]},
			"time":[{"days":["tue","mon"],"ranges":["09:00-10:30"],"zone":"UTC"}]}}]}]}`)
	var b strings.Builder
	if err := WritePlan(&b, Diff(before, after)); err != nil {
		t.Fatal(err)
	}
	want := `- acme: resource "old" removed; for dev
- acme: policy "dev to old" removed; for dev
~ acme: account "acme" updated: session_lifetime 168h0m0s → 1h0m0s; for Everyone
~ acme: site "there" updated: name here → there; for dev, ops
~ acme: group "dev" updated: members a@b → a@b c@d; for dev
~ acme: resource "lab" updated: address 10.2.0.0/16 → 10.3.0.0/16, filters none → tcp/80-90; for dev, ops
~ acme: policy "dev to lab" updated: disabled true → false; for dev
~ acme: policy "ops to lab" updated: conditions.region none → not in FR, conditions.time none → [mon,tue 09:00:00-10:30:00 UTC]; for ops
+ relay "r" added
2 to remove, 6 to update, 1 to add
`
	if b.String() != want {
		t.Errorf("plan:\n%swant:\n%s", &b, want)
	}
	for _, c := range Diff(before, after) {
		if (c.Before == nil) != (c.Action == Added) || (c.After == nil) != (c.Action == Removed) {
			t.Errorf("%v: before %v, after %v", c, c.Before, c.After)
		}
		if c.Kind == KindResource && c.Action == Updated && (!c.Changed("address") || c.Changed("site") || c.After.(*Resource).Address != "10.3.0.0/16") {
			t.Errorf("%+v", c)
		}
	}
}

// Two things of one name with different ids are told apart.
func TestReferencesAreComparedById(t *testing.T) {
	file := func(id string) *File {
		return parse(t, `{"version":1,"accounts":[{"slug":"acme","sites":[{"name":"s","id":"`+id+`"}],"resources":[{"name":"r","type":"internet","site":"s"}]}]}`)
	}
	one, two := "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	d := Diff(file(one), file(two))
	if len(d) != 3 || !slices.Equal(d[1].Fields, []FieldChange{{"site", one, two}}) {
		t.Errorf("%v", d)
	}
}

// Diff of a file with itself, in any order of its parts, is empty; carrying out the changes between
// two files makes one of the other; and there and back are opposites.
func TestDiffIsADifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawFile(t, "a"), drawFile(t, "b")
		if d := Diff(a, a); len(d) != 0 {
			t.Fatalf("to itself: %v", d)
		}
		if d := Diff(a, shuffled(t, a)); len(d) != 0 {
			t.Fatalf("to its parts in another order: %v", d)
		}
		there, back := Diff(a, b), Diff(b, a)
		if len(there) != len(back) {
			t.Fatalf("%d changes there, %d back", len(there), len(back))
		}
		if !slices.IsSortedFunc(there, func(x, y Change) int { return int(x.Action) - int(y.Action) }) {
			t.Fatalf("out of order: %v", there)
		}
		state := values(a)
		for _, c := range there {
			k := key{c.Account, c.Kind, c.ID}
			if !reflect.DeepEqual(state[k], c.Before) {
				t.Fatalf("%v: there is %+v", c, state[k])
			}
			if delete(state, k); c.After != nil {
				state[k] = c.After
			}
			if (c.Action == Updated) != (len(c.Fields) > 0) {
				t.Fatalf("%v has fields %v", c, c.Fields)
			}
		}
		want := values(b)
		if !slices.Equal(sortedKeys(state), sortedKeys(want)) {
			t.Fatalf("after the changes: %v, want %v", sortedKeys(state), sortedKeys(want))
		}
		for k, v := range state {
			if k.kind != KindAccount && !reflect.DeepEqual(v, want[k]) {
				t.Fatalf("%v is %+v, want %+v", k, v, want[k])
			}
		}
		if len(Diff(nil, a)) != len(values(a)) || len(Diff(nil, nil)) != 0 {
			t.Fatal("nil is not an empty file")
		}
	})
}

func values(f *File) map[key]any {
	all := map[key]any{}
	for k, t := range things(f) {
		all[k] = t.value
	}
	return all
}

func sortedKeys(m map[key]any) []string {
	var all []string
	for k := range maps.Keys(m) {
		all = append(all, fmt.Sprint(k))
	}
	slices.Sort(all)
	return all
}

// shuffled is f with its policies and resources in another order.
func shuffled(t *rapid.T, f *File) *File {
	g := &File{Relays: f.Relays, Accounts: slices.Clone(f.Accounts)}
	for i := range g.Accounts {
		g.Accounts[i].Policies = rapid.Permutation(g.Accounts[i].Policies).Draw(t, "policies")
		g.Accounts[i].Resources = rapid.Permutation(g.Accounts[i].Resources).Draw(t, "resources")
	}
	return g
}

// drawFile draws a small file from a small world, so that two of them share much.
func drawFile(t *rapid.T, label string) *File {
	type m = map[string]any
	pick := func(name string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label+name) }
	maybe := func(name string) bool { return rapid.Bool().Draw(t, label+name) }
	var accounts []m
	for _, slug := range []string{"acme", "other"} {
		if slug == "other" && maybe("one account") {
			continue
		}
		a := m{
			"slug": slug, "sites": []m{{"name": "here"}, {"name": "there"}}, "service_accounts": []m{{"name": "ci", "disabled": maybe("ci")}},
			"groups": []m{
				{"name": "ops", "members": []string{pick("member", "a@b", "c@d")}},
				{"name": "dev", "service_accounts": []string{"ci"}},
			},
		}
		var resources, policies []m
		for _, name := range []string{"r1", "r2", "r3"} {
			if maybe("no " + name) {
				continue
			}
			resources = append(resources, m{"name": name, "type": "ip", "address": pick("address", "10.0.0.1", "10.0.0.2"), "site": pick("site", "here", "there")})
			for _, group := range []string{"ops", "dev", everyone} {
				if maybe("no policy") {
					continue
				}
				policies = append(policies, m{"group": group, "resource": name, "disabled": maybe("off"), "conditions": m{
					"region":          m{pick("in", "in", "not_in"): []string{pick("region", "DE", "FR")}},
					"client_verified": maybe("verified"),
				}})
			}
		}
		a["resources"], a["policies"] = resources, policies
		if resources == nil {
			a["resources"] = []m{}
		}
		if policies == nil {
			a["policies"] = []m{}
		}
		accounts = append(accounts, a)
	}
	b, err := json.Marshal(m{"version": 1, "accounts": accounts})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(label, b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
