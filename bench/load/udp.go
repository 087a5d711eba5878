package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/firelane/firelane/bench/topology"
)

// UDP describes a stream of datagrams between client and server.
type UDP struct {
	// Down sends from the server to the client.
	Down bool
	// Payload is the UDP payload in bytes.
	Payload int
	// Rate is in packets per second, one send each; 0 saturates with bursts.
	Rate int
	// Burst is how many packets a saturating sender hands over in one system call.
	Burst int
	// Length is how long to send.
	Length time.Duration
}

// UDPResult is what came of it.
type UDPResult struct {
	Sent
	Arrivals
}

// Run sends through the network.
func (u UDP) Run(ctx context.Context, n *topology.Network) (UDPResult, error) {
	from, to, addr := topology.Client, topology.Server, topology.ServerLAN
	if u.Down {
		from, to, addr = topology.Server, topology.Client, topology.ClientInner
	}
	self, err := os.Executable()
	if err != nil {
		return UDPResult{}, err
	}
	common := []string{"-addr", netip.AddrPortFrom(addr.V4.Addr(), udpPort).String(), "-run", strconv.FormatUint(runs.Add(1), 10)}
	sink, err := n.Start(to, topology.Spec{Argv: append([]string{self, sinkMode}, common...)})
	if err != nil {
		return UDPResult{}, err
	}
	defer sink.Stop()
	if err := sink.AwaitPort(ctx, "udp", udpPort); err != nil {
		return UDPResult{}, err
	}
	var r UDPResult
	err = runJSON(&r.Sent, func() ([]byte, error) {
		return n.Run(ctx, from, nil, append(append([]string{self, sendMode}, common...),
			"-payload", strconv.Itoa(u.Payload), "-rate", strconv.Itoa(u.Rate), "-burst", strconv.Itoa(u.Burst), "-length", u.Length.String())...)
	})
	if err != nil {
		return r, err
	}
	err = runJSON(&r.Arrivals, func() ([]byte, error) {
		if err := sink.Terminate(); err != nil {
			return nil, err
		}
		return sink.Output(ctx)
	})
	if err == nil && r.Arrivals.Packets == 0 {
		err = fmt.Errorf("none of %d datagrams arrived", r.Sent.Packets)
	}
	return r, err
}

func runJSON(into any, output func() ([]byte, error)) error {
	b, err := output()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("parse result %q: %w", b, err)
	}
	return nil
}

// runs numbers the runs of this process, so that a straggler is not counted for its successor.
var runs atomic.Uint64

const udpPort = 5202
