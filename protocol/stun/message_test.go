package stun

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var testID = TransactionID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

// raw is a request with one attribute of any bytes, padded.
func raw(t Attribute, v []byte) []byte {
	w := Start(nil, Request, Allocate, testID)
	w.header(t, len(v))
	w.b = append(w.b, v...)
	w.pad()
	return w.Bytes()
}

func TestHeader(t *testing.T) {
	good := raw(Lifetime, []byte{0, 0, 2, 88})
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":                           nil,
		"one byte less than a header":       good[:HeaderSize-1],
		"a bit set that tells ChannelData":  change(0, 0x40),
		"another cookie":                    change(4, 0x22),
		"a length beyond the datagram":      change(3, 12),
		"a length short of the datagram":    change(3, 4),
		"a length that is no multiple of 4": change(3, 7),
		"bytes behind the message":          append(bytes.Clone(good), 0, 0, 0, 0),
		"more bytes than any path carries":  raw(Attribute(0x7777), make([]byte, MaxSize-HeaderSize-attrHeader))[:MaxSize-4],
	} {
		var m Message
		if err := m.Parse(b); err != ErrHeader {
			t.Errorf("%s: %v", name, err)
		}
	}
	var m Message
	if err := m.Parse(good); err != nil || m.Method != Allocate || m.ID != testID || m.Lifetime != 600 {
		t.Errorf("a good message: %v, %+v", err, m)
	}
}

// Every class and method survives the interleaving of their bits. Methods from 0x100 on have a
// first byte that is not known as STUN (RFC 7983).
func TestTypeBits(t *testing.T) {
	for c := Request; c <= Failure; c++ {
		for method := range Method(1 << 8) {
			w := Start(nil, c, method, testID)
			var m Message
			if err := m.Parse(w.Bytes()); err != nil || m.Class != c || m.Method != method {
				t.Fatalf("class %d method %#x: %v, %+v", c, method, err, m)
			}
		}
	}
	if b := Start(nil, Failure, Allocate, testID); binary.BigEndian.Uint16(b.b) != 0x0113 {
		t.Errorf("an Allocate error is %x", b.b[:2])
	}
}

func TestMalformedAttributes(t *testing.T) {
	long := []byte(strings.Repeat("x", maxText+1))
	for _, c := range []struct {
		name string
		t    Attribute
		v    []byte
	}{
		{"a lifetime of three bytes", Lifetime, make([]byte, 3)},
		{"a lifetime of five bytes", Lifetime, make([]byte, 5)},
		{"a channel below the range", ChannelNumber, []byte{0x3f, 0xff, 0, 0}},
		{"a channel above the range", ChannelNumber, []byte{0x50, 0, 0, 0}},
		{"a channel without its reserved bytes", ChannelNumber, []byte{0x40, 0}},
		{"a transport of one byte", RequestedTransport, []byte{17}},
		{"a requested family of no meaning", RequestedAddressFamily, []byte{3, 0, 0, 0}},
		{"an additional family of no meaning", AdditionalAddressFamily, []byte{0, 0, 0, 0}},
		{"an empty address", XORPeerAddress, nil},
		{"an IPv4 address of IPv6's length", XORPeerAddress, append([]byte{0, 1}, make([]byte, 18)...)},
		{"an IPv6 address of IPv4's length", XORMappedAddress, append([]byte{0, 2}, make([]byte, 6)...)},
		{"an address of no family", XORRelayedAddress, append([]byte{0, 3}, make([]byte, 6)...)},
		{"a user name that is not UTF-8", Username, []byte{0xff}},
		{"a user name that is too long", Username, long[:maxUsername+1]},
		{"a realm that is too long", Realm, long},
		{"a nonce that is not UTF-8", Nonce, []byte{0xc3, 0x28}},
		{"a software that is too long", Software, long},
		{"an error code cut short", ErrorCode, []byte{0, 0, 4}},
		{"an error code below 300", ErrorCode, []byte{0, 0, 2, 99}},
		{"an error code with a number of 100", ErrorCode, []byte{0, 0, 4, 100}},
		{"a signature cut short", MessageIntegrity, make([]byte, 16)},
	} {
		var m Message
		if err := m.Parse(raw(c.t, c.v)); err != ErrAttribute {
			t.Errorf("%s: %v", c.name, err)
		}
		if m.Method != Allocate || m.ID != testID {
			t.Errorf("%s: method and id are lost", c.name)
		}
		if m.Verify(nil) {
			t.Errorf("%s: verified", c.name)
		}
	}
	cut := raw(Lifetime, make([]byte, 4))
	cut[HeaderSize+3] = 5
	if err := new(Message).Parse(cut); err != ErrAttribute {
		t.Errorf("an attribute longer than the message: %v", err)
	}
}

func TestBoundOnAttributes(t *testing.T) {
	w := Start(nil, Request, Binding, testID)
	for range MaxAttributes {
		w.header(0x7777, 0)
	}
	var m Message
	if err := m.Parse(w.Bytes()); err != nil {
		t.Errorf("%d attributes: %v", MaxAttributes, err)
	}
	w.header(0x7777, 0)
	if err := m.Parse(w.Bytes()); err != ErrAttribute {
		t.Errorf("%d attributes: %v", MaxAttributes+1, err)
	}
}

// ICE's attributes, FINGERPRINT and those that nobody here knows never make a message malformed.
func TestUnknownAttributesAreIgnored(t *testing.T) {
	for _, a := range []Attribute{0x0001, 0x0013, 0x0018, 0x001a, 0x001c, 0x0022, 0x7fff, 0x8023, 0xffff, Priority, UseCandidate,
		ICEControlled, ICEControlling, Fingerprint} {
		var m Message
		if err := m.Parse(raw(a, []byte{1, 2, 3})); err != nil || m.Has != 0 {
			t.Errorf("attribute %#x: %v, has %b", a, err, m.Has)
		}
	}
}

func TestFirstOfDuplicatesCounts(t *testing.T) {
	w := Start(nil, Request, ChannelBind, testID)
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[2001:db8::1]:2")
	w.Uint32(Lifetime, 1)
	w.Uint32(Lifetime, 2)
	w.Channel(0x4001)
	w.Channel(0x4002)
	w.Text(Username, []byte("one"))
	w.Text(Username, []byte("two"))
	w.Address(XORPeerAddress, b)
	w.Address(XORPeerAddress, a)
	w.TieBreaker(ICEControlling, 1)
	w.TieBreaker(ICEControlled, 2)
	var m Message
	if err := m.Parse(w.Bytes()); err != nil {
		t.Fatal(err)
	}
	if m.Lifetime != 1 || m.Channel != 0x4001 || string(m.Username) != "one" || m.Peer != b || m.TieBreaker != 1 || m.Has&HasControlled != 0 {
		t.Errorf("parsed %+v", m)
	}
}

// A dual-stack allocation has two relayed addresses, in any order.
func TestTwoRelayedAddresses(t *testing.T) {
	a4, a6 := netip.MustParseAddrPort("192.0.2.1:50000"), netip.MustParseAddrPort("[2001:db8::1]:50000")
	other := netip.MustParseAddrPort("192.0.2.2:50001")
	w := Start(nil, Success, Allocate, testID)
	w.Address(XORRelayedAddress, a6)
	w.Address(XORRelayedAddress, a4)
	w.Address(XORRelayedAddress, other)
	var m Message
	if err := m.Parse(w.Bytes()); err != nil || m.Relayed != [2]netip.AddrPort{a4, a6} || m.Has != HasRelayed4|HasRelayed6 {
		t.Errorf("%v, %v", err, m.Relayed)
	}
}

// What stands behind MESSAGE-INTEGRITY is signed by nobody.
func TestNothingBehindIntegrityCounts(t *testing.T) {
	key := []byte("key")
	w := Start(nil, Request, Refresh, testID)
	w.Text(Username, []byte("me"))
	w.Sign(key)
	w.Uint32(Lifetime, 0)
	w.Text(Nonce, []byte{0xff})
	w.Fingerprint()
	w.Text(Realm, []byte("behind all"))
	var m Message
	if err := m.Parse(w.Bytes()); err != nil {
		t.Fatal(err)
	}
	if m.Has != HasUsername|HasMessageIntegrity|HasFingerprint || m.Lifetime != 0 || m.Realm != nil {
		t.Errorf("parsed %+v", m)
	}
	if !m.Verify(key) {
		t.Error("what follows the signature breaks it")
	}
	if m.VerifyFingerprint() {
		t.Error("a fingerprint that is not last is accepted")
	}
}

func TestVerify(t *testing.T) {
	w := Start(nil, Request, Refresh, testID)
	w.Text(Username, []byte("me"))
	w.Sign([]byte("key"))
	b := w.Bytes()
	var m Message
	if err := m.Parse(b); err != nil || !m.Verify([]byte("key")) || m.Verify([]byte("kex")) || m.Verify(nil) {
		t.Errorf("a signed message: %v", err)
	}
	for i := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		if m.Parse(bad) == nil && m.Verify([]byte("key")) {
			t.Errorf("bit %d changed and the message verified", i)
		}
	}
	if err := m.Parse(raw(Lifetime, make([]byte, 4))); err != nil || m.Verify([]byte("key")) || m.VerifyFingerprint() {
		t.Error("an unsigned message verified")
	}
}

// The written-out HMAC is the standard library's, for keys of every length around the block size.
func TestIntegrityIsHMAC(t *testing.T) {
	for n := range 200 {
		key := bytes.Repeat([]byte{byte(n)}, n)
		before := raw(Software, key)
		want := hmac.New(sha1.New, key)
		adjusted := bytes.Clone(before)
		binary.BigEndian.PutUint16(adjusted[2:], uint16(len(before)-HeaderSize+attrHeader+integritySize))
		want.Write(adjusted)
		if got := integrity(key, before); !hmac.Equal(got[:], want.Sum(nil)) {
			t.Errorf("a key of %d bytes: %x", n, got)
		}
	}
}

func TestFingerprint(t *testing.T) {
	w := Start(nil, Request, Binding, testID)
	w.Uint32(Priority, 7)
	w.Fingerprint()
	b := w.Bytes()
	var m Message
	if err := m.Parse(b); err != nil || !m.VerifyFingerprint() {
		t.Errorf("%v, has %b", err, m.Has)
	}
	for i := HeaderSize + 4; i < len(b); i++ {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if m.Parse(bad) == nil && m.VerifyFingerprint() {
			t.Errorf("byte %d changed and the fingerprint is right", i)
		}
	}
}

// What is built is parsed back, whatever the values.
func TestBuildThenParse(t *testing.T) {
	addr := rapid.Custom(func(t *rapid.T) netip.AddrPort {
		n := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "ip"))
		return netip.AddrPortFrom(a, rapid.Uint16().Draw(t, "port"))
	})
	rapid.Check(t, func(t *rapid.T) {
		id := TransactionID(rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "id"))
		text := rapid.StringN(0, 40, 160)
		user, realm, reason := text.Draw(t, "user"), text.Draw(t, "realm"), text.Draw(t, "reason")
		mapped, peer := addr.Draw(t, "mapped"), addr.Draw(t, "peer")
		life, code := rapid.Uint32().Draw(t, "lifetime"), rapid.IntRange(300, 699).Draw(t, "code")
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		prefix := []byte("before")
		w := Start(prefix, Success, Allocate, id)
		w.Text(Username, []byte(user))
		w.Text(Realm, []byte(realm))
		w.Address(XORMappedAddress, mapped)
		w.Address(XORPeerAddress, peer)
		w.Uint32(Lifetime, life)
		w.Channel(0x4abc)
		w.Transport(UDP)
		w.Family(RequestedAddressFamily, IPv4)
		w.Family(AdditionalAddressFamily, IPv6)
		w.TieBreaker(ICEControlled, 42)
		w.UseCandidate()
		w.Error(code, reason)
		w.Sign(key)
		w.Fingerprint()
		var m Message
		if err := m.Parse(w.Bytes()[len(prefix):]); err != nil {
			t.Fatal(err)
		}
		if string(m.Username) != user || string(m.Realm) != realm || string(m.Reason) != reason || m.Code != code ||
			m.Mapped != mapped || m.Peer != peer || m.Lifetime != life || m.Channel != 0x4abc || m.ID != id ||
			m.Transport != UDP || m.Requested != IPv4 || m.Additional != IPv6 || m.TieBreaker != 42 || m.Has&HasUseCandidate == 0 {
			t.Fatalf("parsed %+v", m)
		}
		if !m.Verify(key) || !m.VerifyFingerprint() {
			t.Fatal("own signature or fingerprint refused")
		}
	})
}

func TestChannelData(t *testing.T) {
	for _, c := range []struct {
		name   string
		b      []byte
		number uint16
		data   string
		ok     bool
	}{
		{"exact", []byte("\x40\x01\x00\x03abc"), 0x4001, "abc", true},
		{"padded", []byte("\x4f\xff\x00\x03abc\x00"), 0x4fff, "abc", true},
		{"empty", []byte("\x40\x00\x00\x00"), 0x4000, "", true},
		{"cut short", []byte("\x40\x01\x00\x04abc"), 0, "", false},
		{"less than a header", []byte("\x40\x01\x00"), 0, "", false},
		{"a number below the range", []byte("\x3f\xff\x00\x00"), 0, "", false},
		{"a number above the range", []byte("\x50\x00\x00\x00"), 0, "", false},
	} {
		number, data, ok := ChannelData(c.b)
		if ok != c.ok || ok && number != c.number || string(data) != c.data {
			t.Errorf("%s: %#x %q %v", c.name, number, data, ok)
		}
	}
	var b [8]byte
	PutChannelHeader(b[:], 0x4123, 4)
	if number, data, ok := ChannelData(b[:]); number != 0x4123 || len(data) != 4 || !ok {
		t.Errorf("own header: %#x %d %v", number, len(data), ok)
	}
}

func TestNothingAllocates(t *testing.T) {
	signed, key := fromHex(t, vectorRequest), []byte(vectorPassword)
	var m Message
	buf := make([]byte, 0, 256)
	mapped := netip.MustParseAddrPort("[2001:db8::1]:1")
	user, realm, word := []byte("user"), []byte("realm"), []byte("password")
	for name, f := range map[string]func(){
		"parse":        func() { _ = m.Parse(signed) },
		"parse trash":  func() { _ = m.Parse(signed[:40]) },
		"verify":       func() { m.Verify(key) },
		"fingerprint":  func() { m.VerifyFingerprint() },
		"key":          func() { LongTermKey(user, realm, word) },
		"channel data": func() { ChannelData(signed) },
		"build": func() {
			w := Start(buf, Success, Binding, testID)
			w.Text(Software, user)
			w.Address(XORMappedAddress, mapped)
			w.Error(400, "Bad Request")
			w.Sign(key)
			w.Fingerprint()
			buf = w.Bytes()[:0]
		},
	} {
		if err := m.Parse(signed); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestBuilderPanicsBeyondItsBound(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a message too long for anybody was built")
		}
	}()
	w := Start(nil, Request, Binding, testID)
	w.Text(Software, make([]byte, MaxSize))
}

func BenchmarkParse(b *testing.B) {
	signed := fromHex(b, vectorRequest)
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if m.Parse(signed) != nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	var m Message
	if m.Parse(fromHex(b, vectorRequest)) != nil {
		b.Fatal("refused")
	}
	key := []byte(vectorPassword)
	for b.Loop() {
		m.Verify(key)
	}
}
