package report

import (
	"math"
	"slices"
)

// Spread is a median with the least and the greatest value of N.
type Spread struct {
	Median, Min, Max float64
	N                int
}

// spread summarizes values; with none its fields are NaN.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{Median: math.NaN(), Min: math.NaN(), Max: math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	return Spread{Median: median(v), Min: v[0], Max: v[len(v)-1], N: len(v)}
}

// median of sorted values, at least one.
func median(v []float64) float64 {
	m := len(v) / 2
	if len(v)%2 == 1 {
		return v[m]
	}
	return (v[m-1] + v[m]) / 2
}

// figure is what a number of a sample is, as a function of the sample.
type figure func(Sample) float64

// of summarizes a figure over the successful repetitions of one row with one gateway at one MTU.
func (r *Run) of(f figure, row string, mtu int, gateway string) Spread {
	var values []float64
	for _, s := range r.Samples {
		if s.Row.Name == row && s.MTU == mtu && s.Gateway == gateway && s.Error == "" {
			values = append(values, f(s))
		}
	}
	return spread(values)
}

// each lists a figure of all successful samples.
func (r *Run) each(f figure) []float64 {
	var values []float64
	for _, s := range r.Samples {
		if s.Error == "" {
			values = append(values, f(s))
		}
	}
	return values
}

// rows lists the rows of the run at one MTU that compare its gateways, in the order they were
// measured.
func (r *Run) rows(mtu int) []Row {
	return slices.DeleteFunc(r.all(mtu), func(row Row) bool { return row.Way != "" || row.Kind == Ceiling })
}

// all lists all rows of the run at one MTU in the order they were measured.
func (r *Run) all(mtu int) []Row {
	var rows []Row
	for _, s := range r.Samples {
		if s.MTU == mtu && !slices.ContainsFunc(rows, func(o Row) bool { return o.Name == s.Row.Name }) {
			rows = append(rows, s.Row)
		}
	}
	return rows
}

// mtus lists the MTUs of the run, ascending.
func (r *Run) mtus() []int {
	var mtus []int
	for _, s := range r.Samples {
		if !slices.Contains(mtus, s.MTU) {
			mtus = append(mtus, s.MTU)
		}
	}
	slices.Sort(mtus)
	return mtus
}

// Failures are the samples that failed.
func (r *Run) Failures() []Sample {
	var failed []Sample
	for _, s := range r.Samples {
		if s.Error != "" {
			failed = append(failed, s)
		}
	}
	return failed
}
