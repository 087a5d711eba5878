package main

import (
	"fmt"
	"math"
	"strings"
)

// markdown writes the report for people.
func (r *Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The relay under load\n\n")
	fmt.Fprintf(&b, "%s, %d cores, Linux %s, %s; %s. Each row: %d repetitions of %v, relays alternating.\n\n",
		r.CPU, r.Cores, r.Kernel, r.Version, r.Date.Format("2006-01-02"), r.repetitions(), r.Length)
	for _, n := range r.Relays {
		fmt.Fprintf(&b, "* **%s**: %s\n", n.Name, n.What)
	}
	b.WriteString(preamble)
	r.floors(&b)
	r.figures(&b)
	r.memory(&b)
	for _, s := range r.failures() {
		fmt.Fprintf(&b, "\nFailed: %s with %s: %s\n", s.Row.Name, s.Relay, s.Error)
	}
	return b.String()
}

// floors writes how firelane compares with each rival, row by row.
func (r *Report) floors(b *strings.Builder) {
	all := r.verdicts()
	met := 0
	for _, v := range all {
		if v.met() {
			met++
		}
	}
	fmt.Fprintf(b, "\n## Floors: %d of %d met\n\n| row | floor |", met, len(all))
	rivals := 0
	for _, n := range r.Relays {
		if n.rival() {
			rivals++
			fmt.Fprintf(b, " firelane / %s | | bare / %s |", n.Name, n.Name)
		}
	}
	b.WriteString("\n|---|---:|" + strings.Repeat("---:|---|---:|", rivals) + "\n")
	for i, v := range all {
		if i%rivals == 0 {
			fmt.Fprintf(b, "| %s | %.2f |", v.row.Name, v.row.floor())
		}
		says := "met"
		if !v.met() {
			says = "**not met**"
		}
		fmt.Fprintf(b, " %s | %s | %s |", number(v.ratio, 2), says, number(v.bound, 2))
		if i%rivals == rivals-1 {
			b.WriteString("\n")
		}
	}
}

// figures writes what was measured under load.
func (r *Report) figures(b *strings.Builder) {
	b.WriteString("\n## Figures\n\n| row | relay | CPU s/GB | user | system | CPU µs/packet | packets/s | lost % | late | peak MiB | waits/s |\n")
	b.WriteString("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, row := range r.rows() {
		if row.Crowd > 0 {
			continue
		}
		for _, n := range r.Relays {
			all := r.of(row, n.Name)
			if n.Bound && len(all) == 0 {
				continue
			}
			waits := over(all, func(s *Sample) float64 { return float64(s.Usage.Switches) / max(s.Up.Seconds, s.Down.Seconds) })
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", row.Name, n.Name,
				ranged(over(all, (*Sample).cpuPerGB), 2), number(over(all, (*Sample).userPerGB).median, 2),
				number(over(all, (*Sample).systemPerGB).median, 2), ranged(over(all, (*Sample).cpuPerPacket), 2),
				ranged(over(all, (*Sample).perSecond), 0), number(over(all, (*Sample).lost).median, 2),
				number(over(all, (*Sample).late).median, 0), number(over(all, (*Sample).peakMiB).max, 1), number(waits.median, 0))
		}
	}
}

// memory writes what idle allocations cost.
func (r *Report) memory(b *strings.Builder) {
	for _, row := range r.rows() {
		if row.Crowd == 0 {
			continue
		}
		fmt.Fprintf(b, "\n## %s, one channel each\n\n| relay | bytes/allocation | peak MiB |\n|---|---:|---:|\n", row.Name)
		for _, n := range r.Relays {
			if n.Bound {
				continue
			}
			all := r.of(row, n.Name)
			fmt.Fprintf(b, "| %s | %s | %s |\n", n.Name,
				ranged(over(all, func(s *Sample) float64 { return s.PerAllocation }), 0), number(over(all, (*Sample).peakMiB).median, 1))
		}
		b.WriteString("\nResident memory of the process, which that of its sockets in the kernel is no part of.\n")
	}
}

// ranged is a median with its range.
func ranged(s spread, digits int) string {
	if math.IsNaN(s.median) || s.min == s.max {
		return number(s.median, digits)
	}
	return fmt.Sprintf("%.*f [%.*f – %.*f]", digits, s.median, digits, s.min, digits, s.max)
}

func number(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

const preamble = `
Clients, relay and peers in three network namespaces on the same cores, joined by veth. Every
allocation has a client, a peer and a channel of its own. Processor time is the relay process's,
user and system; per GB is per 10⁹ bytes of payload that arrived unaltered, which is checked
byte by byte. *Late* counts datagrams that arrived behind a later one of their allocation and
direction. *Waits* are how often the process's threads went to sleep. Medians [least – greatest].

How packets arrive, the same for every relay:

* **trains**: 50 datagrams to or from one allocation, handed to the kernel as one message
  (UDP_SEGMENT), as a gateway or client sends a sealed packet of its tunnel. The next train is the
  next allocation's: with 100 allocations, no two neighbours share one. A relay without UDP_GRO
  gets the same train as 50 datagrams at once.
* **singles**: datagrams handed over and arriving one by one, each the next allocation's; senders'
  interfaces cut trains up (gso_max_segs 1). At a rate, they are evenly spaced; saturating senders
  of one allocation hand over 32 in a call.

What a relay sends as a train leaves its namespace as one, as through an interface that cuts
trains up itself. Neither clients nor peers wait for packets, they look for them each 0.5 ms, so
that no relay is charged with waking them up. *Saturating* senders leave the relay what they do
not use of the cores, and its losses cost it nothing: CPU per GB at a rate is the fairer figure.

*bare* is a yardstick and no limit: what the kernel's sockets took of a program that does little
else, with a pause of 1 ms while datagrams come and one call for each datagram to a peer. Where
*bare / rival* is above the floor, it takes more than to be lean to meet it: another pause, which
trades delay for wake-ups, or trains made of what came singly, which takes neighbours of one
allocation and direction.
`
