package packet

import "encoding/binary"

// Explicit congestion notification: the two low bits of the type of service or traffic class
// (RFC 3168, section 5).
const (
	ECNMask      = 0x03
	ECNNotAble   = 0x00 // not ECN-capable
	ECNCongested = 0x03 // congestion experienced
)

// SetCongested carries a congestion mark from an outer header into the packet in b, which info
// describes: an ECN-capable packet becomes marked, in place, with its header checksum patched. It
// reports false for a packet that is not ECN-capable, which is to be dropped: its sender reads
// only loss (RFC 6040, section 4.2).
func SetCongested(b []byte, info *Info) bool {
	if info.TOS&ECNMask == ECNNotAble {
		return false
	}
	if info.Version == 6 {
		b[1] |= ECNCongested << 4
	} else {
		before := uint16(b[0])<<8 | uint16(b[1])
		b[1] |= ECNCongested
		sum := binary.BigEndian.Uint16(b[ip4Checksum:])
		binary.BigEndian.PutUint16(b[ip4Checksum:], Patch(sum, Delta16(before, uint16(b[0])<<8|uint16(b[1]))))
	}
	info.TOS |= ECNCongested
	return true
}
