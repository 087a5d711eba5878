package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/firelane/firelane/bench/topology"
)

// TCP describes an iperf3 transfer between client and server.
type TCP struct {
	// Down sends from the server to the client.
	Down bool
	// Streams is the number of parallel connections.
	Streams int
	// Rate is in bits per second per stream; 0 for as fast as possible.
	Rate int
	// Length is how long to send, in whole seconds.
	Length time.Duration
	// To is the address of the server that the client connects to; none for the server's own
	// IPv4 address.
	To netip.Addr
}

// TCPResult is what came of it.
type TCPResult struct {
	// Bytes of payload that the receiver got, in Seconds.
	Bytes   uint64
	Seconds float64
	// Retransmits is how many segments the sender sent again.
	Retransmits uint64
}

// Run transfers through the network.
func (t TCP) Run(ctx context.Context, n *topology.Network) (TCPResult, error) {
	listener, err := n.Start(topology.Server, topology.Spec{Argv: []string{"iperf3", "-s", "-1", "-p", strconv.Itoa(tcpPort)}})
	if err != nil {
		return TCPResult{}, err
	}
	defer listener.Stop()
	if err := listener.AwaitPort(ctx, "tcp", tcpPort); err != nil {
		return TCPResult{}, err
	}
	argv := []string{
		"iperf3", "-J", "-c", server(t.To).String(), "-p", strconv.Itoa(tcpPort),
		"-t", strconv.Itoa(int(t.Length.Seconds())), "-P", strconv.Itoa(t.Streams),
	}
	if t.Down {
		argv = append(argv, "-R")
	}
	if t.Rate > 0 {
		argv = append(argv, "-b", strconv.Itoa(t.Rate))
	}
	ctx, cancel := context.WithTimeout(ctx, t.Length+tcpSlack)
	defer cancel()
	// iperf3 says what went wrong in its JSON, so that is looked at first.
	out, runErr := n.Run(ctx, topology.Client, nil, argv...)
	r, err := parseIperf(out)
	if runErr != nil && (err == nil || len(out) == 0) {
		err = runErr
	}
	return r, err
}

// parseIperf reads the result of iperf3 -J.
func parseIperf(b []byte) (TCPResult, error) {
	var doc struct {
		Error string `json:"error"`
		End   struct {
			Sent struct {
				Retransmits uint64 `json:"retransmits"`
			} `json:"sum_sent"`
			Received struct {
				Bytes   uint64  `json:"bytes"`
				Seconds float64 `json:"seconds"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return TCPResult{}, fmt.Errorf("parse iperf3's output: %w", err)
	}
	if doc.Error != "" {
		return TCPResult{}, fmt.Errorf("iperf3: %s", doc.Error)
	}
	r := TCPResult{Bytes: doc.End.Received.Bytes, Seconds: doc.End.Received.Seconds, Retransmits: doc.End.Sent.Retransmits}
	if r.Bytes == 0 || r.Seconds <= 0 {
		return r, fmt.Errorf("iperf3: nothing arrived")
	}
	return r, nil
}

// server is to, or the server's own IPv4 address.
func server(to netip.Addr) netip.Addr {
	if to.IsValid() {
		return to
	}
	return topology.ServerLAN.V4.Addr()
}

const (
	tcpPort = 5201
	// tcpSlack is what a transfer may take beyond its length before it counts as hung.
	tcpSlack = 15 * time.Second
)
