package packet

import (
	"encoding/binary"
	"math/bits"
)

// ClampMSS lowers the maximum segment size that the TCP SYN in b offers to most bytes, in place,
// with its checksum patched, and reports whether it had to: a link with a smaller MTU than either
// end knows of then needs no path MTU discovery (RFC 4459, section 3.2). info comes from Parse(b).
//
// Where the option is missing the other end assumes 536 or 1220 bytes (RFC 9293, 3.7.1), which
// every link of ours carries. partial says that the checksum is unfinished, as in Apply; it then
// covers no options and stays.
func ClampMSS(b []byte, info *Info, most uint16, partial bool) (lowered bool) {
	if info.Proto != ProtoTCP || info.TCPFlags&FlagSYN == 0 || info.Fragment && !info.FirstFragment {
		return false
	}
	if info.Payload < info.L4+tcpHeaderLen || info.Payload > len(b) {
		return false
	}
	h := b[info.L4:info.Payload]
	for at := tcpHeaderLen; at < len(h); {
		kind := h[at]
		if kind == tcpOptionEnd {
			break
		}
		if kind == tcpOptionNone {
			at++
			continue
		}
		if at+2 > len(h) {
			break
		}
		size := int(h[at+1])
		if size < 2 || at+size > len(h) {
			break
		}
		// An end that looks only at the last of several must see a clamped one, too.
		if kind == tcpOptionMSS && size == 4 && clampOption(h, at+2, most, partial) {
			lowered = true
		}
		at += size
	}
	return lowered
}

// clampOption lowers the word at the given offset of the TCP header h.
func clampOption(h []byte, at int, most uint16, partial bool) bool {
	old := binary.BigEndian.Uint16(h[at:])
	if old <= most {
		return false
	}
	binary.BigEndian.PutUint16(h[at:], most)
	if partial {
		return true
	}
	if at%2 != 0 { // its bytes stand in two words of the sum, the other way round
		old, most = bits.ReverseBytes16(old), bits.ReverseBytes16(most)
	}
	sum := binary.BigEndian.Uint16(h[tcpChecksum:])
	binary.BigEndian.PutUint16(h[tcpChecksum:], Patch(sum, Delta16(old, most)))
	return true
}

// TCP option kinds (RFC 9293, 3.1).
const (
	tcpOptionEnd  = 0
	tcpOptionNone = 1
	tcpOptionMSS  = 2
)
