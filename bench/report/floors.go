package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Floor is one promise of the project and what the run says about it.
type Floor struct {
	Name string
	// Rival is whom the promise compares with; empty for one about firelane alone.
	Rival string
	// Got is what was measured, Want what was promised, in the same unit.
	Got  float64
	Want string
	// Aim is what the project hopes for beyond the promise; empty for none.
	Aim string
	Met bool
	// Possible is the most that could be measured here, whatever the gateway; 0 if that is
	// not known.
	Possible float64
}

// floor is how a Floor is judged.
type floor struct {
	name string
	// rows are matched by function; the rows' ratios are combined by combine.
	rows    func(Row) bool
	figure  figure
	combine func([]float64) float64
	// most and least bound firelane's figure divided by the rival's; NaN for no bound.
	most, least, aim map[string]float64
}

// Floors judges the run at one MTU. Ratios are of medians, subject divided by rival. Promises
// whose rows or gateways the run lacks are left out; one with a row that failed throughout has
// NaN and is not met.
func (r *Run) Floors(mtu int, subject string) []Floor {
	var out []Floor
	for _, f := range floors {
		for _, g := range r.rivals(subject) {
			got, ok := r.ratio(f, mtu, subject, g.Name)
			if !ok {
				continue
			}
			j := Floor{Name: f.name, Rival: g.Name, Got: got, Possible: r.possible(f, mtu, subject, g.Name)}
			if limit, ok := f.most[g.Name]; ok {
				j.Want, j.Met = fmt.Sprintf("≤ %.2f", limit), got <= limit
			} else if limit, ok := f.least[g.Name]; ok {
				j.Want, j.Met = fmt.Sprintf("≥ %.2f", limit), got >= limit
			} else {
				continue
			}
			if aim, ok := f.aim[g.Name]; ok {
				j.Aim = fmt.Sprintf("%.2f", aim)
			}
			out = append(out, j)
		}
	}
	return slices.Concat(out, r.wayFloors(mtu, subject), r.absolute(mtu, subject))
}

// rivals are the other gateways, or none in a run without the subject.
func (r *Run) rivals(subject string) []Version {
	i := slices.IndexFunc(r.Gateways, func(g Version) bool { return g.Name == subject })
	if i < 0 {
		return nil
	}
	return slices.Delete(slices.Clone(r.Gateways), i, i+1)
}

// ratio is the combined ratio of the floor's figure over all of its rows, NaN if one of them has
// no figure. It reports false when the run has none of the rows.
func (r *Run) ratio(f floor, mtu int, subject, rival string) (float64, bool) {
	var ratios []float64
	for _, row := range r.rows(mtu) {
		if !f.rows(row) {
			continue
		}
		a, b := r.of(f.figure, row.Name, mtu, subject), r.of(f.figure, row.Name, mtu, rival)
		if math.IsNaN(a.Median) || math.IsNaN(b.Median) {
			return math.NaN(), true
		}
		ratios = append(ratios, a.Median/b.Median)
	}
	if len(ratios) == 0 {
		return math.NaN(), false
	}
	return f.combine(ratios), true
}

// absolute judges what is promised about the subject alone.
func (r *Run) absolute(mtu int, subject string) []Floor {
	if !slices.ContainsFunc(r.Gateways, func(g Version) bool { return g.Name == subject }) {
		return nil
	}
	// max keeps the NaN of a row that failed throughout, and NaN equals nothing.
	worst := func(keep func(Row) bool, f figure) (float64, bool) {
		most, any := 0.0, false
		for _, row := range r.rows(mtu) {
			if keep(row) {
				most, any = max(most, r.of(f, row.Name, mtu, subject).Max), true
			}
		}
		return most, any
	}
	var out []Floor
	errors := func(s Sample) float64 { return float64(s.UDPErrors.In + s.UDPErrors.Sndbuf) }
	if got, ok := worst(func(row Row) bool { return row.Kind == TCP }, errors); ok {
		out = append(out, Floor{Name: "UDP errors in TCP rows, worst sample", Got: got, Want: "0", Met: got == 0})
	}
	if got, ok := worst(func(row Row) bool { return row.Kind == UDP && row.Paced }, Sample.Loss); ok {
		out = append(out, Floor{Name: "loss at 31,000 packets/s in %, worst sample", Got: got, Want: "0", Met: got == 0})
	}
	return out
}

var floors = []floor{
	{
		name: "CPU per GB, TCP up and down, 1 and 4 streams, median of rows",
		rows: func(r Row) bool {
			return slices.Contains([]string{"tcp-up-1", "tcp-down-1", "tcp-up-4", "tcp-down-4"}, r.Name)
		},
		figure: Sample.Cost, combine: func(v []float64) float64 { return spread(v).Median },
		most: both(0.65, 0.82), aim: both(0.50, 0.65),
	},
	{
		name: "TCP throughput, worst row", rows: func(r Row) bool { return r.Kind == TCP && !r.Paced },
		figure: Sample.Rate, combine: slices.Min[[]float64], least: both(1, 1),
	},
	{
		name: "UDP delivered, saturating and 64 bytes, up in trains, worst row", rows: func(r Row) bool { return saturating(r) && !r.Down && !r.Singles },
		figure: Sample.Rate, combine: slices.Min[[]float64], least: both(4, 4),
	},
	{
		name: "UDP delivered, saturating and 64 bytes, up singly, worst row", rows: func(r Row) bool { return r.Kind == UDP && r.Singles && !r.Paced },
		figure: Sample.Rate, combine: slices.Min[[]float64], least: both(4, 4),
	},
	{
		name: "UDP delivered, saturating and 64 bytes, down, worst row", rows: func(r Row) bool { return saturating(r) && r.Down },
		figure: Sample.Rate, combine: slices.Min[[]float64], least: both(3, 3),
	},
	{
		name: "UDP delivered by the gateway alone, up, worst row", rows: func(r Row) bool { return r.Sealed && !r.Down },
		figure: Sample.Rate, combine: slices.Min[[]float64], least: both(4, 4),
	},
	{
		name: "UDP delivered by the gateway alone, down, worst row", rows: func(r Row) bool { return r.Sealed && r.Down },
		figure: Sample.Rate, combine: slices.Min[[]float64], least: both(3, 3),
	},
	{
		name: "CPU per GB at a paced 1 Gbit/s, worst row", rows: func(r Row) bool { return strings.HasPrefix(r.Name, "tcp-1g-") },
		figure: Sample.Cost, combine: slices.Max[[]float64], most: both(0.75, 0.95), aim: both(0.50, 0.65),
	},
	{
		name: "CPU per packet at 31,000 unbatched packets/s, worst row", rows: func(r Row) bool { return r.Kind == UDP && r.Paced },
		figure: Sample.Cost, combine: slices.Max[[]float64], most: both(0.3, 0.3),
	},
	{
		name: "idle ping p99", rows: func(r Row) bool { return r.Kind == Ping },
		figure: func(s Sample) float64 { return s.PingP99 }, combine: slices.Max[[]float64], most: both(1, 1),
	},
}

// saturating rows of UDP go through two tunnels.
func saturating(r Row) bool { return r.Kind == UDP && !r.Paced && !r.Sealed }

// both is a bound for each of the two rivals.
func both(wireguardGo, tailscale float64) map[string]float64 {
	return map[string]float64{"wireguard-go": wireguardGo, "tailscale": tailscale}
}
