package report

import (
	"bufio"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Benchmark is one result line of go test -bench.
type Benchmark struct {
	Package, Name string
	Iterations    uint64
	// Metrics are the values of the line in their order: ns/op, B/op, allocs/op and what the
	// benchmark itself reports, such as B/ns or ns/packet.
	Metrics []Metric
}

// Metric is one value and its unit.
type Metric struct {
	Unit  string
	Value float64
}

// ParseBenchmarks reads the output of go test -bench. Lines that are no results are skipped.
func ParseBenchmarks(r io.Reader) ([]Benchmark, error) {
	var all []Benchmark
	var pkg string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if p, ok := strings.CutPrefix(lines.Text(), "pkg: "); ok {
			pkg = p
			continue
		}
		f := strings.Fields(lines.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			continue
		}
		b := Benchmark{Package: pkg, Name: strings.TrimPrefix(f[0], "Benchmark"), Iterations: n}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				break
			}
			b.Metrics = append(b.Metrics, Metric{Unit: f[i+1], Value: v})
		}
		all = append(all, b)
	}
	return all, lines.Err()
}

func (b Benchmark) metric(unit string) (float64, bool) {
	for _, m := range b.Metrics {
		if m.Unit == unit {
			return m.Value, true
		}
	}
	return 0, false
}

// memoryFloors judges what is promised about the cost of policy in memory: the worst of
// BenchmarkPolicyCost over numbers of flows, for packets that come in runs of 32.
func (r *Run) memoryFloors() []Floor {
	var out []Floor
	for _, f := range []struct {
		name, unit string
		most       float64
	}{
		{"filter and NAT, packets in runs of 32", "nat/plain", 1.15},
		{"filter and NAT64, packets in runs of 32", "nat64/plain", 1.25},
	} {
		var ratios []float64
		for _, b := range r.InMemory {
			if v, ok := b.metric(f.unit); ok && policyRun.MatchString(b.Name) {
				ratios = append(ratios, v)
			}
		}
		if len(ratios) > 0 {
			out = append(out, atMost(Floor{Name: f.name, Rival: Subject + ", plain", Got: slices.Max(ratios)}, f.most))
		}
	}
	return out
}

// policyRun matches the names of these benchmarks, which the number of processors ends.
var policyRun = regexp.MustCompile(`^PolicyCost/.*run=32(-\d+)?$`)

// inMemory writes the benchmarks by package, with a column for each unit that occurs in it.
func (d *document) inMemory() {
	var pkgs []string
	by := map[string][]Benchmark{}
	for _, b := range d.run.InMemory {
		if len(by[b.Package]) == 0 {
			pkgs = append(pkgs, b.Package)
		}
		by[b.Package] = append(by[b.Package], b)
	}
	if len(pkgs) > 0 {
		d.line("\n## In memory")
	}
	for _, pkg := range pkgs {
		units := unitsOf(by[pkg])
		d.line("\n`%s`", pkg)
		d.table(append(append([]string{"benchmark"}, units...), "change of ns/op")...)
		for _, b := range by[pkg] {
			cells := []string{b.Name}
			for _, u := range units {
				cell := dash
				if v, ok := b.metric(u); ok {
					cell = strconv.FormatFloat(v, 'f', -1, 64)
				}
				cells = append(cells, cell)
			}
			d.row(append(cells, d.benchmarkChange(b))...)
		}
	}
}

// benchmarkChange is how much the time differs from the recorded run's, in percent.
func (d *document) benchmarkChange(b Benchmark) string {
	if d.base == nil {
		return dash
	}
	i := slices.IndexFunc(d.base.InMemory, func(o Benchmark) bool { return o.Package == b.Package && o.Name == b.Name })
	if i < 0 {
		return percent(math.NaN())
	}
	before, _ := d.base.InMemory[i].metric("ns/op")
	now, _ := b.metric("ns/op")
	return percent(now / before)
}

func unitsOf(benchmarks []Benchmark) []string {
	var units []string
	for _, b := range benchmarks {
		for _, m := range b.Metrics {
			if !slices.Contains(units, m.Unit) {
				units = append(units, m.Unit)
			}
		}
	}
	return units
}
