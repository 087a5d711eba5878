package fastpath

import (
	"net/netip"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// decision is what policy and NAT made of a packet: the same for every packet of its flow in one
// batch.
type decision struct {
	// The flow it holds for, and the batch.
	batch            uint64
	peer             *fib.Peer
	src, dst         netip.Addr
	srcPort, dstPort uint16
	proto            uint8

	verdict fib.Verdict
	change  change
	rewrite packet.Rewrite
}

// change is what is to be done to an admitted packet.
type change uint8

const (
	changeNone      change = iota
	changeRewrite          // new addresses and ports
	changeTranslate        // the same, of the other family
)

// flowCache keeps decisions within one batch, so that a run of packets costs one look-up in the
// policy and one in the NAT table. It is direct-mapped: flows that meet in a slot only decide
// again. Nothing outlives the batch, so nothing can be stale.
type flowCache struct {
	batch uint64
	slots [flowSlots]decision
}

// reset forgets all decisions.
func (c *flowCache) reset() { c.batch++ }

// find returns the slot for a packet of a peer, and whether it holds the decision for its flow.
// Packets that end a TCP connection, fragments and ICMP messages without an identifier are
// decided one by one.
func (c *flowCache) find(p *fib.Peer, info *packet.Info) (d *decision, decided bool) {
	h := (uint32(info.SrcPort)<<16 | uint32(info.DstPort)) * 0x9E3779B1
	h ^= lastWord(info.Src) * 0x85EBCA6B
	h ^= lastWord(info.Dst) * 0xC2B2AE35
	h *= 0x27D4EB2F
	d = &c.slots[h>>26] // the top six bits: flowSlots is 64
	if d.batch == c.batch && d.peer == p && d.proto == info.Proto &&
		d.srcPort == info.SrcPort && d.dstPort == info.DstPort && d.dst == info.Dst && d.src == info.Src &&
		cacheable(info) {
		return d, true
	}
	*d = decision{
		peer: p, src: info.Src, dst: info.Dst, srcPort: info.SrcPort, dstPort: info.DstPort, proto: info.Proto,
	}
	if cacheable(info) {
		d.batch = c.batch
	}
	return d, false
}

// cacheable reports whether all packets with this one's 5-tuple are treated alike.
func cacheable(info *packet.Info) bool {
	return info.SrcPort|info.DstPort != 0 && !info.Fragment && info.TCPFlags&(packet.FlagFIN|packet.FlagRST) == 0
}

// lastWord returns the last four bytes of an address.
func lastWord(a netip.Addr) uint32 {
	b := a.As16()
	return uint32(b[12])<<24 | uint32(b[13])<<16 | uint32(b[14])<<8 | uint32(b[15])
}

// natProto returns the protocol of a packet as the NAT table knows it, and whether NAT can carry
// it: TCP, UDP and ICMP echo, which is one protocol whatever the family.
func natProto(info *packet.Info) (proto uint8, ok bool) {
	switch {
	case info.Fragment:
		return 0, false
	case info.Proto == packet.ProtoTCP, info.Proto == packet.ProtoUDP:
		return info.Proto, true
	case packet.IsEcho(info):
		return packet.ProtoICMP, true
	}
	return 0, false
}
