package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write schema.json anew")

func example(t testing.TB) *File {
	t.Helper()
	b, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(b))
}

func parse(t testing.TB, s string) *File {
	t.Helper()
	f, err := Parse("policy.yaml", []byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestExample(t *testing.T) {
	f := example(t)
	a := &f.Accounts[0]
	if a.Slug != "acme" || a.SessionLifetime != 12*time.Hour || a.DNS.Servers[1] != netip.MustParseAddr("2620:fe::fe") || f.Relays[0].Latitude != 52.52 {
		t.Errorf("account %+v", a)
	}
	if len(a.Resources) != 6 || len(a.Groups) != 3 || len(a.Policies) != 7 || !a.Groups[0].Everyone {
		t.Fatalf("%d resources, %d groups, %d policies", len(a.Resources), len(a.Groups), len(a.Policies))
	}
	printer := a.Resources[1]
	want := Resource{
		ID: derive(a.ID, "resource/Printer"), Name: "Printer", Type: IPResource, Address: "10.3.0.7", Description: "second floor",
		Site: a.Sites[0].ID, Filters: []Filter{{"icmp", 0, 0}, {"tcp", 631, 631}, {"tcp", 9100, 9102}},
	}
	if !reflect.DeepEqual(printer, want) {
		t.Errorf("printer is %+v, want %+v", printer, want)
	}
	if p := a.Policies[4]; p.Conditions.Region.Values[1] != "AT" || p.Conditions.Times[0].Zone != "Europe/Berlin" || p.Group != a.Groups[2].ID || p.Resource != a.Resources[0].ID {
		t.Errorf("policy is %+v", p)
	}
	if p := a.Policies[0]; p.Name != "engineering to Git" || !p.FlowLogs {
		t.Errorf("policy is %+v", p)
	}
}

// The same file as JSON gives the same File.
func TestJSONMeansTheSame(t *testing.T) {
	b, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	for _, indent := range []string{"", "\t", "  "} {
		j, err := json.MarshalIndent(v, "", indent)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Parse("policy.json", j)
		if err != nil {
			t.Fatal(err)
		}
		if d := Diff(example(t), f); len(d) > 0 {
			t.Errorf("indented by %q: %v", indent, d)
		}
	}
}

// Ids are part of the interface: tokens and authorizations in the database refer to them.
func TestIdsAreStable(t *testing.T) {
	// The example of RFC 9562, appendix A.4.
	if got := derive("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com"); got != "2ed6657d-e927-568b-95e1-2665a8aea6a2" {
		t.Errorf("derived %s", got)
	}
	f := parse(t, "version: 1\naccounts: [{slug: acme, sites: [{name: a}, {name: b, id: 99999999-9999-4999-8999-999999999999}]}]")
	a := f.Accounts[0]
	if a.ID != derive(namespace, "account/acme") || a.Sites[0].ID != derive(a.ID, "site/a") || a.Sites[1].ID != "99999999-9999-4999-8999-999999999999" {
		t.Errorf("ids %s, %+v", a.ID, a.Sites)
	}
}

const head = "version: 1\naccounts:\n- slug: acme\n  sites: [{name: here}]\n  groups: [{name: ops}]\n"

// Each text has the problems that follow it: line, column, and a word of what and fix.
func TestProblems(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"empty":                    {"", `1:1 empty "version: 1"`},
		"only a comment":           {"# nothing", `1:1 empty "version: 1"`},
		"bad indentation":          {"version: 1\n accounts: []\n", `2:1 YAML mend`},
		"two documents":            {"version: 1\n---\nversion: 1\n", `2:1 document remove`},
		"not UTF-8":                {"version: 1\nname: \xff", `2:7 UTF-8 encoding`},
		"a list":                   {"- 1", `1:1 list keys`},
		"missing keys":             {"version: 1", `1:1 "accounts" add`},
		"no accounts":              {"version: 1\naccounts: []", `2:11 0_items 1`},
		"future version":           {"version: 2\naccounts: [{slug: acme}]", `1:10 2 from_1_to_1`},
		"misspelt key":             {"version: 1\naccounts:\n- slug: acme\n  resourcs: []", `4:3 "resourcs" "resources"`},
		"twice the same key":       {"version: 1\naccounts:\n- slug: acme\n  name: a\n  name: b", `5:3 second_time line_4`},
		"anchor":                   {"version: 1\naccounts: &a\n- slug: acme", `2:11 anchors write`},
		"tag":                      {"version: !!int 1\naccounts: [{slug: acme}]", `1:10 tags remove`},
		"number for text":          {"version: 1\naccounts:\n- slug: acme\n  name: 12", `4:9 whole_number quotes`},
		"nothing for text":         {"version: 1\naccounts:\n- slug: acme\n  name:", `4:8 no_value remove`},
		"bad slug":                 {"version: 1\naccounts: [{slug: Ac me}]", `2:19 slug a-z`},
		"two accounts":             {"version: 1\naccounts:\n- slug: acme\n- slug: acme", `4:3 second_time line_3`},
		"control characters":       {"version: 1\naccounts: [{slug: acme, name: \"a\\x07\"}]", `2:31 control printable`},
		"unknown site":             {head + "  resources: [{name: r, type: ip, address: 10.0.0.1, site: ther}]", `6:60 site_"ther" "here"`},
		"cidr without address":     {head + "  resources: [{name: r, type: cidr, site: here}]", `6:15 no_address add`},
		"internet with address":    {head + "  resources: [{name: r, type: internet, site: here, address: 1.2.3.4}]", `6:62 cannot_have remove`},
		"host bits":                {head + "  resources: [{name: r, type: cidr, address: 10.2.0.1/16, site: here}]", `6:46 prefix length`},
		"everything":               {head + "  resources: [{name: r, type: cidr, address: 0.0.0.0/0, site: here}]", `6:46 whole internet`},
		"loopback":                 {head + "  resources: [{name: r, type: ip, address: 127.0.0.1, site: here}]", `6:44 itself another`},
		"tunnel range":             {head + "  resources: [{name: r, type: cidr, address: 100.64.0.0/9, site: here}]", `6:46 prefix bits`},
		"overlaps the tunnel":      {head + "  resources: [{name: r, type: cidr, address: 100.0.0.0/8, site: here}]", `6:46 tunnel outside`},
		"pattern of all":           {head + "  resources: [{name: r, type: dns, address: \"**.com\", site: here}]", `6:45 all_of_.com below`},
		"wildcard at the end":      {head + "  resources: [{name: r, type: dns, address: \"corp.*\", site: here}]", `6:45 wildcard top-level`},
		"localhost":                {head + "  resources: [{name: r, type: dns, address: a.localhost, site: here}]", `6:45 client another`},
		"address as name":          {head + "  resources: [{name: r, type: dns, address: 10.0.0.1, site: here}]", `6:45 address type_ip`},
		"ip_stack for cidr":        {head + "  resources: [{name: r, type: ip, address: 10.0.0.1, site: here, ip_stack: dual}]", `6:76 ip_stack remove`},
		"unknown type":             {head + "  resources: [{name: r, type: dsn, address: a.example, site: here}]", `6:31 "dsn" "dns"`},
		"two internets":            {head + "  resources:\n  - {name: a, type: internet, site: here}\n  - {name: b, type: internet, site: here}", `8:5 second_time line_7`},
		"port 0":                   {head + "  resources: [{name: r, type: ip, address: 10.0.0.1, site: here, filters: [{protocol: tcp, ports: [0]}]}]", `6:100 "0" 65535`},
		"overlapping ports":        {head + "  resources: [{name: r, type: ip, address: 10.0.0.1, site: here, filters: [{protocol: tcp, ports: [80-90, 85]}]}]", `6:107 overlaps join`},
		"ports of icmp":            {head + "  resources: [{name: r, type: ip, address: 10.0.0.1, site: here, filters: [{protocol: icmp, ports: [8]}]}]", `6:100 icmp remove`},
		"group Everyone":           {"version: 1\naccounts:\n- slug: acme\n  groups: [{name: Everyone}]", `4:12 always another`},
		"unknown service account":  {"version: 1\naccounts:\n- slug: acme\n  groups: [{name: a, service_accounts: [ci]}]", `4:41 service_account define`},
		"bad member":               {"version: 1\naccounts:\n- slug: acme\n  groups: [{name: a, members: [ci]}]", `4:32 e-mail service_accounts`},
		"policy of unknown things": {head + "  policies: [{group: opps, resource: x}]", `6:22 "opps" "ops"` + "\n" + `6:38 "x" define`},
		"condition without values": {head + "  policies: [{group: ops, resource: x, conditions: {region: {}}}]", `6:37 "x" define` + "\n" + `6:61 either one`},
		"bad time zone":            {head + "  policies: [{group: ops, resource: x, conditions: {time: [{days: [mon], zone: Berlin}]}}]", `6:37 "x" define` + "\n" + `6:80 zone Europe`},
		"over midnight":            {head + "  policies: [{group: ops, resource: x, conditions: {time: [{days: [mon], ranges: [\"22:00-06:00\"], zone: UTC}]}}]", `6:37 "x" define` + "\n" + `6:83 part two`},
		"id twice":                 {"version: 1\naccounts:\n- slug: acme\n  sites:\n  - {name: a, id: 99999999-9999-4999-8999-999999999999}\n  - {name: b, id: 99999999-9999-4999-8999-999999999999}", `6:5 second_time line_5`},
		"misspelt and referred to": {head + "  resources: [{name: r, type: ip, adress: 10.0.0.1, site: here}]\n  policies: [{group: ops, resource: r}]", `6:35 "adress" "address"`},
		"id of none":               {"version: 1\naccounts:\n- slug: acme\n  sites:\n  - {name: a, id: 00000000-0000-0000-0000-000000000000}", `5:19 none another`},
		"member of none":           {"version: 1\naccounts:\n- slug: acme\n  resources:\n  - {name: a, type: static_device_pool, devices: [00000000-0000-0000-0000-000000000000]}", `5:51 none another`},
		"custom without servers":   {"version: 1\naccounts:\n- slug: acme\n  dns: {upstream: custom, provider: quad9}", `4:8 no_servers add` + "\n" + `4:37 provider remove`},
		"json: syntax":             {"{\"version\": 1,\n  \"accounts\": [}", `2:16 JSON mend`},
		"json: more behind":        {"{\"version\": 1} {}", `1:16 JSON mend`},
		"json: comma behind":       {"{\"version\": 1},", `1:15 JSON mend`},
		"json: cut off":            {"{\"version\": 1", `1:14 JSON mend`},
		"json: misspelt key":       {"{\"version\": 1,\n\t\"accounts\": [{\"slug\": \"acme\", \"nam\": \"x\"}]}", `2:32 "nam" "name"`},
		"json: deep":               {strings.Repeat(`{"a":`, 50), `1:82 deep nothing`},
	} {
		_, err := Parse("p", []byte(c.file))
		var all Problems
		if !errors.As(err, &all) {
			t.Errorf("%s: accepted", name)
			continue
		}
		want := strings.Split(c.want, "\n")
		if len(all) != len(want) {
			t.Errorf("%s: %d problems, want %d:\n%v", name, len(all), len(want), err)
			continue
		}
		for i, w := range want {
			words := strings.Fields(w)
			p := all[i]
			if fmt.Sprintf("%d:%d", p.Line, p.Column) != words[0] || !strings.Contains(p.What, strings.ReplaceAll(words[1], "_", " ")) && !strings.Contains(p.What, words[1]) ||
				!strings.Contains(p.Fix, strings.ReplaceAll(words[2], "_", " ")) && !strings.Contains(p.Fix, words[2]) {
				t.Errorf("%s: %v, want %s", name, p, w)
			}
			if !strings.HasPrefix(p.String(), "p:"+words[0]+": ") {
				t.Errorf("%s: %v", name, p)
			}
		}
	}
}

func TestProblemsAreBounded(t *testing.T) {
	_, err := Parse("p", []byte("version: 1\naccounts: ["+strings.Repeat("1,", 500)+"]"))
	var all Problems
	if errors.As(err, &all); len(all) != maxProblems {
		t.Errorf("%d problems", len(all))
	}
	if _, err = Parse("p", large(20_000, "nobody")); !errors.As(err, &all) || len(all) != maxProblems || all[0].Line != 80_007 {
		t.Errorf("%d problems, the first %v", len(all), all[0])
	}
	var filters []string
	for i := range maxFilters {
		filters = append(filters, fmt.Sprintf("{protocol: %s, ports: [%d]}", []string{"tcp", "udp"}[i%2], 1+i))
	}
	several := strings.Join(filters, ", ")
	if _, err := Parse("p", []byte(head+"  resources: [{name: r, type: ip, address: 10.0.0.1, site: here, filters: ["+several+"]}]")); err != nil {
		t.Errorf("%d filters: %v", maxFilters, err)
	}
	if _, err := Parse("p", []byte(head+"  resources: [{name: r, type: ip, address: 10.0.0.1, site: here, filters: ["+several+", {protocol: icmp}]}]")); err == nil {
		t.Errorf("%d filters are accepted", maxFilters+1)
	}
	many := ""
	for i := range maxRanges + 1 {
		if many += fmt.Sprintf("%d, ", 2*i+1); i%maxFilters == maxFilters-1 {
			many += "]}, {protocol: tcp, ports: ["
		}
	}
	_, err = Parse("p", []byte(head+"  resources: [{name: r, type: ip, address: 10.0.0.1, site: here, filters: [{protocol: tcp, ports: ["+many+"]}]}]"))
	if errors.As(err, &all); len(all) != 1 || !strings.Contains(all[0].What, "257") {
		t.Errorf("%d ranges: %v", maxRanges+1, err)
	}
	_, err = Parse("p", bytes.Repeat([]byte(" "), MaxSize+1))
	if errors.As(err, &all); len(all) != 1 {
		t.Errorf("a large file: %v", err)
	}
	bomb := "a: &a [x,x]\n"
	for c := 'b'; c < 'z'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c]\n", c, c, c-1, c-1)
	}
	if _, err := Parse("p", []byte(bomb)); err == nil {
		t.Error("aliases are accepted")
	}
}

// large is a file with n resources, and n policies that give them to a group.
func large(n int, group string) []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\naccounts:\n- slug: acme\n  sites: [{name: here}]\n  resources:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - name: r%d\n    type: ip\n    address: 10.%d.%d.1\n    site: here\n", i, i>>8, i&255)
	}
	b.WriteString("  policies:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {group: %s, resource: r%d}\n", group, i)
	}
	return b.Bytes()
}

func BenchmarkParse(b *testing.B) {
	file := large(10_000, everyone)
	for b.Loop() {
		if _, err := Parse("p", file); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(file)), "bytes")
}

func BenchmarkDiff(b *testing.B) {
	one, two := parse(b, string(large(10_000, everyone))), parse(b, string(large(10_000, everyone)))
	for b.Loop() {
		if len(Diff(one, two)) > 0 {
			b.Fatal("differs")
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	a := &parse(b, string(large(10_000, everyone))).Accounts[0]
	id := a.Resources[9_999].ID
	for b.Loop() {
		if _, _, ok := a.Authorize(id, Actor{Email: "alice@example.com"}, Context{}, wednesday); !ok {
			b.Fatal("refused")
		}
	}
}

// The published schema is the language.
func TestSchemaIsPublished(t *testing.T) {
	if *update {
		if err := os.WriteFile("schema.json", Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	published, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(published, Schema()) {
		t.Error("schema.json is not what the language says: run go test ./portal/config -update")
	}
	if !json.Valid(published) {
		t.Error("schema.json is not JSON")
	}
}

// The example uses every key of the language, so it documents all of them.
func TestExampleHasEveryKey(t *testing.T) {
	b, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var visit func(s *shape)
	visit = func(s *shape) {
		for _, f := range s.fields {
			left := map[string]bool{"id": true, "provider": f.shape.enum != nil} // explained in its comments
			if !left[f.name] && !bytes.Contains(b, []byte(f.name+":")) {
				t.Errorf("key %s is not in the example", f.name)
			}
			visit(f.shape)
		}
		if s.item != nil {
			visit(s.item)
		}
	}
	visit(language)
}
