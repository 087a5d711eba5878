package load

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/firelane/firelane/packet"
)

// template is an inner UDP/IPv4 packet, from which all packets of a run are made. It is padded
// to a multiple of 16 bytes, as WireGuard has it (paper, section 5.4.6).
type template struct {
	plain []byte
	// sum is that of the UDP checksum but for source port and frame.
	sum uint64
}

// newTemplate makes the packet from the address from to to, with a payload of zeros.
func newTemplate(from netip.Addr, to netip.AddrPort, payload int) (*template, error) {
	if payload < frameLen || payload > maxPayload {
		return nil, fmt.Errorf("payload of %d bytes is not between %d and %d", payload, frameLen, maxPayload)
	}
	if !from.Is4() || !to.Addr().Is4() {
		return nil, fmt.Errorf("%v and %v are not both of IPv4", from, to.Addr())
	}
	b := make([]byte, (innerHeaders+payload+15)&^15)
	src, dst := from.As4(), to.Addr().As4()
	b[0] = 4<<4 | ip4HeaderLen/4
	binary.BigEndian.PutUint16(b[2:], uint16(innerHeaders+payload))
	b[6] = 1 << 6 // don't fragment
	b[8], b[9] = 64, protoUDP
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], ^packet.Fold(packet.Sum(b[:ip4HeaderLen], 0)))
	udp := b[ip4HeaderLen:]
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeaderLen+payload))
	pseudo := packet.PseudoSum(from, to.Addr(), protoUDP, udpHeaderLen+payload)
	return &template{plain: b, sum: packet.Sum(udp[:udpHeaderLen], pseudo)}, nil
}

// put writes the packet with the frame in it to b. Its checksum is right, because a gateway
// may join only packets whose checksum it knows.
func (t *template) put(b []byte, f frame) {
	copy(b, t.plain)
	udp := b[ip4HeaderLen:]
	port := firstPort + uint16(f.seq>>flowShift)
	binary.BigEndian.PutUint16(udp, port)
	f.put(udp[udpHeaderLen:])
	sum := ^packet.Fold(packet.Sum(udp[udpHeaderLen:udpHeaderLen+frameLen], t.sum+uint64(port)))
	if sum == 0 {
		sum = 0xffff // zero means none (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
}

// innerFrame is the frame in an inner packet.
func innerFrame(b []byte) (frame, bool) {
	if len(b) < innerHeaders || b[0] != 4<<4|ip4HeaderLen/4 || b[9] != protoUDP {
		return frame{}, false
	}
	return parseFrame(b[innerHeaders:])
}

const (
	ip4HeaderLen = 20
	udpHeaderLen = 8
	innerHeaders = ip4HeaderLen + udpHeaderLen
	protoUDP     = 17
	// maxPayload is more than fits a packet of any MTU here.
	maxPayload = 2048
	// firstPort is the source port of flow 0.
	firstPort = 40000
)
