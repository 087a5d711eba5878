package fuzz

import (
	"bytes"
	"testing"

	"github.com/firelane/firelane/protocol/stun"
)

var stunID = stun.TransactionID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

// FuzzSTUN feeds the codec arbitrary bytes: a message that parses means the same when what was
// read of it is written and read again, its signature can be checked whatever stands in it, and
// a refused one is never taken for a signed one.
func FuzzSTUN(f *testing.F) {
	for _, b := range stunSeeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m stun.Message
		before := bytes.Clone(b)
		err := m.Parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("parsing changed the message")
		}
		if err != nil {
			if err != stun.ErrHeader && err != stun.ErrAttribute {
				t.Fatalf("unexpected error %v", err)
			}
			if err == stun.ErrHeader && m.Has != 0 {
				t.Fatalf("something was read of what is no message: %+v", m)
			}
			return
		}
		key := []byte("key")
		signed := m.Verify(key)
		if whole := m.VerifyFingerprint(); whole && m.Has&stun.HasFingerprint == 0 || signed && m.Has&stun.HasMessageIntegrity == 0 {
			t.Fatal("what is not there was verified")
		}
		if !bytes.Equal(b, before) {
			t.Fatal("verifying changed the message")
		}
		again := rebuildSTUN(&m, key)
		var n stun.Message
		if err := n.Parse(again); err != nil {
			t.Fatalf("written again: %v\n%x", err, again)
		}
		if !n.Verify(key) || !n.VerifyFingerprint() {
			t.Fatal("an own signature or fingerprint is refused")
		}
		sameSTUN(t, &m, &n)
	})
}

// FuzzChannelData: what comes out lies inside what went in.
func FuzzChannelData(f *testing.F) {
	f.Add([]byte("\x40\x00\x00\x03abc"))
	f.Add([]byte("\x4f\xff\x00\x03abc\x00"))
	f.Add([]byte("\x4f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		number, data, ok := stun.ChannelData(b)
		if !ok {
			if data != nil {
				t.Fatal("data of a refused message")
			}
			return
		}
		again := make([]byte, stun.ChannelHeader, stun.ChannelHeader+len(data))
		stun.PutChannelHeader(again, number, len(data))
		again = append(again, data...)
		if !stun.IsChannel(number) || len(again) > len(b) || !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("channel %#x with %d bytes from %x", number, len(data), b)
		}
	})
}

// stunSeeds are messages of each kind that peers exchange, and some that nobody should send.
func stunSeeds() [][]byte {
	binding := stun.Start(nil, stun.Request, stun.Binding, stunID)
	allocate := stun.Start(nil, stun.Request, stun.Allocate, stunID)
	allocate.Transport(stun.UDP)
	allocate.Family(stun.AdditionalAddressFamily, stun.IPv6)
	allocate.Text(stun.Software, []byte("snownet"))
	allocate.Text(stun.Username, []byte("1892160000:salt"))
	allocate.Text(stun.Realm, []byte("firezone"))
	allocate.Sign([]byte("key"))
	check := stun.Start(nil, stun.Request, stun.Binding, stunID)
	check.Text(stun.Username, []byte("abcd:efgh"))
	check.TieBreaker(stun.ICEControlling, 42)
	check.Uint32(stun.Priority, 7)
	check.UseCandidate()
	check.Sign([]byte("key"))
	check.Fingerprint()
	refusal := stun.Start(nil, stun.Failure, stun.Refresh, stunID)
	refusal.Error(438, "Stale Nonce")
	refusal.Text(stun.Nonce, []byte("6e80ba94-7a4c-4e31-8b6a-0c5a1d6f2b3e"))
	channel := stun.Start(nil, stun.Request, stun.ChannelBind, stunID)
	channel.Address(stun.XORPeerAddress, stunPeer)
	channel.Channel(0x4fff)
	return [][]byte{binding.Bytes(), allocate.Bytes(), check.Bytes(), refusal.Bytes(), channel.Bytes(), allocate.Bytes()[:40],
		append(bytes.Clone(binding.Bytes()[:2]), append([]byte{0, 4}, append(bytes.Clone(binding.Bytes()[4:]), 0, 8, 0, 20)...)...)}
}

// rebuildSTUN writes all that m holds.
func rebuildSTUN(m *stun.Message, key []byte) []byte {
	w := stun.Start(nil, m.Class, m.Method, m.ID)
	for _, a := range []struct {
		has stun.Presence
		add func()
	}{
		{stun.HasUsername, func() { w.Text(stun.Username, m.Username) }},
		{stun.HasRealm, func() { w.Text(stun.Realm, m.Realm) }},
		{stun.HasNonce, func() { w.Text(stun.Nonce, m.Nonce) }},
		{stun.HasErrorCode, func() { w.Error(m.Code, string(m.Reason)) }},
		{stun.HasMapped, func() { w.Address(stun.XORMappedAddress, m.Mapped) }},
		{stun.HasPeer, func() { w.Address(stun.XORPeerAddress, m.Peer) }},
		{stun.HasRelayed4, func() { w.Address(stun.XORRelayedAddress, m.Relayed[0]) }},
		{stun.HasRelayed6, func() { w.Address(stun.XORRelayedAddress, m.Relayed[1]) }},
		{stun.HasLifetime, func() { w.Uint32(stun.Lifetime, m.Lifetime) }},
		{stun.HasChannelNumber, func() { w.Channel(m.Channel) }},
		{stun.HasTransport, func() { w.Transport(m.Transport) }},
		{stun.HasRequestedFamily, func() { w.Family(stun.RequestedAddressFamily, m.Requested) }},
		{stun.HasAdditionalFamily, func() { w.Family(stun.AdditionalAddressFamily, m.Additional) }},
		{stun.HasPriority, func() { w.Uint32(stun.Priority, m.Priority) }},
		{stun.HasUseCandidate, w.UseCandidate},
		{stun.HasControlled, func() { w.TieBreaker(stun.ICEControlled, m.TieBreaker) }},
		{stun.HasControlling, func() { w.TieBreaker(stun.ICEControlling, m.TieBreaker) }},
	} {
		if m.Has&a.has != 0 && len(w.Bytes()) < stun.MaxSize-900 {
			a.add()
		}
	}
	w.Sign(key)
	w.Fingerprint()
	return w.Bytes()
}

// sameSTUN compares what fits into a rebuilt message.
func sameSTUN(t *testing.T, m, n *stun.Message) {
	ignored := stun.HasMessageIntegrity | stun.HasFingerprint | stun.HasSoftware
	if m.Class != n.Class || m.Method != n.Method || m.ID != n.ID {
		t.Fatalf("header %+v became %+v", m, n)
	}
	if len(m.Username)+len(m.Realm)+len(m.Nonce)+len(m.Reason) > 800 {
		return
	}
	if m.Has&^ignored != n.Has&^ignored {
		t.Fatalf("attributes %b became %b", m.Has, n.Has)
	}
	if string(m.Username) != string(n.Username) || string(m.Realm) != string(n.Realm) || string(m.Nonce) != string(n.Nonce) ||
		string(m.Reason) != string(n.Reason) || m.Code != n.Code || m.Mapped != n.Mapped || m.Peer != n.Peer || m.Relayed != n.Relayed ||
		m.Lifetime != n.Lifetime || m.Channel != n.Channel || m.Transport != n.Transport || m.Requested != n.Requested ||
		m.Additional != n.Additional || m.Priority != n.Priority || m.TieBreaker != n.TieBreaker {
		t.Fatalf("%+v became %+v", m, n)
	}
}
