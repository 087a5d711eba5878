package fastpath

import (
	"encoding/binary"

	"github.com/firelane/firelane/protocol/wireguard"
)

// class is what a datagram's first bytes say it is.
type class uint8

const (
	classUnknown class = iota
	classData          // WireGuard transport data, keepalives included
	classSignal        // handshake message or STUN: control's
)

// stunCookie is the magic cookie at offset 4 of every STUN message (RFC 8489, section 5).
const stunCookie = 0x2112A442

// stunHeader is the length of a STUN header in bytes.
const stunHeader = 20

// classify reads at most eight bytes of a datagram and its length, and never guesses. A STUN
// message cannot be a WireGuard message too: its type number would have to be 1 – 4 in
// little-endian order, which makes its own length field zero, and its size 20 bytes.
func classify(b []byte) class {
	switch wireguard.Kind(b) {
	case wireguard.KindData:
		return classData
	case wireguard.KindInitiation, wireguard.KindResponse, wireguard.KindCookie:
		return classSignal
	}
	if len(b) >= stunHeader && b[0]>>6 == 0 && binary.BigEndian.Uint32(b[4:]) == stunCookie &&
		int(binary.BigEndian.Uint16(b[2:]))+stunHeader == len(b) {
		return classSignal
	}
	return classUnknown
}
