package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
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
	// Sealed makes the program on the client the gateway's peer, so that no other tunnel's
	// limits count: it seals what it sends and opens what it receives. To leave the gateway
	// as much of the machine as possible, sender and sink then share one processor and the
	// sender's kernel cuts trains up into packets. It saturates.
	Sealed bool
	// To is the address of the server that the client sends to; none for the server's own IPv4
	// address. The sink listens at that one, unless To is the server's own IPv6 address. For
	// streams up that are not sealed.
	To netip.Addr
}

// UDPResult is what came of it.
type UDPResult struct {
	Sent
	Arrivals
}

// Run sends through the network.
func (u UDP) Run(ctx context.Context, n *topology.Network) (r UDPResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return UDPResult{}, err
	}
	from, to := topology.Client, topology.Server
	if u.Down {
		from, to = to, from
	}
	if u.Sealed {
		undo, err := n.Singly(from)
		if err != nil {
			return UDPResult{}, err
		}
		defer func() { err = errors.Join(err, undo()) }()
	}
	sender, receiver := u.programs(n, self)
	sink, err := n.Start(to, receiver)
	if err != nil {
		return UDPResult{}, err
	}
	defer sink.Stop()
	if err := sink.AwaitPort(ctx, "udp", udpPort); err != nil {
		return UDPResult{}, err
	}
	err = runJSON(&r.Sent, func() ([]byte, error) { return n.Run(ctx, from, sender.Stdin, sender.Argv...) })
	if err != nil {
		return r, errors.Join(err, unexpected(sink))
	}
	err = runJSON(&r.Arrivals, func() ([]byte, error) {
		if err := sink.Terminate(); err != nil {
			return nil, errors.Join(err, unexpected(sink))
		}
		return sink.Output(ctx)
	})
	if err == nil && r.Arrivals.Packets == 0 {
		err = fmt.Errorf("none of %d datagrams arrived", r.Sent.Packets)
	}
	return r, err
}

// programs are this program again, as sender and as sink.
func (u UDP) programs(n *topology.Network, self string) (sender, sink topology.Spec) {
	to, at := server(u.To), topology.ServerLAN.V4.Addr()
	if to == topology.ServerLAN.V6.Addr() {
		at = to
	}
	switch {
	case u.Down && u.Sealed:
		to, at = topology.EndpointInner.V4.Addr(), netip.IPv4Unspecified()
	case u.Down:
		to, at = topology.ClientInner.V4.Addr(), topology.ClientInner.V4.Addr()
	}
	run := []string{"-run", strconv.FormatUint(runs.Add(1), 10), "-payload", strconv.Itoa(u.Payload)}
	spec := func(mode string, addr netip.Addr, more ...string) topology.Spec {
		return topology.Spec{Argv: slices.Concat([]string{self, mode, "-addr", netip.AddrPortFrom(addr, udpPort).String()}, run, more)}
	}
	if u.Sealed {
		run = append(run, "-trains", "-cpu", strconv.Itoa(sealedCPU))
	}
	pattern := []string{"-rate", strconv.Itoa(u.Rate), "-burst", strconv.Itoa(u.Burst), "-length", u.Length.String()}
	sender, sink = spec(sendMode, to, pattern...), spec(sinkMode, at)
	if !u.Sealed {
		return sender, sink
	}
	e := n.Endpoint()
	peer := []string{
		"-local", e.Local.String(), "-gateway", e.Gateway.String(), "-gateway-key", e.GatewayKey,
		"-inner", topology.EndpointInner.V4.Addr().String(),
	}
	if u.Down {
		sink = spec(openMode, at, peer...)
		sink.Stdin = strings.NewReader(e.Key)
	} else {
		sender = spec(sealMode, to, slices.Concat(pattern, peer)...)
		sender.Stdin = strings.NewReader(e.Key)
	}
	return sender, sink
}

// unexpected says how a sink has ended that should not have; nil if it goes on.
func unexpected(sink *topology.Process) error {
	_, err := sink.Ended()
	return err
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

const (
	udpPort = 5202
	// sealedCPU is where sender and sink of Sealed rows run; every machine has it.
	sealedCPU = 0
)
