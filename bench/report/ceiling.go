package report

import (
	"math"
	"slices"
	"strings"
)

// possible is the most that a floor's figure could be here, whatever the gateway: what the
// client alone puts on the wire, divided by what the rival delivers. It is 0 where that was not measured.
func (r *Run) possible(f floor, mtu int, subject, rival string) float64 {
	var ratios []float64
	for _, row := range r.rows(mtu) {
		if f.rows(row) {
			ratios = append(ratios, r.headroom(row.Name, mtu, subject, rival))
		}
	}
	if len(ratios) == 0 || slices.ContainsFunc(ratios, math.IsNaN) {
		return 0
	}
	return f.combine(ratios)
}

// headroom is the ratio of what the client alone puts on the wire to what a gateway delivers in
// the row with that load; NaN unless both were measured.
func (r *Run) headroom(row string, mtu int, subject, gateway string) float64 {
	return r.of(Sample.Rate, CeilingPrefix+row, mtu, subject).Median / r.of(Sample.Rate, row, mtu, gateway).Median
}

// ceilings writes what the client alone puts on the wire, and how many times that is what each
// gateway delivers.
func (d *document) ceilings(mtu int) {
	started := false
	for _, row := range d.run.all(mtu) {
		if row.Kind != Ceiling {
			continue
		}
		if !started {
			d.line("\n## What the client alone puts on the wire, MTU %d\n", mtu)
			d.line("%s", ceilingNote)
			columns := []string{"row", "client, packets/s", "offered/s"}
			for _, g := range d.run.Gateways {
				columns = append(columns, g.Name+" delivers", "possible / it")
			}
			d.table(append(columns, "change")...)
			started = true
		}
		load := strings.TrimPrefix(row.Name, CeilingPrefix)
		cells := []string{row.Title, d.spread(Sample.Rate, row.Name, mtu, Subject, 0), d.median(offered, row.Name, mtu, Subject, 0)}
		for _, g := range d.run.Gateways {
			cells = append(cells, d.median(Sample.Rate, load, mtu, g.Name, 0), number(d.run.headroom(load, mtu, Subject, g.Name), 2))
		}
		d.row(append(cells, d.change(Sample.Rate, row.Name, mtu, Subject))...)
	}
}

const ceilingNote = "Generator and client as in the rows up, and nobody else at work: the gateway's kernel counts the client's data messages as they come off the wire, and drops them. " +
	"No gateway can deliver more on this machine; *possible* is that divided by what a gateway delivers, the most that any gateway could be ahead of it."
