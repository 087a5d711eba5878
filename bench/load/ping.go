package load

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/firelane/firelane/bench/topology"
)

// Ping describes a row of echo requests from client to server, 10 ms apart, on an idle path.
type Ping struct{ Count int }

// PingResult is what came of it.
type PingResult struct {
	// P50 and P99 are round-trip times.
	P50, P99 time.Duration
	// Received is how many answers came.
	Received int
}

// Run pings through the network.
func (p Ping) Run(ctx context.Context, n *topology.Network) (PingResult, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.Count)*20*time.Millisecond+5*time.Second)
	defer cancel()
	out, err := n.Run(ctx, topology.Client, nil, "ping", "-n", "-i", "0.01", "-c", strconv.Itoa(p.Count), "-W", "1", topology.ServerLAN.V4.Addr().String())
	if err != nil {
		return PingResult{}, err
	}
	return parsePing(out)
}

// parsePing reads the times of ping's answers.
func parsePing(out []byte) (PingResult, error) {
	var times []time.Duration
	for _, m := range pingTime.FindAllSubmatch(out, -1) {
		ms, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return PingResult{}, err
		}
		times = append(times, time.Duration(ms*float64(time.Millisecond)))
	}
	if len(times) == 0 {
		return PingResult{}, fmt.Errorf("ping: no answers in %q", out)
	}
	slices.Sort(times)
	return PingResult{P50: percentile(times, 50), P99: percentile(times, 99), Received: len(times)}, nil
}

// percentile is the smallest of the sorted values that p percent do not exceed (nearest rank).
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

var pingTime = regexp.MustCompile(`time=([0-9.]+) ms`)
