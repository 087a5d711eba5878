package uapi

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// PublicKey is a Curve25519 public key.
type PublicKey [32]byte

// String returns the key as 64 hexadecimal digits, as it stands in the protocol.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// Key is a secret: a private or a preshared key. All zeroes means "none". It prints as
// "(hidden)" whatever the verb, so that a log line or an error cannot give it away.
type Key [32]byte

// hidden stands for a secret wherever it would be printed.
const hidden = "(hidden)"

// String returns "(hidden)".
func (Key) String() string { return hidden }

// Format writes "(hidden)" for every verb.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, hidden) }

// LogValue is "(hidden)".
func (Key) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns "(hidden)", so that encoders that know no better hide it too.
func (Key) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Op is what a request asks for.
type Op uint8

// The operations of the protocol.
const (
	Get Op = iota + 1 // report the State
	Set               // apply Request.Config
)

// Request is one decoded request.
type Request struct {
	// Op is Get or Set.
	Op Op
	// Config is what to change; empty unless Op is Set.
	Config Config
}

// Config is a change of the device: what a set request asks for. Nil pointers leave a setting
// as it is.
type Config struct {
	// PrivateKey replaces the private key; all zeroes removes it.
	PrivateKey *Key
	// ListenPort replaces the UDP port; 0 asks for a random one.
	ListenPort *uint16
	// FirewallMark replaces the mark of outgoing packets (SO_MARK); 0 removes it.
	FirewallMark *uint32
	// ReplacePeers removes all peers before Peers are applied.
	ReplacePeers bool
	// Peers are changes of peers, to be applied in this order. The same key may appear more
	// than once.
	Peers []PeerConfig
}

// PeerConfig is a change of one peer, which is made when it does not exist.
type PeerConfig struct {
	// PublicKey names the peer. Any 32 bytes: a key that is no good never shakes hands.
	PublicKey PublicKey
	// Remove deletes the peer; the other fields then mean nothing.
	Remove bool
	// UpdateOnly ignores the change when the peer does not exist.
	UpdateOnly bool
	// PresharedKey replaces the preshared key; all zeroes removes it.
	PresharedKey *Key
	// Endpoint replaces where packets for the peer go; the zero AddrPort leaves it. IPv4 is
	// never 4-in-6 mapped.
	Endpoint netip.AddrPort
	// PersistentKeepalive replaces the interval, in seconds; 0 turns it off.
	PersistentKeepalive *uint16
	// ReplaceAllowedIPs empties the list before AllowedIPs are applied.
	ReplaceAllowedIPs bool
	// AllowedIPs are changes of the list, to be applied in this order.
	AllowedIPs []AllowedIP
}

// AllowedIP adds a prefix to a peer's allowed IPs (taking it from the peer that had it), or
// takes it away.
type AllowedIP struct {
	// Prefix is masked: no bits are set behind its length.
	Prefix netip.Prefix
	// Remove takes the prefix away if this peer has it.
	Remove bool
}

// State is what a get request reports.
type State struct {
	// PrivateKey is all zeroes when there is none.
	PrivateKey Key
	// ListenPort is the UDP port in use; 0 before the socket is bound.
	ListenPort uint16
	// FirewallMark is the mark of outgoing packets; 0 for none.
	FirewallMark uint32
	// Peers are reported in this order.
	Peers []PeerState
}

// PeerState is what a get request reports about one peer.
type PeerState struct {
	PublicKey PublicKey
	// PresharedKey is all zeroes when there is none.
	PresharedKey Key
	// Endpoint is where packets for the peer go now; the zero AddrPort when unknown.
	Endpoint netip.AddrPort
	// LastHandshake is when the newest session was made; the zero Time for never.
	LastHandshake time.Time
	// RxBytes and TxBytes count transport messages received from and sent to the peer.
	RxBytes, TxBytes uint64
	// PersistentKeepalive is the interval in seconds; 0 for off.
	PersistentKeepalive uint16
	// AllowedIPs are reported in this order.
	AllowedIPs []netip.Prefix
}
