package main

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/firelane/firelane/bench/load"
	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/bench/topology"
)

// station is a gateway and what belongs to it on its host. Several of them, each in a network of
// its own, take turns at one load after the other, so that the figures of a load that are
// compared are seconds apart.
type station struct {
	name       string // of the gateway, in reports
	gateway    topology.Command
	policy     bool // the gateway holds the client to a policy
	translator bool // tayga is behind the gateway's tunnel
	ways       []way
	rows       [][]row // of each load
}

// way is one that leads to the server, and the address by which the client takes it.
type way struct {
	report.Way
	to netip.Addr
}

// allStations are those of a full run: firelane without policy and with one, and tayga behind
// two tunnels.
func allStations(built map[string]topology.Command) []station {
	server := topology.ServerLAN
	behind := func(tunnel string) station {
		return station{
			name: tunnel + " + " + tayga, gateway: built[tunnel], translator: true,
			ways: []way{{report.NAT64, topology.Translated}},
		}
	}
	return []station{
		{name: firelane, gateway: built[firelane], ways: []way{{report.Plain4, server.V4.Addr()}, {report.Plain6, server.V6.Addr()}}},
		{name: firelane, gateway: built[firelane], policy: true, ways: []way{
			{report.NAT64, topology.ProxyNAT64}, {report.NAT46, topology.ProxyNAT46},
			{report.NAT, topology.ProxyNAT4}, {report.CIDR, server.V4.Addr()},
		}},
		behind(firelane), behind(wireguardGo),
	}
}

// stationsFor are the stations that have rows whose name matches, with these rows.
func stationsFor(re *regexp.Regexp, built map[string]topology.Command) []station {
	stations := allStations(built)
	for i := range stations {
		st := &stations[i]
		for _, carry := range loads() {
			var rows []row
			for _, w := range st.ways {
				if r, ok := carry(w); ok && re.MatchString(r.Name) {
					rows = append(rows, r)
				}
			}
			st.rows = append(st.rows, rows)
		}
	}
	return slices.DeleteFunc(stations, func(st station) bool { return len(slices.Concat(st.rows...)) == 0 })
}

// legs are all rows, of all stations, whose name matches.
func legs(re *regexp.Regexp) (rows []row) {
	for _, st := range stationsFor(re, nil) {
		rows = append(rows, slices.Concat(st.rows...)...)
	}
	return rows
}

// loads are what every station carries in turn: functions that make the row of a way, if it has
// one. TCP comes first, its rows share a client.
func loads() []func(way) (row, bool) {
	var all []func(way) (row, bool)
	for _, streams := range []int{1, 4} {
		for _, down := range []bool{false, true} {
			all = append(all, func(w way) (row, bool) {
				r := tcpRow(streams, 0, down).Row
				return tcpLoad(w.own(r), load.TCP{Down: down, Streams: streams, To: w.to}), true
			})
		}
	}
	return append(all, func(w way) (row, bool) {
		r := unbatched(udpRow(bigPayload, pacedPackets, false)).Row
		return udpLoad(w.own(r), load.UDP{Payload: bigPayload, Rate: pacedPackets, To: w.to}), w.Way == report.Plain6 || w.Way == report.NAT64
	})
}

// own makes r the row of that load by this way.
func (w way) own(r report.Row) report.Row {
	r.Name, r.Way = string(w.Way)+"-"+r.Name, w.Way
	return r
}

// open is a station at work, and the client that runs there.
type open struct {
	station
	*topology.Network
	client string
}

// await waits until the server answers the client by every way that rows take, so that none of
// them begins with packets that wait for a neighbour's address.
func (o *open) await(ctx context.Context) error {
	if len(o.ways) == 0 {
		return o.Await(ctx, topology.ServerLAN.V4.Addr())
	}
	for _, w := range o.ways {
		if err := o.Await(ctx, w.to); err != nil {
			return err
		}
	}
	return nil
}

// through measures the rows of all stations: one load through each of them, then the next.
func (p *plan) through(ctx context.Context, mtu int) (samples []report.Sample) {
	stations, errs := make([]*open, len(p.stations)), make([]error, len(p.stations))
	for i, st := range p.stations {
		stations[i], errs[i] = p.open(ctx, st, mtu)
		defer p.close(stations[i])
	}
	for at := range loads() {
		for i, o := range stations {
			for _, r := range o.rows[at] {
				samples = append(samples, p.sample(ctx, o, errs[i], r, mtu))
			}
		}
	}
	return samples
}

// translators are the versions of the gateways that have a translator beside them.
func translators(ctx context.Context, stations []station) []report.Version {
	var versions []report.Version
	for _, st := range stations {
		if st.translator {
			versions = append(versions, report.Version{Name: st.name, Version: fmt.Sprintf("as above, and %s %s", tayga, packageVersion(ctx, tayga))})
		}
	}
	return versions
}

const tayga = "tayga"
