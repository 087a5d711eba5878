package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "github.com/firelane/firelane"

// rule says which packages of this module a package may import. Names are paths below the
// module; a name that ends in "/..." stands for everything below it, and "." for the root.
type rule struct {
	pkg     string
	imports string
	// but is subtracted from imports.
	but string
}

// rules is the table of arrows: the first rule that fits a package holds.
var rules = []rule{
	{pkg: "bufpool"},
	{pkg: "packet"},
	{pkg: "protocol/stun"},
	{pkg: "protocol/signal"},
	{pkg: "protocol/wireguard/aead"},
	{pkg: "protocol/wireguard", imports: "protocol/wireguard/aead"},
	{pkg: "protocol/ice", imports: "protocol/stun"},
	{pkg: "protocol/turn", imports: "protocol/stun"},
	{pkg: "dns"},
	{pkg: "batch", imports: "bufpool"},
	{pkg: "fib", imports: "packet protocol/wireguard"},
	{pkg: "fastpath", imports: "fib packet protocol/wireguard batch bufpool"},
	{pkg: "control", imports: "fib packet dns protocol/..."},
	{pkg: "internal/host"},
	{pkg: "internal/resolver"},
	{pkg: "internal/poll"},
	{pkg: "internal/uapi"},
	{pkg: "internal/observe"},
	{pkg: "internal/flowlog"},
	{pkg: "internal/handover"},
	{pkg: "internal/arch"},
	{pkg: "internal/udp", imports: "batch bufpool internal/poll"},
	{pkg: "internal/tun", imports: "batch bufpool internal/poll"},
	{pkg: "internal/channel", imports: "protocol/signal"},
	{pkg: "relay", imports: "protocol/stun protocol/signal batch bufpool internal/udp internal/poll internal/channel internal/host internal/observe"},
	{pkg: "portal/store"},
	{pkg: "portal/config"},
	{pkg: "portal/server", imports: "protocol/signal portal portal/store portal/config internal/channel internal/observe"},
	{pkg: "portal", imports: "protocol/signal portal/store portal/config internal/channel internal/observe"},
	{pkg: "internal/node", imports: "/...", but: "relay portal portal/store portal/config portal/server internal/node internal/sim internal/node/netnstest internal/arch cmd/... bench/... fuzz ."},
	{pkg: "internal/node/netnstest", imports: "internal/node internal/tun internal/uapi packet protocol/wireguard"},
	{pkg: ".", imports: "internal/node"},
	{pkg: "internal/sim", imports: "/...", but: "cmd/..."},
	{pkg: "bench/...", imports: "/...", but: "cmd/..."},
	{pkg: "fuzz", imports: "/...", but: "cmd/..."},
	{pkg: "cmd/firelane", imports: "/...", but: "internal/sim internal/node/netnstest bench/... fuzz"},
}

// testOnly may be imported by the tests of any package.
const testOnly = "internal/sim"

func TestImportsPointDown(t *testing.T) {
	for _, p := range list(t) {
		r, ok := ruleFor(p.name())
		if !ok {
			t.Errorf("%s is not in the table of imports", p.name())
			continue
		}
		for _, i := range p.Imports {
			if name, ours := below(i); ours && !r.allows(name) {
				t.Errorf("%s imports %s, which the table does not allow", p.name(), name)
			}
		}
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			name, ours := below(i)
			if ours && name != testOnly && name != p.name() && !r.allows(name) {
				t.Errorf("the tests of %s import %s, which the table does not allow", p.name(), name)
			}
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		pkg, imports string
		want         bool
	}{
		{"fib", "packet", true},
		{"fib", "fastpath", false},
		{"fastpath", "control", false},
		{"control", "fastpath", false},
		{"control", "protocol/wireguard/aead", true},
		{"control", "internal/udp", false},
		{"internal/udp", "internal/tun", false},
		{"internal/node", "fastpath", true},
		{"internal/node", "internal/uapi", true},
		{"internal/node", "portal/store", false},
		{"internal/node", "internal/node/netnstest", false},
		{"internal/node/netnstest", "internal/tun", true},
		{"internal/node/netnstest", "bench/topology", false},
		{"bench", "internal/node", true},
		{"bench/topology", "bench/load", true},
		{"bench", "cmd/firelane", false},
		{"cmd/firelane", "relay", true},
		{"cmd/firelane", "bench/topology", false},
		{".", "control", false},
	} {
		r, ok := ruleFor(c.pkg)
		if !ok || r.allows(c.imports) != c.want {
			t.Errorf("%s may import %s: want %v", c.pkg, c.imports, c.want)
		}
	}
	if _, ok := ruleFor("util"); ok {
		t.Error("util is in the table")
	}
}

func ruleFor(pkg string) (rule, bool) {
	i := slices.IndexFunc(rules, func(r rule) bool { return covers(r.pkg, pkg) })
	if i < 0 {
		return rule{}, false
	}
	return rules[i], true
}

func (r rule) allows(pkg string) bool {
	in := func(names string) bool {
		return slices.ContainsFunc(strings.Fields(names), func(n string) bool { return covers(n, pkg) })
	}
	return in(r.imports) && !in(r.but)
}

// covers reports whether pattern stands for pkg.
func covers(pattern, pkg string) bool {
	dir, all := strings.CutSuffix(pattern, "/...")
	if !all {
		return pattern == pkg
	}
	return dir == "" || pkg == dir || strings.HasPrefix(pkg, dir+"/")
}

// listed is what `go list -json` says about a package.
type listed struct {
	ImportPath, Dir                    string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports []string
}

func (p listed) name() string {
	name, _ := below(p.ImportPath)
	return name
}

// below returns the path of a package below the module, and whether it is of the module.
func below(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// list returns all packages of the module.
func list(t *testing.T) []listed {
	t.Helper()
	const fields = "ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports"
	c := exec.Command("go", "list", "-e", "-json="+fields, "./...")
	c.Dir = path.Join("..", "..")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if !slices.ContainsFunc(all, func(p listed) bool { return p.name() == "internal/arch" }) {
		t.Fatalf("go list does not find this package among %d", len(all))
	}
	return all
}
