package stun

import (
	"encoding/binary"
	"net/netip"
)

// Builder writes a message: Start, attributes in the order in which they shall stand, then Sign,
// then Fingerprint, the latter two if wanted. The length in the header is right after each step.
// What is written must fit MaxSize; a message that does not is a bug of the caller and panics.
type Builder struct {
	b     []byte
	start int
}

// Start begins a message at the end of dst, which is owned by the builder until Bytes.
func Start(dst []byte, class Class, method Method, id TransactionID) Builder {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, typeOf(class, method))
	dst = binary.BigEndian.AppendUint16(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, cookie)
	return Builder{b: append(dst, id[:]...), start: start}
}

// Bytes returns dst with the message behind it.
func (w *Builder) Bytes() []byte { return w.b }

// Text adds an attribute of text: USERNAME, REALM, NONCE or SOFTWARE.
func (w *Builder) Text(t Attribute, v []byte) {
	w.header(t, len(v))
	w.b = append(w.b, v...)
	w.pad()
}

// Address adds an attribute of the XOR kind: XOR-MAPPED-ADDRESS, XOR-PEER-ADDRESS or
// XOR-RELAYED-ADDRESS.
func (w *Builder) Address(t Attribute, a netip.AddrPort) {
	if ip := a.Addr(); ip.Is4() {
		w.header(t, 8)
		b := ip.As4()
		w.b = append(w.b, 0, byte(IPv4))
		w.b = binary.BigEndian.AppendUint16(w.b, a.Port()^cookie>>16)
		w.b = binary.BigEndian.AppendUint32(w.b, binary.BigEndian.Uint32(b[:])^cookie)
		return
	}
	w.header(t, 20)
	b := a.Addr().As16()
	xor16(&b, TransactionID(w.b[w.start+8:w.start+HeaderSize]))
	w.b = append(w.b, 0, byte(IPv6))
	w.b = binary.BigEndian.AppendUint16(w.b, a.Port()^cookie>>16)
	w.b = append(w.b, b[:]...)
}

// Uint32 adds an attribute of one number: LIFETIME in seconds, or PRIORITY.
func (w *Builder) Uint32(t Attribute, v uint32) {
	w.header(t, 4)
	w.b = binary.BigEndian.AppendUint32(w.b, v)
}

// Channel adds CHANNEL-NUMBER.
func (w *Builder) Channel(number uint16) { w.Uint32(ChannelNumber, uint32(number)<<16) }

// Transport adds REQUESTED-TRANSPORT.
func (w *Builder) Transport(protocol uint8) { w.Uint32(RequestedTransport, uint32(protocol)<<24) }

// Family adds REQUESTED-ADDRESS-FAMILY or ADDITIONAL-ADDRESS-FAMILY.
func (w *Builder) Family(t Attribute, f Family) { w.Uint32(t, uint32(f)<<24) }

// TieBreaker adds ICE-CONTROLLING or ICE-CONTROLLED.
func (w *Builder) TieBreaker(t Attribute, v uint64) {
	w.header(t, 8)
	w.b = binary.BigEndian.AppendUint64(w.b, v)
}

// UseCandidate adds USE-CANDIDATE.
func (w *Builder) UseCandidate() { w.header(UseCandidate, 0) }

// Error adds ERROR-CODE.
func (w *Builder) Error(code int, reason string) {
	w.header(ErrorCode, 4+len(reason))
	w.b = append(w.b, 0, 0, byte(code/100), byte(code%100))
	w.b = append(w.b, reason...)
	w.pad()
}

// Sign adds MESSAGE-INTEGRITY over what has been written. Only FINGERPRINT may follow.
func (w *Builder) Sign(key []byte) {
	sum := integrity(key, w.b[w.start:])
	w.header(MessageIntegrity, integritySize)
	w.b = append(w.b, sum[:]...)
}

// Fingerprint adds FINGERPRINT, the last attribute of all.
func (w *Builder) Fingerprint() {
	w.header(Fingerprint, fingerprintSize)
	sum := fingerprint(w.b[w.start : len(w.b)-attrHeader])
	w.b = binary.BigEndian.AppendUint32(w.b, sum)
}

// header adds an attribute's header and counts the attribute into the message's length.
func (w *Builder) header(t Attribute, size int) {
	w.b = binary.BigEndian.AppendUint16(w.b, uint16(t))
	w.b = binary.BigEndian.AppendUint16(w.b, uint16(size))
	n := len(w.b) - w.start + padded(size)
	if n > MaxSize {
		panic("stun: a message of ours is too long")
	}
	binary.BigEndian.PutUint16(w.b[w.start+2:], uint16(n-HeaderSize))
}

func (w *Builder) pad() {
	for (len(w.b)-w.start)%4 != 0 {
		w.b = append(w.b, 0)
	}
}
