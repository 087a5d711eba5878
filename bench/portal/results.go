package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/firelane/firelane/bench/sample"
)

// results is where a recorded run is kept.
const results = "bench/portal/RESULTS.md"

// figures are what a run came to.
type figures struct {
	clients       int
	perConnection int // bytes, right after the join
	perRested     int // bytes, after a while of heartbeats
	join, storm   time.Duration
	gaveUp        int // devices
	p50, p99      time.Duration
	failed        int // authorizations
	write99       time.Duration
	bare99        time.Duration
}

var secured = map[bool]string{true: " with TLS", false: " without TLS"}

// report is the runs for people.
func report(l options, all []figures, text string) string {
	var b strings.Builder
	h := sample.ThisHost()
	fmt.Fprintf(&b, "# The portal under load\n\n%s, %d cores, Linux %s, %s; %s. %d clients, %d gateways and a relay, each with a token and a\n"+
		"websocket of its own%s, in one process beside the portal's; %d authorizations a second for %v, each answered when it is on the disk.\n\n",
		h.CPU, h.Cores, h.Kernel, h.Go, time.Now().Format("2006-01-02"), l.clients, l.gateways, secured[l.tls], l.rate, l.duration)
	fmt.Fprintf(&b, "| run | idle connection, KiB | after %v | join, s | join after a restart, s | gave up | authorization p50, ms | p99, ms | failed | durable write p99, ms | bare fdatasync p99, ms |\n", l.rest)
	b.WriteString("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	for i, f := range all {
		fmt.Fprintf(&b, "| %d | %d | %d | %.1f | %.1f | %d | %.1f | %.1f | %d | %.1f | %.1f |\n", i+1, f.perConnection>>10, f.perRested>>10, f.join.Seconds(), f.storm.Seconds(),
			f.gaveUp, ms(f.p50), ms(f.p99), f.failed, ms(f.write99), ms(f.bare99))
	}
	fmt.Fprintf(&b, "\nWanted: at most %d KiB, nobody gives up, p99 of an authorization at most %v. The durable write is part of an\n"+
		"authorization; bare fdatasync is what the file system takes without a portal, just before and after.\n\n```\n%s```\n",
		maxPerConnection>>10, maxRoundTrip, text)
	return b.String()
}
