package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pure are the packages that are functions of their arguments: no I/O, no clock.
var pure = []string{"protocol/...", "packet", "fib", "control", "fastpath", "batch", "bufpool", "dns"}

// sequential are the pure packages that also have no goroutines and no channels.
var sequential = []string{"protocol/...", "control", "dns"}

// impure are the imports that a pure package may not have. net/netip is a value type.
var impure = []string{
	"net", "net/http/...", "os/...", "syscall/...", "golang.org/x/sys/...",
}

// exceptions are the imports that one package may have all the same.
var exceptions = map[string][]string{
	"bufpool":                 {"golang.org/x/sys/unix"}, // the arena's mmap
	"packet":                  {"golang.org/x/sys/cpu"},
	"protocol/wireguard/aead": {"golang.org/x/sys/cpu"},
}

// clock are the functions of package time that read or wait for the clock.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestPurePackagesStayPure(t *testing.T) {
	for _, p := range list(t) {
		if !coveredBy(pure, p.name()) {
			continue
		}
		for _, file := range p.GoFiles {
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, offence := range offences(set, p.name(), f) {
				t.Error(offence)
			}
		}
	}
}

func TestOffencesAreFound(t *testing.T) {
	for _, c := range []struct{ pkg, src, want string }{
		{"packet", `import "net/netip"; var _ netip.Addr`, ""},
		{"packet", `import "golang.org/x/sys/cpu"; var _ = cpu.X86`, ""},
		{"packet", `import "net"; var _ net.IP`, "imports net"},
		{"packet", `import "os/exec"; var _ exec.Cmd`, "imports os/exec"},
		{"packet", `import "golang.org/x/sys/unix"; var _ = unix.EINVAL`, "imports golang.org/x/sys/unix"},
		{"bufpool", `import "golang.org/x/sys/unix"; var _ = unix.EINVAL`, ""},
		{"fib", `import "time"; func f(now time.Time) time.Duration { return now.Sub(now) }`, ""},
		{"fib", `import "time"; var f = time.Now`, "uses time.Now"},
		{"fib", `import clock "time"; func f() { clock.Sleep(1) }`, "uses time.Sleep"},
		{"fib", `import . "time"; func f() { Sleep(1) }`, "imports time under the name ."},
		{"fastpath", `func f() { go f() }`, ""},
		{"fastpath", `var c chan int`, ""},
		{"control", `func f() { go f() }`, "go statement"},
		{"dns", `var c chan int`, "channel"},
		{"protocol/ice", `func f() { select {} }`, "channel"},
		{"protocol/ice", `func f(c T) { c <- 1 }`, "channel"},
		{"protocol/ice", `func f(c T) { <-c }`, "channel"},
	} {
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, "x.go", "package x; "+c.src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(offences(set, c.pkg, f), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s: got %q, want %q", c.pkg, c.src, got, c.want)
		}
	}
}

// offences returns what f does that its package may not.
func offences(set *token.FileSet, pkg string, f *ast.File) (found []string) {
	report := func(n ast.Node, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s: %s: %s", set.Position(n.Pos()), pkg, fmt.Sprintf(format, args...)))
	}
	clockName := ""
	for _, i := range f.Imports {
		name, _ := strconv.Unquote(i.Path.Value)
		if coveredBy(impure, name) && !slices.Contains(exceptions[pkg], name) {
			report(i, "imports %s", name)
		}
		if name == "time" {
			clockName = "time"
			if i.Name != nil {
				clockName = i.Name.Name
			}
			if clockName == "." {
				report(i, "imports time under the name .")
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == clockName && slices.Contains(clock, s.Sel.Name) {
				report(s, "uses time.%s", s.Sel.Name)
			}
		}
		if what := concurrency(n); what != "" && coveredBy(sequential, pkg) {
			report(n, "%s", what)
		}
		return true
	})
	return found
}

// concurrency names the construct that n is, if it starts or links goroutines.
func concurrency(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "go statement"
	case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
		return "channel"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "channel"
		}
	}
	return ""
}

func coveredBy(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, name) })
}
