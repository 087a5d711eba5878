package fib

// Verdict is what a step of a packet loop decided about one packet. It indexes a counter; it is
// never an error value.
type Verdict uint8

// The verdicts. Pass is the only one that lets a packet go on.
const (
	Pass Verdict = iota
	// DropUnknown: the first bytes are of no protocol we speak.
	DropUnknown
	// DropPuntFull: the ring towards control was full.
	DropPuntFull
	// DropNoSession: no session has the receiver index, or the peer has no usable session to
	// send with (the packet was then offered to control).
	DropNoSession
	// DropExpired: the session is past its reject-after time.
	DropExpired
	// DropForged: authentication of a data message failed.
	DropForged
	// DropReplay: the counter was seen before, or lies behind the replay window.
	DropReplay
	// DropMalformed: the inner packet is not a well-formed IP packet.
	DropMalformed
	// DropForeignSource: the inner source is not one of the peer's allowed IPs.
	DropForeignSource
	// DropNotAClient: no peer has the inner destination among its allowed IPs.
	DropNotAClient
	// DropNoPath: the peer has no known address.
	DropNoPath
	// DropKeyExhausted: the session's counters are used up.
	DropKeyExhausted
	// DropCongested: marked congested outside and not ECN-capable inside (RFC 6040, section 4.2).
	DropCongested
	// DropBadOffload: the tunnel queue described a superpacket that its bytes contradict.
	DropBadOffload
	// DropOversized: a packet or train does not fit the buffers.
	DropOversized
	// DropTunnelFull: the tunnel queue took no more packets.
	DropTunnelFull
	// DropTunnelRefused: the kernel refused this packet (tunnel down, or an offload it denies).
	DropTunnelRefused
	// DropSendFull: the socket's send buffer stayed full.
	DropSendFull
	// DropSendRefused: the kernel refused to send to this destination.
	DropSendRefused
	// DropNoBuffer: the slab pool was empty.
	DropNoBuffer
	// ReplyProhibited: the client may not go there: control answers that it is prohibited.
	ReplyProhibited
	// ReplyUnreachable: the client may go there, but there is nothing: control answers that it is unreachable.
	ReplyUnreachable
	// ReplyTooBig: a packet to the client outgrew the tunnel by translation: control answers with
	// the MTU that fits.
	ReplyTooBig
	// DropNotGranted: a packet to a client came from what the client may not reach.
	DropNotGranted
	// DropFragment: a fragment, which shows no ports to filter and translate by.
	DropFragment
	// DropMulticast: the inner destination is a group; clients reach none.
	DropMulticast
	// DropOutboundICMPError: a client sent an ICMP error.
	DropOutboundICMPError
	// DropUntranslatable: a packet that a NAT cannot carry: not TCP, UDP or an echo.
	DropUntranslatable
	// DropNatExhausted: all ports towards the real address are in use by the client's flows.
	DropNatExhausted
	// DropFlowsFull: the process holds as many flows as it may, and the client none to give up.
	DropFlowsFull
	// DropExpiredFlow: the packet arrived for a flow that has ended.
	DropExpiredFlow
	// NumVerdicts is the number of verdicts, not a verdict.
	NumVerdicts
)

var verdictNames = [NumVerdicts]string{
	Pass:                  "Pass",
	DropUnknown:           "DropUnknown",
	DropPuntFull:          "DropPuntFull",
	DropNoSession:         "DropNoSession",
	DropExpired:           "DropExpired",
	DropForged:            "DropForged",
	DropReplay:            "DropReplay",
	DropMalformed:         "DropMalformed",
	DropForeignSource:     "DropForeignSource",
	DropNotAClient:        "DropNotAClient",
	DropNoPath:            "DropNoPath",
	DropKeyExhausted:      "DropKeyExhausted",
	DropCongested:         "DropCongested",
	DropBadOffload:        "DropBadOffload",
	DropOversized:         "DropOversized",
	DropTunnelFull:        "DropTunnelFull",
	DropTunnelRefused:     "DropTunnelRefused",
	DropSendFull:          "DropSendFull",
	DropSendRefused:       "DropSendRefused",
	DropNoBuffer:          "DropNoBuffer",
	ReplyProhibited:       "ReplyProhibited",
	ReplyUnreachable:      "ReplyUnreachable",
	ReplyTooBig:           "ReplyTooBig",
	DropNotGranted:        "DropNotGranted",
	DropFragment:          "DropFragment",
	DropMulticast:         "DropMulticast",
	DropOutboundICMPError: "DropOutboundICMPError",
	DropUntranslatable:    "DropUntranslatable",
	DropNatExhausted:      "DropNatExhausted",
	DropFlowsFull:         "DropFlowsFull",
	DropExpiredFlow:       "DropExpiredFlow",
}

// String returns the verdict's name, which is also its metric's name.
func (v Verdict) String() string {
	if v >= NumVerdicts {
		return "Verdict?"
	}
	return verdictNames[v]
}
