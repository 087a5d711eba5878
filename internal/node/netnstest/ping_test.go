package netnstest

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// pingPatience is how long after the last request answers are waited for. ping(8) waits for no more
// than two of the round trips it has seen, which a busy machine exceeds.
const pingPatience = 2 * time.Second

// pingID tells the answers of one call from those of another on the same host.
var pingID atomic.Uint32

// ping sends n echo requests, each every so often, and returns how many were answered.
func (h *host) ping(to string, n int, every time.Duration) int {
	h.t.Helper()
	addr := netip.MustParseAddr(to)
	network, protocol := "ip4:icmp", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if addr.Is6() {
		network, protocol = "ip6:ipv6-icmp", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	var c net.PacketConn
	h.try(h.within(func() (err error) {
		c, err = net.ListenPacket(network, "")
		return err
	}))
	defer c.Close()
	id := int(pingID.Add(1) & 0xffff)
	h.try(c.SetReadDeadline(time.Now().Add(time.Duration(n)*every + transferLimit)))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for seq := range n {
			b, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: id, Seq: seq, Data: make([]byte, 56)}}).Marshal(nil)
			if err == nil {
				// What has no way out is lost, as any packet may be.
				_, _ = c.WriteTo(b, &net.IPAddr{IP: addr.AsSlice()})
			}
			<-tick.C
		}
		_ = c.SetReadDeadline(time.Now().Add(pingPatience))
	}()
	seen, b := map[int]bool{}, make([]byte, 1500)
	for len(seen) < n {
		size, _, err := c.ReadFrom(b)
		if err != nil {
			break
		}
		m, err := icmp.ParseMessage(protocol, b[:size])
		if err != nil || m.Type != reply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == id {
			seen[e.Seq] = true
		}
	}
	<-sent
	return len(seen)
}
