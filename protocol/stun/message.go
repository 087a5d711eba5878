package stun

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Sizes in bytes.
const (
	// HeaderSize is that of a STUN header: type, length, cookie, transaction id.
	HeaderSize = 20
	// MaxSize bounds a message. One datagram on any path that we know has up to 1,500 bytes;
	// the rest is for paths that we do not.
	MaxSize = 2048
	// MaxAttributes bounds the attributes of one message: three times as many as there are
	// types in this package.
	MaxAttributes = 64
)

const (
	cookie     = 0x2112a442
	attrHeader = 4
)

// Method is what a message is about.
type Method uint16

// The methods of STUN and TURN over UDP.
const (
	Binding          Method = 0x001
	Allocate         Method = 0x003
	Refresh          Method = 0x004
	CreatePermission Method = 0x008
	ChannelBind      Method = 0x009
)

// Class is the kind of a message.
type Class uint8

// The classes.
const (
	Request Class = iota
	Indication
	Success
	Failure
)

// TransactionID ties an answer to its request.
type TransactionID [12]byte

// Message is a parsed STUN message. Fields without their bit in Has are zero. Slices are lent by
// the bytes that were parsed.
type Message struct {
	Class  Class
	Method Method
	ID     TransactionID
	// Has says which attributes are there and well-formed.
	Has Presence

	Username, Realm, Nonce, Software []byte

	// Mapped, Peer and Relayed are XOR-MAPPED-ADDRESS, XOR-PEER-ADDRESS and
	// XOR-RELAYED-ADDRESS (IPv4 first, then IPv6), as they are without the exclusive or.
	Mapped, Peer netip.AddrPort
	Relayed      [2]netip.AddrPort

	// Lifetime is in seconds.
	Lifetime uint32
	// Channel is 0x4000 to 0x4fff.
	Channel uint16
	// Transport is the protocol number in REQUESTED-TRANSPORT.
	Transport uint8
	// Requested and Additional are REQUESTED-ADDRESS-FAMILY and ADDITIONAL-ADDRESS-FAMILY.
	Requested, Additional Family

	// Code is 300 to 699, and Reason its text.
	Code   int
	Reason []byte

	Priority uint32
	// TieBreaker is the value of ICE-CONTROLLING or ICE-CONTROLLED.
	TieBreaker uint64

	raw           []byte
	integrityAt   int // offset of MESSAGE-INTEGRITY
	fingerprintAt int // offset of FINGERPRINT
}

var (
	// ErrHeader means that the bytes are not a STUN message.
	ErrHeader = errors.New("stun: not a STUN message")
	// ErrAttribute means that an attribute is malformed; Class, Method and ID are valid.
	ErrAttribute = errors.New("stun: malformed attribute")
)

// Is reports whether a datagram with this first byte can be a STUN message; anything else
// cannot. ChannelData, WireGuard and STUN differ in it.
func Is(first byte) bool { return first < 4 }

// Parse reads b, which must be one whole message, into m. It keeps slices of b. The error is nil,
// ErrHeader or ErrAttribute.
func (m *Message) Parse(b []byte) error {
	*m = Message{}
	if !m.parseHeader(b) {
		return ErrHeader
	}
	for at, n := HeaderSize, 0; at < len(b); n++ {
		if n == MaxAttributes {
			return ErrAttribute
		}
		if len(b)-at < attrHeader {
			return ErrAttribute
		}
		size := int(binary.BigEndian.Uint16(b[at+2:]))
		end := at + attrHeader + padded(size)
		if end > len(b) {
			return ErrAttribute
		}
		if !m.attribute(Attribute(binary.BigEndian.Uint16(b[at:])), b[at+attrHeader:at+attrHeader+size], at) {
			return ErrAttribute
		}
		at = end
	}
	return nil
}

func (m *Message) parseHeader(b []byte) bool {
	if len(b) < HeaderSize || len(b) > MaxSize || !Is(b[0]) ||
		binary.BigEndian.Uint32(b[4:]) != cookie || len(b)%4 != 0 ||
		int(binary.BigEndian.Uint16(b[2:])) != len(b)-HeaderSize {
		return false
	}
	t := binary.BigEndian.Uint16(b)
	m.Class = Class(t>>4&1 | t>>7&2)
	m.Method = Method(t&0xf | t>>1&0x70 | t>>2&0xf80)
	m.ID = TransactionID(b[8:HeaderSize])
	m.raw = b
	return true
}

// typeOf is the inverse of the bit shuffling in parseHeader: the class sits in bits 4 and 8.
func typeOf(c Class, m Method) uint16 {
	return uint16(c)&1<<4 | uint16(c)&2<<7 | uint16(m)&0xf | uint16(m)&0x70<<1 | uint16(m)&0xf80<<2
}

// attribute takes in one attribute, whose header is at offset at, and reports false if it is
// malformed.
func (m *Message) attribute(t Attribute, v []byte, at int) bool {
	switch {
	case m.Has&HasFingerprint != 0:
		return true
	case t == Fingerprint:
		if len(v) == fingerprintSize {
			m.Has |= HasFingerprint
			m.fingerprintAt = at
		}
		return true
	case m.Has&HasMessageIntegrity != 0:
		return true
	}
	switch t {
	case MessageIntegrity:
		if len(v) != integritySize {
			return false
		}
		m.Has |= HasMessageIntegrity
		m.integrityAt = at
		return true
	case Username:
		return m.text(&m.Username, HasUsername, v, maxUsername)
	case Realm:
		return m.text(&m.Realm, HasRealm, v, maxText)
	case Nonce:
		return m.text(&m.Nonce, HasNonce, v, maxText)
	case Software:
		return m.text(&m.Software, HasSoftware, v, maxText)
	case XORMappedAddress:
		return m.address(&m.Mapped, HasMapped, v)
	case XORPeerAddress:
		return m.address(&m.Peer, HasPeer, v)
	case XORRelayedAddress:
		return m.relayed(v)
	case ErrorCode:
		return m.errorCode(v)
	case Priority, UseCandidate, ICEControlled, ICEControlling:
		m.ice(t, v)
		return true
	}
	return m.word(t, v)
}

// word takes in the attributes of one 32-bit word, and ignores unknown ones.
func (m *Message) word(t Attribute, v []byte) bool {
	var bit Presence
	switch t {
	case Lifetime:
		bit = HasLifetime
	case ChannelNumber:
		bit = HasChannelNumber
	case RequestedTransport:
		bit = HasTransport
	case RequestedAddressFamily:
		bit = HasRequestedFamily
	case AdditionalAddressFamily:
		bit = HasAdditionalFamily
	default:
		return true
	}
	if len(v) != 4 {
		return false
	}
	if !m.first(bit) {
		return true
	}
	switch bit {
	case HasLifetime:
		m.Lifetime = binary.BigEndian.Uint32(v)
	case HasChannelNumber:
		m.Channel = binary.BigEndian.Uint16(v)
		return IsChannel(m.Channel)
	case HasTransport:
		m.Transport = v[0]
	case HasRequestedFamily:
		m.Requested = Family(v[0])
		return m.Requested == IPv4 || m.Requested == IPv6
	case HasAdditionalFamily:
		m.Additional = Family(v[0])
		return m.Additional == IPv4 || m.Additional == IPv6
	}
	return true
}

// first reports whether the attribute has not been seen before, and notes it.
func (m *Message) first(bit Presence) bool {
	if m.Has&bit != 0 {
		return false
	}
	m.Has |= bit
	return true
}

func padded(n int) int { return (n + 3) &^ 3 }
