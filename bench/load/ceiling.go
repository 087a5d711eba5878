package load

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/firelane/firelane/bench/topology"
)

// Ceiling is a saturating stream of datagrams up that ends where the gateway's process would
// begin: the gateway's kernel counts and drops what comes off the wire. Nobody works but the
// generator and the client, so that no gateway can deliver more.
type Ceiling struct {
	// Payload is the UDP payload in bytes; packets with it fit the tunnel's MTU.
	Payload int
	// Burst is how many packets the generator hands over in one system call.
	Burst int
	// Length is how long to send.
	Length time.Duration
}

// CeilingResult is what came of it.
type CeilingResult struct {
	Sent
	// Messages is how many data messages the client has put on the wire.
	Messages uint64
}

// Run sends into the network.
func (c Ceiling) Run(ctx context.Context, n *topology.Network) (r CeilingResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	sender, _ := UDP{Payload: c.Payload, Burst: c.Burst, Length: c.Length}.programs(n, self)
	stop, err := n.Catch(ctx)
	if err != nil {
		return r, err
	}
	err = runJSON(&r.Sent, func() ([]byte, error) { return n.Run(ctx, topology.Client, nil, sender.Argv...) })
	// The rule goes also when ctx has ended.
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	var counted error
	r.Messages, counted = stop(limit, messageSize(c.Payload))
	if err = errors.Join(err, counted); err == nil && r.Messages == 0 {
		err = errors.New("the client sent nothing")
	}
	return r, err
}

// messageSize is the length of the data message with a datagram over IPv4: the packet is padded
// to 16 bytes, and has WireGuard's header and tag around it.
func messageSize(payload int) int {
	const headers, block, envelope = 20 + 8, 16, 32
	return (payload+headers+block-1)/block*block + envelope
}

// stopTime is ample for two calls of nft.
const stopTime = 5 * time.Second
