package stun

import "encoding/binary"

// ChannelHeader is the size in bytes of what stands in front of data on a channel:
//
//	 0                   1                   2                   3
//	|        channel number         |            length             |
const ChannelHeader = 4

// IsChannel reports whether n is a channel number (RFC 8656 section 12).
func IsChannel(n uint16) bool { return n>>12 == 4 }

// ChannelData takes a ChannelData message apart. data is lent by b. Bytes behind the data are
// cut off; who does not tolerate them compares lengths. ok is false if the number is not one of
// a channel or the data is cut short.
func ChannelData(b []byte) (number uint16, data []byte, ok bool) {
	if len(b) < ChannelHeader {
		return 0, nil, false
	}
	number = binary.BigEndian.Uint16(b)
	n := int(binary.BigEndian.Uint16(b[2:]))
	if !IsChannel(number) || n > len(b)-ChannelHeader {
		return 0, nil, false
	}
	return number, b[ChannelHeader : ChannelHeader+n : ChannelHeader+n], true
}

// PutChannelHeader writes the header for n bytes of data into the first bytes of b. Over UDP
// nothing is padded: peers refuse a length that is not exactly that of the datagram.
func PutChannelHeader(b []byte, number uint16, n int) {
	binary.BigEndian.PutUint16(b, number)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
}
