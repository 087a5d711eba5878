package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// conformanceDir holds the tables of requirements and what proves them; its README.md says how they
// are read.
var conformanceDir = path.Join("..", "..", "docs", "conformance")

// standards are the RFCs that must have a table.
var standards = []string{"rfc4787", "rfc5382", "rfc5508", "rfc6052", "rfc6146", "rfc7915", "rfc8489", "rfc8656"}

// TestConformanceTablesNameTestsThatExist reads all tables, looks for every test they name, and tells
// how many requirements of each standard are proven.
func TestConformanceTablesNameTestsThatExist(t *testing.T) {
	files, err := os.ReadDir(conformanceDir)
	if err != nil {
		t.Fatal(err)
	}
	tests := &testIndex{dirs: testDirs(t), packages: map[string]*testPackage{}}
	var tables []string
	sums := map[status]int{}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".md")
		if !ok || !strings.HasPrefix(name, "rfc") {
			continue
		}
		tables = append(tables, name)
		text, err := os.ReadFile(path.Join(conformanceDir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		rows, faults := readTable(string(text))
		for _, r := range rows {
			for _, n := range r.tests {
				if err := tests.find(n); err != nil {
					faults = append(faults, fmt.Sprintf("line %d: %v", r.line, err))
				}
			}
		}
		for _, fault := range faults {
			t.Errorf("%s: %s", f.Name(), fault)
		}
		n := map[status]int{}
		for _, r := range rows {
			n[r.status]++
			sums[r.status]++
		}
		t.Logf("%s: %3d rows: %3d proven, %2d differ, %2d do not apply", name, len(rows), n[proven], n[differs], n[inapplicable])
	}
	t.Logf("all:     %3d rows: %3d proven, %2d differ, %2d do not apply",
		sums[proven]+sums[differs]+sums[inapplicable], sums[proven], sums[differs], sums[inapplicable])
	for _, s := range standards {
		if !slices.Contains(tables, s) {
			t.Errorf("no table for %s", s)
		}
	}
	index, err := os.ReadFile(path.Join(conformanceDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range tables {
		if !strings.Contains(string(index), "("+s+".md)") {
			t.Errorf("README.md does not list %s.md", s)
		}
	}
}

// TestSubtestsAreLookedFor keeps the look-up of names honest, with the help of this package's own tests.
func TestSubtestsAreLookedFor(t *testing.T) {
	tests := &testIndex{dirs: testDirs(t), packages: map[string]*testPackage{}}
	t.Run("a subtest of this test", func(t *testing.T) {
		for _, name := range []string{
			"arch.TestRules", "internal/arch.TestRules", "arch.TestSubtestsAreLookedFor/a subtest of this test", "arch.TestSubtestsAreLookedFor/a_subtest_of_this_test",
		} {
			if err := tests.find(name); err != nil {
				t.Error(err)
			}
		}
	})
	for _, name := range []string{
		"arch.TestNothing" + "AtAll", "nowhere.TestRules", "arch.TestSubtestsAreLookedFor/another " + "subtest", "arch.TestRules/util",
	} {
		if err := tests.find(name); err == nil {
			t.Errorf("%s was found", name)
		}
	}
}

func TestRowsOfConformanceTables(t *testing.T) {
	const head = "# x\n\n| section | requirement | test or reason |\n|---|---|---|\n"
	for _, c := range []struct {
		name, row string
		want      string // status and tests, or a part of the fault
	}{
		{"a test", "| 1 | a | `packet.TestA` |", "proven packet.TestA"},
		{"words and tests", "| 1 | a | done: `packet.TestA`, and `fuzz.FuzzB`; `Code` |", "proven packet.TestA fuzz.FuzzB"},
		{"a subtest with spaces and commas", "| 1 | a | `packet.TestA/4 to 6, long` |", "proven packet.TestA/4 to 6, long"},
		{"a difference", "| 1 | a | differs: by choice, `fib.TestB` |", "differs fib.TestB"},
		{"a reason", "| 1 | a | n/a: optional |", "n/a"},
		{"pending", "| 1 | a | `fib.TestA`, PENDING |", "PENDING"},
		{"only words", "| 1 | a | surely |", "neither a test"},
		{"no reason", "| 1 | a | n/a: |", "no reason"},
		{"no requirement", "| 1 | | `fib.TestA` |", "empty"},
		{"a cell too few", "| 1 | `fib.TestA` |", "2 cells"},
		{"a name outside of code", "| 1 | a | fib.TestA |", "is not marked as code"},
		{"another name outside of code", "| 1 | a | `fib.TestA`, fib.TestB |", "is not marked as code"},
	} {
		rows, faults := readTable(head + c.row + "\n")
		got := strings.Join(faults, "; ")
		if len(faults) == 0 {
			got = strings.Join(append([]string{string(rows[0].status)}, rows[0].tests...), " ")
			if got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		} else if !strings.Contains(got, c.want) {
			t.Errorf("%s: fault %q, want %q", c.name, got, c.want)
		}
	}
	if _, faults := readTable("no table"); len(faults) == 0 {
		t.Error("a file without a table was accepted")
	}
}

// status is what a row says about a requirement.
type status string

const (
	proven       status = "proven"
	differs      status = "differs"
	inapplicable status = "n/a"
)

// requirement is a row of a table.
type requirement struct {
	line   int
	status status
	tests  []string
}

var (
	code     = regexp.MustCompile("`[^`]*`")
	testName = regexp.MustCompile(`^[a-z][a-z0-9/]*\.(Test|Fuzz)[A-Z0-9]`)
	bareName = regexp.MustCompile(`\b[a-z0-9]+\.(Test|Fuzz)[A-Z]`)
)

// readTable returns the rows of the tables in a file, and what is wrong with it.
func readTable(text string) (rows []requirement, faults []string) {
	for i, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || line == "| section | requirement | test or reason |" {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		r, fault := readRow(cells)
		if fault != "" {
			faults = append(faults, fmt.Sprintf("line %d: %s", i+1, fault))
			continue
		}
		r.line = i + 1
		rows = append(rows, r)
	}
	if len(rows) == 0 && len(faults) == 0 {
		faults = append(faults, "no rows")
	}
	return rows, faults
}

func readRow(cells []string) (r requirement, fault string) {
	if len(cells) != 3 {
		return r, fmt.Sprintf("%d cells, want 3", len(cells))
	}
	for _, c := range cells {
		if strings.TrimSpace(c) == "" {
			return r, "an empty cell"
		}
	}
	last := strings.TrimSpace(cells[2])
	if strings.Contains(last, "PENDING") {
		return r, "PENDING"
	}
	for _, c := range code.FindAllString(last, -1) {
		if n := strings.Trim(c, "`"); testName.MatchString(n) {
			r.tests = append(r.tests, n)
		}
	}
	if bare := bareName.FindString(code.ReplaceAllString(last, "")); bare != "" {
		return r, bare + "… is not marked as code"
	}
	for _, s := range []status{differs, inapplicable} {
		if reason, ok := strings.CutPrefix(last, string(s)+":"); ok {
			if r.status = s; strings.TrimSpace(reason) == "" {
				return r, "no reason"
			}
			return r, ""
		}
	}
	if r.status = proven; len(r.tests) == 0 {
		return r, fmt.Sprintf("neither a test nor a reason: %s", last)
	}
	return r, ""
}

// testIndex finds tests by the names that tables use: package, function and, behind a slash, subtest.
type testIndex struct {
	dirs     map[string]string // of packages with tests, by their paths below the module
	packages map[string]*testPackage
}

// testPackage holds the test functions of a package.
type testPackage struct {
	functions map[string]testFunction
}

// testFunction is what a file says about the subtests of one of its functions: whether it runs any,
// and all string literals of the file, in which their names are.
type testFunction struct {
	runs     bool
	literals map[string]bool
}

func testDirs(t *testing.T) map[string]string {
	dirs := map[string]string{}
	for _, p := range list(t) {
		if len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
			dirs[p.name()] = p.Dir
		}
	}
	return dirs
}

// dir returns the folder of the package with a path, or else of the only one whose path ends so.
func (x *testIndex) dir(pkg string) (string, error) {
	if d, ok := x.dirs[pkg]; ok {
		return d, nil
	}
	var found []string
	for name, d := range x.dirs {
		if strings.HasSuffix(name, "/"+pkg) {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d packages with tests are called %s", len(found), pkg)
	}
	return found[0], nil
}

func (x *testIndex) find(name string) error {
	pkg, function, _ := strings.Cut(name, ".")
	function, subtest, sub := strings.Cut(function, "/")
	p, err := x.load(pkg)
	if err != nil {
		return err
	}
	f, ok := p.functions[function]
	if !ok {
		return fmt.Errorf("there is no test %s.%s", pkg, function)
	}
	if !sub {
		return nil
	}
	if !f.runs {
		return fmt.Errorf("%s.%s runs no subtests", pkg, function)
	}
	if f.literals[underscored(subtest)] {
		return nil
	}
	// Subtests of subtests are joined by slashes, and each has its own literal.
	for part := range strings.SplitSeq(subtest, "/") {
		if !f.literals[underscored(part)] {
			return fmt.Errorf("%s.%s has no subtest %q", pkg, function, subtest)
		}
	}
	return nil
}

func (x *testIndex) load(pkg string) (*testPackage, error) {
	if p := x.packages[pkg]; p != nil {
		return p, nil
	}
	dir, err := x.dir(pkg)
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	p := &testPackage{functions: map[string]testFunction{}}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), path.Join(dir, f.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		literals := literalsOf(tree)
		for _, d := range tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				p.functions[fn.Name.Name] = testFunction{runs: callsRun(fn), literals: literals}
			}
		}
	}
	x.packages[pkg] = p
	return p, nil
}

// callsRun reports whether a function calls a method Run, as that of testing.T.
func callsRun(fn *ast.FuncDecl) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			if s, ok := c.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Run" {
				found = true
			}
		}
		return !found
	})
	return found
}

// literalsOf returns the string literals of a file, as package testing writes names.
func literalsOf(f *ast.File) map[string]bool {
	found := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil {
				found[underscored(s)] = true
			}
		}
		return true
	})
	return found
}

func underscored(s string) string { return strings.ReplaceAll(s, " ", "_") }
