package wireguard

import (
	"encoding/binary"

	"github.com/firelane/firelane/protocol/wireguard/aead"
)

// MessageKind is the kind of a WireGuard message: its type number, or KindInvalid.
type MessageKind uint8

// The message kinds (WireGuard paper, section 5.4).
const (
	KindInvalid    MessageKind = 0 // not WireGuard, or not of the length its type demands
	KindInitiation MessageKind = 1 // exactly InitiationSize bytes
	KindResponse   MessageKind = 2 // exactly ResponseSize bytes
	KindCookie     MessageKind = 3 // exactly CookieSize bytes
	KindData       MessageKind = 4 // DataMinSize bytes or more
)

// Lengths of messages in bytes.
const (
	InitiationSize = 148
	ResponseSize   = 92
	CookieSize     = 64
	HeaderSize     = aead.HeaderSize // of a data message: type, receiver index, counter
	TagSize        = aead.TagSize    // of a data message: authenticator at its end
	DataMinSize    = aead.Overhead   // an empty data message, the keepalive
)

// Layout of an initiation:
//
//	[type 4][sender 4][ephemeral 32][static 32+16][timestamp 12+16][mac1 16][mac2 16]
//
// of a response:
//
//	[type 4][sender 4][receiver 4][ephemeral 32][empty 0+16][mac1 16][mac2 16]
//
// and of a cookie reply:
//
//	[type 4][receiver 4][nonce 24][cookie 16+16]
//
// Numbers are little-endian. mac1 and mac2 are the last two fields of the first two messages.
const (
	offSender = 4

	initEphemeral = 8
	initStatic    = initEphemeral + keySize
	initTimestamp = initStatic + keySize + aead.TagSize
	initMac1      = initTimestamp + timestampSize + aead.TagSize

	respReceiver  = 8
	respEphemeral = 12
	respEmpty     = respEphemeral + keySize

	cookieReceiver = 4
	cookieNonce    = 8
	cookieSealed   = 32

	macSize = 16
)

// Kind classifies a datagram by its first four bytes and its length. It reads nothing else, so
// anything but KindInvalid still has to be authenticated.
func Kind(b []byte) MessageKind {
	if len(b) < DataMinSize || b[1]|b[2]|b[3] != 0 {
		return KindInvalid
	}
	switch kind := MessageKind(b[0]); {
	case kind == KindData,
		kind == KindInitiation && len(b) == InitiationSize,
		kind == KindResponse && len(b) == ResponseSize,
		kind == KindCookie && len(b) == CookieSize:
		return kind
	}
	return KindInvalid
}

// ReceiverIndex reads the receiver's session index of a data message; b has KindData.
func ReceiverIndex(b []byte) uint32 { return binary.LittleEndian.Uint32(b[4:8]) }

// Counter reads the counter of a data message; b has KindData.
func Counter(b []byte) uint64 { return binary.LittleEndian.Uint64(b[8:16]) }

// ConnectionID returns the connection a session index belongs to: its upper 24 bits.
func ConnectionID(index uint32) uint32 { return index >> sessionNumberBits }

// sessionNumberBits is how many low bits of a session index number the handshakes of one
// connection.
const sessionNumberBits = 8

// maxConnectionID is the largest connection id: what the session number leaves of 32 bits.
const maxConnectionID = 1<<(32-sessionNumberBits) - 1
