package tun

import (
	"encoding/binary"

	"github.com/firelane/firelane/batch"
)

// The virtio-net header (virtio 1.2, 5.1.6) in the legacy layout that TUN uses, in the
// machine's byte order:
//
//	[flags 1][kind 1][header length 2][segment size 2][checksum start 2][checksum offset 2]
const vnetHdrLen = 10

const (
	vnetNeedsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM

	vnetNone = 0 // VIRTIO_NET_HDR_GSO_…
	vnetTCP4 = 1
	vnetTCP6 = 4
	vnetUDP  = 5 // UDP_L4
)

const (
	ip4HeaderLen = 20
	ip6HeaderLen = 40
	tcpHeaderLen = 20
	udpHeaderLen = 8
)

// decode reads the header in front of packet and reports whether what it says fits the packet:
// every offset lies inside, a superpacket is of the version and protocol its kind names, and
// has payload to be cut.
//
// The kernel's header length is a hint that may reach into the payload (it is the length of the
// linear part of its buffer), so it is computed from the transport header instead.
func decode(h *[vnetHdrLen]byte, packet []byte) (o batch.Offload, ok bool) {
	o.NeedsCsum = h[0]&vnetNeedsCsum != 0
	if o.NeedsCsum {
		o.CsumStart = binary.NativeEndian.Uint16(h[6:])
		o.CsumOffset = binary.NativeEndian.Uint16(h[8:])
		if int(o.CsumStart)+int(o.CsumOffset)+2 > len(packet) || o.CsumStart < ip4HeaderLen {
			return batch.Offload{}, false
		}
	}
	if h[1] == vnetNone {
		return o, len(packet) > 0
	}
	o.SegmentSize = binary.NativeEndian.Uint16(h[4:])
	if !o.NeedsCsum || o.SegmentSize == 0 || !describe(&o, h[1], packet) {
		return batch.Offload{}, false
	}
	return o, int(o.HdrLen) < len(packet)
}

// describe fills the kind and the header length of a superpacket, and reports whether its
// headers are those of that kind.
func describe(o *batch.Offload, kind byte, packet []byte) bool {
	start := int(o.CsumStart)
	version, least := packet[0]>>4, ip4HeaderLen
	if version == 6 {
		least = ip6HeaderLen
	}
	if start < least {
		return false
	}
	switch {
	case kind == vnetTCP4 && version == 4:
		o.Kind = batch.OffloadTCP4
	case kind == vnetTCP6 && version == 6:
		o.Kind = batch.OffloadTCP6
	case kind == vnetUDP && (version == 4 || version == 6):
		o.Kind = batch.OffloadUDP
		o.HdrLen = o.CsumStart + udpHeaderLen
		return o.CsumOffset == 6 && start+udpHeaderLen <= len(packet)
	default:
		return false
	}
	if o.CsumOffset != 16 || start+tcpHeaderLen > len(packet) {
		return false
	}
	length := uint16(packet[start+12]>>4) * 4
	o.HdrLen = o.CsumStart + length
	return length >= tcpHeaderLen
}

// encode writes the header for a packet of size bytes, and reports false for an offload that
// cannot be: the kernel would refuse it or read past the headers.
//
// The header length decides how much of the packet the kernel puts into the linear part of its
// buffer: right, and the payload goes to whole pages; 0 for a superpacket, and it asks for
// 64 KiB in one piece.
func encode(h *[vnetHdrLen]byte, o *batch.Offload, size int) bool {
	*h = [vnetHdrLen]byte{}
	if o.NeedsCsum {
		if int(o.CsumStart)+int(o.CsumOffset)+2 > size {
			return false
		}
		h[0] = vnetNeedsCsum
		binary.NativeEndian.PutUint16(h[6:], o.CsumStart)
		binary.NativeEndian.PutUint16(h[8:], o.CsumOffset)
	}
	switch o.Kind {
	case batch.OffloadNone:
		return size > 0
	case batch.OffloadTCP4:
		h[1] = vnetTCP4
	case batch.OffloadTCP6:
		h[1] = vnetTCP6
	case batch.OffloadUDP:
		h[1] = vnetUDP
	default:
		return false
	}
	if !o.NeedsCsum || o.SegmentSize == 0 || int(o.HdrLen) >= size || o.HdrLen <= o.CsumStart {
		return false
	}
	binary.NativeEndian.PutUint16(h[2:], o.HdrLen)
	binary.NativeEndian.PutUint16(h[4:], o.SegmentSize)
	return true
}
