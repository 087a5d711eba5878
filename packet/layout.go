package packet

// Transport protocols by their IANA numbers.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// Flags in byte 13 of a TCP header (RFC 9293, 3.1).
const (
	FlagFIN = 0x01
	FlagSYN = 0x02
	FlagRST = 0x04
	FlagPSH = 0x08
	FlagACK = 0x10
	FlagURG = 0x20
	FlagECE = 0x40
	FlagCWR = 0x80
)

// Offsets and sizes in bytes of the IPv4 header (RFC 791).
const (
	ip4HeaderLen = 20
	ip4Length    = 2
	ip4ID        = 4
	ip4Fragment  = 6
	ip4TTL       = 8
	ip4Proto     = 9
	ip4Checksum  = 10
	ip4Src       = 12
	ip4Dst       = 16

	ip4More       = 0x2000
	ip4OffsetMask = 0x1fff

	ip4LooseRoute  = 131
	ip4StrictRoute = 137
)

// Offsets and sizes in bytes of the IPv6 header (RFC 8200), and the extension headers.
const (
	ip6HeaderLen = 40
	ip6Length    = 4
	ip6Next      = 6
	ip6Hops      = 7
	ip6Src       = 8
	ip6Dst       = 24

	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
	extMobility    = 135
	extHIP         = 139
	extShim6       = 140
)

// Offsets and sizes in bytes of the transport headers (RFC 9293, RFC 768, RFC 792, RFC 4443).
const (
	tcpHeaderLen = 20
	tcpSeq       = 4
	tcpOffset    = 12
	tcpFlags     = 13
	tcpWindow    = 14
	tcpChecksum  = 16

	udpHeaderLen = 8
	udpLength    = 4
	udpChecksum  = 6

	icmpHeaderLen = 8
	icmpChecksum  = 2
	icmpID        = 4

	icmpEchoReply    = 0
	icmpEchoRequest  = 8
	icmp6EchoRequest = 128
	icmp6EchoReply   = 129
)

// maxPacket is the longest packet that 16-bit length fields allow; for IPv6 it leaves out the
// 40 bytes of the fixed header, which is the stricter reading for fragments.
const maxPacket = 65535
