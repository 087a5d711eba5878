package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/firelane/firelane/bench/load"
	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/bench/topology"
)

// row is a load and how its outcome becomes a sample.
type row struct {
	report.Row
	// run puts the load through the network and fills what the load itself tells.
	run func(ctx context.Context, n *topology.Network, k knobs, s *report.Sample) error
	// only names the gateway beside which the row is measured; empty for each of them.
	only string
}

// besides reports whether the row is measured beside a gateway.
func (r row) besides(gateway string) bool { return r.only == "" || r.only == gateway }

// knobs are what the command line says about all rows.
type knobs struct {
	length time.Duration
	burst  int // packets per system call of a saturating sender
}

// allRows are the rows of a full run: TCP and ping first, they share a client.
func allRows() []row {
	var rows []row
	for _, streams := range []int{1, 4, 10} {
		rows = append(rows, tcpRow(streams, 0, false), tcpRow(streams, 0, true))
	}
	return append(rows,
		tcpRow(1, 1e9, false), tcpRow(1, 1e9, true),
		pingRow(),
		udpRow(bigPayload, 0, false), udpRow(bigPayload, 0, true),
		udpRow(smallPayload, 0, false), udpRow(smallPayload, 0, true),
		unbatched(udpRow(bigPayload, pacedPackets, false)), udpRow(bigPayload, pacedPackets, true),
		singlesRow(bigPayload, 0, false), singlesRow(smallPayload, 0, false),
		sealedRow(bigPayload, false), sealedRow(bigPayload, true),
		sealedRow(smallPayload, false), sealedRow(smallPayload, true),
		ceilingRow(bigPayload, udpRow), ceilingRow(smallPayload, udpRow),
		ceilingRow(bigPayload, singlesRow), ceilingRow(smallPayload, singlesRow),
	)
}

// matching are the rows whose name matches.
func matching(re *regexp.Regexp) []row {
	return slices.DeleteFunc(allRows(), func(r row) bool { return !re.MatchString(r.Name) })
}

func tcpRow(streams, rate int, down bool) row {
	dir := direction(down)
	r := report.Row{
		Name:  fmt.Sprintf("tcp-%s-%d", dir, streams),
		Title: fmt.Sprintf("TCP %s, %s", dir, plural(streams, "stream")),
		Kind:  report.TCP, Down: down, Paced: rate > 0,
	}
	if r.Paced {
		r.Name, r.Title = "tcp-1g-"+dir, "TCP "+dir+", paced 1 Gbit/s"
	}
	return tcpLoad(r, load.TCP{Down: down, Streams: streams, Rate: rate})
}

// tcpLoad is the row r with the load t, which the knobs complete.
func tcpLoad(r report.Row, t load.TCP) row {
	return row{Row: r, run: func(ctx context.Context, n *topology.Network, k knobs, s *report.Sample) error {
		t.Length = k.length
		got, err := t.Run(ctx, n)
		s.Bytes, s.Seconds, s.Retransmits = got.Bytes, got.Seconds, got.Retransmits
		return err
	}}
}

func udpRow(payload, rate int, down bool) row {
	dir := direction(down)
	r := report.Row{
		Name:  fmt.Sprintf("udp-%d-%s", payload, dir),
		Title: fmt.Sprintf("UDP %s, %d bytes, saturating", dir, payload),
		Kind:  report.UDP, Down: down, Paced: rate > 0,
	}
	if r.Paced {
		r.Name, r.Title = "udp-31k-"+dir, fmt.Sprintf("UDP %s, %d bytes, unbatched 31,000/s", dir, payload)
	}
	return udpLoad(r, load.UDP{Down: down, Payload: payload, Rate: rate})
}

// sealedRow is a saturating row whose generator, or sink, is the tunnel's other end itself.
func sealedRow(payload int, down bool) row {
	r := report.Row{
		Name:  fmt.Sprintf("udp-%d-%s-sealed", payload, direction(down)),
		Title: fmt.Sprintf("UDP up, %d bytes, singly, sealed by the generator", payload),
		Kind:  report.UDP, Down: down, Sealed: true,
	}
	if down {
		r.Title = fmt.Sprintf("UDP down, %d bytes, singly, opened by the sink", payload)
	}
	return udpLoad(r, load.UDP{Down: down, Payload: payload, Sealed: true})
}

// udpLoad is the row r with the load u, which the knobs complete.
func udpLoad(r report.Row, u load.UDP) row {
	return row{Row: r, run: func(ctx context.Context, n *topology.Network, k knobs, s *report.Sample) error {
		u.Burst, u.Length = k.burst, k.length
		got, err := u.Run(ctx, n)
		s.Bytes, s.Packets, s.SentPackets = got.Bytes, got.Arrivals.Packets, got.Sent.Packets
		s.Seconds = max(got.Sent.Seconds, float64(got.Last-got.First)/1e9)
		s.SenderCPU, s.SinkCPU = got.Sent.CPU, got.Arrivals.CPU
		s.Inversions, s.Jitter, s.SinkDrops = got.Inversions, got.JitterNS/1e3, got.Drops
		return err
	}}
}

// unbatched makes the client of a paced row pass packets on as they come, one by one.
func unbatched(r row) row {
	r.Singles = true
	return r
}

// singlesRow is the same row as udpRow from a client that sends datagrams one by one.
func singlesRow(payload, rate int, down bool) row {
	r := udpRow(payload, rate, down)
	r.Name += "-singles"
	r.Title += ", singly"
	r.Singles = true
	return r
}

// ceilingRow measures what the client alone puts on the wire in a saturating row up. No gateway
// has a part in it, so it is measured beside one of them only.
func ceilingRow(payload int, like func(payload, rate int, down bool) row) row {
	r := like(payload, 0, false).Row
	r.Name, r.Kind = report.CeilingPrefix+r.Name, report.Ceiling
	return row{Row: r, only: firelane, run: func(ctx context.Context, n *topology.Network, k knobs, s *report.Sample) error {
		got, err := load.Ceiling{Payload: payload, Burst: k.burst, Length: k.length}.Run(ctx, n)
		s.Packets, s.SentPackets, s.Seconds, s.SenderCPU = got.Messages, got.Sent.Packets, got.Sent.Seconds, got.Sent.CPU
		return err
	}}
}

func pingRow() row {
	return row{
		Row: report.Row{Name: "ping", Title: "idle ping", Kind: report.Ping, Paced: true},
		run: func(ctx context.Context, n *topology.Network, _ knobs, s *report.Sample) error {
			got, err := load.Ping{Count: pings}.Run(ctx, n)
			s.PingP50, s.PingP99 = micros(got.P50), micros(got.P99)
			return err
		},
	}
}

func direction(down bool) string {
	if down {
		return "down"
	}
	return "up"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

const (
	// bigPayload fits an inner MTU of 1280 over either IP version.
	bigPayload   = 1200
	smallPayload = 64
	pacedPackets = 31000
	// pings is what a 99th percentile needs to rest on three samples.
	pings = 300
)
