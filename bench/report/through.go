package report

import (
	"cmp"
	"math"
	"slices"
)

// plain is the way that packets of the same family, as the client sends them, take without policy.
func (w Way) plain() Way {
	if w == Plain6 || w == NAT64 {
		return Plain6
	}
	return Plain4
}

// title is the way in words.
func (w Way) title() string {
	switch w {
	case Plain4:
		return "plain, IPv4"
	case Plain6:
		return "plain, IPv6"
	case CIDR:
		return "CIDR grant with a filter, IPv4"
	case NAT:
		return "NAT, IPv4"
	case NAT64:
		return "NAT64"
	case NAT46:
		return "NAT46"
	}
	return string(w)
}

// load is the name of the row's load, which rows by other ways have too.
func (r Row) load() string { return r.Name[len(r.Way)+len("-"):] }

// by is the name of the row with the same load by another way.
func (r Row) by(w Way) string { return string(w) + "-" + r.load() }

// paired summarizes the ratio of a figure in two rows, each with a gateway of its own, over the
// repetitions in which both were measured: what a repetition has in common cancels out.
func (r *Run) paired(f figure, mtu int, row, gateway, other, otherGateway string) Spread {
	var ratios []float64
	for _, s := range r.Samples {
		if s.Row.Name != row || s.MTU != mtu || s.Gateway != gateway || s.Error != "" {
			continue
		}
		for _, o := range r.Samples {
			if o.Row.Name == other && o.MTU == mtu && o.Gateway == otherGateway && o.Rep == s.Rep && o.Error == "" {
				ratios = append(ratios, f(s)/f(o))
			}
		}
	}
	return spread(ratios)
}

// wayFloors judges what is promised about NAT64: medians over the rows of TCP of their paired
// ratios.
func (r *Run) wayFloors(mtu int, subject string) []Floor {
	var out []Floor
	judge := func(name, rival string, most float64, other func(Row) string, gateway string) {
		var ratios []float64
		for _, row := range r.all(mtu) {
			if row.Way == NAT64 && row.Kind == TCP && r.has(row.Name, mtu, subject) && r.has(other(row), mtu, gateway) {
				ratios = append(ratios, r.paired(Sample.Cost, mtu, row.Name, subject, other(row), gateway).Median)
			}
		}
		if len(ratios) == 0 {
			return
		}
		got := spread(ratios).Median
		if slices.ContainsFunc(ratios, math.IsNaN) {
			got = math.NaN() // a row that failed throughout
		}
		out = append(out, atMost(Floor{Name: name, Rival: rival, Got: got}, most))
	}
	judge("CPU per GB through NAT64 beside plain forwarding, TCP, median of rows", subject+", plain", plainBound,
		func(row Row) string { return row.by(Plain6) }, subject)
	for _, t := range r.Translators {
		judge("CPU per GB through NAT64, TCP, median of rows", t.Name, taygaBound, func(row Row) string { return row.Name }, t.Name)
	}
	return out
}

// has reports whether the run has samples of a row with a gateway, failed ones included.
func (r *Run) has(row string, mtu int, gateway string) bool {
	return slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Row.Name == row && s.MTU == mtu && s.Gateway == gateway })
}

// ways writes the rows that compare ways: a load after the other, each by all of its ways.
func (d *document) ways(mtu int) {
	rows := byLoad(d.run.all(mtu))
	if len(rows) == 0 {
		return
	}
	d.line("\n## Through policy and translation, MTU %d\n", mtu)
	d.line("%s", waysNote)
	for _, kind := range []Kind{TCP, UDP} {
		unit, rate := "CPU s/GB", "Mbit/s"
		if kind == UDP {
			unit, rate = "CPU µs/packet", "packets/s"
		}
		started := false
		for _, row := range rows {
			if row.Kind != kind {
				continue
			}
			if !started {
				d.table("row", "way", "gateway", unit, "translator alone", "over plain", "times plain", Subject+" / it", rate, "loss %", "change")
				started = true
			}
			d.wayLines(row, mtu)
		}
	}
}

// byLoad are the rows that compare ways, those of one load together, in the order of ways.
func byLoad(all []Row) []Row {
	var loads []string
	var rows []Row
	for _, r := range all {
		if r.Way == "" {
			continue
		}
		if rows = append(rows, r); !slices.Contains(loads, r.load()) {
			loads = append(loads, r.load())
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(
			cmp.Compare(slices.Index(loads, a.load()), slices.Index(loads, b.load())),
			cmp.Compare(slices.Index(wayOrder, a.Way), slices.Index(wayOrder, b.Way)),
		)
	})
	return rows
}

// wayOrder has the ways of a family behind what they are compared with.
var wayOrder = []Way{Plain4, CIDR, NAT, NAT46, Plain6, NAT64}

// wayLines writes a line of the row for each gateway that it was measured with.
func (d *document) wayLines(row Row, mtu int) {
	for _, g := range append([]Version{{Name: Subject}}, d.run.Translators...) {
		if !d.run.has(row.Name, mtu, g.Name) {
			continue
		}
		alone, over, times, against := dash, dash, dash, dash
		plain := row.by(row.Way.plain())
		if g.Name != Subject {
			alone = d.median(Sample.TranslatorCost, row.Name, mtu, g.Name, 2)
			against = number(d.run.paired(Sample.Cost, mtu, row.Name, Subject, row.Name, g.Name).Median, 2)
		}
		if row.Name != plain {
			over = number(d.run.of(Sample.Cost, row.Name, mtu, g.Name).Median-d.run.of(Sample.Cost, plain, mtu, Subject).Median, 2)
			times = d.format(d.run.paired(Sample.Cost, mtu, row.Name, g.Name, plain, Subject), 2)
		}
		loss := dash
		if row.Kind == UDP {
			loss = d.median(Sample.Loss, row.Name, mtu, g.Name, 2)
		}
		d.row(row.Title, row.Way.title(), g.Name, d.spread(Sample.Cost, row.Name, mtu, g.Name, 2), alone, over, times, against,
			d.spread(Sample.Rate, row.Name, mtu, g.Name, 0), loss, d.change(Sample.Cost, row.Name, mtu, g.Name))
	}
}

// atMost judges a floor that bounds what was measured from above; what was not is not met.
func atMost(f Floor, most float64) Floor {
	f.Want, f.Met = "≤ "+number(most, 2), f.Got <= most
	return f
}

// Bounds of CPU per GB through NAT64: 15 % beyond plain forwarding, and a third of a gateway's
// with tayga behind its tunnel.
const (
	plainBound = 1.15
	taygaBound = 1.0 / 3
)

const waysNote = "Four gateways, each between a client and a server of its own, take turns at one load after the other: firelane without policy (plain), " +
	"firelane with a policy, and Debian's tayga, a NAT64 in a process of its own, behind two tunnels. " +
	"NAT64 is from the client's IPv6 to the server's IPv4, NAT46 the other way round; plain is in the client's family. " +
	"tayga has no tunnel, and firelane does tunnel and translation in one process, so CPU is that of all of the gateway's processes: tunnel and translator. " +
	"*Translator alone* is tayga's process without the tunnel's; *over plain* is what a way costs beyond firelane's plain forwarding, so the figures of NAT64 with firelane and with firelane + tayga compare translators only, with what the tunnel loses by getting packets one by one. " +
	"What the kernel does between the interfaces counts for the process in whose system call it happens. Ratios are medians of the ratios within each repetition."
