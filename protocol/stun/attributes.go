package stun

// Attribute is the type of an attribute (RFC 8489 section 18.3, RFC 8656 section 18, RFC 8445
// section 16.1).
type Attribute uint16

// The attributes that this package reads and writes.
const (
	Username                Attribute = 0x0006
	MessageIntegrity        Attribute = 0x0008
	ErrorCode               Attribute = 0x0009
	ChannelNumber           Attribute = 0x000c
	Lifetime                Attribute = 0x000d
	XORPeerAddress          Attribute = 0x0012
	Realm                   Attribute = 0x0014
	Nonce                   Attribute = 0x0015
	XORRelayedAddress       Attribute = 0x0016
	RequestedAddressFamily  Attribute = 0x0017
	RequestedTransport      Attribute = 0x0019
	XORMappedAddress        Attribute = 0x0020
	Priority                Attribute = 0x0024
	UseCandidate            Attribute = 0x0025
	AdditionalAddressFamily Attribute = 0x8000
	Software                Attribute = 0x8022
	Fingerprint             Attribute = 0x8028
	ICEControlled           Attribute = 0x8029
	ICEControlling          Attribute = 0x802a
)

// Presence is a set of attributes.
type Presence uint32

// One bit for each attribute that a Message may hold.
const (
	HasUsername Presence = 1 << iota
	HasMessageIntegrity
	HasErrorCode
	HasChannelNumber
	HasLifetime
	HasPeer
	HasRealm
	HasNonce
	HasRelayed4
	HasRelayed6
	HasRequestedFamily
	HasTransport
	HasMapped
	HasPriority
	HasUseCandidate
	HasAdditionalFamily
	HasSoftware
	HasFingerprint
	HasControlled
	HasControlling
)

// Family is an address family as STUN writes it.
type Family uint8

// The address families.
const (
	IPv4 Family = 1
	IPv6 Family = 2
)

// UDP is the protocol number of the only transport that is relayed.
const UDP = 17

// The longest texts, in bytes (RFC 5389 section 15.3, RFC 8489 sections 14.8 to 14.10 and 14.14:
// 128 or 127 characters of up to six bytes; a user name of 513 is RFC 5389's, the larger).
const (
	maxUsername = 513
	maxText     = 763
)
